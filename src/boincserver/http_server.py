"""uvicorn as this server wants it: on sockets that others share, and with an end that costs nobody a request."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from boincserver.body import PatientProtocol, patient_protocol
from boincserver.errors import PortInUse
from boincserver.events import Events

__all__ = ["GRACE", "HttpServer", "listener", "most_connections"]

log = Events(__name__)

GRACE: Final = 10
"""Seconds that requests under way have to end when a server stops or hands over."""
_LOOK: Final = 0.02
_MOST_FILES: Final = 20_000
"""Files and connections that are open at a time, where the system allows so many."""
_BACKLOG: Final = 1024
_FIRST_PASSED: Final = 3
"""The first descriptor that systemd passes."""


class HttpServer(uvicorn.Server):
    """Answers on one socket. Its end: no further connection, then what was asked already, then files on their way."""

    def __init__(self, app: ASGIApp, patience: float, most: int, only_carries: Callable[[str], bool]) -> None:
        super().__init__(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", http=patient_protocol(patience, most),
                server_header=False, proxy_headers=False, backlog=_BACKLOG,
            )
        )  # fmt: skip
        self._only_carries = only_carries
        self._hands_over = False
        self._transfers_until = 0.0
        self.answered = asyncio.Event()
        """Nobody is connected any more but for the transfer of a file."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are not this server's: two of them share one loop."""
        yield

    def leave(self, for_transfers: float) -> None:
        """End; with seconds for transfers these go on when all else has ended."""
        self._hands_over = self._hands_over or for_transfers > 0
        self._transfers_until = asyncio.get_running_loop().time() + for_transfers
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, as uvicorn calls it."""
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        for connection in list(self._connections):
            connection.shutdown()
        if self._connections:
            log.info("waiting-for-requests", connections=len(self._connections))
        now = asyncio.get_running_loop().time
        until = now() + GRACE
        while self._others() and now() < until:
            await asyncio.sleep(_LOOK)
        for connection in list(self._others()):
            log.warning("request-cut", path=connection.path, why=f"it did not end within {GRACE} seconds")
            connection.transport.abort()
        self.answered.set()
        while self._connections and now() < self._transfers_until:
            await asyncio.sleep(_LOOK)
        for connection in list(self._connections):
            connection.transport.abort()
        # A request whose connection is gone ends by itself, but for one that waits for something else.
        if self.server_state.tasks:
            await asyncio.wait(list(self.server_state.tasks), timeout=1.0)
        for task in self.server_state.tasks:
            task.cancel()

    @property
    def _connections(self) -> set[PatientProtocol]:
        return self.server_state.connections  # type: ignore[return-value]

    def _others(self) -> list[PatientProtocol]:
        """Connections that do more than carry a file."""
        if self._hands_over:
            return [each for each in self._connections if not (each.path and self._only_carries(each.path))]
        return list(self._connections)


def listener(host: str, port: int) -> socket.socket:
    """The socket that systemd passed, or a new one that listens there; raises PortInUse."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "0") != "0":
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)
        return socket.socket(fileno=_FIRST_PASSED)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"another program listens on {host}:{port}; stop it, or change `listen` in project.toml"
            ) from error
        raise PortInUse(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return made


def most_connections() -> int:
    """How many clients can be connected and files and the database still be opened."""
    if sys.platform == "win32":
        return 1000
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, _MOST_FILES) if hard != resource.RLIM_INFINITY else _MOST_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most // 2
