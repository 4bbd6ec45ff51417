"""Serve a project: the sockets, the signals, an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import uvicorn

from boincserver import unix_socket
from boincserver.app import make_app
from boincserver.control_app import make_control_app
from boincserver.errors import PortInUse
from boincserver.project import Project
from boincserver.service import Service

__all__ = ["serve"]

log = logging.getLogger(__name__)

_GRACE = 10
"""Seconds that requests under way have to end when the server stops."""


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: two servers share one loop here."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(project: Project, *, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until a signal says to stop; `ready` is called when clients and submitters are answered."""
    host, port = project.listen
    with project.lock(), contextlib.ExitStack() as stack:
        public = stack.enter_context(_listen(host, port))
        control = stack.enter_context(unix_socket.bind(project.control_socket))
        stack.callback(project.control_socket.unlink, missing_ok=True)
        runner = _run(project, public, control, ready)
        if sys.platform == "win32":
            asyncio.run(runner)
        else:
            import uvloop

            uvloop.run(runner)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"another program listens on {host}:{port}; stop it, or change `listen` in project.toml"
            ) from error
        raise PortInUse(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


async def _run(project: Project, public: socket.socket, control: socket.socket, ready: Callable[[], None]) -> None:
    service = Service(project)
    try:
        await service.start()
        servers = [
            (_Server(_config(make_app(service))), public),
            (_Server(_config(make_control_app(service))), control),
        ]
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        tasks = [asyncio.create_task(server.serve([listener])) for server, listener in servers]
        while not all(server.started for server, _ in servers) and not any(task.done() for task in tasks):
            await asyncio.sleep(0.005)
        ready()
        waiter = asyncio.create_task(stop.wait())
        await asyncio.wait([waiter, *tasks], return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        log.info("stopping")
        service.stopping.set()
        for server, _ in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)
    finally:
        await service.close()


def _config(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        lifespan="off",
        http="httptools",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
        backlog=1024,
    )
