"""How a map shows its progress: a bar on a terminal or in a notebook, a line now and then in a log, or tqdm's bar."""

from __future__ import annotations

import html
import sys
import threading
import time
from typing import Any, TextIO

__all__ = ["Bar", "BarInNotebook", "BarOnTerminal", "LinesInLog", "TqdmsBar", "bar_for"]

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


class Line:
    """How far a map is, in words."""

    def __init__(self, name: str) -> None:
        self._name, self._begun = name, time.monotonic()

    def told(self, home: int, total: int | None, fraction: float) -> str:
        """In one line."""
        part = f"{home} of {total}" if total is not None else f"{home}"
        share = f" ({(home + fraction) / total:.0%})" if total else ""
        return f"{self._name}: {part} done{share}, {time.monotonic() - self._begun:.0f} s"


class LinesInLog(Bar):
    """Plain lines, one every ten seconds and one at the end."""

    def __init__(self, name: str, file: TextIO, every: float = LINE_EVERY) -> None:
        self._line, self._file, self._every = Line(name), file, every
        self._shown = time.monotonic()
        self._told = self._last = ""

    def show(self, home: int, total: int | None, fraction: float = 0.0) -> None:
        """As Bar says."""
        now = time.monotonic()
        self._told = self._line.told(home, total, fraction)
        if now - self._shown >= self._every:
            self._shown = now
            self._print()

    def close(self) -> None:
        """As Bar says."""
        self._print()

    def _print(self) -> None:
        if self._told != self._last:
            self._last = self._told
            print(self._told, file=self._file, flush=True)


class BarInNotebook(Bar):
    """The browser's own progress bar below the cell, replaced as it grows; needs no widgets."""

    def __init__(self, name: str, display: Any) -> None:
        self._line, self._shown = Line(name), 0.0
        self._picture = Picture(self._line.told(0, None, 0.0), 0.0, None)
        self._handle = display(self._picture, display_id=True)

    def show(self, home: int, total: int | None, fraction: float = 0.0) -> None:
        """As Bar says."""
        now = time.monotonic()
        self._picture = Picture(self._line.told(home, total, fraction), home + fraction, total)
        if now - self._shown >= SHOW_EVERY:
            self._shown = now
            self._handle.update(self._picture)

    def close(self) -> None:
        """As Bar says."""
        self._handle.update(self._picture)


class Picture:
    """What a notebook shows."""

    def __init__(self, line: str, done: float, total: int | None) -> None:
        self._line, self._done, self._total = line, done, total

    def __repr__(self) -> str:
        return self._line

    def _repr_html_(self) -> str:
        known = f' value="{self._done:.3f}" max="{self._total}"' if self._total else ""
        return f"<progress{known}></progress> {html.escape(self._line)}"


class TqdmsBar(Bar):
    """A bar with tqdm's interface; one that the caller made stays open."""

    def __init__(self, bar: Any, *, ours: bool) -> None:
        self._bar, self._ours = bar, ours
        self._before, self._given = bar.n, bar.total or 0  # it may count more than this map
        self._lock = threading.Lock()  # `show` may come from two threads
        self._home = 0

    def show(self, home: int, total: int | None, fraction: float = 0.0) -> None:
        """As Bar says; tqdm counts whole tasks."""
        with self._lock:
            if total is not None:
                self._bar.total = max(self._given, self._before + total)
            if home > self._home:
                self._bar.update(home - self._home)
                self._home = home

    def close(self) -> None:
        """As Bar says."""
        if self._ours:
            self._bar.close()
        else:
            self._bar.refresh()


def bar_for(wanted: Any, name: str) -> Bar | None:
    """The bar that `progress=` asks for: True for what fits the place, tqdm or a bar of it, or a Bar of one's own."""
    if wanted is False or wanted is None:
        return None
    if isinstance(wanted, Bar):
        return wanted
    if callable(wanted):
        return TqdmsBar(wanted(total=None, desc=name), ours=True)
    if hasattr(wanted, "refresh"):
        return TqdmsBar(wanted, ours=False)
    if wanted is not True:
        raise TypeError(f"progress= is True or False, tqdm or a bar of tqdm's, or a pymw.bar.Bar, not {wanted!r}")
    if (display := _notebooks_display()) is not None:
        return BarInNotebook(name, display)
    return BarOnTerminal(name) if sys.stderr.isatty() else LinesInLog(name, sys.stderr)


def _notebooks_display() -> Any:
    """What shows something below the cell that runs; None where this is no notebook."""
    ipython = sys.modules.get("IPython")
    if ipython is None or getattr(ipython.get_ipython(), "kernel", None) is None:
        return None
    return ipython.display.display
