"""A round robin: every pair of teams plays one job, wherever `pymw` has its workers; only what is new is played."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from pacman_ctf import rules, seeds
from pacman_ctf.errors import Forged, PacmanError, RecordError, SubmissionError
from pacman_ctf.job import Job, Result, agree, check_result, job_digest, make_job, play_job, winners
from pacman_ctf.layout import Layout
from pacman_ctf.limits import Limits
from pacman_ctf.record import Record
from pacman_ctf.replays import page
from pacman_ctf.submission import Submission

POINTS: Final = {"win": 3, "tie": 1, "loss": 0}
LAYOUTS: Final = ("harbour", "maze1:round-1", "maze1:round-2")


class Master(Protocol):
    """Of `pymw.Master` and any other Executor: what a tournament needs."""

    def submit(self, fn: Callable[[Job], Result], job: Job, /) -> Any:
        """A future of the result."""
        ...


@dataclass
class Standing:
    """One team in the table."""

    team: str
    won: int = 0
    tied: int = 0
    lost: int = 0
    matches_won: int = 0
    dots: int = 0  # its own minus the others'
    faults: int = 0  # matches that it did not finish by its own fault

    @property
    def played(self) -> int:
        """Jobs, each against another team."""
        return self.won + self.tied + self.lost

    @property
    def points(self) -> int:
        """Three for a win, one for a tie."""
        return POINTS["win"] * self.won + POINTS["tie"] * self.tied

    @property
    def percent(self) -> float:
        """Of the points that were to be had."""
        return 100 * self.points / (POINTS["win"] * self.played) if self.played else 0.0

    @property
    def order(self) -> tuple[Any, ...]:
        """Best first: points, wins, matches won, dots, then by name."""
        return (-self.points, -self.won, -self.matches_won, -self.dots, self.team)


@dataclass
class Tournament:
    """Teams, where their results are kept, and what is still to be played."""

    folder: Path  # of results: grows, and may be given to the same tournament again
    teams: list[Submission]
    layouts: list[Layout]
    limits: Limits = field(default_factory=Limits)
    require: tuple[str, ...] = ()
    length: int = rules.TIME_LIMIT
    spot: float | None = None  # of results from hosts that are not ours, the part that is played again; None: all ours
    broken: dict[str, str] = field(default_factory=dict)  # what could not even be read, and why

    @property
    def secret(self) -> bytes:
        """What all seeds are derived from; to be published when the tournament is over."""
        path = self.folder / "secret"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
        return bytes.fromhex(path.read_text().strip())

    @property
    def name(self) -> str:
        """What tells this tournament's run apart, wherever its jobs are under way."""
        return f"pacman-{seeds.derive(self.secret, 'name').hex()}"

    def jobs(self) -> Iterator[tuple[str, Job]]:
        """Every pair's job with its digest; the pair's order is the names'."""
        secret = self.secret
        for a, b in itertools.combinations(sorted(self.teams, key=lambda team: team.name), 2):
            job = make_job(
                a, b, self.layouts, secret, length=self.length, limits=self.limits, require=self.require, gif=False
            )
            yield job_digest(job), job

    def result(self, digest: str) -> Result | None:
        """What was kept of a job."""
        try:
            found: Result = json.loads((self.folder / "results" / f"{digest}.json").read_text())
        except (OSError, ValueError):
            return None
        return found

    def play(self, master: Master, tell: Callable[[int, int], None] = lambda done, of: None) -> list[str]:
        """Play what has no result yet. Returns what went wrong, in words; the rest is unharmed."""
        jobs = dict(self.jobs())
        missing = {digest: job for digest, job in jobs.items() if self.result(digest) is None}
        tell(len(jobs) - len(missing), len(jobs))
        futures = {master.submit(play_job, job): digest for digest, job in missing.items()}
        wrong = []
        for done, future in enumerate(as_completed(futures), 1):
            digest = futures[future]
            names = " and ".join(jobs[digest][side]["name"] for side in "ab")
            try:
                self._keep(digest, jobs[digest], self._trusted(digest, jobs[digest], future.result()))
            except RecordError as error:
                wrong.append(f"{names}: a host's result was refused: {error}")
            except Exception as error:  # noqa: BLE001 - one job's failure is not the tournament's
                wrong.append(f"{names}: {type(error).__name__}: {error}")
            tell(len(jobs) - len(missing) + done, len(jobs))
        return wrong

    def _trusted(self, digest: str, job: Job, result: Result) -> Result:
        """The result, or what this machine makes of the job where a stranger's word is not enough.

        Moves prove a score, but not that a team was too slow, crashed or did anything else that ended its match; and
        some results are played again so that nobody knows which ones may be invented.
        """
        if self.spot is None:
            return result
        records = check_result(job, result)
        unproved = any(record.code != "score" for record in records)
        drawn = int.from_bytes(seeds.derive(self.secret, "spot", digest)[:8], "big") / 2**64
        if drawn >= self.spot and not unproved:
            return result
        again = play_job(job)
        if not unproved and not agree(result, again):
            raise Forged("played again here, the same job went another way")
        return again

    def _keep(self, digest: str, job: Job, result: Result) -> None:
        """Check a result and write it down: public matches here, each team's log where only staff looks."""
        records = check_result(job, result)
        logs = result.get("logs", {})
        matches = self.folder / "matches" / f"{_plain(job['a']['name'])}-{_plain(job['b']['name'])}"
        matches.mkdir(parents=True, exist_ok=True)
        for number, record in enumerate(records, 1):
            (matches / f"{number}.json").write_text(json.dumps(record.as_json()))
            (matches / f"{number}.html").write_text(page(record), encoding="utf-8")
        self._draw(matches, records[result["shown"]])
        for side, other in ("ab", "ba"):
            log = logs.get(side)
            if isinstance(log, str) and log:
                own = self.folder / "private" / _plain(job[side]["name"])
                own.mkdir(parents=True, exist_ok=True, mode=0o700)
                (own / f"{_plain(job[other]['name'])}.log").write_text(log[: 1 << 18], encoding="utf-8")
        kept = {name: result[name] for name in ("job", "records", "winner", "shown")}
        kept["a_is_red"] = [match["a_is_red"] for match in job["matches"]]
        path = self.folder / "results" / f"{digest}.json"
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(kept))
        partial.replace(path)

    def _draw(self, folder: Path, record: Record) -> None:
        """The GIF is drawn here, from moves that were checked: a stranger's picture is never shown."""
        try:
            from pacman_ctf.gif import animate
        except ImportError:
            return
        (folder / "match.gif").write_bytes(animate(record))

    def table(self) -> list[Standing]:
        """The standings by all results that are there."""
        table = {team.name: Standing(team.name) for team in self.teams}
        for digest, job in self.jobs():
            result = self.result(digest)
            if result is not None:
                _count(table, job, result)
        return sorted(table.values(), key=lambda standing: standing.order)

    def publish(self) -> str:
        """Write table.json and table.txt. Returns the latter."""
        table = self.table()
        shown = ("team", "points", "percent", "won", "tied", "lost", "matches_won", "dots", "faults")
        rows = [{name: getattr(row, name) for name in shown} for row in table]
        (self.folder / "table.json").write_text(json.dumps({"standings": rows, "broken": self.broken}, indent=1))
        text = table_text(table, self.broken)
        (self.folder / "table.txt").write_text(text + "\n", encoding="utf-8")
        return text


