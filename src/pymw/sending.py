"""The outward half of one map: a sized input goes as one batch, another as far as a window of tasks reaches."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pymw.backends.protocol import Batch, Call
from pymw.feed import columns_of, rows_of
from pymw.mapping import Gathering

if TYPE_CHECKING:
    from pymw.dispatch import Dispatch

__all__ = ["Sending"]

FIRST_WINDOW = 16  # unfinished tasks of an unsized map per worker, at first
QUICK = 0.25  # seconds: a window that is half done sooner than this is doubled
LARGEST_WINDOW = 1 << 17
KEYED_AT_ONCE = 5000


class Sending:
    """Reads the input of a map and sends it."""

    def __init__(
        self,
        dispatch: Dispatch,
        call: Call,
        gathering: Gathering,
        iterables: Sequence[Iterable[Any]],
        buffersize: int | None,
    ) -> None:
        self._dispatch = dispatch
        self._call = call
        self._gathering = gathering
        self._iterables = iterables
        self._fixed = buffersize is not None
        self._window = buffersize or 0
        self._iterators: Sequence[Iterator[Any]] | None = None
        self._fed = 0.0
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Send a sized input whole, or the first window of another."""
        columns = None if self._fixed else columns_of(self._iterables)
        if columns is not None or not self._iterables:
            if columns and len(columns[0]):
                self._send_whole(columns, len(columns[0]))
            else:
                self._gathering.count(0, complete=True)
            return
        self._iterators = [iter(iterable) for iterable in self._iterables]
        self._window = self._window or FIRST_WINDOW * (self._dispatch.backend.status().workers or 1)
        self.more()

    def _send_whole(self, columns: tuple[Sequence[Any], ...], tasks: int) -> None:
        # In a named run each task gets its key first: workers here begin while the others get theirs.
        here = self._dispatch.run is not None and not self._dispatch.backend.capabilities.outlives_master
        step = KEYED_AT_ONCE if here else tasks
        for first in range(0, tasks, step):
            part = tuple(column[first : first + step] for column in columns)
            self._send(part, len(part[0]), complete=first + step >= tasks)

    def more(self) -> int | None:
        """Send what the window has room for; return at how many unfinished tasks to come again, None for never.

        With `buffersize`, what is not yet read counts, as in the standard library. By itself the window does so
        only while there are results to read; behind a straggler, where the reader would have to wait, what is not
        yet finished counts: workers never idle because of one slow task.
        """
        if self._iterators is None:
            if self._error is not None and not self._gathering.unread:
                raise self._error
            return None
        low = self._window - 1 if self._fixed else self._window // 2
        exact = self._fixed or self._gathering.ready
        taken = self._gathering.unread if exact else self._gathering.away
        if taken > low:
            return None if exact else low
        if self._dispatch.closed:
            raise RuntimeError("the master was shut down before the input of this map was at its end")
        now = time.monotonic()
        if not self._fixed and self._fed and now - self._fed < QUICK and self._window < LARGEST_WINDOW:
            self._window *= 2
        self._fed = now
        self._send_rows(self._iterators, self._window - taken)
        return None if self._fixed else self._window // 2

    def _send_rows(self, iterators: Sequence[Iterator[Any]], room: int) -> None:
        try:
            columns = rows_of(iterators, room)
        except BaseException as error:
            if not self._gathering.sent:
                raise
            self._error = error  # raised when the results before it have been read, as the built-in map does
            self._finish()
            return
        if columns[0]:
            self._send(columns, len(columns[0]))
        if len(columns[0]) < room:
            self._finish()

    def _finish(self) -> None:
        self._iterators = None
        self._gathering.count(0, complete=True)

    def _send(self, columns: tuple[Sequence[Any], ...], tasks: int, *, complete: bool = False) -> None:
        first = self._gathering.sent
        run = self._dispatch.run
        keys = None if run is None else run.keys(self._call, columns, tasks, {})
        batch = Batch(self._call, range(first, first + tasks), columns, {}, keys)
        self._dispatch.intake.admit(self._call)
        self._gathering.count(tasks, complete=complete)
        self._dispatch.send(batch)
