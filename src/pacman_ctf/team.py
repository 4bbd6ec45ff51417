"""The referee's end of a team's process: start it, ask it within its limits, keep its output, end all of it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any, Final

from pacman_ctf.channel import Channel, Flooded
from pacman_ctf.errors import HostError, SandboxTooWeak
from pacman_ctf.limits import Limits
from pacman_ctf.nursery import Nursery
from pacman_ctf.processes import cpu_clock, descendants, idle, tree_seconds
from pacman_ctf.scratch import Scratch
from pacman_ctf.submission import Submission
from pacman_ctf.usage import usage

_SLICE: Final = 0.25  # seconds between two looks at a team, on average
_JITTER: Final = 0.1  # by which they come earlier or later, so that nobody is busy only when looked at
_STIRRED: Final = 0.002  # CPU seconds in such a slice that are no sleep
_COMPANY: Final = 0.03  # CPU seconds beside the agents' process that are no rounding
_NOT_STARTED: Final = 60.0  # wall seconds in which an interpreter must have begun; a loaded host takes a few
_ENDED: Final = 20.0  # wall seconds in which a warden must have ended all


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
        self.hello: dict[str, Any] = {}
        self.until = math.inf  # when, on the monotonic clock, whoever asks has no more time
        self.charged = 0.0  # CPU seconds that some answer has been charged for
        self.slept = 0.0
        self.ended = self._started = False
        self._require = list(require)
        self._top = 0
        self._next_look = 0.0
        self._alone = True
        self._dice = random.Random()
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
        self.scratch = self._resources.enter_context(Scratch())
        try:
            self.submission.write(self.scratch)
        except OSError as error:
            raise HostError(f"could not write the files of team {self.submission.name}: {error}") from error
        with contextlib.suppress(OSError):  # agents open files as teams/<name>/...
            (self.scratch / "teams").mkdir()
            (self.scratch / "teams" / PurePath(self.submission.name).name).symlink_to("..", target_is_directory=True)
        with contextlib.ExitStack() as theirs:
            reads, to = self._pipe(theirs, 0)
            writes, source = self._pipe(theirs, 1)
            logs, log = self._pipe(theirs, 1)
            lives, life = os.pipe()
            theirs.callback(os.close, lives)
            self._lifeline.callback(os.close, life)
            self._channel = Channel(to, source, log)
            order = {"scratch": str(self.scratch), "memory": self.limits.memory, "require": self._require}
            self._nursery.start(order, [reads, writes, logs, lives])
            self._started = True

    def _pipe(self, theirs: contextlib.ExitStack, end: int) -> tuple[int, int]:
        """A pipe: the team's end, closed here once it has gone over, and ours."""
        ends = os.pipe()
        theirs.callback(os.close, ends[end])
        self._resources.callback(os.close, ends[1 - end])
        return ends[end], ends[1 - end]

    @property
    def log(self) -> str:
        """What the team printed."""
        return self._channel.log.text()

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
            raise HostError(f"a team's process did not start: {self.log[-2000:]} {self._nursery.words()}")
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
        self._channel.send(data)

    def answer(self, limit: float, meanwhile: Callable[[], None] = lambda: None) -> tuple[bytes, float]:
        """The next line, and the CPU seconds that it took since the last one. Raises `Gone`.

        `meanwhile` is called now and then while it does not come.
        """
        waited = asleep = spent = 0.0
        while True:
            begin, patience = time.monotonic(), _SLICE + self._dice.uniform(-_JITTER, _JITTER)
            line = self._line(patience)
            if line:
                break
            if line is not None:
                raise self._kill("crash", "the process ended")
            # A slice that took far longer was no thinking: this process was suspended together with the team.
            waited += min(time.monotonic() - begin, 2 * patience)
            before, spent = spent, self.tree() - self.charged
            sleeps = idle(self._top)
            asleep = asleep + patience if spent - before < _STIRRED and sleeps else 0.0
            self.slept += patience if sleeps else 0.0
            if spent > limit:
                raise self._out(f"used {spent:.1f} s of processor time where {limit:.1f} s are allowed")
            self.look()
            if asleep > self.limits.idle:
                raise self._out(f"slept {asleep:.0f} s instead of answering")
            if self.slept > self.limits.sleep:
                raise self._out(f"slept {self.slept:.0f} s of the match instead of answering")
            if time.monotonic() > self.until:
                raise self._kill("unfinished", f"had used {spent:.1f} s of processor time and was not ready")
            if waited > self.limits.wall:
                raise self._out(f"did not answer within {waited:.0f} s")
            meanwhile()
        if begin > self._next_look:
            self.look()
        now = self.seconds() if self._alone and not waited else self.tree()
        spent = max(0.0, now - self.charged)
        self.charged = max(now, self.charged)
        if spent > limit:
            raise self._out(f"used {spent:.1f} s of processor time where {limit:.1f} s are allowed")
        return line, spent

    def look(self) -> None:
        """See what the team holds beside time. Raises `Gone` if that is more than it may, once."""
        if self.ended:
            return
        self._next_look = time.monotonic() + _SLICE
        held = usage(self._top, self.scratch, self.limits)
        if excess := held.excess(self.limits):
            raise self._kill("illegal", excess)
        # Who never had another process needs no look at the others' times, which costs more than many a move.
        self._alone = self._alone and held.processes <= 1 and self.tree() - self.seconds() < _COMPANY

    def _line(self, timeout: float) -> bytes | None:
        try:
            return self._channel.line(timeout)
        except Flooded:
            raise self._kill("illegal", "sent more than an answer") from None

    def _out(self, what: str) -> Gone:
        return self._kill("timeout", what)

    def _kill(self, code: str, what: str) -> Gone:
        self._end()
        return Gone(code, what)

    def _end(self) -> None:
        """Let go of the life line: the warden ends everything, and the output's end tells that it has."""
        self.ended = True
        self._lifeline.close()
        if self._started and not self._channel.ended(_ENDED):
            self._kill_by_hand()

    def _kill_by_hand(self) -> None:
        """The warden itself hangs, which it has no reason to; whoever stopped it is below it."""
        for pid in [self._top, *descendants(self._top)] if self._top else []:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process and remove its files."""
        self._end()
        self._resources.close()
