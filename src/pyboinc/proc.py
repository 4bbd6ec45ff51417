"""Processes as Linux shows them in /proc: descendants, CPU time, memory."""

from __future__ import annotations

import os
import sys
import time

assert sys.platform != "win32"

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")
# Places in /proc/PID/stat, counted behind the command's name, which may hold anything.
_STATE, _PARENT, _TIMES = 0, 1, slice(11, 15)


def children() -> dict[int, list[int]]:
    """Each process with its children, in one look at the whole table.

    /proc/PID/task/PID/children would be quicker, but many kernels are built without it.
    """
    tree: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields and (fields[_STATE] != b"Z" or len(_threads(int(name))) > 1):
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
    fields = _stat(pid)
    if fields is None:
        return 0.0
    user, system, waited_user, waited_system = (int(ticks) / _TICK for ticks in fields[_TIMES])
    own = user + system
    try:
        # Linux numbers the clock of a process by its id; it has nanoseconds where /proc has hundredths.
        exact = time.clock_gettime((~pid << 3) | 2)
    except OSError:
        exact = own
    # A library that fakes the time of day may fake this clock too, beyond all sense.
    return (exact if abs(exact - own) < 1 else own) + waited_user + waited_system


def memory(pid: int) -> int:
    """Resident bytes of a process that it shares with no file."""
    # A process whose first thread has ended shows the memory of none there, but of the others.
    return _resident(f"{pid}") or max((_resident(f"{pid}/task/{thread}") for thread in _threads(pid)), default=0)


def _resident(where: str) -> int:
    try:
        with open(f"/proc/{where}/statm", "rb") as file:
            _, resident, shared = file.read().split()[:3]
    except (OSError, ValueError):
        return 0
    return max(0, int(resident) - int(shared)) * _PAGE


def _threads(pid: int) -> list[str]:
    """The threads of a process; a zombie that has more than its first one is none, but goes on."""
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


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
