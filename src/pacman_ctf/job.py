"""The unit of work: two teams, three matches on given layouts, from one dictionary to another.

Both dictionaries hold nothing but numbers, strings, bytes, lists and dictionaries, so that they travel to any host
and back without pickle. `a` and `b` are the teams, whichever side they play.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from pacman_ctf import rules, seeds
from pacman_ctf.errors import Forged, RecordError
from pacman_ctf.layout import Layout
from pacman_ctf.limits import Limits, calibrate
from pacman_ctf.nursery import Nursery
from pacman_ctf.record import Record, canonical
from pacman_ctf.referee import Pairing, play
from pacman_ctf.submission import Submission
from pacman_ctf.verify import Agreement, compare, verify
from pymw import checkpoint, progress

MATCHES: Final = 3
_TELL_EVERY: Final = 50  # moves between two words about progress

Job = dict[str, Any]
Result = dict[str, Any]


def make_job(
    a: Submission,
    b: Submission,
    layouts: Sequence[Layout],
    secret: bytes,
    *,
    label: str = "",
    length: int = rules.TIME_LIMIT,
    limits: Limits | None = None,
    require: Sequence[str] = (),
    gif: bool = True,
) -> Job:
    """Three matches of two teams, one per layout, their seeds drawn from a secret; the sides alternate.

    The third match's sides are drawn from its seed, so that neither team is red twice by right.
    """
    if len(layouts) != MATCHES:
        raise ValueError(f"a job is {MATCHES} matches, so it needs {MATCHES} layouts, not {len(layouts)}")
    matches = []
    for number, layout in enumerate(layouts):
        seed = seeds.derive(secret, "match", label, a.digest, b.digest, number)
        a_is_red = number == 0 if number < MATCHES - 1 else bool(seeds.derive(seed, "sides")[0] & 1)
        matches.append({"layout": layout.text, "name": layout.name, "seed": seed, "a_is_red": a_is_red})
    return {
        "a": {"name": a.name, "files": dict(a.files)},
        "b": {"name": b.name, "files": dict(b.files)},
        "matches": matches,
        "length": length,
        "limits": asdict(limits or Limits()),
        "require": list(require),
        "gif": gif,
    }


def job_digest(job: Job) -> str:
    """What tells a job apart: its teams and matches, not its options."""
    teams = [[job[side]["name"], Submission.of(job[side]["name"], job[side]["files"]).digest] for side in "ab"]
    matches = [[match["layout"], match["name"], match["seed"].hex(), match["a_is_red"]] for match in job["matches"]]
    return hashlib.sha256(canonical([teams, matches, job["length"]])).hexdigest()


def play_job(job: Job) -> Result:
    """Play the three matches; after each of them there is a checkpoint to go on from."""
    teams = {side: Submission.of(job[side]["name"], job[side]["files"]) for side in "ab"}
    digest = job_digest(job)
    done: Result = checkpoint.load({})
    if done.get("job") != digest:
        done = {"job": digest, "records": [], "logs": {"a": [], "b": []}}
    with Nursery() as nursery:
        factor = calibrate()
        for number in range(len(done["records"]), len(job["matches"])):
            match = job["matches"][number]
            pairing = Pairing(
                Layout(match["layout"], match["name"]),
                match["seed"],
                length=job["length"],
                limits=Limits(**job["limits"]),
                factor=factor,
                require=tuple(job["require"]),
            )
            red, blue = ("a", "b") if match["a_is_red"] else ("b", "a")
            tell = _teller(number, len(job["matches"]), job["length"])
            played = play(teams[red], teams[blue], pairing, nursery=nursery, watch=tell)
            done["records"].append(played.record.as_json())
            done["logs"][red].append(_headed(number, match, played.red_log))
            done["logs"][blue].append(_headed(number, match, played.blue_log))
            checkpoint.save(done)
            progress((number + 1) / len(job["matches"]))
    return _result(job, done)


def _teller(number: int, matches: int, length: int) -> Callable[[int, object], None]:
    def tell(move: int, state: object) -> None:
        if not move % _TELL_EVERY:
            progress((number + move / length) / matches)

    return tell


def _headed(number: int, match: Mapping[str, Any], log: str) -> str:
    return f"=== match {number + 1} on {match['name'] or 'its layout'}\n{log}\n" if log else ""


def _result(job: Job, done: Result) -> Result:
    records = [Record.of_json(record) for record in done["records"]]
    sides = [match["a_is_red"] for match in job["matches"]]
    winner = winner_of(records, sides)
    shown = choose(records, sides, winner)
    return {
        "job": done["job"],
        "records": done["records"],
        "winner": winner,
        "shown": shown,
        "gif": _animated(records[shown]) if job["gif"] else b"",
        "logs": {side: "".join(logs) for side, logs in done["logs"].items()},
    }


def _animated(record: Record) -> bytes:
    """The GIF, or nothing on a host without Pillow: whoever has the record can draw it."""
    try:
        from pacman_ctf.gif import animate
    except ImportError:
        return b""
    return animate(record)


def winners(records: Sequence[Record], a_is_red: Sequence[bool]) -> list[str]:
    """Who won each match: `a`, `b` or `tie`."""
    names = {(True, "red"): "a", (True, "blue"): "b", (False, "red"): "b", (False, "blue"): "a"}
    return [names.get((red, record.winner), "tie") for record, red in zip(records, a_is_red, strict=True)]


def winner_of(records: Sequence[Record], a_is_red: Sequence[bool]) -> str:
    """The job's winner: who won more matches, else nobody."""
    won = winners(records, a_is_red)
    lead = won.count("a") - won.count("b")
    return "a" if lead > 0 else "b" if lead < 0 else "tie"


