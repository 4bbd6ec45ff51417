"""One child under observation: its stderr, its running time, its limits, and the verdict on it."""

from __future__ import annotations

import os
import time

from pyboinc import ending
from pyboinc.limits import Limits, disk_usage
from pyboinc.tail import Tail
from pyboinc.wire import Lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyboinc.process import Child

DISK_INTERVAL = 5.0
READ_LIMIT = 4 << 20
"""Bytes taken from one of the child's pipes per tick: a flood slows its own source down, nobody else."""


class Watch:
    """What the supervisor knows of a child."""

    def __init__(self, child: Child, limits: Limits, *, live: bool) -> None:
        self.child = child
        self.verdict: tuple[str, str] | None = None
        """Cause and detail once a limit is broken."""
        self._lines = Lines()
        self._limits = limits
        # Somebody at a terminal sees all of stderr as it comes; a client gets as much as it reports.
        self._errors = Tail(head=1 << 62) if live else Tail()
        self._running = self._since = 0.0
        self._most = limits.time
        self._looked = time.monotonic()
        self._disk_at = self._looked + DISK_INTERVAL

    def messages(self) -> list[bytes]:
        """The lines that the child has sent since."""
        return self._lines.feed(self.child.read_messages(READ_LIMIT))

    def forward_errors(self) -> None:
        """Pass on what of the child's stderr still fits into a report."""
        write_stderr(self._errors.feed(self.child.read_errors(READ_LIMIT)))

    def count_time(self, *, running: bool) -> None:
        """Let the clock of the child's time limit go on, or stand."""
        now = time.monotonic()
        if running:
            self._running += now - self._looked
        self._looked = now
        if self._most and self._running - self._since > self._most:
            self.verdict = ending.TIME, f"it ran longer than {self._most:g} seconds"

    def limit_time(self, seconds: float) -> None:
        """The child may run for so many seconds from now; zero is as long as it likes."""
        self._most, self._since = max(seconds, 0.0), self._running

    def check_limits(self, directory: str) -> None:
        """Look at what the child uses."""
        used = self.child.memory() if self._limits.memory else 0
        if used > self._limits.memory:
            self.verdict = (
                ending.MEMORY,
                f"it used {_mega(used)} of memory; the job's bound is {_mega(self._limits.memory)}",
            )
        if self._limits.disk and self._looked >= self._disk_at:
            self._disk_at = self._looked + DISK_INTERVAL
            used = disk_usage(directory)
            if used > self._limits.disk:
                self.verdict = (
                    ending.DISK,
                    f"it used {_mega(used)} of disk; the job's bound is {_mega(self._limits.disk)}",
                )

    def ended(self) -> ending.ChildExit:
        """The end of the child, told on stderr as well unless all is well."""
        returncode = self.child.returncode
        cause, detail = self.verdict or ("", "")
        exit = ending.ChildExit(
            -9 if returncode is None else returncode,
            cause,
            detail=detail,
            stderr=self._errors.last(),
            cpu_time=self.child.cpu_time(),
            elapsed=self._running,
        )
        write_stderr(self._errors.rest())
        return exit


def say(text: str) -> None:
    """A line of the supervisor's own in what the client reports as stderr."""
    write_stderr(f"pyboinc: {text}\n".encode("utf-8", "replace"))


def write_stderr(data: bytes) -> None:
    """Write, or lose it where the disk is full: a report is no reason to fail."""
    try:
        while data:
            data = data[os.write(2, data) :]
    except OSError:
        pass


def _mega(size: float) -> str:
    return f"{size / 1e6:.0f} MB"
