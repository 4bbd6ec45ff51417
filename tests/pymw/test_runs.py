"""Named runs: nothing is lost, nothing is computed twice, and an edited function is computed anew."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import pymw
from boincserver.testing import wait_until
from pymw import Master, RunBusy, RunError, RunNotFound, TaskState, UnshippableError, open_run
from pymw.cli import main

LIMIT = 60.0


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))


def note(x: int, log: str) -> int:
    """Leave a line for each time that it is run."""
    with Path(log).open("a") as file:
        file.write(f"{x}\n")
    return x * x


def fail_first(x: int, log: str) -> int:
    note(x, log)
    if Path(log).read_text().split().count(str(x)) == 1:
        raise ValueError(f"the first time {x}")
    return x


def lines(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2, get_context("spawn")) as processes:
        for more, backend in enumerate(("local:2", "memory", threads, processes)):
            numbers = range(20 + more)
            with Master(backend, run="squares") as master:
                squares = list(master.map(note, numbers, [str(log)] * len(numbers), timeout=LIMIT))
                assert squares == [x * x for x in numbers]
                assert master.submit(note, 100, str(log)).result(LIMIT) == 10000
    assert sorted(lines(log)) == [*range(23), 100]


def test_a_result_is_on_disk_before_its_future_resolves() -> None:
    seen = []

    def look(_: Any) -> None:
        with open_run("early") as view:
            seen.append((view.counts()["returned"], next(iter(view)).result(0)))
        looked.set()

    go, looked = threading.Event(), threading.Event()
    with Master("memory", run="early") as master:
        future = master.options(key="held").submit(go.wait, LIMIT)
        future.add_done_callback(look)
        go.set()
        assert looked.wait(LIMIT)  # callbacks run after those who wait in result() are woken
    assert seen == [(1, True)]


def test_a_thousand_equal_calls_are_a_thousand_computations(tmp_path: Path) -> None:
    def draw(_: int) -> float:
        return random.SystemRandom().random()

    with Master("memory", run="draws") as master:
        first = list(master.map(draw, [7] * 1000, timeout=LIMIT))
    assert len(set(first)) == 1000
    with Master("memory", run="draws") as master:
        assert list(master.map(draw, [7] * 1000, timeout=LIMIT)) == first
        assert list(master.map(draw, [7] * 3, timeout=LIMIT)) != first[:3]  # equal calls 1000, 1001, 1002


MANY = 12_001


def test_the_first_results_of_a_named_run_are_there_before_the_last_key() -> None:
    read = threading.Event()

    def key(x: int) -> int:
        assert x != MANY - 1 or read.wait(LIMIT), "no result came before the last task had its key"
        return x

    for _ in range(2):  # the second time the results are known
        read.clear()
        with ThreadPoolExecutor(2) as threads, Master(threads, run="slices") as master:
            results = master.options(key=key).map(abs, range(MANY), timeout=LIMIT)
            assert [next(results) for _ in range(10)] == list(range(10))
            read.set()
            assert list(results) == list(range(10, MANY))


def test_a_long_map_of_a_named_run_goes_on_unread_and_is_readable_after_the_block() -> None:
    with ThreadPoolExecutor(2) as threads, Master(threads, run="unread") as master:
        results = master.map(abs, range(MANY), timeout=LIMIT)
    assert list(results) == list(range(MANY))


def test_what_is_called_after_a_long_map_comes_after_it_in_the_run() -> None:
    def draw(x: int) -> float:
        return random.random()

    with ThreadPoolExecutor(2) as threads, Master(threads, run="in order") as master:
        first = list(master.map(draw, [7] * 10, timeout=LIMIT))
        long = master.map(draw, [7] * MANY, timeout=LIMIT)
        late = master.submit(draw, 7)
        again = master.map(draw, [7] * 10, timeout=LIMIT)
        values = [*first, *long, late.result(LIMIT), *again]
    assert len(set(values)) == len(values) == 10 + MANY + 11
    with open_run("in order") as run:
        assert list(run.results(timeout=LIMIT)) == values
    with ThreadPoolExecutor(2) as threads, Master(threads, run="in order") as master:
        assert list(master.map(draw, [7] * len(values), timeout=LIMIT)) == values


def test_an_argument_far_behind_that_cannot_be_told_apart_ends_the_map_in_its_place() -> None:
    odd = 9_345
    inputs = [object() if x == odd else x for x in range(MANY)]
    with ThreadPoolExecutor(2) as threads, Master(threads, run="odd") as master:
        results = master.map(str, inputs, timeout=LIMIT)
        got = []
        with pytest.raises(UnshippableError, match=r"args\[0\]: .*options\(key="):
            for value in results:
                got.append(value)
        assert len(got) <= odd
        assert got == list(map(str, range(len(got))))
        with pytest.raises(UnshippableError, match=r"args\[0\]"):
            master.map(str, [object(), *range(MANY)])  # here it is refused at the call
        assert master.submit(abs, -1).result(LIMIT) == 1
    with open_run("odd") as run:
        assert run.counts()["asked"] == 0  # what was sent before it is there


def test_leaving_in_the_middle_of_a_long_map_does_not_wait_for_its_keys() -> None:
    seen: list[int] = []
    leaving = threading.Event()

    def key(x: int) -> int:
        seen.append(x)
        if x >= 5000:  # these are given in a thread, which takes many seconds for them
            time.sleep(0.01 if x > 5500 else 0.0005)
        if x == 5500:
            leaving.set()
        return x

    with pytest.raises(ZeroDivisionError):
        with ThreadPoolExecutor(2) as threads, Master(threads, run="left") as master:
            master.options(key=key).map(abs, range(MANY), timeout=LIMIT)
            assert leaving.wait(LIMIT)
            1 / 0  # noqa: B018
    assert len(seen) < MANY
    assert not [thread for thread in threading.enumerate() if thread.name == "pymw keys"]


def test_a_long_map_runs_the_function_that_it_was_called_with() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("factor = 2\ndef times(x): return factor * x", namespace)
    changed = threading.Event()

    def key(x: int) -> int:
        assert x != MANY - 1 or changed.wait(LIMIT)
        return x

    with Master("local:2", run="pinned") as master:
        results = master.options(key=key).map(namespace["times"], range(MANY), timeout=LIMIT)
        assert next(results) == 0
        namespace["factor"] = 100
        changed.set()
        assert list(results) == [2 * x for x in range(1, MANY)]


def test_an_endless_input_of_a_named_run_is_read_as_far_as_the_window_reaches() -> None:
    with Master("local:2", run="endless") as master:
        numbers = itertools.count()
        results = master.map(abs, numbers, buffersize=10, timeout=LIMIT)
        assert [next(results) for _ in range(50)] == list(range(50))
        assert next(numbers) <= 60
        del results
        numbers = itertools.count(1000)
        results = master.map(abs, numbers, timeout=LIMIT)
        assert next(results) == 1000
        read = next(numbers)
        assert read < 1000 + (1 << 18)
        assert next(numbers) == read + 1
        del results
    with open_run("endless") as run:
        assert run.counts()["asked"] == 0


MANY_NAMED = """
import sys
from pymw import Master

