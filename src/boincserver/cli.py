"""boincserver: create, serve and look after a BOINC project."""

from __future__ import annotations

import argparse
import logging
import sys
from importlib.metadata import version

from boincserver.commands import app, batch, job, operate, safety
from boincserver.commands.show import show_error, subcommands
from boincserver.errors import BoincServerError

__all__ = ["main", "make_parser"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = make_parser().parse_args(arguments)
    logging.basicConfig(
        level=getattr(logging, options.log_level.upper()), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        code: int = options.command(options)
    except (BoincServerError, OSError) as error:
        show_error(options, error)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(prog="boincserver", description=__doc__)
    parser.add_argument("--version", action="version", version=f"boincserver {version('pymw-grid')}")
    commands = subcommands(parser)
    operate.add(commands)
    app.add(commands)
    job.add(commands)
    batch.add(commands)
    safety.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
