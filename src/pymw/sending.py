"""The outward half of one map: a sized input goes as one batch, another as far as a window of tasks reaches."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pymw.backends.protocol import Call
from pymw.feed import columns_of, rows_of
from pymw.mapping import Gathering

if TYPE_CHECKING:
    from pymw.dispatch import Dispatch

__all__ = ["Sending"]

FIRST_WINDOW = 16  # unfinished tasks of an unsized map per worker, at first
QUICK = 0.25  # seconds: a window that is half done sooner than this is doubled
LARGEST_WINDOW = 1 << 17
KEYED_AT_ONCE = 5000  # tasks of a named run get their keys at the call; those behind them in a thread, in steps
FIRST_STEP, STEP = 500, 0.1  # of so many tasks and then of so many seconds: whoever leaves waits for one of them


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
            self._send_whole(columns or ())
            return
        self._iterators = [iter(iterable) for iterable in self._iterables]
        self._window = self._window or FIRST_WINDOW * (self._dispatch.backend.status().workers or 1)
        self.more()

    def _send_whole(self, columns: tuple[Sequence[Any], ...]) -> None:
        tasks = len(columns[0]) if columns else 0
        self._gathering.expect(tasks)
        if not tasks:
            self._gathering.end_here()
            return
        self._dispatch.intake.admit(self._call)
        run = self._dispatch.run
        if run is None or self._dispatch.backend.capabilities.outlives_master or tasks <= KEYED_AT_ONCE:
            self._send(columns)
            return
        with run.turns:
            self._send(tuple(column[:KEYED_AT_ONCE] for column in columns))
            run.turns.hand_over(self._send_rest(columns, tasks))

    def _send_rest(self, columns: tuple[Sequence[Any], ...], tasks: int) -> Iterator[None]:
        """Step by step, in a thread: the workers have begun, and whoever called the map may already read."""
        first, step = KEYED_AT_ONCE, FIRST_STEP
        while first < tasks and not self._gathering.ended:
            began = time.monotonic()
            try:
                self._send(tuple(column[first : first + step] for column in columns))
            except BaseException as error:  # noqa: BLE001 - raised when the results before it have been read
                self._error = error
                self._gathering.end_here()
                return
            first += step
            step = max(1, min(KEYED_AT_ONCE, int(step * STEP / max(time.monotonic() - began, 1e-6))))
            yield

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
        columns, error = rows_of(iterators, room)
        if columns[0]:
            self._dispatch.intake.admit(self._call)
            self._send(columns)
        if error is not None and not self._gathering.sent:
            raise error
        self._error = error  # raised when the results before it have been read, as the built-in map does
        if len(columns[0]) < room:
            self._finish()

    def _finish(self) -> None:
        self._iterators = None
        self._gathering.end_here()

    def _send(self, columns: tuple[Sequence[Any], ...]) -> None:
        first, tasks = self._gathering.sent, len(columns[0])
        self._gathering.count(tasks)
        try:
            self._dispatch.send_new(self._call, range(first, first + tasks), columns)
        except BaseException:
            self._gathering.count(-tasks)
            raise