def peak():
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1])

def input(n):
    return range(n) if {sized} else iter(range(n))

with Master("local", max_workers=2, run="many") as master:
    list(master.map(abs, range(-6000, 0)))
    before = peak()
    total = sum(master.map(abs, input({n})))
    print(total, peak() - before)
"""


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("n", [10**5, pytest.param(10**6, marks=pytest.mark.soak)])
def test_many_items_of_a_named_run_take_no_memory_to_speak_of(sized: bool, n: int) -> None:
    for known in (False, True) if sized else (False,):
        command = [sys.executable, "-c", MANY_NAMED.format(sized=sized, n=n)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240 if n < 10**6 else 3000)
        total, kilobytes = map(int, done.stdout.split())
        assert total == sum(range(n))
        assert kilobytes < 16_000 + n * 0.03, (known, done.stdout)  # of each task 20 bytes, which are its key's


def test_reuse_shares_equal_calls(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Master("memory", run="shared") as master:
        for _ in range(3):
            assert master.options(reuse=True).submit(note, 5, str(log)).result(LIMIT) == 25
    assert lines(log) == [5]


@pytest.mark.parametrize("backend", ["memory", "local:2"])
def test_equal_items_of_a_map_share_while_they_are_under_way(backend: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Master(backend, run="shared") as master:
        reusing = master.options(reuse=True)
        assert list(reusing.map(note, [3, 4] * 20, [str(log)] * 40, timeout=LIMIT)) == [9, 16] * 20
        assert sorted(lines(log)) == [3, 4]
        failed = list(reusing.map(fail_first, [5] * 10, [str(log)] * 10, on_error="return", timeout=LIMIT))
        assert [str(error) for error in failed] == ["the first time 5"] * 10
        assert list(reusing.map(note, iter([6] * 300), iter([str(log)] * 300), timeout=LIMIT)) == [36] * 300
    assert sorted(lines(log)) == [3, 4, 5, 6]


def test_a_longer_input_computes_only_what_is_new(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Master("local:2", run="longer") as master:
        list(master.map(note, range(0, 20, 2), [str(log)] * 10, timeout=LIMIT))
    with Master("local:2", run="longer") as master:
        assert list(master.map(note, range(20), [str(log)] * 20, timeout=LIMIT)) == [x * x for x in range(20)]
        unsized = master.map(note, iter(range(25)), iter([str(log)] * 25), timeout=LIMIT)
        list(unsized)
    counted = Counter(lines(log))
    assert [counted[x] for x in range(20)] == [2] * 20  # the second equal call of each is another computation
    assert [counted[x] for x in range(20, 25)] == [1] * 5


def test_failed_tasks_are_tried_again_unless_told_otherwise(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Master("memory", run="failing") as master:
        assert isinstance(master.submit(fail_first, 1, str(log)).exception(LIMIT), ValueError)
    with Master("memory", run="failing", retry_failed=False) as master:
        error = master.submit(fail_first, 1, str(log)).exception(LIMIT)
        assert isinstance(error, ValueError)
        assert "the first time 1" in str(error)
    with Master("memory", run="failing") as master:
        assert master.submit(fail_first, 1, str(log)).result(LIMIT) == 1
    assert lines(log) == [1, 1]


def test_an_argument_that_tells_nothing_apart_needs_a_key(tmp_path: Path) -> None:
    class Odd:
        pass

    with Master("memory", run="keys") as master:
        with pytest.raises(UnshippableError, match=r"args\[0\]\['odd'\].*options\(key="):
            master.submit(type, {"odd": Odd()})
        assert master.options(key="mine").submit(type, Odd()).result(LIMIT) is Odd


@pytest.mark.parametrize("backend", ["memory", "threads", "local:1"])
def test_what_cannot_be_written_down_is_told_and_spares_the_others(backend: str) -> None:
    def locked(how: str) -> Any:
        if how == "raise":
            raise ValueError("locked", threading.Lock())
        return {"lock": threading.Lock()} if how == "return" else how

    with ThreadPoolExecutor(1) as threads, Master(threads if backend == "threads" else backend, run="locks") as master:
        with pytest.raises(UnshippableError, match=r"result\['lock'\]: thread locks cannot be sent"):
            master.submit(locked, "return").result(LIMIT)
        with pytest.raises(ValueError, match="locked"):
            master.submit(locked, "raise").result(LIMIT)
        first, *others = master.map(locked, ["return", "a", "b"], on_error="return", timeout=LIMIT)
        assert isinstance(first, UnshippableError)
        assert others == ["a", "b"]
    with open_run("locks") as view:
        assert view.counts() == {"asked": 0, "returned": 2, "failed": 3}


def test_one_writer_and_any_number_of_onlookers() -> None:
    with Master("memory", run="held") as master:
        with pytest.raises(RunBusy, match=f"process {os.getpid()}"):
            Master("memory", run="held")
        assert master.submit(abs, -3).result(LIMIT) == 3
        with open_run("held") as view:
            assert len(view) == 1
    with pytest.raises(RunNotFound, match="held"):
        open_run("another")


def test_another_process_sees_the_same_futures_in_order() -> None:
    with Master("local:2", run="seen") as master:
        expected = list(master.map(abs, range(-50, 0), timeout=LIMIT))
        master.submit(int, "x").exception(LIMIT)
    code = (
        "import pymw, asyncio\nview = pymw.open_run('seen')\nfutures = list(view)\n"
        "print([f.result() for f in futures[:-1]], repr(futures[-1].exception()), view.counts())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LIMIT).stdout
    assert out.startswith(f"{expected} ValueError(")
    assert "{'asked': 0, 'returned': 50, 'failed': 1}" in out


def test_async_for_over_a_run() -> None:
    with Master("memory", run="async") as master:
        list(master.map(abs, range(-5, 0), timeout=LIMIT))

    async def main() -> list[Any]:
        with open_run("async") as view:
            return [value async for value in view]

    assert asyncio.run(main()) == [5, 4, 3, 2, 1]


def test_a_million_tasks_open_at_once(tmp_path: Path) -> None:
    Master("memory", run="large").shutdown()
    path = tmp_path / "home" / "runs" / "large" / "journal.sqlite"
    with sqlite3.connect(path) as db:
        rows = ((f"{n:x}", "f", 0, 0.0) for n in range(1_000_000))
        db.executemany("INSERT INTO task (key, function, state, asked) VALUES (?, ?, ?, ?)", rows)
    db.close()
    tracemalloc.start()
    try:
        with open_run("large") as view:
            assert next(view.records()).key == "0"
            assert next(iter(view)).state is TaskState.QUEUED
            assert len(view) == 1_000_000
            assert view.functions() == {"f": 1_000_000}
        Master("memory", run="large").shutdown()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2_000_000, "rows, not objects"


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = tmp_path / "script.py"
    script.write_text(
        "import time\nfrom pathlib import Path\nfrom pymw import Master\n"
        f"def nap(x):\n    with Path({str(log)!r}).open('a') as f: f.write(f'{{x}}\\n')\n    time.sleep(x)\n    return x\n"
        "with Master('local:2', run='naps') as master: print(list(master.map(nap, [0, 30, 30])))\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    deadline = time.monotonic() + LIMIT
    while 30 not in lines(log) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT)
    assert "run 'naps' is not over; run the script again to go on with it" in err


def test_an_edited_function_is_computed_anew_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def run(source: str) -> list[int]:
        cell: dict[str, Any] = {"__name__": "__main__"}
        exec(source, cell)
        with Master("memory", run="edited") as master:
            return list(master.map(cell["function"], [1, 2], timeout=LIMIT))

    assert run("def helper(x): return x\ndef function(x): return helper(x)") == [1, 2]
    with caplog.at_level(logging.WARNING, "pymw"):
        assert run("def helper(x): return -x\ndef function(x): return helper(x)") == [-1, -2]
    assert "function is not what it was (__main__.helper): its 2 recorded results do not count" in caplog.text


def test_functions_of_one_name_were_not_edited(caplog: pytest.LogCaptureFixture) -> None:
    def times(factor: int) -> Any:
        return lambda_of(factor)

    for _ in range(2):  # the second time all is known
        with caplog.at_level(logging.WARNING, "pymw"), Master("memory", run="alike") as master:
            for factor in (2, 3):
                assert list(master.map(times(factor), [1, 2], timeout=LIMIT)) == [factor, 2 * factor]
                assert master.submit(functools.partial(pow, factor), 2).result(LIMIT) == factor**2
    assert "is not what it was" not in caplog.text


def lambda_of(factor: int) -> Any:
    def scaled(x: int) -> int:
        return x * factor

    return scaled


def test_an_edited_method_of_an_argument_is_computed_anew() -> None:
    def run(source: str) -> list[int]:
        cell: dict[str, Any] = {"__name__": "__main__"}
        exec(f"from dataclasses import dataclass\n@dataclass\nclass Square:\n    side: int\n{source}", cell)
        exec("def function(square): return square.area()", cell)
        with Master("memory", run="methods") as master:
            return list(master.map(cell["function"], [cell["Square"](2)], timeout=LIMIT))

    assert run("    def area(self): return self.side * self.side") == [4]
    assert run("    def area(self): return self.side * self.side * 100") == [400]


def test_a_key_that_tells_nothing_apart_is_named() -> None:
    with Master("memory", run="keys") as master, pytest.raises(UnshippableError, match=r"^key=: object"):
        master.options(key=object()).submit(abs, 1)


def test_a_function_without_a_module_has_an_identity() -> None:
    cell: dict[str, Any] = {}
    exec("def function(x): return x * 2", cell)
    with Master("memory", run="made") as master:
        assert list(master.map(cell["function"], [1, 2], timeout=LIMIT)) == [2, 4]


def test_an_onlooker_soon_sees_tasks_that_take_long() -> None:
    go = threading.Event()

    def wait_for(x: int) -> int:
        assert go.wait(LIMIT)
        return x

    with Master("memory", run="long", max_workers=1) as master:
        futures = [master.submit(wait_for, i) for i in range(4)]
        with open_run("long") as view:
            wait_until(lambda: len(view) == 4, timeout=LIMIT, what="all four to be on disk")
        go.set()
        assert [future.result(LIMIT) for future in futures] == list(range(4))


FULL = """
import os, resource, signal, sys
from pymw import Master, RunError
from pathlib import Path

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def large(x):
    return bytes(20000)

