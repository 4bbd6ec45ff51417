"""Several processes behind one address: started, watched, started again when one dies, replaced, and ended together.

All of them accept from the same listening sockets, which this process opened and keeps: a connection that comes while
one is started again waits, and is not refused.

What this process and one of its own say to each other, a byte at a time, by the other's standard input and output:

    GO          begin; said to one that was started to wait, after it said LOADED
    HAND_OVER   answer what you were asked, say RELEASED, and end when no file is on its way any more
    (the end)   stop
    READY       clients are answered
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Final

from boincserver.errors import BoincServerError, ConfigError
from boincserver.events import Events
from boincserver.project import Project
from boincserver.restarting import record

__all__ = [
    "GO",
    "HAND_OVER",
    "LOADED",
    "READY",
    "RELEASED",
    "RESTART",
    "Supervisor",
    "restarting",
    "stopping",
    "supervise",
]

log = Events(__name__)

RESTART: Final = (signal.SIGUSR2, signal.SIGHUP)
"""Signals that ask for new processes; where the server was begun in a terminal SIGHUP is the end of that."""
_GRACE: Final = 30.0
"""Seconds that a process has to end its requests."""
_START: Final = 120.0
"""Seconds that a process has to begin."""
_FAILURES: Final = 5
"""So many starts in a row that come to nothing end the server."""
_LOOK: Final = 0.2
GO, HAND_OVER, READY, LOADED, RELEASED = b"g", b"h", b"!", b"l", b"r"


class _Member:
    """One of the processes."""

    def __init__(self, command: Sequence[str], descriptors: Sequence[int]) -> None:
        self._command = command
        self._descriptors = descriptors
        self._failures = 0
        self._not_before = 0.0
        self._heard = b""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, waiting: bool = False) -> None:
        """Start it; one that waits does not begin before it is told to."""
        self._heard = b""
        # Its standard input ends with this process, however that ends.
        self.process = subprocess.Popen(
            [*self._command, "--wait"] if waiting else self._command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=self._descriptors,
        )  # fmt: skip
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    def keep_running(self) -> None:
        """Start it, if it does not run; BoincServerError if that fails again and again."""
        if self.runs:
            self.heard(READY)
            return
        now = time.monotonic()
        if self.process is not None:
            log.error("process-ended", pid=self.process.pid, code=self.process.returncode)
            self._failures = 0 if self.heard(READY) else self._failures + 1
            self._not_before = now + min(self._failures, _FAILURES) * 0.5
            self._let_go()
            if self._failures >= _FAILURES:
                raise BoincServerError("a server process dies as soon as it is started; its reason stands above")
        if now >= self._not_before:
            self.start()

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process is not None and self.process.poll() is None

    def heard(self, word: bytes) -> bool:
        """Whether it has said that."""
        assert self.process is not None and self.process.stdout is not None
        self._heard += self.process.stdout.read(64) or b""
        return word in self._heard

    def hear(self, word: bytes, seconds: float) -> bool:
        """Wait until it says that; false if it ends or takes too long."""
        until = time.monotonic() + seconds
        while not self.heard(word):
            if not self.runs or time.monotonic() > until:
                return self.heard(word)
            time.sleep(0.01)
        return True

    def say(self, word: bytes) -> None:
        """Tell it something."""
        assert self.process is not None and self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(word)
            self.process.stdin.flush()

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


class Supervisor:
    """Keeps a project's processes running until `stop` is set; when `again` is, each is replaced by a new one."""

    def __init__(self, project: Project, public: socket.socket, control: socket.socket, lock: int) -> None:
        self._project = project
        self._sockets = public, control
        self._lock = lock
        self._members: list[_Member] = []
        self._leaving: list[_Member] = []
        self.stop = threading.Event()
        self.again = threading.Event()

    def _member(self, number: int) -> _Member:
        public, control = (each.fileno() for each in self._sockets)
        command = [
            sys.executable, "-m", "boincserver.member", str(self._project.directory), "--number", str(number),
            "--count", str(self._project.config.processes), "--public", str(public),
            "--log-level", logging.getLevelName(logging.getLogger().getEffectiveLevel()),
        ]  # fmt: skip
        if number == 0:
            command += ["--control", str(control)]
        return _Member(command, (public, control, self._lock))

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Start those that there are not yet, and look after all."""
        for number in range(len(self._members), self._project.config.processes):
            self._members.append(self._member(number))
        announced = False
        try:
            while not self.stop.wait(_LOOK):
                for member in self._members:
                    member.keep_running()
                if not announced and all(member.runs and member.heard(READY) for member in self._members):
                    announced = True
                    ready()
                for member in [each for each in self._leaving if not each.runs]:
                    member.wait(0.0)
                    self._leaving.remove(member)
                if self.again.is_set():
                    self.again.clear()
                    self._replace_all()
        finally:
            self.refuse()
            everybody = [*self._members, *self._leaving]
            for member in everybody:
                member.stop()
            until = time.monotonic() + _GRACE
            for member in everybody:
                member.wait(until)

    def refuse(self) -> None:
        """The server ends: whoever comes now is to know it at once."""
        for each in self._sockets:
            each.close()

    def _replace_all(self) -> None:
        try:
            for number, old in enumerate(self._members):
                new = self.prepare(number)
                if old.runs:
                    old.say(HAND_OVER)
                    if not old.hear(RELEASED, _GRACE):
                        log.error("process-does-not-let-go", pid=old.process.pid if old.process else 0)
                        old.stop()
                        old.wait(time.monotonic() + _GRACE)
                self._leaving.append(old)
                self._begin(number, new)
        except BoincServerError as error:
            log.error("restart-failed", why=str(error))
            record(self._project.directory, str(error))
        else:
            record(self._project.directory)

    def prepare(self, number: int) -> _Member:
        """A process that has everything loaded and waits to be told to begin; BoincServerError if it cannot."""
        self._check_settings()
        member = self._member(number)
        member.start(waiting=True)
        if not member.hear(LOADED, _START):
            member.stop()
            member.wait(time.monotonic() + 1.0)
            raise BoincServerError(
                f"the new process cannot begin, so the old one goes on; see: boincserver log {self._project.directory}"
            )
        return member

    def _check_settings(self) -> None:
        now, then = Project.open(self._project.directory).config, self._project.config
        for name in ("listen", "url", "database", "processes"):
            if getattr(now, name) != getattr(then, name):
                raise ConfigError(
                    f"{name} in project.toml is another now: that takes a stop and a start, so nothing is done"
                )

    def adopt(self, member: _Member) -> None:
        """Let the only process begin that there is besides this one, which served until now."""
        self._members = [member]
        try:
            self._begin(0, member)
        except BoincServerError as error:
            log.error("restart-failed", why=str(error))
            record(self._project.directory, str(error))
        else:
            record(self._project.directory)

    def _begin(self, number: int, member: _Member) -> None:
        self._members[number] = member
        member.say(GO)
        if not member.hear(READY, _START):
            raise BoincServerError(
                f"a new process does not begin, and is tried again; see: boincserver log {self._project.directory}"
            )


def _in_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def stopping() -> Iterable[signal.Signals]:
    """The signals that end a server."""
    yield from (signal.SIGINT, signal.SIGTERM)
    if _in_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` has it ignored
        yield signal.SIGHUP


def restarting() -> Iterable[signal.Signals]:
    """The signals that ask for new processes."""
    return (kind for kind in RESTART if kind is not signal.SIGHUP or not _in_terminal())


def supervise(supervisor: Supervisor, ready: Callable[[], None]) -> None:
    """Keep the project's processes running until a signal says to stop."""
    with _signals(dict.fromkeys(stopping(), supervisor.stop) | dict.fromkeys(restarting(), supervisor.again)):
        supervisor.run(ready)


@contextlib.contextmanager
def _signals(events: dict[signal.Signals, threading.Event]) -> Iterator[None]:
    """A signal sets its event."""
    before = {kind: signal.signal(kind, lambda *_, event=event: event.set()) for kind, event in events.items()}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
