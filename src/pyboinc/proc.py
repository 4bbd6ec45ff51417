"""Processes as Linux shows them in /proc: descendants, CPU time, memory."""

from __future__ import annotations

import os
import sys
import time

assert sys.platform != "win32"

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")
# Places in /proc/PID/stat, counted behind the command's name, which may hold anything.
_STATE, _PARENT, _WAITED_USER, _WAITED_SYSTEM = 0, 1, 13, 14


def children() -> dict[int, list[int]]:
    """Each process with its children, in one look at the whole table.

    /proc/PID/task/PID/children would be quicker, but many kernels are built without it.
    """
    tree: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields and fields[_STATE] != b"Z":
                tree.setdefault(int(fields[_PARENT]), []).append(int(name))
    return tree


def below(root: int, tree: dict[int, list[int]]) -> list[int]:
    """All descendants of a process, parents first."""
    found = list(tree.get(root, ()))
    for pid in found:  # grows while it is walked
        found.extend(tree.get(pid, ()))
    return found


def cpu_time(pid: int) -> float:
    """CPU seconds of a process, of all its threads and of the children it has waited for; 0 once it is gone."""
    try:
        # Linux numbers the clock of a process by its id; it has nanoseconds where /proc has hundredths.
        own = time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0
    fields = _stat(pid)
    waited = int(fields[_WAITED_USER]) + int(fields[_WAITED_SYSTEM]) if fields else 0
    return own + waited / _TICK


def memory(pid: int) -> int:
    """Resident bytes of a process that it shares with no file."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            _, resident, shared = file.read().split()[:3]
    except (OSError, ValueError):
        return 0
    return max(0, int(resident) - int(shared)) * _PAGE


def environment(pid: int) -> bytes:
    """The environment a process was started with, empty where that is not ours to see."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _stat(pid: int) -> list[bytes] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None
