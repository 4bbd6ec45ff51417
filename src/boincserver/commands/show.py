"""How commands are declared, and how they show what they found: a text for people, JSON for programs."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from boincserver.errors import BoincServerError

__all__ = [
    "asked_for",
    "command",
    "group",
    "named",
    "positive",
    "program",
    "show",
    "show_error",
    "subcommands",
    "table",
]

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
    return subcommands(commands.add_parser(name, help=what, description=what))


def subcommands(parser: argparse.ArgumentParser) -> Any:
    """Where its commands are declared; without one it says which there are."""

    def tell(_options: argparse.Namespace) -> int:
        parser.print_help(sys.stderr)
        return 2

    parser.set_defaults(command=tell, json=False, log_level="info")
    return parser.add_subparsers(metavar="COMMAND")


def positive(text: str) -> int:
    """The argument of an option that counts something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def named(text: str) -> tuple[str, str]:
    """The argument PATH=NAME, or PATH for a file that keeps its name."""
    path, equals, name = text.rpartition("=")
    return (path, name) if equals else (text, Path(text).name)


def asked_for(what: str, *, twice: bool = False) -> str:
    """A secret: typed unseen by a person, or a line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    text = getpass.getpass(what)
    if twice and getpass.getpass("Once more: ") != text:
        raise BoincServerError("the two differ; nothing is changed")
    return text


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
