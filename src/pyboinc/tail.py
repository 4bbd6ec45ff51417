"""The beginning and the end of a stream, whatever lies between: what a report on a failure needs."""

from __future__ import annotations

HEAD_BYTES = 16 * 1024
TAIL_BYTES = 32 * 1024
"""Together below the 63 KiB of stderr that a client reports."""


class Tail:
    """Lets the first bytes through as they come and keeps the last ones."""

    def __init__(self, head: int = HEAD_BYTES, tail: int = TAIL_BYTES) -> None:
        self._head = head
        self._size = tail
        self._last = bytearray()
        self.left_out = 0
        """Bytes that were neither let through nor kept."""

    def feed(self, data: bytes) -> bytes:
        """What of `data` still belongs to the head."""
        through, rest = data[: self._head], data[self._head :]
        self._head -= len(through)
        self._last += data
        surplus = len(self._last) - self._size
        if surplus > 0:
            del self._last[:surplus]
        self.left_out += len(rest)
        return through

    def last(self) -> bytes:
        """The end of the stream so far."""
        return bytes(self._last)

    def rest(self) -> bytes:
        """What a reader of the head still misses: a mark for what is left out, and the end."""
        if not self.left_out:
            return b""
        kept = self.last()[-self.left_out :]
        gap = self.left_out - len(kept)
        return (b"\n[... %d bytes left out ...]\n" % gap if gap else b"") + kept
