"""The supervisor's ends of the pipes to a child: its messages, its stderr, our orders."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[int, int], bytes]


class Pipes:
    """Three pipes, none of which is ever waited for; `read` takes what a pipe holds, by the system's means."""

    def __init__(self, messages: int, errors: int, orders: int, read: Read) -> None:
        self._messages, self._errors, self._orders = messages, errors, orders
        self._read = read

    def read_messages(self, limit: int) -> bytes:
        """What the child's pipe of messages holds, at most so many bytes."""
        return self._read(self._messages, limit)

    def read_errors(self, limit: int) -> bytes:
        """What the child's stderr holds, at most so many bytes."""
        return self._read(self._errors, limit)

    def order(self, line: bytes) -> None:
        """Send a line; a child that reads none of its orders misses them."""
        try:
            os.write(self._orders, line)
        except OSError:
            pass

    def close(self) -> None:
        """Close all three."""
        for descriptor in (self._messages, self._errors, self._orders):
            os.close(descriptor)
