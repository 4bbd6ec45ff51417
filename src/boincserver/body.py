"""What comes from a network where anybody may send anything: bounded in size, and in the time that it may take."""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = [
    "AT_ONCE",
    "PACE",
    "SMALL",
    "Counted",
    "NoRoomError",
    "PatientProtocol",
    "TooLargeError",
    "patient_protocol",
    "read",
]

PACE: Final = 64
"""Bytes a second that a body must have on the average, once its patience is over; a modem from 1990 has more."""
UNASKED: Final = 5.0
"""Seconds for which an ending server waits for the first byte of a request on a connection that was just made."""
MAX_HEAD: Final = 65536
"""Bytes of a request's first line and headers."""


SMALL: Final = 1 << 16
"""Bytes of a body that are always taken: nearly every request is smaller."""
AT_ONCE: Final = 64 << 20
"""Bytes of larger bodies that are held in memory together, by this process."""


class TooLargeError(Exception):
    """A body is longer than it may be."""

    status = 413


class NoRoomError(TooLargeError):
    """So many large bodies come at once that this one has to come again."""

    status = 503


class _Room:
    """What large bodies take of the memory together."""

    def __init__(self) -> None:
        self.taken = 0

    def take(self, nbytes: int) -> None:
        if self.taken + nbytes > AT_ONCE:
            raise NoRoomError
        self.taken += nbytes


_room = _Room()


class Counted:
    """A body as it comes, whose bytes take room until they are let go; NoRoomError where there is none."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._size = self._taken = 0
        self.counting = True
        """False once what comes is not kept in memory."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            if self.counting:
                self._size += len(chunk)
                if self._size > SMALL:
                    _room.take(self._size - self._taken)
                    self._taken = self._size
            yield chunk

    def let_go(self) -> None:
        """Nothing of it is in memory any more."""
        _room.taken -= self._taken
        self._taken = 0


async def read(request: Request, limit: int) -> bytes:
    """A whole body of at most so many bytes; ClientDisconnect when it does not come, TooLargeError when it is more."""
    parts: list[bytes] = []
    size = 0
    body = Counted(request.stream())
    try:
        async for chunk in body:
            size += len(chunk)
            if size > limit:
                raise TooLargeError
            parts.append(chunk)
        return b"".join(parts)
    finally:
        body.let_go()


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's side of a connection, which by itself waits for ever for the rest of a request.

    Here a head must come within `patience` seconds; with its body nothing for so many seconds, or hardly anything for
    longer, ends the connection.
    """

    patience: float
    most: int
    """Connections at a time."""

    path: str = ""
    """What is asked for, from the end of the head to the end of the answer."""

    _ends: bool = False
    """The server ends: no further request on this connection."""
    _timer: TimerHandle | None = None
    """While something of a request is missing."""
    _head: int | None = 0
    """Bytes of the head so far; None behind it."""
    _body: int = 0
    """Bytes of the body so far."""
    _begun: float = 0.0
    _heard: float = 0.0
    """When the body began, and when something of it came last."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Somebody connected."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        else:
            self._timer = self.loop.call_later(self.patience, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        if self._head is not None:
            self._head += len(data)
        super().data_received(data)
        if self._head is not None and self._head > MAX_HEAD:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        if self._timer is None:
            self._head = 0
            self._timer = self.loop.call_later(self.patience, self._look)

    def on_headers_complete(self) -> None:
        """The head is here."""
        self._head, self._body = None, 0
        self._begun = self._heard = self.loop.time()
        super().on_headers_complete()
        self.path = self.scope["path"]
        if self._ends:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """More of a body."""
        self._body += len(body)
        self._heard = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a body."""
        self._stop()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out; whoever was refused may still be sending, for a while."""
        self.path = ""
        super().on_response_complete()
        if self._timer is not None and self.cycle.more_body and not self.transport.is_closing():
            self._timer.cancel()
            self._timer = self.loop.call_later(self.patience, self.transport.abort)

    def _look(self) -> None:
        """Cut whoever lets this server wait; not whoever waits for this server to read on."""
        now = self.loop.time()
        if self.flow.read_paused:
            self._heard = now
        until = min(self._heard + self.patience, self._begun + self.patience + self._body / PACE)
        if self._head is not None or now >= until:
            self.transport.abort()
        else:
            self._timer = self.loop.call_at(until, self._look)

    def shutdown(self) -> None:
        """The server ends: what was asked is answered, also what is on its way, and an idle connection closed."""
        self._ends = True
        if self._head is None:
            super().shutdown()
        elif self._head == 0:
            self.loop.call_later(UNASKED, self._end_if_unasked)

    def _end_if_unasked(self) -> None:
        if self._head == 0:
            self.transport.close()

    def _stop(self) -> None:
        self._head = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def patient_protocol(patience: float, most: int) -> type[Any]:
    """The protocol with these limits, as uvicorn wants it: a class that it makes one of for each connection."""
    return type("PatientProtocol", (PatientProtocol,), {"patience": patience, "most": most})
