"""Shared memory for what is large: pickled into it at one end, read out of it at the other, never through a socket."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from typing import Any

__all__ = ["LARGE", "Area", "Spool"]

LARGE = 1 << 16  # bytes; less than this goes by the socket
LARGEST = 1 << 30  # and more than this as well: it would stay allocated
STEP = 1 << 22

# Where a pickle lies in an area: offset and length.
Place = tuple[int, int]


class Area:
    """Memory without a name, mapped by two processes; it grows with what its writer puts into it.

    Who may write when is agreed elsewhere: the pool writes while its worker is idle, the worker when the pool has
    said in the live page that it has read the last.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory: mmap.mmap | None = None
        self.used = 0

    @classmethod
    def create(cls) -> Area | None:
        """None where the system has no memory that can grow under two processes: all goes by the socket there."""
        if sys.platform == "win32":
            return None
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("pymw", os.MFD_CLOEXEC))
        with tempfile.TemporaryFile() as file:
            return cls(os.dup(file.fileno()))

    def room(self, size: int) -> bool:
        """Make room for `size` bytes behind those used; False where that would be too much."""
        end = self.used + size
        if end > LARGEST:
            return False
        if self._memory is None or end > len(self._memory):
            grown = -(-max(end, 2 * len(self._memory or b"")) // STEP) * STEP
            try:
                os.ftruncate(self.descriptor, min(grown, LARGEST))
                self._map()
            except OSError:
                return False
        return True

    def append(self, data: Any) -> None:
        """Behind what is there; `room` has been asked for."""
        assert self._memory is not None
        with memoryview(data) as view:
            self._memory[self.used : self.used + view.nbytes] = view.cast("B")
            self.used += view.nbytes

    def at(self, place: Place) -> memoryview:
        """What the other process put there."""
        offset, length = place
        if self._memory is None or offset + length > len(self._memory):
            self._map()
        assert self._memory is not None
        return memoryview(self._memory)[offset : offset + length]

    def _map(self) -> None:
        if self._memory is not None:
            self._memory.close()
        self._memory = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size)

    def close(self) -> None:
        """Unmap; the memory is freed with the last process that has it."""
        if self._memory is not None:
            self._memory.close()
        os.close(self.descriptor)


class Spool:
    """A file to pickle into: small things become bytes, large ones go to the area, if it is given and has room."""

    def __init__(self, area: Area | None) -> None:
        self._area = area
        self._parts: list[bytes] = []
        self._size = 0
        self._start = -1  # in the area

    def write(self, data: Any) -> int:
        """As the pickler needs it."""
        size = memoryview(data).nbytes
        if (
            self._start < 0
            and self._area is not None
            and self._size + size >= LARGE
            and self._area.room(self._size + size)
        ):
            self._start = self._area.used
            for part in self._parts:
                self._area.append(part)
            self._parts.clear()
        if self._start >= 0:
            assert self._area is not None
            if self._area.room(size):
                self._area.append(data)
            else:  # too much after all: back to the socket
                self._parts = [bytes(self._area.at((self._start, self._size)))]
                self._area.used, self._start = self._start, -1
                self._area = None
        if self._start < 0:
            self._parts.append(bytes(data))
        self._size += size
        return size

    def take(self) -> bytes | Place:
        """What was written: as bytes, or where it lies."""
        if self._start >= 0:
            return (self._start, self._size)
        return b"".join(self._parts) if len(self._parts) != 1 else self._parts[0]

    def undo(self) -> None:
        """The pickler gave up half-way."""
        if self._start >= 0 and self._area is not None:
            self._area.used = self._start