def choose(records: Sequence[Record], a_is_red: Sequence[bool], winner: str) -> int:
    """The match to be shown: one with the job's winner, played to its end if there is such, of median score, short."""
    numbers = range(len(records))
    fitting = [number for number, won in zip(numbers, winners(records, a_is_red), strict=True) if won == winner]
    if not fitting:
        return min(numbers, key=lambda number: abs(records[number].score))
    fitting = [number for number in fitting if records[number].code == "score"] or fitting
    margins = sorted(abs(records[number].score) for number in fitting)
    median = margins[(len(margins) - 1) // 2]
    return min(
        fitting, key=lambda number: (abs(abs(records[number].score) - median), len(records[number].moves), number)
    )


def check_result(job: Job, result: Result) -> list[Record]:
    """The records of a result that came from a stranger, all of them true and of this job. Raises `RecordError`."""
    if not isinstance(result, Mapping) or not isinstance(result.get("records"), list):
        raise RecordError("the result has no records")
    records = [Record.of_json(record) for record in result["records"]]
    if len(records) != len(job["matches"]):
        raise RecordError(f"the result has {len(records)} matches of {len(job['matches'])}")
    digests = {side: Submission.of(job[side]["name"], job[side]["files"]).digest for side in "ab"}
    for number, (match, record) in enumerate(zip(job["matches"], records, strict=True)):
        red, blue = ("a", "b") if match["a_is_red"] else ("b", "a")
        asked = (match["layout"], match["name"], match["seed"].hex(), job["length"])
        teams = (digests[red], digests[blue], job[red]["name"], job[blue]["name"])
        if (*asked, *teams) != (
            record.layout, record.layout_name, record.seed, record.length,
            record.red, record.blue, record.red_name, record.blue_name,
        ):  # fmt: skip
            raise Forged(f"match {number + 1} is not the one that was asked for")
        verify(record)
    sides = [match["a_is_red"] for match in job["matches"]]
    if result.get("winner") != winner_of(records, sides):
        raise Forged(f"the result claims the winner {str(result.get('winner'))[:20]!r}; its matches say otherwise")
    shown = result.get("shown")
    if not isinstance(shown, int) or shown != choose(records, sides, result["winner"]):
        raise Forged("the match that the result shows is not the one that the rule names")
    return records


def agree(one: Result, other: Result) -> bool:
    """Whether two hosts' results of one job agree, each of them true: for the options `quorum=2, agree=agree`."""
    try:
        ours, theirs = ([Record.of_json(record) for record in result["records"]] for result in (one, other))
        for record in (*ours, *theirs):
            verify(record)
    except (RecordError, KeyError, TypeError):
        return False
    if one.get("job") != other.get("job") or one.get("winner") != other.get("winner") or len(ours) != len(theirs):
        return False
    return all(compare(a, b) is not Agreement.NO for a, b in zip(ours, theirs, strict=True))