def _count(table: dict[str, Standing], job: Job, result: Result) -> None:
    ours = {side: table[job[side]["name"]] for side in "ab"}
    records = [Record.of_json(record) for record in result["records"]]
    if result["winner"] == "tie":
        for standing in ours.values():
            standing.tied += 1
    else:
        ours[result["winner"]].won += 1
        ours["a" if result["winner"] == "b" else "b"].lost += 1
    for record, won, a_is_red in zip(records, winners(records, result["a_is_red"]), result["a_is_red"], strict=True):
        if won != "tie":
            ours[won].matches_won += 1
        ours["a"].dots += record.score if a_is_red else -record.score
        ours["b"].dots -= record.score if a_is_red else -record.score
        for side in "ab":
            color = "red" if (side == "a") == a_is_red else "blue"
            ours[side].faults += record.blame in (color, "both")


def table_text(table: Sequence[Standing], broken: dict[str, str]) -> str:
    """The table for a terminal."""
    width = max([4, *(len(row.team) for row in table)])
    head = f"{'':>3} {'team':<{width}} points     %  won tied lost matches  dots faults"
    rows = [
        f"{place:>3} {row.team:<{width}} {row.points:>6} {row.percent:>5.1f} {row.won:>4} {row.tied:>4} {row.lost:>4} "
        f"{row.matches_won:>7} {row.dots:>+5} {row.faults:>6}"
        for place, row in enumerate(table, 1)
    ]
    return "\n".join([head, *rows, *(f"  - {name}: {why}" for name, why in sorted(broken.items()))])


def read_teams(folder: Path) -> tuple[list[Submission], dict[str, str]]:
    """The teams in a folder, one per entry, and those that cannot be read with the reason."""
    if not folder.is_dir():
        raise SubmissionError(f"there is no folder of teams at {folder}")
    teams: dict[str, Submission] = {}
    broken: dict[str, str] = {}
    for path in _entries(folder):
        try:
            team = Submission.read(path)
            if team.name in teams:
                raise SubmissionError(f"two teams are called {team.name}")
            teams[team.name] = team
        except (PacmanError, OSError) as error:
            broken[path.name] = str(error)
    return list(teams.values()), broken


def _entries(folder: Path) -> Iterable[Path]:
    kept = (path for path in sorted(folder.iterdir()) if not path.name.startswith((".", "_")))
    return (path for path in kept if path.is_dir() or path.suffix in (".py", ".zip"))


def _plain(name: str) -> str:
    """A team's name as a file name, another one for each name: no two teams share a folder."""
    plain = "".join(letter if letter.isalnum() or letter in "_." else "_" for letter in name).lstrip(".") or "_"
    return plain if plain == name else f"{plain}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"
