"""How commands are declared, and how they show what they found: a text for people, JSON for programs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["command", "group", "program", "show", "show_error", "table"]

Command = Callable[[argparse.Namespace], int]


def command(commands: Any, name: str, function: Command, what: str) -> argparse.ArgumentParser:
    """Declare a command on a project's directory."""
    parser = program(commands, name, function, what)
    parser.add_argument("directory", metavar="DIR", help="the project's directory")
    return parser


def program(commands: Any, name: str, function: Command, what: str) -> argparse.ArgumentParser:
    """Declare a command that needs no project."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--log-level",
        default="info",
        choices=["debug", "info", "warning", "error"],
        help="how much to say on standard error (default: info)",
    )
    parser.set_defaults(command=function)
    return parser


def group(commands: Any, name: str, what: str) -> Any:
    """Declare a command that has commands of its own."""
    parser = commands.add_parser(name, help=what, description=what)
    return parser.add_subparsers(required=True, metavar="COMMAND")


def show(options: argparse.Namespace, document: Mapping[str, Any], text: str) -> int:
    """Print the one or the other; always successful."""
    sys.stdout.write(f"{json.dumps(document) if options.json else text}\n")
    return 0


def show_error(options: argparse.Namespace, error: Exception) -> None:
    """Say what went wrong."""
    if options.json:
        sys.stdout.write(json.dumps({"error": type(error).__name__, "message": str(error)}) + "\n")
    else:
        sys.stderr.write(f"boincserver: {error}\n")


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they need to be; numbers to the right."""
    if not rows:
        return "none"
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[n]) for line in [list(heads), *cells]) for n in range(len(heads))]
    right = [all(isinstance(row[n], int | float) for row in rows) for n in range(len(heads))]

    def line(values: Sequence[str]) -> str:
        padded = (v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([line(heads), *map(line, cells)])
