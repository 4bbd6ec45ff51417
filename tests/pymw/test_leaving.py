"""What becomes of a map whose reader, or whose master, is gone."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pymw import Master, open_run

LIMIT = 60.0


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))


class Ran:
    """Counts what is run, by threads of this process; the third item waits until it may go on."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self.go = threading.Event()
        self.reached = threading.Event()

    def __call__(self, x: int) -> int:
        self.items.append(x)
        if x == 2:
            self.reached.set()
            assert self.go.wait(LIMIT)
        if x == 1:
            raise ValueError("one")
        return x


@pytest.fixture
def ran() -> Ran:
    return Ran()


def abandon(master: Master, ran: Ran) -> None:
    results = master.options(key=lambda x: x).map(ran, range(10)) if master._run else master.map(ran, range(10))
    assert next(results) == 0
    assert ran.reached.wait(LIMIT)
    del results
    ran.go.set()


def fail(master: Master, ran: Ran) -> None:
    results = master.options(key=lambda x: x).map(ran, range(10)) if master._run else master.map(ran, range(10))
    assert next(results) == 0
    assert ran.reached.wait(LIMIT)
    with pytest.raises(ValueError, match="one"):
        next(results)
    ran.go.set()


@pytest.mark.parametrize("leave", [abandon, fail])
def test_a_map_that_nobody_reads_is_cancelled_in_an_unnamed_run(ran: Ran, leave) -> None:
    with Master("memory") as master:
        leave(master, ran)
    assert ran.items == [0, 1, 2]


@pytest.mark.parametrize("leave", [abandon, fail])
def test_a_map_that_nobody_reads_goes_on_in_a_named_run(ran: Ran, leave) -> None:
    with Master("memory", run="on") as master:
        leave(master, ran)
    assert ran.items == list(range(10))
    with open_run("on") as view:
        assert view.counts() == {"asked": 0, "returned": 9, "failed": 1}


def test_a_sized_input_runs_to_its_end_unread_and_is_readable_after_the_block() -> None:
    with Master("local", max_workers=2) as master:
        results = master.map(abs, range(-1000, 0))
    assert list(results) == list(range(1000, 0, -1))


def test_an_input_of_unknown_length_ends_with_its_master() -> None:
    with Master("local", max_workers=2) as master:
        results = master.map(abs, itertools.count(), timeout=LIMIT)
        assert next(results) == 0
    with pytest.raises(RuntimeError, match="shut down before the input of this map was at its end"):
        list(results)


def test_a_master_that_is_shut_down_without_waiting_goes_on() -> None:
    master = Master("local", max_workers=1)
    futures = [master.submit(pow, 2, n) for n in range(5)]
    master.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        master.submit(abs, 1)
    assert [future.result(LIMIT) for future in futures] == [1, 2, 4, 8, 16]


MILLION = """
from pymw import Master

def peak():  # not ru_maxrss, which a process inherits from whoever started it
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1])

with Master("local", max_workers=2) as master:
    list(master.map(abs, range(1000)))
    before = peak()
    total = sum(master.map(abs, {numbers}))
    print(total, peak() - before)
"""


@pytest.mark.parametrize("numbers", ["range(10**6)", "iter(range(10**6))", "(n for n in range(10**6))"])
def test_a_million_items_take_no_memory_to_speak_of(numbers: str) -> None:
    command = [sys.executable, "-c", MILLION.format(numbers=numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    total, kilobytes = map(int, done.stdout.split())
    assert total == sum(range(10**6))
    assert kilobytes < 30_000, done.stdout
