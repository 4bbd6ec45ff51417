"""Memory that processes share, without a name: nothing of it is left behind, however they end.

One process puts things into its `Heap`; others read them through a `Window` on the same memory, at the place they were
told. Who may use a place when is agreed by messages: a place is the reader's until the writer knows that it is not.
"""

from __future__ import annotations

import bisect
import mmap
import os
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

__all__ = ["Heap", "Place", "Window", "create"]

STEP = 1 << 22  # bytes by which a heap grows at least
MAPPED = 1 << 25  # a mapping spans a multiple of so many bytes, not all of them allocated: it is seldom made anew
KEPT = 128 << 20  # bytes at its end that stay allocated though nothing is there: fresh ones cost more than the copying

# Where something lies: offset and length.
Place = tuple[int, int]


def create() -> int:
    """A descriptor of new memory; -1 where the system has none that grows while processes share it."""
    if sys.platform == "win32":
        return -1
    try:
        if hasattr(os, "memfd_create"):
            return os.memfd_create("pymw", os.MFD_CLOEXEC)
    except OSError:
        pass  # forbidden here: a file that has no name any more does as well
    try:
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    except OSError:
        return -1


class Heap:
    """The writer's side. It grows as it must, up to `limit` bytes; from any thread."""

    def __init__(self, descriptor: int, limit: int) -> None:
        self.descriptor = descriptor
        self._limit = limit if descriptor >= 0 else 0
        self._lock = threading.Lock()
        self._free: list[Place] = []  # by offset, no two of them adjacent
        self._size = 0
        self._view = memoryview(b"")

    def put(self, parts: Sequence[Any], size: int) -> Place | None:
        """Write these buffers, `size` bytes in all, one behind the other; None where there is no room for them."""
        with self._lock:
            offset = self._take(-(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY)
            view = self._view
        if offset is None:
            return None
        at = offset
        for part in parts:
            with memoryview(part) as data:
                view[at : at + data.nbytes] = data if data.format == "B" and data.ndim == 1 else data.cast("B")
                at += data.nbytes
        return offset, size

    def at(self, place: Place) -> memoryview:
        """What lies there."""
        return self._view[place[0] : sum(place)]

    def free(self, place: Place) -> None:
        """Nobody reads it any more."""
        offset, size = place
        size = -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        with self._lock:
            if not self._limit:
                return
            at = bisect.bisect(self._free, (offset,))
            if at < len(self._free) and self._free[at][0] == offset + size:
                size += self._free.pop(at)[1]
            if at and sum(self._free[at - 1]) == offset:
                at -= 1
                offset, size = self._free[at][0], self._free.pop(at)[1] + size
            if offset + size == self._size and size > KEPT:
                self._shrink(offset + KEPT // 2)
                size = self._size - offset
            self._free.insert(at, (offset, size))

    def close(self) -> None:
        """No more is put here; what there is stays as long as anyone has it mapped."""
        with self._lock:
            self._limit = self._size = 0
            self._free.clear()
            if self.descriptor >= 0:
                os.close(self.descriptor)
                self.descriptor = -1

    def _take(self, size: int) -> int | None:
        while True:
            for at, (offset, room) in enumerate(self._free):
                if room >= size:
                    self._free[at : at + 1] = [(offset + size, room - size)] if room > size else []
                    return offset
            if not self._grow(size):
                return None

    def _grow(self, size: int) -> bool:
        """Make sure that the last free block has `size` bytes."""
        last = self._free[-1] if self._free and sum(self._free[-1]) == self._size else (self._size, 0)
        end = min(max(last[0] + size, self._size + STEP), self._limit)
        if end < last[0] + size:
            return False
        try:
            if end > len(self._view):  # views of the smaller mapping stay valid, and keep it
                os.ftruncate(self.descriptor, -(-end // MAPPED) * MAPPED)
                self._view = memoryview(mmap.mmap(self.descriptor, -(-end // MAPPED) * MAPPED))
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self.descriptor, self._size, end - self._size)  # no room: now, not by SIGBUS
        except (OSError, ValueError):
            return False
        self._free[len(self._free) - (last[1] > 0) :] = [(last[0], end - last[0])]
        self._size = end
        return True

    def _shrink(self, end: int) -> None:
        try:
            os.ftruncate(self.descriptor, end)
            os.ftruncate(self.descriptor, len(self._view))  # the mappings span it, empty
        except OSError:
            return
        self._size = end


class Window:
    """A reader's side."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory: mmap.mmap | None = None
        self._lent: dict[int, weakref.ref[Any]] = {}
        self.gone: deque[Place] = deque()  # of what was lent, where the last view has gone; appended to by any thread

    def at(self, place: Place) -> memoryview:
        """What lies there, to be read now."""
        return memoryview(self._map(place))[place[0] : sum(place)]

    def lend(self, place: Place) -> memoryview:
        """What lies there, for as long as anything refers to the view or to a part of it."""
        known = self._lent.get(place[0])
        block = known() if known is not None else None
        if block is None:
            import ctypes  # here, since it takes as long as all the rest of a worker's start

            # An owner of just this piece of the mapping, whose end can be noticed.
            block = (ctypes.c_char * place[1]).from_buffer(self._map(place), place[0])
            self._lent[place[0]] = weakref.ref(block, lambda _, place=place: self._end(place))  # type: ignore[misc]
        return memoryview(block).cast("B")

    def _end(self, place: Place) -> None:
        self._lent.pop(place[0], None)
        self.gone.append(place)

    def lent(self) -> list[int]:
        """The offsets of which views are alive."""
        return list(self._lent)

    def close(self) -> None:
        """Nothing more is read; what is lent stays."""
        self._memory = None
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _map(self, place: Place) -> mmap.mmap:
        if self._memory is None or sum(place) > len(self._memory):
            self._memory = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size)
        return self._memory
