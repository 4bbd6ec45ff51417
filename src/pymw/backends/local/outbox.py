"""Where a worker puts its large results: memory that the pool maps too."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from pymw.backends.local.live import READ, LivePage
from pymw.backends.local.memory import Heap, Place

__all__ = ["Outbox"]

LARGEST = 1 << 30  # bytes in all; what finds no room goes by the socket
UNREAD = 32 << 20  # bytes that the pool has yet to read: more goes by the socket, which waits for it


class Outbox:
    """Pickles stay in it until the pool has read their message, buffers until the master's program drops them."""

    def __init__(self, descriptor: int, page: LivePage) -> None:
        self._heap = Heap(descriptor, LARGEST)
        self._words = page.words
        self._unread: deque[tuple[int, Place]] = deque()  # with the number of their message
        self._bytes = 0
        self._message = 1

    def put(self, parts: Sequence[Any], size: int) -> Place | None:
        """As Keeper says."""
        read = self._words[READ]
        while self._unread and self._unread[0][0] <= read:
            _, done = self._unread.popleft()
            self._bytes -= done[1]
            self._heap.free(done)
        place = self._heap.put(parts, size) if self._bytes <= UNREAD else None
        if place is not None:
            self._unread.append((self._message, place))
            self._bytes += size
        return place

    def keep(self, data: memoryview) -> Place | None:
        """As Keeper says."""
        return self._heap.put([data], data.nbytes)

    def drop(self, held: Place) -> None:
        """As Keeper says."""
        self._heap.free(held)

    free = drop

    def sent(self) -> None:
        """The message with all that was put since the last one is off; the pool counts those that it has read."""
        self._message += 1