with Master(sys.argv[1], run="full") as master:
    done = master.submit(large, -1).result()
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, kept[1]))  # as if the disk were full
    for call in (lambda: list(master.map(large, range(200))), lambda: master.submit(large, 1).result()):
        try:
            call()
        except RunError as error:
            print(error)
"""


@pytest.mark.parametrize("backend", ["local:2", "memory"])
def test_what_cannot_be_recorded_is_told_and_nobody_waits(tmp_path: Path, backend: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(FULL)
    done = subprocess.run([sys.executable, str(script), backend], capture_output=True, text=True, timeout=LIMIT)
    told = f"run 'full': its journal {tmp_path / 'home/runs/full/journal.sqlite'} cannot be written: "
    assert done.stdout.count(told) == 2, done.stdout + done.stderr
    with open_run("full") as view:
        assert view.counts()["returned"] >= 1
    with Master("memory", run="full") as master:  # there is room again
        assert len(list(master.map(len, [b"x"] * 5, timeout=LIMIT))) == 5


def test_a_journal_that_cannot_be_read_is_told_and_spares_the_other_runs(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("bad", "good", "newer"):
        with Master("memory", run=name) as master:
            master.submit(abs, -1).result(LIMIT)
    with open_run("bad") as bad, open_run("newer") as newer:
        paths = [view.folder / "journal.sqlite" for view in (bad, newer)]
    for beside in paths[0].parent.glob("journal.sqlite-*"):
        beside.unlink()
    paths[0].write_text("this is no database, and never was one" * 100)
    with sqlite3.connect(paths[1]) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    for open_it in (lambda: Master("memory", run="bad"), lambda: next(open_run("bad").records())):
        with pytest.raises(RunError, match=r"run 'bad': its journal .* cannot be .*: file is not a database"):
            open_it()
    for open_it in (lambda: Master("memory", run="newer"), lambda: open_run("newer")):
        with pytest.raises(RunError, match="run 'newer' was written by a newer pymw"):
            open_it()
    assert main(["runs"]) == 1
    out, err = capsys.readouterr()
    assert out == "good: 1 of 1 tasks done\n"
    assert "run 'bad'" in err
    assert "run 'newer'" in err
    assert main(["forget", "bad"]) == 0
    assert main(["forget", "newer"]) == 0
    assert main(["runs"]) == 0


# The master is killed at random moments.

KILLED = """
import sys, time
from pathlib import Path
from pymw import Master

