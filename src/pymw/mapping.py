"""The results of one map: where its outcomes gather, and the iterator that its caller reads."""

from __future__ import annotations

import logging
import numbers
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pymw.backends.protocol import Broken, Ended, Event, Progressed, Returned
from pymw.backlog import Backlog
from pymw.bar import Bar
from pymw.files import put_down

__all__ = ["Gathering", "OnError", "Reading", "stretches"]

log = logging.getLogger("pymw")
OnError = Literal["raise", "return", "skip"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How the caller of a map wants to have it."""

    timeout: float | None
    chunksize: int | None
    buffersize: int | None
    ordered: bool
    progress: Any
    on_error: OnError

    def __post_init__(self) -> None:
        if self.timeout is not None and not isinstance(self.timeout, numbers.Real):
            raise TypeError(f"timeout= is a number of seconds, not {self.timeout!r}")
        if self.chunksize is not None and not isinstance(self.chunksize, numbers.Integral):
            raise TypeError(f"chunksize= is a whole number, not {self.chunksize!r}")
        if self.chunksize is not None and self.chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if self.buffersize is not None and not isinstance(self.buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if self.buffersize is not None and self.buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        if self.on_error not in ("raise", "return", "skip"):
            raise ValueError(f'on_error= is "raise", "return" or "skip", not {self.on_error!r}')


class Gathering:
    """A map's Receiver: stretches of results by their first index, and how many tasks are not home."""

    def __init__(self, ordered: bool, bar: Bar | None, over: Callable[[], None]) -> None:
        self._ordered = ordered
        self._bar = bar
        self._over = over
        self._changed = threading.Condition()
        self._stretches = Backlog()  # by first index: sequences of values
        self._arrivals: deque[int] = deque()  # the first indices of stretches, as they came
        self._next = 0
        self._fractions: dict[int, float] = {}
        self._broken: BaseException | None = None
        self._read = True
        self.abandoned = False
        self.home = 0
        self.sent = 0
        self.total: int | None = None  # how many tasks there are; None: only the end of the input will tell

    # The collector's side.

    def begin(self, index: int, count: int, worker: str) -> bool:
        """Nothing begins that nobody waits for."""
        return not self.abandoned

    def receive(self, event: Event) -> None:
        """Keep it until its turn comes."""
        match event:
            case Returned(_, index, values):
                self._keep(index, list(values) if len(values) == 1 else values)
            case Ended(call, index, outcome, error):
                if outcome.files:
                    try:
                        put_down(outcome.files, call.options, index)
                    except OSError as problem:
                        error = error or problem
                self._keep(index, [outcome.value if error is None else Failed(error)])
            case Progressed(_, index, fraction):
                self._fractions[index] = fraction
                self._show()
            case Broken(error):
                with self._changed:
                    self._broken = error
                    self._changed.notify_all()
            case _:
                pass

    def _keep(self, index: int, values: Any) -> None:
        with self._changed:
            if self._read:
                soon = index == self._next or type(values[0]) is Failed
                self._stretches.put(index, values, soon=soon)
                if not self._ordered:
                    self._arrivals.append(index)
            self.home += len(values)
            if self._fractions:
                for one in range(index, index + len(values)):
                    self._fractions.pop(one, None)
            self._changed.notify_all()
            over = self.over
        self._show()
        if over:
            self._over()

    def _show(self) -> None:
        if self._bar is None:
            return
        try:
            self._bar.show(self.home, self.total, sum(list(self._fractions.values())))
        except Exception:  # it may be the caller's own, and the results do not depend on it
            self._bar = None
            log.exception("the progress bar is given up")

    # The caller's side.

    def expect(self, tasks: int) -> None:
        """There are so many tasks in all, of which some may yet have to be sent."""
        self.total = tasks

    def count(self, tasks: int) -> None:
        """So many tasks are being sent, or were not taken."""
        with self._changed:
            self.sent += tasks
        self._show()

    def end_here(self) -> None:
        """Nothing more will be sent."""
        with self._changed:
            self.total = self.sent
            self._changed.notify_all()
            over = self.over
        self._show()
        if over:
            self._over()

    def end_if_unsized(self) -> None:
        """Nothing more will be read, unless all there is was read at the call."""
        if self.total is None:
            self.end_here()

    @property
    def over(self) -> bool:
        """Whether every task has ended."""
        return self.home == self.total

    @property
    def ended(self) -> bool:
        """Whether nobody waits for tasks that are yet to be sent."""
        return self.abandoned or self._broken is not None

    @property
    def away(self) -> int:
        """How many tasks were sent and are not finished."""
        return self.sent - self.home

    @property
    def left(self) -> int:
        """How many tasks are known of that are not finished."""
        return (self.sent if self.total is None else self.total) - self.home

    @property
    def unread(self) -> int:
        """How many tasks have been sent and their results not been read."""
        return self.sent - self._next

    @property
    def ready(self) -> bool:
        """Whether the reader would not have to wait."""
        return bool(self._arrivals) if not self._ordered else self._next in self._stretches

    def stretch(self, deadline: float | None, until_away: int | None = None) -> Any:
        """The next results, in order or as they come; None at the end.

        With `until_away` an empty stretch is returned as soon as no more tasks than that are unfinished.
        """
        with self._changed:
            while True:
                first = self._next if self._ordered else (self._arrivals[0] if self._arrivals else -1)
                values = self._stretches.take(first)
                if values is not None:
                    self._next += len(values)
                    if not self._ordered:
                        self._arrivals.popleft()
                    return values
                if self.total is not None and self._next >= self.total:
                    return None
                if self._broken is not None:
                    raise self._broken
                if until_away is not None and self.away <= until_away:
                    return ()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"result {self._next} did not come in time")
                self._changed.wait(left)

    def stop_reading(self) -> None:
        """What is under way goes on, but nobody reads what comes of it."""
        with self._changed:
            self._read = False
            self._stretches.clear()
            self._arrivals.clear()
        self.end_if_unsized()

    def abandon(self) -> None:
        """Nobody will read any more."""
        with self._changed:
            self._stretches.clear()
            self.abandoned = True
            self.total = self.sent


class Failed:
    """Stands among the results for a task that raised."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def stretches(
    gathering: Gathering,
    feed: Callable[[], int | None],
    *,
    deadline: float | None,
    on_error: OnError,
    leave: Callable[[bool], None],
    bar: Bar | None,
) -> Iterator[Iterable[Any]]:
    """What `map` returns, in stretches. `feed` sends more of an unsized input, and says when to come again.

    A failure is always a stretch of its own, so that the long stretches, of plain values, need no look at each.
    `leave` is called at the end, however that comes, and told whether it was Ctrl-C.
    """
    interrupted = False
    try:
        while True:
            again = feed()
            values = gathering.stretch(deadline, again)
            if values is None:
                feed()  # raises what has ended the input meanwhile
                return
            if len(values) != 1:
                yield values
            elif type(values[0]) is not Failed:
                yield _once(values)
            else:
                error = values.pop().error
                try:
                    if on_error == "raise":
                        raise error
                    if on_error == "return":
                        yield (error,)
                finally:
                    del error  # no cycle through the traceback
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        leave(interrupted)
        if bar is not None:
            bar.close()


def _once(values: list[Any]) -> Iterator[Any]:
    """The one value, to which no reference stays here: it may be large."""
    yield values.pop()
