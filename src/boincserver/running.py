"""A project that this process serves: from its beginning to its end, or until another process takes over."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from collections.abc import Coroutine
from typing import Any, Final

from boincserver.app import is_transfer, make_app
from boincserver.control_app import make_control_app
from boincserver.events import Events
from boincserver.http_server import GRACE, HttpServer, most_connections
from boincserver.project import Project
from boincserver.service import Service
from boincserver.shard import Shard

__all__ = ["Running", "run_loop"]

log = Events(__name__)

_LINGER: Final = 3600.0
"""Seconds that a file may still be on its way when another process has taken over."""
_CONTROL_PATIENCE: Final = 600.0
_COLLECT_AFTER: Final = 20_000
"""Objects that may be made before those in cycles are looked for."""


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run the coroutine of a process that serves."""
    # What is here now stays, and requests leave hardly a cycle behind: no need to look for them all the time.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)
    if sys.platform == "win32":
        asyncio.run(main)
    else:
        import uvloop

        uvloop.run(main)


class Running:
    """A project that this process serves, from `begin` to `end`."""

    def __init__(self, project: Project, shard: Shard, public: socket.socket, control: socket.socket | None) -> None:
        self._project = project
        self._shard = shard
        self._sockets = [public.dup(), *([control.dup()] if control else [])]
        self.service = Service(project, shard=shard)
        self._servers: list[HttpServer] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Return when clients are answered, and submitters where a control socket is given."""
        service = self.service
        await service.start()
        most, prefix = most_connections(), self._project.config.url
        self._servers = [
            HttpServer(make_app(service), self._project.config.patience, most, lambda path: is_transfer(prefix, path))
        ]
        if len(self._sockets) > 1:
            self._servers.append(HttpServer(make_control_app(service), _CONTROL_PATIENCE, most, lambda _: False))
        pairs = zip(self._servers, self._sockets, strict=True)
        self.tasks = [asyncio.create_task(server.serve([each])) for server, each in pairs]
        while not all(server.started for server in self._servers) and not any(task.done() for task in self.tasks):
            await asyncio.sleep(0.005)
        log.info("serving", url=self._project.config.url, process=self._shard.number, pid=os.getpid())

    async def hand_over(self) -> None:
        """Answer what was asked, and let go of everything that the next process needs; only transfers go on."""
        log.info("handing-over", process=self._shard.number, pid=os.getpid())
        self._leave(_LINGER)
        await asyncio.wait([asyncio.gather(*(server.answered.wait() for server in self._servers))])
        await self.service.release()

    async def end(self) -> None:
        """Stop, in an orderly way."""
        handed_over = self.service.stopping.is_set()
        if not handed_over:
            log.info("stopping", process=self._shard.number, pid=os.getpid())
        self._leave(GRACE if handed_over else 0.0)
        await self.ended()

    async def ended(self) -> None:
        """Return when nobody is connected any more."""
        await asyncio.wait(self.tasks)
        for task in self.tasks:
            task.result()

    async def close(self) -> None:
        """Let go of what is left."""
        await self.service.close()
        for each in self._sockets:
            each.close()

    def _leave(self, for_transfers: float) -> None:
        self.service.stop_waiting()
        for server in self._servers:
            server.leave(for_transfers)
