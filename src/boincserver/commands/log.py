"""The command that reads the log, also while the server writes it."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from boincserver.commands.show import command
from boincserver.logline import LEVELS, Line

__all__ = ["add"]

_UNITS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def add(commands: Any) -> None:
    """Declare it."""
    log = command(commands, "log", _log, "what happened, also while the server runs; --json: an object a line")
    log.add_argument("--follow", action="store_true", help="go on with what happens from now on, until Ctrl-C")
    log.add_argument("--level", choices=LEVELS, default="debug", help="only what is as grave as this (default: debug)")
    log.add_argument("--host", type=int, metavar="N", help="only what concerns this computer")
    log.add_argument("--job", metavar="NAME", help="only what concerns this job or copy of a job")
    log.add_argument("--event", metavar="NAME", help="only events of this name")
    log.add_argument(
        "--since",
        type=_moment,
        default=0.0,
        metavar="WHEN",
        help="from then on: 90s, 10min, 2h, 3d, or 2026-12-31T18:00",
    )
    log.add_argument("--lines", type=int, default=100, metavar="N", help="the last so many (default: 100; 0: all)")


def _moment(text: str) -> float:
    ago = re.fullmatch(r"(\d+)\s*(s|min|h|d)", text)
    if ago is not None:
        return time.time() - int(ago[1]) * _UNITS[ago[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 10min, 2h, 3d or 2026-12-31T18:00") from None


def _log(options: argparse.Namespace) -> int:
    from boincserver.logfile import lines, path_of
    from boincserver.logline import read
    from boincserver.project import Project

    Project.open(options.directory)
    path = path_of(Path(options.directory).expanduser())
    for line in _last(read(lines(path, endless=options.follow)), options):
        sys.stdout.write(f"{line.json() if options.json else line.text()}\n")
        if options.follow:
            sys.stdout.flush()
    return 0


def _last(found: Iterator[Line | None], options: argparse.Namespace) -> Iterator[Line]:
    """The last lines of those that are asked for, then whatever follows."""
    kept: deque[Line] = deque(maxlen=options.lines or None)
    for line in found:
        if line is None:
            break
        if _is_wanted(line, options):
            kept.append(line)
    yield from kept
    yield from (line for line in found if line is not None and _is_wanted(line, options))


def _is_wanted(line: Line, options: argparse.Namespace) -> bool:
    return (
        line.time >= options.since
        and LEVELS.index(line.level) >= LEVELS.index(options.level)
        and options.host in (None, line.fields.get("host"))
        and options.job in (None, line.fields.get("job"), line.fields.get("copy"))
        and options.event in (None, line.event)
    )
