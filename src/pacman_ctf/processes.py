"""A process and all that it started, watched from outside through Linux's /proc: CPU time, idleness, an end to it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_TICK: Final = 1.0 / os.sysconf("SC_CLK_TCK")
_SWEEPS: Final = 20  # rounds of looking for what appeared meanwhile
_BUSY: Final = frozenset("RD")  # runs or would, or waits for a disk: not its own wish


def cpu_clock(pid: int) -> int:
    """The id of another process's CPU clock for `time.clock_gettime`, all its threads, as Linux composes it."""
    return ~pid << 3 | 2


def children(pid: int) -> list[int]:
    """The living children of a process's threads."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """All living processes below one, nearest first."""
    found, level = [], [pid]
    while level:
        level = [child for parent in level for child in children(parent)]
        found += level
    return found


def _stat(path: str) -> list[str] | None:
    try:
        return Path(path).read_text().rpartition(") ")[2].split()  # the name before it may hold anything
    except OSError:
        return None


def tree_seconds(top: int) -> float:
    """CPU seconds below `top`: of its living descendants, of their ended children and of its own ended children."""
    own = _stat(f"/proc/{top}/stat")
    ticks = int(own[13]) + int(own[14]) if own else 0
    for pid in descendants(top):
        stat = _stat(f"/proc/{pid}/stat")
        ticks += sum(map(int, stat[11:15])) if stat else 0
    return ticks * _TICK


def _threads(pid: int) -> Iterator[list[str]]:
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            stat = _stat(f"{task}/stat")
            if stat:
                yield stat


def idle(top: int) -> bool:
    """Whether everything below `top` sleeps: nothing runs, waits for the processor or for a disk."""
    return not any(stat[0] in _BUSY for pid in descendants(top) for stat in _threads(pid))


def kill_below(top: int) -> None:
    """End everything that is seen below a process.

    First all are stopped, so that nobody starts another while the list is read; then all are killed. Chains of
    processes that each start the next and end are quicker than that: `end_all` has more than one try.
    """
    for number in (signal.SIGSTOP, signal.SIGKILL):
        known: set[int] = set()
        for _ in range(_SWEEPS):
            fresh = [pid for pid in descendants(top) if pid not in known]
            for pid in fresh:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
            if not fresh:
                break
            known.update(fresh)


def end_all(group: int, patience: float = 10.0) -> int | None:
    """End a child, its process group and all else below this process, which adopts orphans. Returns the child's status.

    The kernel signals a group in one step, also what its members are starting just then. Who cannot leave the group
    (`Policy.accountable`) cannot outrun that; the rest is swept together as far as it goes within `patience` seconds.
    """
    status = None
    with contextlib.suppress(OSError):
        os.killpg(group, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.kill(group, signal.SIGKILL)
        status = os.waitpid(group, 0)[1]
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                if time.monotonic() > end:
                    break
        except ChildProcessError:
            break
        kill_below(os.getpid())
    return status
