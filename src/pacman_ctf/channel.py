"""The referee's end of a team's pipes: never waits for a team without a limit, whatever the team does to a pipe.

A team can make its pipes small, leave them unread, or open our ends of them in /proc and take what is in there.
"""

from __future__ import annotations

import os
import select
import time
from typing import Final

LOG_BYTES: Final = 50 << 10  # of a team's output; what is beyond is cut out of the middle
_LINE_BYTES: Final = 1 << 17  # longer answers are none


class Flooded(Exception):
    """A team sent more than any answer has."""


class Channel:
    """Lines to a team, lines from it, and what it prints, by three pipes that are set not to block."""

    def __init__(self, to: int, source: int, log: int) -> None:
        self._to, self._from, self._log = to, source, log
        self.log = Log()
        self._unsent = self._heard = b""
        self._poll = select.poll()
        for descriptor in (to, source, log):
            os.set_blocking(descriptor, False)
        for descriptor in (source, log):
            self._poll.register(descriptor, select.POLLIN)

    def send(self, data: bytes) -> None:
        """Tell the team; what its pipe does not take now follows while its answer is waited for."""
        self._unsent += data
        self._send()

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._to, self._unsent) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:  # it has ended: the missing answer will tell
            self._unsent = b""

    def line(self, timeout: float) -> bytes | None:
        """The next line; None when there is none in time, b"" when there will be none. Raises `Flooded`.

        Who has not taken what it was told has not answered it, whatever it says.
        """
        end, wait = time.monotonic() + timeout, timeout
        while self._unsent or b"\n" not in self._heard:
            if self._unsent:
                self._poll.register(self._to, select.POLLOUT)
            events = self._poll.poll(wait * 1000)
            if self._unsent:
                self._poll.unregister(self._to)
            for descriptor, event in events:
                if descriptor == self._to:
                    self._send()
                elif descriptor == self._log:
                    if not self.drain() and event & select.POLLHUP:
                        self._poll.unregister(self._log)
                elif not self._hear():
                    return b""
            wait = end - time.monotonic()  # a team that prints without end is out of time as well
            if wait <= 0 and (self._unsent or b"\n" not in self._heard):
                return None
        line, _, self._heard = self._heard.partition(b"\n")
        return line + b"\n"

    def _hear(self) -> bool:
        """Take what the team answered; False when it will answer no more."""
        try:
            data = os.read(self._from, 1 << 16)
        except BlockingIOError:  # the team took it back
            return True
        except OSError:
            return False
        self._heard += data
        if len(self._heard) > _LINE_BYTES:
            raise Flooded
        return bool(data)

    def drain(self) -> int | None:
        """Take some of the team's output; None when it has ended, 0 when there is none now."""
        try:
            data = os.read(self._log, 1 << 20)
        except BlockingIOError:
            return 0
        self.log.add(data)
        return len(data) or None

    def ended(self, timeout: float) -> bool:
        """Whether nobody is left who could print; output is kept meanwhile."""
        poll = select.poll()
        poll.register(self._log, select.POLLIN)
        end = time.monotonic() + timeout
        while self.drain() is not None:
            if not poll.poll(100) and time.monotonic() > end:
                return False
        return True


class Log:
    """The first and the last part of what a team printed."""

    def __init__(self, limit: int = LOG_BYTES) -> None:
        self._half = limit // 2
        self._head, self._tail, self._total = bytearray(), bytearray(), 0

    def add(self, data: bytes) -> None:
        """Take some output; memory stays bounded."""
        self._total += len(data)
        room = self._half - len(self._head)
        self._head += data[:room] if room > 0 else b""
        self._tail += data[max(room, 0) :]
        if len(self._tail) > 4 * self._half:
            del self._tail[: -self._half]

    def text(self) -> str:
        """All that was kept, with a line where something is missing."""
        tail = self._tail[-self._half :]
        cut = self._total - len(self._head) - len(tail)
        gap = f"\n[... {cut} bytes left out ...]\n".encode() if cut else b""
        return plain(bytes(self._head + gap + tail).decode("utf-8", "replace"))


def plain(text: str) -> str:
    """A stranger's text as any file takes it and any terminal shows it: no half characters, no control sequences."""
    return text.encode("utf-8", "replace").decode().translate(_SHOWN)


_SHOWN: Final = {code: 0x2400 + code for code in range(0x20) if code not in b"\t\n"} | {0x7F: 0x2421}
_SHOWN.update(dict.fromkeys(range(0x80, 0xA0), 0xFFFD))
