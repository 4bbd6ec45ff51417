"""Where the pool keeps large arguments for its workers: each content once, while a task or a worker has use for it."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

from pymw.backends.local.memory import Heap, Place, create
from pymw.backends.local.wire import Apart, Packed

__all__ = ["Region", "Store", "to_send"]

LARGEST = 1 << 32  # bytes in all; what finds no room travels by the sockets
RECENT = 64 << 20  # bytes of content that stay though nothing needs them: the next task may well be given them again
PIECE = 1 << 16
SAMPLE = 64


class Region:
    """A piece of the store. It is free for others when nothing refers to this object any more."""

    __slots__ = ("__weakref__", "_gone", "place")

    def __init__(self, place: Place, gone: deque[Place]) -> None:
        self.place, self._gone = place, gone

    def __del__(self) -> None:
        self._gone.append(self.place)  # no more than that: this may run anywhere, also within the store


class Store:
    """One piece of memory that all workers of the pool map."""

    def __init__(self) -> None:
        self._heap = Heap(create(), LARGEST)
        self._gone: deque[Place] = deque()
        self._known: weakref.WeakValueDictionary[tuple[Any, ...], Region] = weakref.WeakValueDictionary()
        self._recent: dict[Region, None] = {}
        self._recent_bytes = 0
        self._lock = threading.Lock()

    @property
    def descriptor(self) -> int:
        """What the workers inherit; -1: there is no such memory here."""
        return self._heap.descriptor

    def put(self, parts: Sequence[Any], size: int) -> Region | None:
        """Write these buffers, one behind the other; None where there is no room."""
        with contextlib.suppress(IndexError):
            while True:
                self._heap.free(self._gone.popleft())
        place = self._heap.put(parts, size)
        return None if place is None else Region(place, self._gone)

    def keep(self, data: memoryview) -> Region | None:
        """As `put`; content that is there already is not written again."""
        size = data.nbytes
        # Which content it may be is told by samples, whether it is that by comparing: quicker than any digest.
        mark = (size, *(bytes(data[at : at + SAMPLE]) for at in (0, size // 3, size // 2, size - SAMPLE)))
        with self._lock:
            region = self._known.get(mark)
            if region is None or not _equal(self._heap.at(region.place), data):
                region = self.put([data], size)
                if region is None:
                    return None
                self._known[mark] = region
            self._remember(region)
            return region

    def drop(self, held: Region) -> None:
        """Nothing to be done: it is free when nothing refers to it."""

    def _remember(self, region: Region) -> None:
        if region in self._recent:
            del self._recent[region]
        else:
            self._recent_bytes += region.place[1]
        self._recent[region] = None
        while self._recent_bytes > RECENT:
            oldest = next(iter(self._recent))
            self._recent_bytes -= oldest.place[1]
            del self._recent[oldest]

    def close(self) -> None:
        """The workers are over."""
        with self._lock:
            self._known.clear()
            self._recent.clear()
        self._heap.close()


def to_send(data: Any, needed: list[Region]) -> Packed:
    """What was pickled with the store as its keeper, as the workers read it; its regions are added to `needed`."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, Region):
        needed.append(data)
        return data.place
    needed.extend(data.buffers)
    return Apart(to_send(data.stream, needed), [region.place for region in data.buffers])


def _equal(one: memoryview, other: memoryview) -> bool:
    pieces = range(0, other.nbytes, PIECE)
    return all(bytes(one[at : at + PIECE]) == bytes(other[at : at + PIECE]) for at in pieces)
