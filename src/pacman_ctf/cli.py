"""pacman-ctf: play, check, tournament, replay, layouts, verify."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pymw
from pacman_ctf import rules, seeds
from pacman_ctf.check import TEAMS, check, shipped_team
from pacman_ctf.engine import begin
from pacman_ctf.errors import PacmanError, RecordError
from pacman_ctf.layout import Layout, LayoutError, shipped
from pacman_ctf.limits import calibrate
from pacman_ctf.maze import layout_of
from pacman_ctf.record import Record
from pacman_ctf.referee import Pairing, play
from pacman_ctf.replays import page
from pacman_ctf.submission import Submission
from pacman_ctf.text import picture
from pacman_ctf.tournament import LAYOUTS, Tournament, read_teams
from pacman_ctf.verify import replay, verify
from pacman_ctf.watching import watch, watcher
from pyboinc import sandbox

__all__ = ["main", "make_parser"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = make_parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (PacmanError, LayoutError, pymw.PyMWError) as error:
        print(f"pacman-ctf: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except OSError as error:
        print(f"pacman-ctf: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(prog="pacman-ctf", description="Pacman capture the flag between teams of agents.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = _command(commands, "play", _play, "play one match between two teams")
    one.add_argument("red", help=f"a folder, a zip, a Python file, or one of ours: {', '.join(TEAMS)}")
    one.add_argument("blue", help="the same for the other team")
    one.add_argument("--layout", default="harbour", help="a layout's name, maze1:SEED, or a file (default: harbour)")
    one.add_argument("--seed", default=None, help="any text; the same seed is the same match (default: a new one)")
    one.add_argument(
        "--moves", type=_at_least_one, default=rules.TIME_LIMIT, help="length of the match (default: %(default)s)"
    )
    one.add_argument("--watch", action="store_true", help="show it here while it is played")
    _outputs(one)
    one.add_argument("--out", type=Path, help="write the record of the match, as JSON")

    looked = _command(commands, "check", _check, "say within ten seconds whether a team is ready, and what is wrong")
    looked.add_argument("team", help="a folder, a zip, a Python file, or one of ours")
    looked.add_argument("--convert", type=Path, metavar="DIR", help="write a team from Python 2 as Python 3 into DIR")

    many = _command(commands, "tournament", _tournament, "play every pair of teams, here or on any backend of pymw",
                    parents=[pymw.arguments()])  # fmt: skip
    many.add_argument("teams", type=Path, help="a folder with one folder, zip or Python file per team")
    many.add_argument("--out", type=Path, default=None, help="where results are kept (default: TEAMS-results)")
    many.add_argument("--layouts", default=",".join(LAYOUTS), help="three, with commas (default: %(default)s)")
    many.add_argument("--moves", type=_at_least_one, default=rules.TIME_LIMIT, help=argparse.SUPPRESS)
    many.add_argument("--require", default="", help="layers of the sandbox without which no host may play, with commas")
    many.add_argument("--spot", type=float, default=0.05, help="part of strangers' results to play again here (0.05)")
    many.add_argument(
        "--quorum", type=_at_least_one, default=1, help="how many hosts must agree on each result (default: 1)"
    )

    shown = _command(commands, "replay", _replay, "show a match that was played")
    shown.add_argument("record", type=Path, help="a record, as play --out and tournament write it")
    _outputs(shown)

    mazes = _command(commands, "layouts", _layouts, "list the layouts, or print one")
    mazes.add_argument("name", nargs="?", help="a layout's name or maze1:SEED")

    checked = _command(commands, "verify", _verify, "play a record's moves again and refuse what does not follow")
    checked.add_argument("records", nargs="+", type=Path, help="records as JSON")
    return parser


def _command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int], what: str, **options: Any
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=what.capitalize() + ".", **options
    )
    parser.set_defaults(command=function)
    return parser


def _outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gif", type=Path, help="write the match as an animated GIF")
    parser.add_argument("--video", type=Path, help="write the match as .webp, or with ffmpeg as .mp4 and others")
    parser.add_argument("--html", type=Path, help="write a page that plays the match in a browser")
    parser.add_argument("--speed", type=float, default=20.0, help="moves per second in the terminal (default: 20)")


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


_at_least_one.__name__ = "whole number"  # as argparse calls it when the text is no number


def _team(name: str) -> Submission:
    return shipped_team(name) if _is_ours(name) else Submission.read(name)


def _is_ours(name: str) -> bool:
    return name in TEAMS and not Path(name).exists()


def _play(options: argparse.Namespace) -> int:
    red, blue = _team(options.red), _team(options.blue)
    layout = _layout(options.layout)
    seed = seeds.from_text(options.seed) if options.seed is not None else secrets.token_bytes(seeds.SEED_BYTES)
    pairing = Pairing(layout, seed, length=options.moves, factor=calibrate())
    played = play(red, blue, pairing, watch=watcher(options.speed) if options.watch else None)
    record = played.record
    for side, log in (("red", played.red_log), ("blue", played.blue_log)):
        if log:
            print(f"--- {side} ({getattr(record, side + '_name')}) printed:\n{log}")
    print(_outcome(record))
    print(f"seed {record.seed}, sandbox: {record.isolation[0]}")
    if options.out:
        options.out.write_text(json.dumps(record.as_json()))
    _write(record, options)
    return 0


def _layout(name: str) -> Layout:
    path = Path(name)
    if not path.is_file():
        return layout_of(name)
    try:
        return Layout(path.read_text(encoding="utf-8"), path.stem)
    except UnicodeDecodeError as error:
        raise LayoutError(f"{name} is no text in UTF-8; a layout is lines of % . o 1 2 3 4 and spaces") from error
    except LayoutError as error:
        raise LayoutError(f"{name}: {error}") from error


def _outcome(record: Record) -> str:
    names = {"red": record.red_name, "blue": record.blue_name}
    won = f"{record.winner} ({names[record.winner]}) wins" if record.winner in names else "a tie"
    how = f"by {abs(record.score)}" if record.code == "score" and record.score else ""
    why = f"by {record.code}: {record.reason}" if record.code != "score" else ""
    return " ".join(part for part in (won, how, why, f"after {len(record.moves)} moves") if part)


def _write(record: Record, options: argparse.Namespace) -> None:
    if options.gif or options.video:
        try:
            from pacman_ctf.gif import animate
            from pacman_ctf.video import write_video
        except ImportError as error:
            raise PacmanError("pictures need Pillow; to have it: pip install 'pymw-grid[pacman]'") from error
        if options.gif:
            options.gif.write_bytes(animate(record))
            print(f"wrote {options.gif}")
        if options.video:
            write_video(record, options.video)
            print(f"wrote {options.video}")
    if options.html:
        options.html.write_text(page(record), encoding="utf-8")
        print(f"wrote {options.html}")


def _check(options: argparse.Namespace) -> int:
    report = check(shipped_team(options.team) if _is_ours(options.team) else options.team)
    print(report.text())
    if options.convert and report.converted:
        report.converted.write(options.convert)
        print(f"wrote the converted team to {options.convert}")
    return 0 if report.ready else 1


def _tournament(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pacman_ctf.job import MATCHES, agree

    teams, broken = read_teams(options.teams)
    if len(teams) < 2:
        raise PacmanError(f"a tournament needs two teams; {options.teams} has {len(teams)}")
    folder = options.out or options.teams.with_name(options.teams.resolve().name + "-results")
    layouts = [layout_of(label.strip()) for label in options.layouts.split(",")]
    if len(layouts) != MATCHES:
        raise PacmanError(f"a pair plays {MATCHES} matches, so --layouts takes {MATCHES} names, not {len(layouts)}")
    require = tuple(filter(None, options.require.split(",")))
    if unknown := sorted(set(require) - set(sandbox.LAYERS)):
        raise PacmanError(f"--require knows no layer {unknown[0]!r}; there are: {', '.join(sandbox.LAYERS)}")
    played = Tournament(folder, teams, layouts, require=require, broken=broken, length=options.moves)
    columns = (TextColumn("pairs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(*columns, console=Console(stderr=True)))
        task = bar.add_task("pairs", total=None)
        master: Any = stack.enter_context(pymw.Master(options.backend, run=played.name))
        if not master.capabilities.trusted:
            played.spot = options.spot
        if options.quorum > 1:
            master = master.options(quorum=options.quorum, agree=agree)
        wrong = played.play(master, lambda done, of: bar.update(task, completed=done, total=of))
    print(played.publish())
    for sentence in wrong:
        print(f"  ! {sentence}; run this again to try it again", file=sys.stderr)
    print(f"results: {folder}")
    return 1 if wrong else 0


def _load(path: Path) -> Record:
    try:
        return Record.of_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: {error}") from error


def _replay(options: argparse.Namespace) -> int:
    record = _load(options.record)
    states = replay(record)
    _write(record, options)
    if not (options.gif or options.html or options.video):
        watch(states, options.speed)
        print(_outcome(record))
    return 0


def _layouts(options: argparse.Namespace) -> int:
    if options.name:
        print(picture(begin(layout_of(options.name)), color=sys.stdout.isatty()).rpartition("\n")[0])
        return 0
    for name in shipped():
        layout = layout_of(name)
        capsules = layout.capsules.bit_count()
        print(f"{name:<10} {layout.width}x{layout.height}, {layout.total_food} dots, {capsules} capsules")
    print("maze1:SEED 34x18, 60 dots, 4 capsules, another maze for each seed")
    return 0


def _verify(options: argparse.Namespace) -> int:
    wrong = 0
    for path in options.records:
        try:
            record = _load(path)
            verify(record)
            print(f"{path}: true; {_outcome(record)}")
        except RecordError as error:
            wrong += 1
            print(f"{path}: refused: {str(error).removeprefix(f'{path}: ')}")
    return 1 if wrong else 0
