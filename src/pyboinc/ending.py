"""How a child ended, and what to tell the client about it."""

from __future__ import annotations

import signal

from pyboinc import slot

FAULTS = 0xC0000000
"""Exit codes from here on are Windows' exceptions that nobody handled."""
EXITED, SIGNALLED, MEMORY, TIME, DISK = "exited", "signalled", "memory", "time", "disk"

_EXIT_CODES = {
    MEMORY: slot.EXIT_MEMORY_LIMIT_EXCEEDED,
    TIME: slot.EXIT_TIME_LIMIT_EXCEEDED,
    DISK: slot.EXIT_DISK_LIMIT_EXCEEDED,
    SIGNALLED: slot.EXIT_CHILD_FAILED,
}


class ChildExit:
    """The end of one child."""

    def __init__(
        self,
        returncode: int,
        cause: str = "",
        *,
        detail: str = "",
        stderr: bytes = b"",
        cpu_time: float = 0.0,
        elapsed: float = 0.0,
    ) -> None:
        self.returncode = returncode
        """As `subprocess` gives it: an exit code, or a signal's negative number."""
        self.cause = cause or (EXITED if 0 <= returncode < FAULTS else SIGNALLED)
        """Why: `exited` or `signalled` by itself, a fault included; `memory`, `time`, `disk` by us for a limit."""
        self.detail = detail
        self.stderr = stderr
        """The last of what it wrote there."""
        self.cpu_time = cpu_time
        self.elapsed = elapsed
        """Seconds it ran, those it stood still not counted."""

    def exit_code(self) -> int:
        """The exit code of a task that ends with this child; 0 only for a child's own 0."""
        return _EXIT_CODES.get(self.cause, self.returncode)

    def __str__(self) -> str:
        if self.cause == EXITED:
            return f"the child exited with code {self.returncode}"
        if self.cause == SIGNALLED and self.returncode >= FAULTS:
            return f"the child was ended by the fault 0x{self.returncode:08X}"
        if self.cause == SIGNALLED:
            return f"the child was killed by {_signal_name(-self.returncode)}"
        return f"the child was stopped: {self.detail}"

    def __repr__(self) -> str:
        return f"ChildExit({self.returncode}, {self.cause!r}, detail={self.detail!r})"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
