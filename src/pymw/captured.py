"""What a task prints: it goes where it would go anyway, and its end is kept, to come home with the outcome.

Several tasks may run in one process, in threads: what a thread prints that none of them began is known to be a task's
only where that task is alone.
"""

from __future__ import annotations

import contextvars
import io
import sys
import threading
from typing import Any

__all__ = ["Printed", "captured"]

MOST = 1 << 16  # characters of each stream that are kept


class Tail:
    """The end of a text that grows."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0

    def add(self, text: str) -> None:
        """It goes on so."""
        self._parts.append(text)
        self._size += len(text)
        if self._size > 2 * MOST:
            self._parts = [self.text]
            self._size = MOST

    @property
    def text(self) -> str:
        """At most so much of it."""
        return "".join(self._parts)[-MOST:]


class Printed:
    """What one task printed."""

    __slots__ = ("_before", "err", "out")

    def __init__(self) -> None:
        self.out, self.err = Tail(), Tail()

    @property
    def stdout(self) -> str:
        """The end of what it wrote to standard output."""
        return self.out.text

    @property
    def stderr(self) -> str:
        """The end of what it wrote to standard error."""
        return self.err.text

    def __enter__(self) -> Printed:
        if type(sys.stdout) is not Passing or type(sys.stderr) is not Passing:
            _install()
        self._before = _mine.set(self)
        _running.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _running.remove(self)
        _mine.reset(self._before)
        if self.out.text:
            sys.stdout.flush()


_lock = threading.Lock()
_running: list[Printed] = []
_mine: contextvars.ContextVar[Printed | None] = contextvars.ContextVar("pymw_printed", default=None)


def captured() -> Printed:
    """A context in which what is printed is kept, and printed. From the first one on this process has such streams."""
    return Printed()


def _install() -> None:
    with _lock:
        if type(sys.stdout) is not Passing:
            sys.stdout = Passing(sys.stdout, "out")
        if type(sys.stderr) is not Passing:
            sys.stderr = Passing(sys.stderr, "err")


class Passing(io.TextIOBase):
    """Standard output or error, of which each task's part is kept."""

    def __init__(self, beneath: Any, name: str) -> None:
        self.beneath = beneath
        self._name = name

    def write(self, text: str) -> int:
        """Pass `text` on and keep it."""
        printed = _mine.get()
        if printed is None and len(_running) == 1:
            printed = _running[0]
        if printed is not None:
            getattr(printed, self._name).add(text)
        self.beneath.write(text)
        return len(text)

    def writable(self) -> bool:
        """It is."""
        return True

    def flush(self) -> None:
        """Pass it on."""
        self.beneath.flush()

    def __getattr__(self, name: str) -> Any:
        """As what is beneath has it: its buffer, say, by which bytes go past us."""
        return getattr(self.beneath, name)

    def fileno(self) -> int:
        """The descriptor beneath, for subprocesses."""
        return int(self.beneath.fileno())

    def isatty(self) -> bool:
        """As what is beneath says."""
        return bool(self.beneath.isatty())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As what is beneath says."""
        return str(self.beneath.encoding)
