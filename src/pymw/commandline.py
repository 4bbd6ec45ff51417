"""The command line options that every script with a Master may offer, so that no script need know of backends."""

from __future__ import annotations

import argparse
import os

__all__ = ["arguments"]


class _Default(argparse.Action):
    """Makes the value the default of this process, and of those that it starts."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        os.environ[f"PYMW_{self.dest.upper()}"] = str(values)
        setattr(namespace, self.dest, values)


def arguments() -> argparse.ArgumentParser:
    """A parent parser with ``--backend URL``: what it names is where `Master()` runs tasks.

    >>> import argparse
    >>> parser = argparse.ArgumentParser(parents=[arguments()])
    >>> parser.parse_args([]).backend is None
    True
    """
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(
        "--backend",
        action=_Default,
        metavar="URL",
        help="where tasks run: local, boinc:DIR, ... (else $PYMW_BACKEND, else local); `pymw backends` lists them",
    )
    return parent
