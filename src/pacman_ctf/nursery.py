"""Starts teams' processes quickly: one interpreter with everything imported, forked for each team of each match.

    referee ──socket──▶ nursery ──fork──▶ warden ──fork──▶ the team's agents ──pipes──▶ referee

Nursery and warden run none of a team's code and stay outside of its sandbox. The warden adopts whatever the agents
leave behind, and ends all of it when they end, or when the referee closes the team's life line or is no more itself.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from typing import Any, NoReturn

from pacman_ctf import host, isolation
from pacman_ctf.compat import modules
from pacman_ctf.errors import HostError
from pacman_ctf.processes import end_all

_REAPED_AT_ONCE = 64


class Nursery:
    """The referee's end. Use as a context manager; one serves any number of matches, one after the other."""

    def __enter__(self) -> Nursery:
        if sys.platform != "linux":
            raise HostError("matches between processes need Linux, whose /proc tells what a team uses; see `inside`")
        self._words = tempfile.TemporaryFile()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "pacman_ctf.nursery", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL, stdout=self._words, stderr=self._words, cwd="/",
                    env=isolation.environment(), pass_fds=(theirs.fileno(),),
                )  # fmt: skip
            except OSError as error:
                self._socket.close()
                self._words.close()
                raise HostError(f"could not start an interpreter for the teams: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()  # it ends by itself then
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words.close()

    def start(self, order: dict[str, Any], descriptors: list[int]) -> None:
        """Have a team's process started: it reads, writes, logs and lives by these four descriptors."""
        try:
            socket.send_fds(self._socket, [json.dumps(order).encode()], descriptors)
        except OSError as error:
            raise HostError(f"the interpreter for the teams has ended: {self.words()}") from error

    def words(self) -> str:
        """What the nursery said about a failure of its own."""
        size = self._words.tell()
        self._words.seek(max(0, size - 4000))
        return self._words.read().decode("utf-8", "replace").strip() or "it said nothing"


def run(number: int) -> None:
    """The nursery: fork a warden for each order until the referee is gone."""
    modules.install()
    _import_ahead()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # wardens that ended leave nothing to be waited for
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the referee's business
    gc.collect()
    gc.freeze()  # a forked process shares the memory that its collector does not touch
    with socket.socket(fileno=number) as orders:
        while True:
            message, descriptors, _, _ = socket.recv_fds(orders, 1 << 16, 4)
            if not message:
                return
            if os.fork() == 0:
                orders.close()
                become_team(json.loads(message), *descriptors)
            for descriptor in descriptors:
                os.close(descriptor)


def _import_ahead() -> None:
    """What every team's process needs: imported once."""
    import importlib.util
    import random

    from pacman_ctf import submission

    isolation.import_ahead()
    assert importlib.util and random and submission


def become_team(order: dict[str, Any], read: int, write: int, log: int, life: int) -> NoReturn:
    """This process is the warden now, its child the team."""
    code = 1
    try:
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        os.chdir(order["scratch"])
        os.environ["HOME"] = os.environ["TMPDIR"] = order["scratch"]
        signal.signal(signal.SIGCHLD, lambda *_: None)
        isolation.adopt_orphans()
        warden = os.getpid()
        if child := os.fork():
            with contextlib.suppress(OSError):
                os.setpgid(child, child)
            os.close(read)
            guard(child, write, life)
            code = 0
        else:
            os.close(life)
            os.setpgid(0, 0)  # which it cannot leave, so that one signal ends all that it starts
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
            sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
            try:
                layers = isolation.enter(order["scratch"], order["memory"], order["require"])
            except isolation.TooWeak as weak:
                host.tell(write, {"refused": str(weak)})
            else:
                host.serve(read, write, {"layers": layers, "pid": os.getpid(), "warden": warden})
                code = 0
    except BaseException:  # noqa: BLE001 - nothing may unwind into the nursery's own loop
        with contextlib.suppress(BaseException):
            sys.excepthook(*sys.exc_info())
    finally:
        host.flush()
        os._exit(code)


def guard(child: int, write: int, life: int) -> None:
    """Wait for the end of the agents or of the life line; then end everything, and say how the agents ended."""
    by_itself = _watch(child, life)
    status = end_all(child)
    if by_itself and status is not None:
        report = {"failed": "crash", "what": how_ended(status), "detail": ""}
        os.set_blocking(write, False)
        with contextlib.suppress(OSError):
            os.write(write, json.dumps(report).encode() + b"\n")


def _watch(child: int, life: int) -> bool:
    """Whether the agents ended before the life line; what else ends meanwhile is reaped by the way."""
    wake, woken = os.pipe()
    for descriptor in (wake, woken):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    poll.register(life, select.POLLIN)
    signal.signal(signal.SIGTERM, lambda *_: os.close(life))  # as if the referee had let go
    while not _has_ended(child):
        events = dict(poll.poll())
        if life in events:
            return False
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 4096)
    return True


def _has_ended(child: int) -> bool:
    """Whether the agents' process has. It is not reaped yet, so that its number and its group's stay its own."""
    for _ in range(_REAPED_AT_ONCE):
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return False
        if found.si_pid == child:
            return True
        os.waitpid(found.si_pid, 0)
    os.kill(os.getpid(), signal.SIGCHLD)  # there may be more, but the life line goes first
    return False


def how_ended(status: int) -> str:
    """The end of a process as a person would say it."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"the process ended by itself (exit code {code})"
    try:
        return f"the process was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"the process was killed by signal {-code}"


if __name__ == "__main__":
    run(int(sys.argv[1]))