log = sys.argv[1]

gate = Path(log + ".gate")

def step(x):
    while Path(log).exists() and Path(log).read_text().count("\\n") >= int(gate.read_text()):
        time.sleep(0.005)  # no further before the kill, however late that comes
    time.sleep(0.005)
    with Path(log).open("a") as file:
        file.write(f"{x}\\n")
    return x * x

with Master("local:2", run="killed") as master:
    print(sum(master.map(step, range(200))), flush=True)
    futures = [master.submit(step, x) for x in range(200, 230)]
    print(sum(future.result() for future in futures), flush=True)
"""


def kill_at_random_moments(tmp_path: Path, kills: int) -> None:
    """After each kill, what the journal has must never be computed again."""
    script, log, gate = tmp_path / "script.py", tmp_path / "log", tmp_path / "log.gate"
    script.write_text(KILLED)
    random_moment = random.Random(kills)  # fixed, so that a failure can be seen again
    recorded: dict[int, int] = {}  # task -> how often it had been run when its result was on disk
    for _ in range(kills):
        # Sometimes before there is anything, mostly in the middle of it.
        enough = len(lines(log)) + random_moment.choice([0, *range(2, 220 // kills + 2)])
        gate.write_text(str(enough + 5))
        process = subprocess.Popen([sys.executable, str(script), str(log)], stdout=subprocess.PIPE)
        deadline = time.monotonic() + LIMIT
        while process.poll() is None and len(lines(log)) < enough and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(random_moment.uniform(0, 0.01))
        process.kill()
        process.communicate(timeout=LIMIT)  # its workers have this pipe too: they are gone as well
        try:
            view = open_run("killed")
        except RunNotFound:
            continue
        with view:
            try:
                done = [future.result() for future in view if future.done()]
            except RunError:  # killed before the tables were made
                continue
        counted = Counter(lines(log))
        for value in done:
            x = round(value**0.5)
            assert counted[x] >= 1
            recorded.setdefault(x, counted[x])
    gate.write_text("1000000")
    out = subprocess.run(
        [sys.executable, str(script), str(log)], capture_output=True, text=True, check=True, timeout=LIMIT
    ).stdout
    assert out.split() == [str(sum(x * x for x in range(200))), str(sum(x * x for x in range(200, 230)))]
    counted = Counter(lines(log))
    assert {x: counted[x] for x in recorded} == recorded, "a recorded task was run again"
    assert set(counted) == set(range(230))
    assert 0 < len(recorded) < 230, "the kills were not in the middle of it"


def test_a_master_killed_five_times_loses_nothing(tmp_path: Path) -> None:
    kill_at_random_moments(tmp_path, 5)


@pytest.mark.soak
def test_a_master_killed_fifty_times_loses_nothing(tmp_path: Path) -> None:
    kill_at_random_moments(tmp_path, 50)


def test_a_killed_run_goes_on_from_its_checkpoints(tmp_path: Path) -> None:
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(
        "import sys, time\nfrom pathlib import Path\nfrom pymw import Master, checkpoint\n"
        "def long():\n"
        "    for i in range(checkpoint.load(0), 100):\n"
        f"        with Path({str(log)!r}).open('a') as file: file.write(f'{{i}}\\n')\n"
        "        checkpoint.save(i + 1)\n"
        "        if i == 40 and sys.argv[1] == 'die': time.sleep(600)\n"
        "    return 'done'\n"
        "with Master('local:1', run='long') as master: print(master.submit(long).result())\n"
    )
    process = subprocess.Popen([sys.executable, str(script), "die"])
    deadline = time.monotonic() + LIMIT
    while 40 not in lines(log) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    out = subprocess.run([sys.executable, str(script), "live"], capture_output=True, text=True, check=True).stdout
    assert out == "done\n"
    assert lines(log) in ([*range(100)], [*range(41), 40, *range(41, 100)])


assert pymw
