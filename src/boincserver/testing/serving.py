"""Serve a project in a process of its own for the time of a `with` block."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from boincserver.control import Control, connect
from boincserver.errors import ServerNotRunning

from .waiting import wait_until

__all__ = ["configure", "free_port", "serving"]

_PORTS: Final = range(10_000, 30_000)  # below those that the system gives to whoever wants any
_RANGE: Final = 2_500
_turn = itertools.count(os.getpid())


def configure(directory: Path, **settings: object) -> None:
    """Change settings in a project's project.toml; ValueError for one that is not there just once."""
    path = directory / "project.toml"
    text = path.read_text("utf-8")
    for name, value in settings.items():
        line = f"{name} = {json.dumps(value)}"
        text, count = re.subn(rf"(?m)^{name} = .*$", lambda _, line=line: line, text)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"{path}: {count} settings are called {name}")
    path.write_text(text, "utf-8")


def free_port() -> int:
    """A port on loopback that nobody listens on just now, and that the system gives nobody by itself meanwhile.

    Processes of pytest-xdist, which look at the same time, have a range each.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = _PORTS.start + (worker * _RANGE + next(_turn) % _RANGE) % len(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class ServerProcess:
    """A running `boincserver serve`."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self.log = directory / "run" / "serve.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "boincserver", "serve", str(directory)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )

    @property
    def control(self) -> Control:
        """Its control interface."""
        return connect(self.directory)

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return when it answers."""

        def ready() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with code {self.process.returncode}:\n{self.log.read_text()}")
            try:
                connect(self.directory)
            except ServerNotRunning:
                return False
            return True

        wait_until(ready, timeout=timeout, what="the server to answer")

    def stop(self, timeout: float = 120.0) -> int:
        """Stop it as Ctrl-C does; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def kill(self) -> None:
        """Kill it without warning, as a power cut would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(directory: str | os.PathLike[str], **environment: str) -> Iterator[ServerProcess]:
    """The project, served until the end of the block."""
    server = ServerProcess(Path(directory), environment)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()
