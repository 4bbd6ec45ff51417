"""The live page: some memory that the pool shares with one worker process."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from typing import Any

__all__ = ["LONGEST_CHUNK", "MARK", "READ", "LivePage", "first_mark"]

# Words of the page. MARK: which item of which chunk runs or is next to run, in one word, so that nobody ever reads the
# position of one chunk with the number of another. READ: how many messages with results in shared memory were read.
MARK, READ = 0, 1
HEAD = 64  # bytes of words; the permits follow
LONGEST_CHUNK = 1 << 16
SIZE = HEAD + 2 * LONGEST_CHUNK
ALL = bytes([1]) * LONGEST_CHUNK
NONE = bytes(LONGEST_CHUNK)
POSITION_BITS = 17
SERIALS = 1 << 13  # together below 2**30: Python counts quickly there
PASSED = LONGEST_CHUNK + 1


def first_mark(serial: int) -> int:
    """The mark of a chunk's item 0; that of item n is n more."""
    return serial % SERIALS << POSITION_BITS


class LivePage:
    """The worker writes which item of which chunk it is at; the pool permits items, a byte for each.

    The worker first writes that it is at an item, then looks whether it may begin it. The pool first withdraws the
    permits, then looks where the worker is. Whoever is second sees what the other did.
    """

    def __init__(self, memory: mmap.mmap, descriptor: int = -1) -> None:
        self._memory = memory
        self._descriptor = descriptor
        self._bytes = memoryview(memory)
        self.words: Any = self._bytes[:HEAD].cast("q")

    @classmethod
    def create(cls) -> tuple[LivePage, str]:
        """A new page and the token by which the child finds it."""
        if sys.platform == "win32":
            name = f"pymw-{os.getpid()}-{os.urandom(8).hex()}"
            page = cls(mmap.mmap(-1, SIZE, tagname=name))
            token = name
        else:
            # A file without a name: the kernel frees it with the last process that has it, even after SIGKILL.
            with tempfile.TemporaryFile() as file:
                file.truncate(SIZE)
                descriptor = os.dup(file.fileno())
            page = cls(mmap.mmap(descriptor, SIZE), descriptor)
            token = str(descriptor)
        page.words[MARK] = -1
        return page, token

    @classmethod
    def attach(cls, token: str) -> LivePage:
        """The page that the pool made, seen from the child."""
        if sys.platform == "win32":
            return cls(mmap.mmap(-1, SIZE, tagname=token))
        return cls(mmap.mmap(int(token), SIZE), int(token))

    @property
    def descriptor(self) -> int:
        """What the child inherits; -1 on Windows."""
        return self._descriptor

    def position(self, serial: int) -> int:
        """Which item of the chunk it runs, or is next to run; -1: it has not begun; PASSED: it is at the next chunk."""
        mark = int(self.words[MARK])
        at = mark >> POSITION_BITS
        if at == serial % SERIALS:
            return mark & ((1 << POSITION_BITS) - 1)
        return PASSED if at == (serial + 1) % SERIALS else -1

    def permits(self, serial: int) -> memoryview:
        """The permits of a chunk's items; at most two chunks are under way, and they take turns."""
        start = HEAD + serial % 2 * LONGEST_CHUNK
        return self._bytes[start : start + LONGEST_CHUNK]

    def permit(self, serial: int, size: int) -> None:
        """All items of a new chunk may begin."""
        with self.permits(serial) as permits:
            permits[:size] = ALL[:size]

    def withdraw(self, serial: int, start: int, size: int) -> None:
        """The items of a chunk from `start` on may not begin any more."""
        with self.permits(serial) as permits:
            permits[start:size] = NONE[: size - start]

    def forget_descriptor(self) -> None:
        """The mapping stays; the child has its own descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def close(self) -> None:
        """Unmap."""
        self.forget_descriptor()
        self.words.release()
        self._bytes.release()
        self._memory.close()
