"""For scripts with a command line: the options that choose a backend, so that the script holds no line about it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from pymw.backends import known_backends

__all__ = ["arguments"]


class _ChooseBackend(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        name, known = str(values).partition(":")[0], known_backends()
        if name not in known:
            parser.error(f"no backend is named {name!r}; there are: {', '.join(sorted(known))}")
        os.environ["PYMW_BACKEND"] = str(values)
        setattr(namespace, self.dest, values)


def arguments() -> argparse.ArgumentParser:
    """A parent for the script's own parser, with ``--backend URL`` for every `Master()` of the script.

    >>> import argparse
    >>> parser = argparse.ArgumentParser(parents=[arguments()])
    >>> parser.parse_args([]).backend
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--backend",
        action=_ChooseBackend,
        metavar="URL",
        help="where the tasks run: local, local:4, boinc:DIR, ... (default: $PYMW_BACKEND, else local)",
    )
    return parser
