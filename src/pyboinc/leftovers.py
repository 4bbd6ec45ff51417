"""Processes of an earlier episode in the same slot, left when its supervisor was killed."""

from __future__ import annotations

import os
import signal
import sys
import time

from pyboinc import proc

assert sys.platform != "win32"

_PATIENCE = 5.0


def kill_leftovers(slot: str, note: str) -> None:
    """End what still runs for this slot. `note` exists if an earlier supervisor did not come to its own end.

    The system ends a child together with its supervisor, but not what the child had started.
    """
    if sys.platform != "linux" or not os.path.exists(note):
        return
    mark = b"PYBOINC_SLOT=" + os.fsencode(slot) + b"\0"
    give_up = time.monotonic() + _PATIENCE
    while time.monotonic() < give_up:
        left = [pid for pid in _everybody() if pid != os.getpid() and mark in proc.environment(pid)]
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        time.sleep(0.01)


def _everybody() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]
