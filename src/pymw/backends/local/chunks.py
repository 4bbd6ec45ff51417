"""What waits, and how it is cut into chunks. No processes here, no clock."""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pymw.backends.local.live import LONGEST_CHUNK
from pymw.backends.protocol import Batch, Call
from pymw.outcome import Attempt
from pymw.shipping import Shipment

if TYPE_CHECKING:
    from pymw.backends.local.store import Region

__all__ = ["Chunk", "Queue", "Stretch", "worth"]

LONGEST = 0.1  # seconds of measured work in one chunk
SHORTEST = 0.002  # and no less than this, where there is more than one task: a message costs a tenth of it
LARGEST = 4 << 20  # bytes of arguments, or of results, in one chunk
SECONDS_PER_BYTE = 0.5e-9  # what carrying them costs, roughly
GROWTH = 16  # a chunk is at most so many times longer than all that was measured before it
MOST_FUNCTIONS = 32  # in one chunk
MOST_STRETCHES = 1024
SHARES = 2  # so many chunks at least for each worker: the first results come home while the last items run


@dataclass(slots=True, eq=False)
class Stretch:
    """Consecutive tasks of one batch."""

    batch: Batch
    shipment: Shipment
    start: int  # positions in the batch
    end: int
    payload: Any = None  # the pickled (args, kwargs) of a single task
    lost: tuple[Attempt, ...] = ()  # what was charged to it: then it is one task, and runs alone

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def many(self) -> bool:
        """Whether it is a stretch of a map."""
        return self.batch.call.many

    @property
    def alone(self) -> bool:
        """Whether it must not share a chunk: it may take its worker along, or must run at most once."""
        return bool(self.lost) or self.batch.call.options.attempts == 1

    def weight(self) -> int:
        """How many bytes its first task's arguments take at least, as far as a glance tells."""
        if not self.many:
            return 0
        return sum(_weight(column[self.start]) for column in self.batch.columns if not isinstance(column, range))

    def index(self, position: int = 0) -> int:
        """The index, in its call, of the task at this position of the stretch."""
        return self.batch.indices[self.start + position]

    def cut(self, count: int) -> Stretch:
        """Take the first `count` tasks off."""
        first = Stretch(self.batch, self.shipment, self.start, self.start + count, self.payload, self.lost)
        self.start += count
        return first

    def part(self, start: int, end: int) -> Stretch:
        """Some of its tasks, by position in the stretch."""
        return Stretch(self.batch, self.shipment, self.start + start, self.start + end, self.payload, self.lost)


def _weight(value: Any) -> int:
    if isinstance(value, (bytes, str, bytearray)):
        return len(value)
    try:
        size = getattr(value, "nbytes", 0)
    except Exception:  # noqa: BLE001 - a property of the user's
        return 0
    return size if isinstance(size, int) else 0


@dataclass(slots=True, eq=False)
class Chunk:
    """What one worker is given at once. Positions count through all of its stretches."""

    serial: int
    stretches: list[Stretch]
    size: int
    sent: float  # when, by the monotonic clock
    limit: int = 0  # positions from here on were taken back
    home: int = 0  # positions below are home: chunks come home in order
    out: int = 0  # bytes that it took to send
    back: int = 0  # and bytes that came home
    regions: list[Region] = field(default_factory=list)  # of the store, in which its arguments lie
    _starts: list[int] = field(default_factory=list)  # the position of each stretch's first task

    def __post_init__(self) -> None:
        self.limit = self.size
        self._starts = [0, *itertools.accumulate(len(stretch) for stretch in self.stretches[:-1])]

    def at(self, position: int) -> tuple[Stretch, int]:
        """The stretch that holds this position, and where in it."""
        which = bisect.bisect_right(self._starts, position) - 1
        return self.stretches[which], position - self._starts[which]

    def parts(self, start: int, end: int) -> Iterator[Stretch]:
        """The tasks from `start` to before `end`, in stretches."""
        for which in range(max(bisect.bisect_right(self._starts, start) - 1, 0), len(self.stretches)):
            base, stretch = self._starts[which], self.stretches[which]
            if base >= end:
                return
            low, high = max(start - base, 0), min(end - base, len(stretch))
            if low < high:
                yield stretch.part(low, high)


def worth(shipment: Shipment, share: int, weight: int = 0) -> int:
    """How many tasks of this function, of so many bytes, make a good chunk, where `share` would be fair."""
    if not shipment.items:
        return 1
    size = max(shipment.size, weight, 1)
    pace = max(shipment.pace, 1e-9, size * SECONDS_PER_BYTE)
    most = min(LONGEST / pace, LARGEST / size, GROWTH * shipment.items)
    return max(1, min(int(most), max(share, int(SHORTEST / pace))))


@dataclass(slots=True)
class Queue:
    """What waits, by priority, first come first served within each."""

    _lanes: dict[int, deque[Stretch]] = field(default_factory=dict)
    tasks: int = 0

    def put(self, stretch: Stretch, *, front: bool = False) -> None:
        """Add it; at the front, where it had its turn before."""
        lane = self._lanes.setdefault(stretch.batch.call.options.priority, deque())
        (lane.appendleft if front else lane.append)(stretch)
        self.tasks += len(stretch)

    def take(self, workers: int, most: int | None = None) -> list[Stretch]:
        """The stretches of the next chunk, `most` tasks of them, for one of so many workers; empty if nothing waits."""
        taken: list[Stretch] = []
        room, functions = 1.0, set[int]()
        left = LONGEST_CHUNK if most is None else most
        while self.tasks and room > 0 and left and len(taken) < MOST_STRETCHES:
            lane = self._lanes[max(priority for priority, lane in self._lanes.items() if lane)]
            first = lane[0]
            share = min(-(-self.tasks // (SHARES * workers)), LONGEST_CHUNK)
            good = min(first.batch.call.chunksize or worth(first.shipment, share, first.weight()), LONGEST_CHUNK)
            count = min(len(first), left, 1 if first.alone else max(1, int(good * room)))
            if taken and (first.alone or not first.shipment.items or len(functions) >= MOST_FUNCTIONS):
                break
            functions.add(first.shipment.number)
            taken.append(first.cut(count))
            self.tasks -= count
            left -= count
            if not len(first):
                lane.popleft()
            room -= count / good
            if taken[0].alone:
                break
        return taken

    def drop(self, call: Call) -> None:
        """Whatever waits of this call, however much that is."""
        lane = self._lanes.get(call.options.priority, deque())
        kept = [stretch for stretch in lane if stretch.batch.call is not call]
        if len(kept) < len(lane):
            self.tasks -= sum(map(len, lane)) - sum(map(len, kept))
            lane.clear()
            lane.extend(kept)

    def drain(self) -> Iterator[Stretch]:
        """Everything, taken out."""
        for lane in self._lanes.values():
            yield from lane
            lane.clear()
        self.tasks = 0
