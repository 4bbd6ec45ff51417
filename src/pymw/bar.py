"""How a map shows its progress: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

__all__ = ["Bar", "BarOnTerminal", "LinesInLog", "bar_for"]

LINE_EVERY = 10.0
SHOW_EVERY = 0.1


class Bar:
    """Is told how far a map is, and shows it."""

    def show(self, home: int, total: int | None, fraction: float = 0.0) -> None:
        """So many tasks are home of so many (None: unknown), and `fraction` tasks' worth of the others is done."""

    def close(self) -> None:
        """The map is over or left."""


class BarOnTerminal(Bar):
    """A rich progress bar on standard error."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[tasks]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=False)
        self._task = self._progress.add_task(name, total=None, tasks="")
        self._progress.start()
        self._shown = 0.0

    def show(self, home: int, total: int | None, fraction: float = 0.0) -> None:
        """As Bar says."""
        now = time.monotonic()
        if now - self._shown < SHOW_EVERY and home != total:
            return
        self._shown = now
        tasks = f"{home}/{total}" if total is not None else f"{home}"
        self._progress.update(self._task, completed=home + fraction, total=total, tasks=tasks)

    def close(self) -> None:
        """As Bar says."""
        self._progress.stop()


class LinesInLog(Bar):
    """Plain lines, one every ten seconds and one at the end."""

    def __init__(self, name: str, file: TextIO, every: float = LINE_EVERY) -> None:
        self._name, self._file, self._every = name, file, every
        self._begun = self._shown = time.monotonic()
        self._last = ""

    def show(self, home: int, total: int | None, fraction: float = 0.0) -> None:
        """As Bar says."""
        now = time.monotonic()
        part = f"{home} of {total}" if total is not None else f"{home}"
        share = f" ({(home + fraction) / total:.0%})" if total else ""
        self._line = f"{self._name}: {part} done{share}, {now - self._begun:.0f} s"
        if now - self._shown >= self._every:
            self._shown = now
            self._print()

    def close(self) -> None:
        """As Bar says."""
        self._print()

    _line = ""

    def _print(self) -> None:
        if self._line and self._line != self._last:
            self._last = self._line
            print(self._line, file=self._file, flush=True)


def bar_for(wanted: Any, name: str) -> Bar | None:
    """The bar that `progress=` asks for: True for what fits the place, or a Bar of the caller's own."""
    if not wanted:
        return None
    if isinstance(wanted, Bar):
        return wanted
    in_notebook = "ipykernel" in sys.modules
    if sys.stderr.isatty() or in_notebook:
        return BarOnTerminal(name)
    return LinesInLog(name, sys.stderr)
