"""The master's side of the way home: every outcome passes here, on its way to a future or a map."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pymw.backends.protocol import Broken, Call, Event, Logged
from pymw.errors import RunError

if TYPE_CHECKING:
    from pymw.run import Run

__all__ = ["Intake"]


told = logging.getLogger("pymw.task")  # what functions say with pymw.log


class Intake:
    """The Collector that a master gives to its backend; it knows which calls are not over."""

    def __init__(self, run: Run | None = None) -> None:
        self._run = run
        self._failed: RunError | None = None
        self._open: dict[Call, None] = {}
        self._changed = threading.Condition()
        self._then: Callable[[], None] | None = None

    def admit(self, call: Call) -> None:
        """Before the call is submitted; RunError where what comes of it could not be recorded."""
        if self._failed is not None:
            raise self._failed
        self._open[call] = None

    def dismiss(self, call: Call) -> None:
        """The call is over, by its receiver's word; more than once does no harm."""
        self._open.pop(call, None)
        if self._run is not None:
            self._run.forget(call)
        if not self._open:
            with self._changed:
                self._changed.notify_all()
            if self._then is not None:
                self._then()

    def when_over(self, then: Callable[[], None]) -> None:
        """Call `then` as soon as no call is open: now, or from whichever thread ends the last one."""
        self._then = then
        if not self._open:
            then()

    def begin(self, call: Call, index: int, count: int, worker: str) -> bool:
        """As Collector says."""
        return call.receiver.begin(index, count, worker)

    def deliver(self, events: Sequence[Event]) -> None:
        """As Collector says."""
        if self._run is not None:
            try:
                events = [*events, *self._run.record(events)]
            except RunError as error:
                # A full disk, say. The backend must not forget what it has, and nobody may wait for it here.
                self._failed = error
                self._break(Broken(error))
                raise
        for event in events:
            if isinstance(event, Broken):
                self._break(event)
            else:
                if isinstance(event, Logged):
                    told.info("%s %d: %s", event.call.name, event.index, event.line)
                event.call.receiver.receive(event)

    def _break(self, event: Broken) -> None:
        for call in list(self._open):
            call.receiver.receive(event)
            self.dismiss(call)

    def open_calls(self) -> list[Call]:
        """Those that are not over, oldest first."""
        return list(self._open)

    def wait(self, timeout: float | None = None) -> bool:
        """Until every call is over; False where that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, timeout)
