"""One of the processes that serve a project, as `processes.Supervisor` starts it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys

from boincserver import logfile
from boincserver.events import Events
from boincserver.processes import GO, HAND_OVER, LOADED, READY, RELEASED, RESTART
from boincserver.project import Project
from boincserver.running import Running, run_loop
from boincserver.shard import Shard

__all__ = ["main"]

log = Events(__name__)


def main() -> None:
    """Serve as one of so many, on sockets that were opened before."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    for name in ("--number", "--count", "--public", "--control"):
        parser.add_argument(name, type=int)
    parser.add_argument("--log-level", default="INFO")
    parser.add_argument("--wait", action="store_true")
    options = parser.parse_args()
    project = Project.open(options.directory)
    logfile.begin(project.directory, project.config, logging.getLevelNamesMapping()[options.log_level])
    # Ctrl-C reaches the whole group of processes; the supervisor decides when it is time.
    for kind in (signal.SIGINT, *RESTART):
        signal.signal(kind, signal.SIG_IGN)
    control = None if options.control is None else socket.socket(fileno=options.control)
    public = socket.socket(fileno=options.public)
    if options.wait:
        try:
            project.read_keys()
        except Exception:
            log.exception("process-failed", process=options.number)
            raise
        _say(LOADED)
        if os.read(sys.stdin.fileno(), 1) != GO:
            return
    run_loop(_serve(project, Shard(options.number, options.count), public, control))


async def _serve(project: Project, shard: Shard, public: socket.socket, control: socket.socket | None) -> None:
    """Until the supervisor says to hand over or to stop, or is gone."""
    running = Running(project, shard, public, control)
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[bytes] = asyncio.Queue()
    loop.add_signal_handler(signal.SIGTERM, told.put_nowait, b"")
    stdin = sys.stdin.fileno()

    def hear() -> None:
        told.put_nowait(word := os.read(stdin, 1))
        if not word:
            loop.remove_reader(stdin)

    loop.add_reader(stdin, hear)
    try:
        await running.begin()
        _say(READY)
        if await _word(told, running) == HAND_OVER:
            await running.hand_over()
            _say(RELEASED)
            await _word(told, running)  # or until the last file that is on its way has come to its end
        await running.end()
    except Exception:
        log.exception("process-failed", process=shard.number)
        raise
    finally:
        loop.remove_reader(stdin)
        await running.close()


async def _word(told: asyncio.Queue[bytes], running: Running) -> bytes:
    """What the supervisor says next; nothing if there is nobody left to serve."""
    word, ended = asyncio.create_task(told.get()), asyncio.create_task(running.ended())
    await asyncio.wait([word, ended], return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if not word.done():
        word.cancel()
        return b""
    return word.result()


def _say(word: bytes) -> None:
    os.write(sys.stdout.fileno(), word)


if __name__ == "__main__":
    main()
