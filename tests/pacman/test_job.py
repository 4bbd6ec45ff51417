"""Three matches as one job: its rules, its checkpoints, and what a lying host cannot claim."""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from tests.pacman.teams import agent, innocent

from pacman_ctf.errors import Forged, RecordError
from pacman_ctf.job import agree, check_result, choose, job_digest, make_job, play_job, winner_of
from pacman_ctf.layout import named
from pacman_ctf.maze import layout_of
from pacman_ctf.record import Record, seal
from pacman_ctf.verify import Agreement, compare, verify
from pymw import codec, worker

LAYOUTS = [named("harbour"), named("pond"), layout_of("maze1:5")]


def a_job(**options: Any) -> dict[str, Any]:
    return make_job(innocent("ann"), agent("", name="bob"), LAYOUTS, b"secret", length=60, **options)


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return a_job()


@pytest.fixture(scope="module")
def result(job: dict[str, Any]) -> dict[str, Any]:
    return play_job(job)


def test_a_job_and_its_result_travel_without_pickle(job: dict[str, Any], result: dict[str, Any]) -> None:
    assert codec.decode(codec.encode(job)) == job
    assert codec.decode(codec.encode(result)) == result
    assert play_job(codec.decode(codec.encode(job)))["records"][0]["moves"] == result["records"][0]["moves"]


def test_sides_alternate_and_seeds_come_from_the_secret(job: dict[str, Any], result: dict[str, Any]) -> None:
    assert [match["a_is_red"] for match in job["matches"]][:2] == [True, False]
    third = {
        make_job(innocent("ann"), innocent("bob"), LAYOUTS, bytes([n]))["matches"][2]["a_is_red"] for n in range(20)
    }
    assert third == {True, False}
    assert len({match["seed"] for match in job["matches"]}) == 3
    assert a_job() == job
    assert (
        make_job(innocent("ann"), agent("", name="bob"), LAYOUTS, b"other")["matches"][0]["seed"]
        != job["matches"][0]["seed"]
    )
    assert [record["red_name"] for record in result["records"]][:2] == ["ann", "bob"]
    with pytest.raises(ValueError, match="3 layouts, not 1"):
        make_job(innocent(), innocent(), LAYOUTS[:1], b"")


def test_the_result_is_true_and_has_its_picture(job: dict[str, Any], result: dict[str, Any]) -> None:
    records = check_result(job, result)
    assert [len(record.moves) for record in records] == [60, 60, 60]
    assert result["gif"].startswith(b"GIF89a")
    assert json.loads(json.dumps(result["records"])) == result["records"]
    assert a_job(gif=False)["gif"] is False


class Kept(worker.CurrentTask):
    """A task as a volunteer's program runs it: progress is told, checkpoints outlive the process."""

    def __init__(self, saved: Any = None, dies_after: int = 99) -> None:
        self.saved, self.fractions, self.left = saved, [0.0], dies_after

    def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)

    def load(self, default: Any) -> Any:
        return default if self.saved is None else codec.decode(self.saved)

    def save(self, value: Any) -> None:
        self.saved = codec.encode(value)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("matches", [1, 2])
def test_a_job_goes_on_after_the_last_match_that_was_finished(
    job: dict[str, Any], result: dict[str, Any], matches: int
) -> None:
    first = Kept(dies_after=matches)
    with worker.running(first), pytest.raises(KeyboardInterrupt):
        play_job(job)
    second = Kept(first.saved)
    with worker.running(second):
        resumed = play_job(job)
    assert second.fractions[1] >= matches / 3  # it did not begin again
    assert [record["moves"] for record in resumed["records"]] == [record["moves"] for record in result["records"]]
    assert second.fractions == sorted(second.fractions)
    assert second.fractions[-1] == 1.0


def test_a_checkpoint_of_another_job_is_not_used(job: dict[str, Any]) -> None:
    other = make_job(innocent("ann"), innocent("eve"), LAYOUTS, b"secret", length=8, gif=False)
    assert job_digest(other) != job_digest(job)
    kept = Kept()
    with worker.running(kept):
        play_job(job)
    again = Kept(kept.saved)
    with worker.running(again):
        assert play_job(other)["job"] == job_digest(other)


