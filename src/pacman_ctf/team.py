"""The referee's end of a team's process: start it, ask it within its limits, keep its output, end all of it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pacman_ctf.errors import HostError, SandboxTooWeak
from pacman_ctf.limits import Limits
from pacman_ctf.nursery import Nursery
from pacman_ctf.processes import cpu_clock, descendants, idle, tree_seconds
from pacman_ctf.submission import Submission

LOG_BYTES: Final = 50 << 10  # of a team's output; what is beyond is cut out of the middle
_LINE_BYTES: Final = 1 << 17  # longer answers are none
_SLICE: Final = 0.25  # seconds between two looks at a team that thinks
_STIRRED: Final = 0.002  # CPU seconds in such a slice that are no sleep
_TREE_EVERY: Final = 64  # answers between two looks at what a quick team has started besides
_NOT_STARTED: Final = 60.0  # wall seconds in which an interpreter must have begun; a loaded host takes a few
_ENDED: Final = 20.0  # wall seconds in which a warden must have ended all


class Log:
    """The first and the last part of what a team printed."""

    def __init__(self, limit: int = LOG_BYTES) -> None:
        self._half = limit // 2
        self._head, self._tail, self._total = bytearray(), bytearray(), 0

    def add(self, data: bytes) -> None:
        """Take some output; memory stays bounded."""
        self._total += len(data)
        room = self._half - len(self._head)
        self._head += data[:room] if room > 0 else b""
        self._tail += data[max(room, 0) :]
        if len(self._tail) > 4 * self._half:
            del self._tail[: -self._half]

    def text(self) -> str:
        """All that was kept, with a line where something is missing."""
        tail = self._tail[-self._half :]
        cut = self._total - len(self._head) - len(tail)
        gap = f"\n[... {cut} bytes left out ...]\n".encode() if cut else b""
        return bytes(self._head + gap + tail).decode("utf-8", "replace")


class Gone(Exception):
    """A team's process ended, or was ended, instead of answering."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code, self.what = code, what


