"""Several processes behind one address: started, watched, started again when one dies, and ended together.

All of them accept from the same listening sockets, which this process opened and keeps: a connection that comes while
one is started again waits, and is not refused.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Final

from boincserver import logfile
from boincserver.errors import BoincServerError
from boincserver.events import Events
from boincserver.project import Project
from boincserver.shard import Shard

__all__ = ["main", "supervise"]

log = Events(__name__)

_GRACE: Final = 30.0
"""Seconds that a process has to end its requests."""
_FAILURES: Final = 5
"""So many starts in a row that come to nothing end the server."""
_LOOK: Final = 0.2


class _Member:
    """One of the processes."""

    def __init__(self, command: Sequence[str], descriptors: Sequence[int]) -> None:
        self._command = command
        self._descriptors = descriptors
        self._failures = 0
        self._not_before = 0.0
        self.ready = False
        self.process: subprocess.Popen[bytes] | None = None

    def keep_running(self) -> None:
        """Start it, if it does not run; BoincServerError if that fails again and again."""
        if self.process is not None and self.process.poll() is None:
            self._hear()
            return
        now = time.monotonic()
        if self.process is not None:
            log.error("process-ended", pid=self.process.pid, code=self.process.returncode)
            self._failures = 0 if self.ready else self._failures + 1
            self._not_before = now + min(self._failures, _FAILURES) * 0.5
            self._let_go()
            if self._failures >= _FAILURES:
                raise BoincServerError("a server process dies as soon as it is started; its reason stands above")
        if now >= self._not_before:
            self.ready = False
            # Its standard input ends with this process, however that ends; what it writes says that it serves.
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=self._descriptors
            )
            assert self.process.stdout is not None
            os.set_blocking(self.process.stdout.fileno(), False)

    def _hear(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        self.ready = self.ready or bool(self.process.stdout.read(1))

    def _let_go(self) -> None:
        if self.process is not None:
            for pipe in (self.process.stdin, self.process.stdout):
                _close(pipe)
            self.process = None

    def stop(self) -> None:
        """Tell it to end."""
        if self.process is not None:
            _close(self.process.stdin)

    def wait(self, until: float) -> None:
        """Return when it has ended; it is killed at that time."""
        if self.process is not None:
            try:
                self.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self._let_go()


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


def supervise(
    project: Project, public: socket.socket, control: socket.socket, lock: int, ready: Callable[[], None]
) -> None:
    """Keep the project's processes running until a signal says to stop."""
    descriptors = (public.fileno(), control.fileno(), lock)
    count = project.config.processes
    members = []
    for number in range(count):
        command = [
            sys.executable, "-m", "boincserver.processes", str(project.directory), "--number", str(number),
            "--count", str(count), "--public", str(public.fileno()),
            "--log-level", logging.getLevelName(logging.getLogger().getEffectiveLevel()),
        ]  # fmt: skip
        members.append(_Member([*command, "--control", str(control.fileno())] if number == 0 else command, descriptors))
    announced = False
    with _signals() as stopping:
        try:
            while not stopping:
                for member in members:
                    member.keep_running()
                if not announced and all(member.ready for member in members):
                    announced = True
                    ready()
                time.sleep(_LOOK)
        finally:
            for member in members:
                member.stop()
            until = time.monotonic() + _GRACE
            for member in members:
                member.wait(until)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that a signal to stop puts itself into."""
    seen: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, lambda number, _frame: seen.append(number)) for kind in kinds}
    try:
        yield seen
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def main() -> None:
    """One of the processes, as `supervise` starts it."""
    from boincserver.serve import run

    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    for name in ("--number", "--count", "--public", "--control"):
        parser.add_argument(name, type=int)
    parser.add_argument("--log-level", default="INFO")
    options = parser.parse_args()
    project = Project.open(options.directory)
    logfile.begin(project.directory, project.config, logging.getLevelNamesMapping()[options.log_level])
    # Ctrl-C reaches the whole group of processes; the supervisor decides when it is time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = None if options.control is None else socket.socket(fileno=options.control)
    shard = Shard(options.number, options.count)

    def ready() -> None:
        os.write(sys.stdout.fileno(), b"!")

    run(project, shard, socket.socket(fileno=options.public), control, ready, stop=0)


if __name__ == "__main__":
    main()
