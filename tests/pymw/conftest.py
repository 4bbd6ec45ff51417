"""Nothing is left behind: after each module of tests no process, thread or open run of theirs is alive."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE = 20.0
THE_STANDARD_LIBRARYS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    before = children()
    yield
    deadline = time.monotonic() + PATIENCE
    while left := [*left_processes(before), *left_threads()]:
        if time.monotonic() > deadline:
            pytest.fail(f"{request.node.name} left behind: {left}")
        time.sleep(0.02)


def children() -> set[int]:
    """The processes that this one started and that are not gone, zombies included."""
    lists = Path("/proc/self/task").glob("*/children")
    found: set[int] = set()
    for file in lists:
        try:
            found |= set(map(int, file.read_text().split()))
        except OSError:
            pass  # the thread has ended
    return found


def left_processes(before: set[int]) -> list[str]:
    left = []
    for pid in children() - before:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if not any(name in command for name in THE_STANDARD_LIBRARYS):
            left.append(f"process {pid} {command[:200]}")
    return left


def left_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pymw")]