class Team:
    """One team's process. Use as a context manager: nothing of it stays."""

    def __init__(
        self, nursery: Nursery, submission: Submission, limits: Limits, *, require: Sequence[str] = ()
    ) -> None:
        self.submission, self.limits = submission, limits
        self._nursery = nursery
        self.log = Log()
        self.hello: dict[str, Any] = {}
        self.until = math.inf  # when, on the monotonic clock, whoever asks has no more time
        self.charged = 0.0  # CPU seconds that some answer has been charged for
        self._require = list(require)
        self._buffer = b""
        self._answers = 0
        self._log = self._top = 0
        self._resources = contextlib.ExitStack()
        self._lifeline = self._resources.enter_context(contextlib.ExitStack())

    def __enter__(self) -> Team:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        scratch = self._resources.enter_context(
            tempfile.TemporaryDirectory(prefix="pacman-", ignore_cleanup_errors=True)
        )
        self.scratch = Path(scratch)
        self.submission.write(self.scratch)
        own, name = self.scratch / "teams", self.submission.name
        if not own.exists() and Path(name).name == name:  # agents open files as teams/<name>/...
            own.mkdir()
            (own / name).symlink_to("..", target_is_directory=True)
        with contextlib.ExitStack() as theirs:
            reads, self._to = self._pipe(theirs, 0)
            writes, self._from = self._pipe(theirs, 1)
            logs, self._log = self._pipe(theirs, 1)
            lives, life = os.pipe()
            theirs.callback(os.close, lives)
            self._lifeline.callback(os.close, life)
            order = {"scratch": scratch, "memory": self.limits.memory, "require": self._require}
            self._nursery.start(order, [reads, writes, logs, lives])
        os.set_blocking(self._log, False)
        self._poll = select.poll()
        self._poll.register(self._from, select.POLLIN)
        self._poll.register(self._log, select.POLLIN)

    def _pipe(self, theirs: contextlib.ExitStack, end: int) -> tuple[int, int]:
        """A pipe: the team's end, closed here once it has gone over, and ours."""
        ends = os.pipe()
        theirs.callback(os.close, ends[end])
        self._resources.callback(os.close, ends[1 - end])
        return ends[end], ends[1 - end]

    def greet(self) -> None:
        """Wait until the process is there and has given up what it can; only then the team's code is loaded."""
        end = time.monotonic() + _NOT_STARTED
        while (line := self._line(0.1)) is None:
            if time.monotonic() > end:
                raise HostError("a team's process did not start in time")
        hello = json.loads(line) if line else {}
        if "refused" in hello:
            raise SandboxTooWeak(hello["refused"])
        if "pid" not in hello:
            raise HostError(f"a team's process did not start: {self.log.text()[-2000:]} {self._nursery.words()}")
        self.hello = hello
        self._top = int(hello["warden"])
        self._clock = cpu_clock(hello["pid"])

    def seconds(self) -> float:
        """CPU seconds of the agents' process, all threads: a quick look."""
        try:
            return time.clock_gettime(self._clock)
        except OSError:  # it has ended
            return self.charged

    def tree(self) -> float:
        """CPU seconds of everything the team has started, in the kernel's coarse ticks."""
        return max(self.seconds(), tree_seconds(self._top))

    def send(self, *message: Any) -> None:
        """Tell the team something; it answers when it is asked for."""
        self.send_line(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def send_line(self, data: bytes) -> None:
        """The same, encoded already."""
        with contextlib.suppress(BrokenPipeError):  # it has ended: the missing answer will tell
            os.write(self._to, data)

    def answer(self, limit: float) -> tuple[bytes, float]:
        """The next line, and the CPU seconds that it took since the last one. Raises `Gone`."""
        waited = asleep = spent = 0.0
        while True:
            begin = time.monotonic() if waited else 0.0
            line = self._line(_SLICE)
            if line:
                break
            if line is not None:
                raise self._kill("crash", "the process ended")
            # A slice that took far longer was no thinking: this process was suspended together with the team.
            waited += min(time.monotonic() - begin, 2 * _SLICE) if begin else _SLICE
            before, spent = spent, self.tree() - self.charged
            asleep = asleep + _SLICE if spent - before < _STIRRED and idle(self._top) else 0.0
            if spent > limit:
                raise self._out(f"used {spent:.1f} s of processor time where {limit:.1f} s are allowed")
            if (count := len(descendants(self._top))) > self.limits.processes:
                raise self._kill("illegal", f"started {count} processes; {self.limits.processes} are allowed")
            if asleep > self.limits.idle:
                raise self._out(f"slept {asleep:.0f} s instead of answering")
            if time.monotonic() > self.until:
                raise self._kill("unfinished", f"had used {spent:.1f} s of processor time and was not ready")
            if waited > self.limits.wall:
                raise self._out(f"did not answer within {waited:.0f} s")
        self._answers += 1
        now = self.tree() if waited or not self._answers % _TREE_EVERY else self.seconds()
        spent = max(0.0, now - self.charged)
        self.charged = max(now, self.charged)
        if spent > limit:
            raise self._out(f"used {spent:.1f} s of processor time where {limit:.1f} s are allowed")
        return line, spent

    def _line(self, timeout: float) -> bytes | None:
        """The next line; None when there is none in time, b"" when there will be none."""
        end = time.monotonic() + timeout
        wait = timeout
        while b"\n" not in self._buffer:
            events = self._poll.poll(wait * 1000)
            for descriptor, event in events:
                if descriptor == self._from:
                    if not self._read():
                        return b""
                elif not self._drain() and event & select.POLLHUP:
                    self._poll.unregister(self._log)
            wait = end - time.monotonic()  # a team that prints without end is out of time as well
            if wait <= 0 and b"\n" not in self._buffer:
                return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"

    def _read(self) -> bool:
        """Take what the team answered; False when it will answer no more."""
        try:
            data = os.read(self._from, 1 << 16)
        except OSError:
            return False
        self._buffer += data
        if len(self._buffer) > _LINE_BYTES:
            raise self._kill("illegal", "sent more than an answer")
        return bool(data)

    def _drain(self) -> int | None:
        """Take some of the team's output; None when it has ended, 0 when there is none now."""
        try:
            data = os.read(self._log, 1 << 20)
        except BlockingIOError:
            return 0
        self.log.add(data)
        return len(data) or None

    def _out(self, what: str) -> Gone:
        return self._kill("timeout", what)

    def _kill(self, code: str, what: str) -> Gone:
        self._end()
        return Gone(code, what)

    def _end(self) -> None:
        """Let go of the life line: the warden ends everything, and the output's end tells that it has."""
        self._lifeline.close()
        end = time.monotonic() + _ENDED
        while self._drain() is not None:
            if not select.select([self._log], [], [], 0.1)[0] and time.monotonic() > end:
                self._kill_by_hand()
                return

    def _kill_by_hand(self) -> None:
        """The warden itself hangs, which it has no reason to; whoever stopped it is below it."""
        for pid in [self._top, *descendants(self._top)] if self._top else []:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process and remove its files."""
        if self._log:
            self._end()
        self._resources.close()
