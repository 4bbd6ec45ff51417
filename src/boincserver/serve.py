"""Serve a project: sockets and signals, an orderly end, and the change to a new process that costs no request.

A restart begins with the new process: it loads everything and waits. Only then the old one takes no further connection
(what comes meanwhile waits in the socket, which both have), answers what it was asked and lets go of the tables; then
the new one begins. Files that are still on their way to or from a client need no tables: the old process carries them
to their end. If the new process cannot begin, for want of a setting that makes sense, nothing has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

from boincserver import unix_socket
from boincserver.errors import BoincServerError, ConfigError
from boincserver.events import Events
from boincserver.http_server import listener
from boincserver.processes import Supervisor, restarting, stopping, supervise
from boincserver.project import Project
from boincserver.restarting import record
from boincserver.running import Running, run_loop
from boincserver.shard import Shard

__all__ = ["serve"]

log = Events(__name__)


def serve(project: Project, *, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until a signal says to stop; `ready` is called when clients and submitters are answered."""
    host, port = project.listen
    if project.config.processes > 1 and project.database_url.startswith("sqlite"):
        raise ConfigError(
            f"{project.directory / 'project.toml'}: processes must be 1, since SQLite has one writer; for more set "
            "database to a MariaDB or MySQL"
        )
    with project.lock() as lock, contextlib.ExitStack() as stack:
        os.write(lock, f"{os.getpid()}\n".encode())
        public = stack.enter_context(listener(host, port))
        control = stack.enter_context(unix_socket.bind(project.control_socket))
        stack.callback(project.control_socket.unlink, missing_ok=True)
        supervisor = Supervisor(project, public, control, lock)
        if project.config.processes > 1:
            supervise(supervisor, ready)
        else:
            run_loop(_alone(project, supervisor, public, control, ready))


async def _alone(
    project: Project, supervisor: Supervisor, public: socket.socket, control: socket.socket, ready: Callable[[], None]
) -> None:
    """Serve in this process, until it is to stop or to be succeeded by one that it looks after from then on."""
    running = Running(project, Shard(), public, control)
    loop = asyncio.get_running_loop()
    stop, again = asyncio.Event(), asyncio.Event()
    for kind in stopping():
        loop.add_signal_handler(kind, stop.set)
    for kind in restarting():
        loop.add_signal_handler(kind, again.set)
    try:
        await running.begin()
        ready()
        while True:
            await _first(stop.wait(), again.wait(), *running.tasks)
            if stop.is_set() or not again.is_set():
                supervisor.refuse()
                await running.end()
                return
            again.clear()
            if await _succeeded(project, supervisor, running):
                break
        for kind in restarting():
            loop.add_signal_handler(kind, supervisor.again.set)
        looking_after = asyncio.create_task(asyncio.to_thread(supervisor.run))
        await _first(stop.wait(), looking_after)
        supervisor.stop.set()
        await running.end()
        await looking_after
    finally:
        supervisor.stop.set()
        await running.close()


async def _succeeded(project: Project, supervisor: Supervisor, running: Running) -> bool:
    """Have another process take over; false if that cannot begin."""
    try:
        member = await asyncio.to_thread(supervisor.prepare, 0)
    except BoincServerError as error:
        log.error("restart-failed", why=str(error))
        record(project.directory, str(error))
        return False
    await running.hand_over()
    await asyncio.to_thread(supervisor.adopt, member)
    return True


async def _first(*waits: Any) -> None:
    """Return when one of these coroutines or tasks is over; tasks go on."""
    tasks = [each if isinstance(each, asyncio.Task) else asyncio.create_task(each) for each in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task, given in zip(tasks, waits, strict=True):
        if task is not given:
            task.cancel()
