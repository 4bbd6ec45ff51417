"""What comes from a network where anybody may send anything: bounded in size, and in the time that it may take."""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle, Transport
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["PACE", "PatientProtocol", "TooLargeError", "chunks", "patient_protocol", "read"]

PACE: Final = 64
"""Bytes a second that a body must have on the average, once its patience is over; a modem from 1990 has more."""
UNASKED: Final = 2.0
"""Seconds for which an ending server waits for the first byte of a request on a connection that was just made."""
MAX_HEAD: Final = 65536
"""Bytes of a request's first line and headers."""


class TooLargeError(Exception):
    """A body is longer than it may be."""


async def chunks(receive: Receive, patience: float) -> AsyncIterator[bytes]:
    """A body as it comes; TimeoutError when nothing comes for so many seconds, or hardly anything for longer."""
    now = asyncio.get_running_loop().time
    started, size, more = now(), 0, True
    while more:
        async with asyncio.timeout_at(min(now() + patience, started + patience + size / PACE)):
            message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        if chunk := message.get("body", b""):
            size += len(chunk)
            yield chunk


async def read(receive: Receive, limit: int, patience: float) -> bytes:
    """A whole body of at most so many bytes."""
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks(receive, patience):
        size += len(chunk)
        if size > limit:
            raise TooLargeError
        parts.append(chunk)
    return b"".join(parts)


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's side of a connection, which by itself waits for ever for the end of a request's head, however long."""

    patience: float
    most: int
    """Connections at a time."""

    path: str = ""
    """What is asked for, from the end of the head to the end of the answer."""

    _ends: bool = False
    """The server ends: no further request on this connection."""
    _timer: TimerHandle | None = None
    _head: int | None = 0
    """Bytes of the head so far; None behind it."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Somebody connected."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        else:
            self._timer = self.loop.call_later(self.patience, transport.abort)

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
            self._timer = self.loop.call_later(self.patience, self.transport.abort)

    def on_headers_complete(self) -> None:
        """The head is here."""
        self._stop()
        super().on_headers_complete()
        self.path = self.scope["path"]
        if self._ends:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """The answer is out; whoever was refused may still be sending."""
        self.path = ""
        super().on_response_complete()
        if self._timer is None and self.cycle.more_body and not self.transport.is_closing():
            self._timer = self.loop.call_later(self.patience, self.transport.abort)

    def on_message_complete(self) -> None:
        """The end of a body."""
        self._stop()
        super().on_message_complete()

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
