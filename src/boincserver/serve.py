"""Serve a project: the sockets, the signals, an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from boincserver import processes, unix_socket
from boincserver.app import make_app
from boincserver.body import patient_protocol
from boincserver.control_app import make_control_app
from boincserver.errors import ConfigError, PortInUse
from boincserver.events import Events
from boincserver.project import Project
from boincserver.service import Service
from boincserver.shard import Shard

__all__ = ["run", "serve"]

log = Events(__name__)

_GRACE = 10
"""Seconds that requests under way have to end when the server stops."""
_COLLECT_AFTER = 20_000
"""Objects that may be made before those in cycles are looked for."""
_MOST_FILES = 20_000
"""Files and connections that are open at a time, where the system allows so many."""


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: two servers share one loop here."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(project: Project, *, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until a signal says to stop; `ready` is called when clients and submitters are answered."""
    host, port = project.listen
    if project.config.processes > 1 and project.database_url.startswith("sqlite"):
        raise ConfigError(
            f"{project.directory / 'project.toml'}: processes must be 1, since SQLite has one writer; for more set "
            "database to a MariaDB or MySQL"
        )
    with project.lock() as lock, contextlib.ExitStack() as stack:
        public = stack.enter_context(_listen(host, port))
        control = stack.enter_context(unix_socket.bind(project.control_socket))
        stack.callback(project.control_socket.unlink, missing_ok=True)
        if project.config.processes > 1:
            processes.supervise(project, public, control, lock, ready)
        else:
            run(project, Shard(), public, control, ready)


def run(
    project: Project,
    shard: Shard,
    public: socket.socket,
    control: socket.socket | None,
    ready: Callable[[], None] = lambda: None,
    stop: int | None = None,
) -> None:
    """Serve in this process, until a signal or the end of the file with the descriptor `stop`."""
    runner = _run(project, shard, public, control, ready, stop)
    # What is here now stays, and requests leave hardly a cycle behind: no need to look for them all the time.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)
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


async def _run(
    project: Project,
    shard: Shard,
    public: socket.socket,
    control: socket.socket | None,
    ready: Callable[[], None],
    last_word: int | None,
) -> None:
    service = Service(project, shard=shard)
    try:
        await service.start()
        protocol = patient_protocol(project.config.patience, _most_connections())
        servers = [(_Server(_config(make_app(service), protocol)), public)]
        if control is not None:
            servers.append((_Server(_config(make_control_app(service))), control))
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        if last_word is None:
            loop.add_signal_handler(signal.SIGINT, stop.set)
        else:
            loop.add_reader(last_word, stop.set)
        tasks = [asyncio.create_task(server.serve([listener])) for server, listener in servers]
        while not all(server.started for server, _ in servers) and not any(task.done() for task in tasks):
            await asyncio.sleep(0.005)
        ready()
        log.info("serving", url=project.config.url, process=shard.number, pid=os.getpid())
        waiter = asyncio.create_task(stop.wait())
        await asyncio.wait([waiter, *tasks], return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if last_word is not None:
            loop.remove_reader(last_word)
        log.info("stopping")
        service.stopping.set()
        for server, _ in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)
    finally:
        await service.close()


def _most_connections() -> int:
    """How many clients can be connected and files and the database still be opened."""
    if sys.platform == "win32":
        return 1000
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, _MOST_FILES) if hard != resource.RLIM_INFINITY else _MOST_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most // 2


def _config(app: object, protocol: type[Any] | None = None) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        lifespan="off",
        http=protocol or "httptools",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
        backlog=1024,
    )
