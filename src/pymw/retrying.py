"""Option `retries`: an exception of the function is answered by another try."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable

from pymw.backends.protocol import Batch, Ended, Event, Receiver
from pymw.outcome import Ending

__all__ = ["Retrying"]


class Retrying:
    """Stands before a call's receiver, and sends again what may be tried again."""

    def __init__(self, receiver: Receiver, resubmit: Callable[[Batch], None]) -> None:
        self.receiver = receiver  # who really waits
        self._resubmit = resubmit
        self._tries: Counter[int] = Counter()
        self._batches: list[Batch] = []  # in the order of their indices

    def sends(self, batch: Batch) -> None:
        """A batch whose tasks may have to be sent again."""
        self._batches.append(batch)

    def begin(self, index: int, count: int, worker: str) -> bool:
        """As Receiver says."""
        return self.receiver.begin(index, count, worker)

    def receive(self, event: Event) -> None:
        """As Receiver says."""
        if isinstance(event, Ended) and event.outcome.ending is Ending.RAISED:
            options = event.call.options
            if isinstance(event.error, options.retry_on) and self._tries[event.index] < options.retries:
                self._tries[event.index] += 1
                try:
                    self._resubmit(self._task(event.index))
                    return
                except Exception as error:  # noqa: BLE001 - the backend is over meanwhile: the first error is the one to tell
                    event.error.add_note(f"it was not tried again: {error}")
        self.receiver.receive(event)

    def _task(self, index: int) -> Batch:
        at = bisect.bisect_right(self._batches, index, key=lambda batch: batch.indices[0]) - 1
        position = self._batches[at].indices.index(index)
        return self._batches[at][position : position + 1]
