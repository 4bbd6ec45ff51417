"""The outcomes that the assimilator has filed, under growing numbers, until whoever waits for them has them.

Numbers are this process's own: another one that collects the same batch later finds what was not acknowledged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from boincserver.official.batches import Batches
from boincserver.official.ended import Ended
from boincserver.records import JobOutcome

__all__ = ["Collection"]

_MOST_BYTES: Final = 32 << 20
_POLL: Final = 0.25


@dataclass
class Collection:
    """Of one batch."""

    batches: Batches
    batch: int
    _numbers: dict[str, int] = field(default_factory=dict)  # of those that are here, by the job's name
    _last: int = 0
    _listed: int = -1  # the state of the folder when it was last listed

    def outcomes(self, after: int, limit: int, wait: float) -> list[JobOutcome]:
        """Those with numbers above `after`, oldest first; waits so many seconds for the first."""
        until = time.monotonic() + wait
        while True:
            self._number()
            found = list(self._read(after, limit))
            left = until - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(_POLL, left))

    def acknowledge(self, upto: int) -> None:
        """Those up to this number are kept elsewhere."""
        names = [name for name, seq in self._numbers.items() if seq <= upto]
        self.batches.forget(self.batch, names)
        for name in names:
            del self._numbers[name]

    def _number(self) -> None:
        changed = self.batches.changed(self.batch)
        if changed == self._listed:
            return
        self._listed = changed
        for name in sorted(set(self.batches.outcomes(self.batch)) - self._numbers.keys()):
            self._last += 1
            self._numbers[name] = self._last

    def _read(self, after: int, limit: int) -> Iterator[JobOutcome]:
        size = 0
        for name, seq in list(self._numbers.items()):
            if seq <= after:
                continue
            data = self.batches.outcome(self.batch, name)
            if data is None:  # somebody else acknowledged it
                del self._numbers[name]
                continue
            size += len(data)
            limit -= 1
            yield Ended.unpacked(data).outcome(seq)
            if not limit or size > _MOST_BYTES:
                return
