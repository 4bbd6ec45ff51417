"""Is this team ready? An answer within ten seconds, from the sandbox, in the words of a teacher."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Final

from pacman_ctf import seeds
from pacman_ctf.compat.modules import names
from pacman_ctf.engine import State
from pacman_ctf.errors import SubmissionError
from pacman_ctf.limits import Limits, calibrate
from pacman_ctf.maze import layout_of
from pacman_ctf.nursery import Nursery
from pacman_ctf.python2 import convert
from pacman_ctf.referee import Fault, Game, Pairing
from pacman_ctf.submission import MAX_SOURCE, Submission, parsed, python2
from pacman_ctf.team import Team

SECONDS: Final = 9.0  # wall seconds for all of it; ten are promised
TEAMS: Final = ("easy", "medium", "strong")
PROVIDED: Final = ("numpy",)  # what teams may import beside the standard library and the game

# What students run into most, by what the traceback says, and what helps.
HINTS: Final = (
    (r"'NoneType' object is not subscriptable|cannot unpack non-iterable NoneType|manhattan.*NoneType",
     "A position can be None: opponents farther than 5 cells are not seen. Test `is not None` before you use it."),
    (r"'NoneType' object has no attribute '(pos|getPosition|get_position|direction)'",
     "`configuration` is None for an opponent out of sight. Test it before you use it."),
    (r"Positions not in grid|KeyError: \(\(",
     "The maze distance was asked for a cell that is wall or outside. Round positions, and check walls first."),
    (r"is out of sight", "A successor was asked for an opponent that is not seen: nobody knows where it is."),
    (r"(min|max)\(\) (arg is an empty sequence|iterable argument is empty)",
     "`min` or `max` of nothing: at the end of a game there may be no food, no capsule, no action left. Use default=."),
    (r"list indices must be integers.*not 'float'|list indices must be integers or slices, not float",
     "Positions in an agent's state are floats: use int(x), or nearest_point."),
    (r"name 'xrange' is not defined|name 'unicode' is not defined|has no attribute 'has_key'",
     "This is Python 2. `pacman-ctf check --convert` writes a version for Python 3."),
    (r"MemoryError", "More memory was asked for than a team has (2 GB)."),
    (r"RecursionError", "A function calls itself without end, or a search goes too deep: limit its depth."),
    (r"PermissionError|Errno 13",
     "A team reads its own files and writes into its own folder; there is nothing else, and no network."),
    (r"FileNotFoundError", "A file is missing: hand it in with the team, and open it by a path within its folder."),
)  # fmt: skip


@dataclass
class Report:
    """What the check found. `problems` lose games; `remarks` are worth knowing."""

    team: str
    dialect: str = ""
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    log: str = ""
    converted: Submission | None = None

    @property
    def ready(self) -> bool:
        """Whether nothing was found that loses games."""
        return not self.problems

    def text(self) -> str:
        """For people."""
        head = f"{self.team}: {'ready' if self.ready else 'not ready'}" + (f" ({self.dialect})" if self.dialect else "")
        parts = [head, *(f"  {fact}" for fact in self.facts), *(f"  ! {problem}" for problem in self.problems)]
        parts += [f"  note: {remark}" for remark in self.remarks]
        if self.log:
            parts += ["", "What the team printed, and its traceback:", *(f"  | {row}" for row in self.log.splitlines())]
        return "\n".join(parts)


def shipped_team(name: str) -> Submission:
    """One of our own teams: easy, medium or strong."""
    with resources.as_file(resources.files("pacman_ctf") / "teams" / name) as folder:
        return Submission.read(folder)


def check(source: str | Path | Submission, *, seconds: float = SECONDS) -> Report:
    """Load a team and play as many moves of a match as fit; slowness alone is no failure."""
    until = time.monotonic() + seconds
    try:
        team = source if isinstance(source, Submission) else Submission.read(source)
        report = Report(team.name)
        team = _looked_at(team, report, seconds / 2)
    except SubmissionError as error:
        return Report(str(getattr(source, "name", source)), problems=[str(error)])
    if report.ready:
        _tried(team, report, until)
    return report


def _looked_at(team: Submission, report: Report, seconds: float) -> Submission:
    """What can be seen without running it. Returns the team that is to be tried."""
    if not team.sources:
        report.remarks.append(
            f"its Python files have more than {MAX_SOURCE >> 20} MB, so nobody looks into them before a match; "
            "keep data in files of its own"
        )
    if any(python2(source) for source in team.sources.values()):
        team = report.converted = convert(team, seconds)
        report.remarks.append(
            "this team is written in Python 2, which no host has: what was tried is a converted copy. "
            "Write it with --convert, read it once, and hand that in"
        )
    report.dialect = team.dialect
    for path, source in team.sources.items():
        try:
            parsed(source)
        except SyntaxError as error:
            where = f"{path}, line {error.lineno}" if error.lineno else path
            problem = f"{where}: {error.msg}"
            if "utf-8" in problem or "encoding" in problem:
                problem += ". Save the file as UTF-8, or name its encoding in the first line"
            (report.problems if path == team.main else report.remarks).append(problem)
    missing = sorted(set(_missing(team)))
    if missing:
        report.remarks.append(
            f"it imports {', '.join(missing)}: hosts have the standard library, {', '.join(PROVIDED)} and the game"
        )
    if team.uses_clock:
        report.remarks.append(
            "it imports time or threads: two hosts may play it differently, so its matches count by outcome"
        )
    return team


def _missing(team: Submission) -> Iterator[str]:
    own = {PurePosixPath(path).stem for path in team.files} | {
        part for path in team.files for part in path.split("/")[:-1]
    }
    known = sys.stdlib_module_names | own | {name.partition(".")[0] for name in names()} | set(PROVIDED)
    for name in team.imports:
        top = name.partition(".")[0]
        if top not in known:
            yield top


def _tried(team: Submission, report: Report, until: float) -> None:
    pairing = Pairing(layout_of("harbour"), seeds.from_text("check"), limits=Limits(idle=3.0), factor=calibrate())
    begin = time.monotonic()
    with Nursery() as nursery:
        game, faults, report.log = _one_match(team, pairing, nursery, until)
        _tell(report, game, faults, game.limits)
        took = time.monotonic() - begin
        if faults or time.monotonic() + 1.5 * took > until:
            return
        again, faults, _ = _one_match(team, pairing, nursery, until)
    if faults or again.moves != game.moves:
        report.remarks.append(
            "the same match went another way when it was played again: two hosts will not agree on it. "
            "Draw random numbers from `random`, which is seeded, and do not decide by time, id() or files left behind"
        )
    else:
        report.facts.append("the same match, played again, gave the same moves")


def _one_match(team: Submission, pairing: Pairing, nursery: Nursery, until: float) -> tuple[Game, list[Fault], str]:
    """As much of a match as there is time for, what the team did wrong in it, and what it printed."""

    def watch(move: int, state: State) -> None:
        if time.monotonic() > until:
            raise Fault("unfinished", "red", f"there was time for {move + 1} moves of {pairing.length}")

    limits = pairing.limits.scaled(pairing.factor)
    with ExitStack() as stack:
        sides = {"red": team, "blue": shipped_team("medium")}
        teams = {side: stack.enter_context(Team(nursery, one, limits)) for side, one in sides.items()}
        for one in teams.values():
            one.until = until
        game = Game(teams, pairing, limits, watch)
        faults = [fault for fault in game.run() if fault.side == "red"]
    return game, faults, teams["red"].log.rstrip()


def _tell(report: Report, game: Game, faults: list[Fault], limits: Limits) -> None:
    moves = len(game.moves)
    report.facts.append(
        f"loaded and prepared in {game.start_cpu['red']:.2f} s of processor time ({limits.start:.0f} s each allowed)"
    )
    if moves:
        report.facts.append(f"played {moves} moves against our medium team, score {game.state.score:+d} for it as red")
        own = [agent for agent, side in enumerate(game.sides) if side == "red"]
        spent = sum(game.cpu[agent] - game.prepared[agent] for agent in own)
        pace = spent / max(1, (moves + 1) // 2)
        slowest = max(game.slowest[agent] for agent in own)
        projected = max(game.cpu[agent] for agent in own) + pace * (game.pairing.length - moves) / len(game.sides)
        report.facts.append(
            f"a move takes {1000 * pace:.1f} ms, the slowest {slowest:.2f} s ({limits.warning:.1f} s is a warning)"
        )
        if projected > limits.total:
            report.remarks.append(
                f"at this pace an agent needs {projected:.0f} s for a match, and has {limits.total:.0f} s"
            )
        if any(game.warnings):
            report.remarks.append(f"{sum(game.warnings)} moves were so slow that they are warnings; the third loses")
    for fault in faults:
        if fault.code == "unfinished":
            report.remarks.append(f"the check's own time was up: {fault.what}; what was seen is fine")
            continue
        report.problems.append(f"{_WORDS[fault.code]}: {fault.what}")
        report.log = "\n".join(filter(None, [report.log, fault.detail.rstrip()]))
        report.problems += [hint for pattern, hint in HINTS if re.search(pattern, f"{fault.what}\n{fault.detail}")][:2]


_WORDS: Final = {
    "load": "it does not load",
    "crash": "it fails with an exception",
    "illegal": "it does what is not allowed",
    "timeout": "it takes too much time",
}