def test_each_log_is_its_teams_own() -> None:
    loud = agent("def chooseAction(self, s):\n    print('my plan')\n    return 'Stop'", name="loud")
    broken = agent("def chooseAction(self, s):\n    1/0", name="broken")
    result = play_job(make_job(loud, broken, LAYOUTS, b"", length=8))
    assert "my plan" in result["logs"]["a"]
    assert "ZeroDivisionError" not in result["logs"]["a"]
    assert result["logs"]["b"].count("ZeroDivisionError: division by zero") >= 3
    assert "my plan" not in result["logs"]["b"]
    assert result["logs"]["b"].startswith("=== match 1 on harbour\n")
    assert result["winner"] == "a"


# The job's winner and the match that is shown, on records made up.


def made_up(score: int, code: str = "score", moves: str = "....") -> Record:
    blame = "" if code == "score" else "blue" if score > 0 else "red"
    winner = "red" if score > 0 else "blue" if score < 0 else "tie"
    return seal({
        "layout": LAYOUTS[1].text, "layout_name": "", "seed": "00" * 16, "length": len(moves), "first": 0, "red": "", "blue": "",
        "red_name": "", "blue_name": "", "moves": moves, "code": code, "blame": blame, "score": score, "winner": winner,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("matches", "winner", "shown"),
    [
        ([(3, True), (3, False), (9, True)], "a", 0),  # a won the first as red, lost the second as blue, won the third
        ([(3, True), (-5, False), (9, True)], "a", 1),  # all a's: the median of 3, 5 and 9
        ([(3, True), (3, False), (0, True)], "tie", 2),
        ([(-3, True), (0, False), (0, True)], "b", 0),
        ([(0, True), (0, False), (0, False)], "tie", 0),
    ],
)
def test_who_wins_more_matches_wins_and_is_shown(matches: list[tuple[int, bool]], winner: str, shown: int) -> None:
    records, sides = [made_up(score) for score, _ in matches], [red for _, red in matches]
    assert winner_of(records, sides) == winner
    assert choose(records, sides, winner) == shown


def test_a_forfeit_is_shown_only_when_there_is_nothing_else() -> None:
    forfeit, played = made_up(1, "crash"), made_up(7)
    assert choose([forfeit, played, played], [True, True, True], "a") == 1
    assert choose([forfeit, forfeit, made_up(-7)], [True, True, True], "a") == 0
    short = made_up(7, moves="..")
    assert choose([played, short, played], [True, True, True], "a") == 1


# Lies.


def lie(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A record with changes whose chain was made to fit, as a skilled liar does."""
    values = {**record, **changes}
    values.pop("chain")
    return seal(values).as_json()


LIES: dict[str, dict[str, Any]] = {
    "another score": {"score": 5, "winner": "red"},
    "another winner": {"winner": "blue"},
    "another first mover": {},
    "a move into a wall": {"moves": "W" + "." * 59},
    "a move that is none": {"moves": "x" + "." * 59},
    "fewer moves": {"moves": "...."},
    "more moves": {"moves": "." * 61},
    "no winner": {"winner": "nobody"},
    "no code": {"code": "magic"},
    "a forfeit of nobody": {"code": "crash"},
    "a forfeit by another score": {"code": "crash", "blame": "red", "score": 1, "winner": "red"},
    "blame for a played match": {"blame": "red"},
    "another seed": {"seed": "ff" * 16},
    "no seed": {"seed": "xyz"},
    "another layout": {"layout": named("canyon").text},
    "no layout": {"layout": "%%%"},
    "another team": {"red": "0" * 64},
    "another length": {"length": 30},
    "another engine": {"engine": "my own"},
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused(job: dict[str, Any], result: dict[str, Any], name: str) -> None:
    forged = copy.deepcopy(result)
    record = forged["records"][0]
    changes = LIES[name] or {"first": 1 - record["first"]}
    try:
        forged["records"][0] = lie(record, **changes)
    except TypeError:
        forged["records"][0] = record | changes
    with pytest.raises(RecordError):
        check_result(job, forged)
    assert not agree(forged, result)


@pytest.mark.parametrize("what", ["chain", "winner", "shown", "records", "order"])
def test_a_result_that_does_not_fit_its_job_is_refused(job: dict[str, Any], result: dict[str, Any], what: str) -> None:
    forged = copy.deepcopy(result)
    if what == "chain":
        forged["records"][0]["chain"] = "0" * 64
    elif what == "winner":
        forged["winner"] = "b" if result["winner"] != "b" else "a"
    elif what == "shown":
        forged["shown"] = (result["shown"] + 1) % 3
    elif what == "records":
        forged["records"].pop()
    else:
        forged["records"].reverse()
    with pytest.raises(RecordError):
        check_result(job, forged)
    for nonsense in (None, [], {}, {"records": 7}, {"records": [1, 2, 3]}):
        with pytest.raises(RecordError):
            check_result(job, nonsense)  # type: ignore[arg-type]


def test_a_damaged_record_says_what_is_wrong(result: dict[str, Any]) -> None:
    record = result["records"][0]
    for name in record:
        truncated = {key: value for key, value in record.items() if key != name}
        with pytest.raises(RecordError, match=name):
            Record.of_json(truncated)
        with pytest.raises(RecordError):
            Record.of_json(record | {name: {"of": "another type"}})
    with pytest.raises(RecordError, match="longer than any match"):
        Record.of_json(record | {"moves": "." * 200_000})


def test_every_single_move_counts_in_the_chain(result: dict[str, Any]) -> None:
    record = Record.of_json(result["records"][0])
    seen = {record.chain}
    for at in range(len(record.moves)):
        values = asdict(record)
        del values["chain"]
        other = "N" if record.moves[at] != "N" else "S"
        seen.add(seal(values | {"moves": record.moves[:at] + other + record.moves[at + 1 :]}).chain)
    assert len(seen) == len(record.moves) + 1


def test_hosts_agree_on_what_is_the_same(result: dict[str, Any]) -> None:
    mine = result
    theirs = copy.deepcopy(result)
    for record in theirs["records"]:  # what only a host can say
        record |= {"cpu": [9.0] * 4, "factor": 2.5, "warnings": [1, 0, 0, 0], "isolation": ["none", "none"]}
    assert agree(mine, theirs)
    assert not agree(mine, {})
    assert not agree(mine, mine | {"job": "another"})


def sealed(record: Record, **changes: Any) -> Record:
    values = asdict(record) | changes
    del values["chain"]
    return seal(values)


def test_records_agree_move_by_move_or_where_clocks_are_read_by_outcome() -> None:
    win, other = made_up(4, "crash"), made_up(4, "crash", moves="...")
    other = sealed(other, length=4)
    assert compare(win, win) is Agreement.SAME
    assert compare(win, other) is Agreement.NO
    assert compare(replace(win, clock=True), other) is Agreement.OUTCOME
    assert compare(replace(win, interpreter="a"), replace(other, interpreter="b")) is Agreement.OUTCOME
    near, far = sealed(other, score=6, code="score", blame=""), sealed(other, score=16, code="score", blame="")
    played = replace(sealed(win, code="score", blame=""), clock=True)
    assert compare(played, near) is Agreement.OUTCOME
    assert compare(played, far) is Agreement.NO
    lost = sealed(other, score=-6, winner="blue")
    assert compare(replace(win, clock=True), lost) is Agreement.NO


def test_a_forfeit_by_time_needs_another_host_that_says_so() -> None:
    late = made_up(1, "timeout")
    later = sealed(made_up(1, "timeout", moves="..."), length=4)
    assert compare(late, later) is Agreement.OUTCOME
    for code in ("score", "crash"):
        assert compare(late, sealed(late, code=code, blame="" if code == "score" else "blue")) is Agreement.NO


def test_verify_takes_milliseconds(result: dict[str, Any]) -> None:
    assert verify(Record.of_json(result["records"][0])).left == 0
    with pytest.raises(Forged, match="claims the score"):
        verify(Record.of_json(lie(result["records"][0], score=5, winner="red")))


def test_all_pairs_of_lies_fail_to_agree(result: dict[str, Any]) -> None:
    """Two liars with the same lie do not agree either: a lie is refused before it is compared."""
    for changes in itertools.islice(filter(None, LIES.values()), 8):
        forged = copy.deepcopy(result)
        try:
            forged["records"][1] = lie(forged["records"][1], **changes)
        except TypeError:
            continue
        if changes not in ({"length": 30},):
            assert not agree(forged, forged) or changes in ({"red": "0" * 64},), changes
