"""Workers that the kernel ends for want of memory: the real out-of-memory killer, in a memory cgroup of the test's own."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from tests.pymw.test_losses import eventually

from pymw import Master, WorkerLost

LIMIT = 60.0
MIB = 1 << 20
ROOM = 192 * MIB


@pytest.fixture
def cage(lacking: Callable[[str], NoReturn]) -> Iterator[Path]:
    """The file that puts a process, by its number, where there is no more than so much memory."""
    with contextlib.ExitStack() as stack:
        try:
            folder = _below_ours() / f"pymw-test-{os.getpid()}"
            folder.mkdir()
            stack.callback(lambda: eventually(lambda: _is_removed(folder)))
            limit = next(folder / name for name in ("memory.max", "memory.limit_in_bytes") if (folder / name).exists())
            limit.write_text(str(ROOM))
            for name in ("memory.swap.max", "memory.memsw.limit_in_bytes"):
                if (folder / name).exists():
                    (folder / name).write_text("0" if name == "memory.swap.max" else str(ROOM))
        except (OSError, StopIteration) as error:
            lacking(f"no memory cgroup can be made here, so the kernel's killer cannot be provoked: {error!r}")
        yield folder / "cgroup.procs"


def _below_ours() -> Path:
    """The memory cgroup of this process."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return Path("/sys/fs/cgroup/memory" + path)
    return Path("/sys/fs/cgroup" + path)  # of the second version, whose line is the last one


def _is_removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def hoard(x: int, victim: int, cage: str, first: str) -> int:
    """The victim takes more memory than there is: at the first try, or at every try if there is no file `first`."""
    if x == victim and not (first and Path(first).exists()):
        if first:
            Path(first).touch()
        Path(cage).write_text(str(os.getpid()))
        kept = []
        while True:
            kept.append(bytearray(os.urandom(MIB)))
    return x


def test_a_worker_that_the_kernel_ends_for_memory_costs_only_its_own_task(cage: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    with Master("local", max_workers=2) as master:
        columns = range(1000), [617] * 1000, [str(cage)] * 1000, [str(first)] * 1000
        assert list(master.map(hoard, *columns, timeout=LIMIT)) == list(range(1000))
    assert first.exists()


def test_it_is_told_what_the_kernel_did_it_for(cage: Path) -> None:
    with Master("local", max_workers=1) as master:
        error = master.options(attempts=2).submit(hoard, 1, 1, str(cage), "").exception(LIMIT)
        assert isinstance(error, WorkerLost)
        for attempt in error.attempts:
            assert attempt.ending.startswith("killed by SIGKILL; the system was out of memory"), error
        assert len(error.attempts) == 2
        assert "out of memory" in str(error)
        assert master.submit(abs, -1).result(LIMIT) == 1


def test_a_worker_that_somebody_else_kills_is_not_said_to_be_out_of_memory(tmp_path: Path) -> None:
    def tell_and_wait(file: str) -> None:
        Path(file).write_text(str(os.getpid()))
        time.sleep(600)

    with Master("local", max_workers=1) as master:
        future = master.options(attempts=1).submit(tell_and_wait, str(tmp_path / "pid"))
        assert eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        error = future.exception(LIMIT)
        assert isinstance(error, WorkerLost)
        assert [attempt.ending for attempt in error.attempts] == ["killed by SIGKILL"]
