"""The live page: a few words of memory that the pool shares with one worker process."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from typing import Any

__all__ = ["CHUNK", "LIMIT", "POSITION", "STARTED", "LivePage"]

# Words of the page. A chunk's limit is LIMIT + serial % 2: at most two chunks are under way at a worker.
CHUNK, POSITION, STARTED, LIMIT = 0, 1, 2, 3
WORDS = 8
SIZE = 8 * WORDS


class LivePage:
    """The worker writes which item of which chunk runs since when; the pool writes how far it may go."""

    def __init__(self, memory: mmap.mmap, descriptor: int = -1) -> None:
        self._memory = memory
        self._descriptor = descriptor
        self.words: Any = memoryview(memory).cast("B").cast("q")

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
        page.words[CHUNK] = page.words[POSITION] = -1
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

    def forget_descriptor(self) -> None:
        """The mapping stays; the child has its own descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def close(self) -> None:
        """Unmap."""
        self.forget_descriptor()
        self.words.release()
        self._memory.close()
