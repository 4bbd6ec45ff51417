"""Workers that die, run too long, or leave things behind: the local backend."""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import pymw
from pymw import Master, TimeLimitExceeded, UnshippableError, WorkerLost
from pymw.backends.local.pool import LOOK_EVERY

LIMIT = 60.0


@pytest.fixture
def master() -> Iterator[Master]:
    with Master("local", max_workers=2) as master:
        yield master


def identity(x: int) -> int:
    return x


def die_once(x: int, victim: int, flag: str) -> int:
    if x == victim:
        try:
            Path(flag).touch(exist_ok=False)
        except FileExistsError:
            return x
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def die_always(x: int, victim: int) -> int:
    if x == victim:
        os._exit(7)
    return x


def count_runs(x: int, folder: str) -> int:
    """Leave a mark for every time that x was run; 500 takes the worker along the first time."""
    with Path(folder, str(x)).open("a") as file:
        file.write("x")
    if x == 500 and Path(folder, str(x)).read_text() == "x":
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def sleep_with_child(flag: str) -> None:
    child = subprocess.Popen(["sleep", "600"])
    Path(flag).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)


def add_up(flag: str, steps: int) -> tuple[int, int]:
    """Sum with a checkpoint at each step; dies half-way, once. Returns the sum and the steps of this attempt."""
    done, total = pymw.checkpoint.load((0, 0))
    mine = 0
    for i in range(done, steps):
        total += i
        mine += 1
        pymw.checkpoint.save((i + 1, total))
        if i == steps // 2 and not Path(flag).exists():
            Path(flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return total, mine


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def eventually(condition: object, limit: float = LIMIT) -> bool:
    deadline = time.monotonic() + limit
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.02)
    return True


def test_one_killer_among_a_thousand_costs_nobody_else(master: Master, tmp_path: Path) -> None:
    flag = str(tmp_path / "died")
    results = list(master.map(die_once, range(1000), [617] * 1000, [flag] * 1000, timeout=LIMIT))
    assert results == list(range(1000))
    assert Path(flag).exists()


def test_what_was_home_is_not_run_again_and_the_others_at_most_twice(master: Master, tmp_path: Path) -> None:
    assert list(master.map(count_runs, range(1000), [str(tmp_path)] * 1000, timeout=LIMIT)) == list(range(1000))
    runs = {x: len((tmp_path / str(x)).read_text()) for x in range(1000)}
    assert runs[500] == 2
    assert set(runs.values()) <= {1, 2}


def test_attempts_end_and_worker_lost_tells_each(master: Master) -> None:
    kept = list(master.map(die_always, range(20), [13] * 20, on_error="return", timeout=LIMIT))
    lost = kept.pop(13)
    assert kept == [x for x in range(20) if x != 13]
    assert isinstance(lost, WorkerLost)
    assert [attempt.ending for attempt in lost.attempts] == ["exited with code 7"] * 3


class DiesWhenSent:
    """Takes the worker along when its result is written: the first time, or always where there is no flag."""

    def __init__(self, flag: str) -> None:
        self.flag = flag

    def __reduce__(self) -> Any:
        if not self.flag or not Path(self.flag).exists():
            if self.flag:
                Path(self.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return int, (7,)


def send_back(x: int, victim: int, flag: str) -> Any:
    return DiesWhenSent(flag) if x == victim else x


def how(attempt: Any) -> str:
    """How it ended, without what the system says of its memory: another test may use that up."""
    ending: str = attempt.ending
    return ending.partition(";")[0]


def test_a_worker_that_dies_of_sending_results_loses_none_and_charges_who_stands_alone(
    master: Master, tmp_path: Path
) -> None:
    flag, items = str(tmp_path / "died"), range(40)
    results = list(master.map(send_back, items, [23] * 40, [flag] * 40, chunksize=40, timeout=LIMIT))
    assert results == [7 if x == 23 else x for x in items]
    kept = list(master.map(send_back, items, [23] * 40, [""] * 40, chunksize=40, on_error="return", timeout=LIMIT))
    lost = kept.pop(23)
    assert kept == [x for x in items if x != 23]
    assert isinstance(lost, WorkerLost)
    assert [how(attempt) for attempt in lost.attempts] == ["killed by SIGKILL"] * 3


def test_at_most_once_means_one_attempt(master: Master) -> None:
    error = master.options(attempts=1).submit(die_always, 1, 1).exception(LIMIT)
    assert isinstance(error, WorkerLost)
    assert len(error.attempts) == 1


def test_the_future_tells_of_its_lost_attempts(master: Master, tmp_path: Path) -> None:
    future = master.submit(die_once, 1, 1, str(tmp_path / "died"))
    assert future.result(LIMIT) == 1
    assert [how(attempt) for attempt in future.attempts] == ["killed by SIGKILL"]


def test_a_time_limit_ends_the_task_and_its_children(master: Master, tmp_path: Path) -> None:
    flag = tmp_path / "pids"
    for limit in (1.0, 5.0, 30.0):
        with pytest.raises(TimeLimitExceeded, match=f"time_limit={limit:g}"):
            master.options(time_limit=limit).submit(sleep_with_child, str(flag)).result(LIMIT)
        if flag.exists() and flag.read_text():
            break  # so long it took on this machine until there was a child
    for pid in map(int, flag.read_text().split()):
        assert eventually(lambda pid=pid: gone(pid))
    assert master.submit(identity, 5).result(LIMIT) == 5


def test_a_time_limit_spares_the_others_in_a_map(master: Master) -> None:
    naps = [0, 0, 600, 0, 0, 0]
    kept = list(master.options(time_limit=5).map(time.sleep, naps, on_error="return", timeout=LIMIT))
    assert isinstance(kept.pop(2), TimeLimitExceeded)
    assert kept == [None] * 5


def test_a_retry_goes_on_from_the_last_checkpoint(master: Master, tmp_path: Path) -> None:
    total, mine = master.submit(add_up, str(tmp_path / "died"), 100).result(LIMIT)
    assert total == sum(range(100))
    assert mine == 49


def test_what_cannot_be_sent_is_refused_with_the_path_to_it(master: Master) -> None:
    class Model:
        def __init__(self) -> None:
            self.lock = threading.Lock()

    with pytest.raises(UnshippableError, match=r"args\[0\]\['model'\]\.lock: thread locks cannot be sent"):
        master.submit(identity, {"model": Model()})
    lock = threading.Lock()
    with pytest.raises(UnshippableError, match=r"<lambda>\.lock: thread locks cannot be sent"):
        master.submit(lambda: lock)
    with pytest.raises(UnshippableError, match=r"kwargs\['key'\]: generators cannot be sent"):
        master.submit(sorted, [], key=(n for n in []))
    future = master.submit(identity, 1)
    with pytest.raises(
        UnshippableError, match=r"args\[0\]\['a'\]: futures \(they are dependencies .*\) cannot be sent"
    ):
        master.submit(len, {"a": future})
    with pytest.raises(UnshippableError, match=r"args\[0\]\[2\]\[1\]: a Master cannot be sent"):
        master.submit(identity, [1, 2, (3, master)])

    @dataclass(slots=True)
    class Pipeline:
        engine: Master

        def step(self, x: int) -> int:
            return x

    with pytest.raises(UnshippableError, match=r"step\.self\.engine: a Master cannot be sent"):
        master.submit(Pipeline(master).step, 1)
    with pytest.raises(UnshippableError, match=r"partial\.args\[0\]\.engine: a Master cannot be sent"):
        master.submit(functools.partial(identity, Pipeline(master)))

    class Guarded:
        def again(self) -> Any:
            return Guarded

        guard = threading.Lock()

    with pytest.raises(UnshippableError, match=r"<lambda>\.Guarded\.guard: thread locks cannot be sent"):
        master.submit(lambda: Guarded)
    kept = list(master.map(type, [1, threading.Lock(), 2], on_error="return", timeout=LIMIT))
    assert kept[0] is int
    assert isinstance(kept[1], UnshippableError)
    assert kept[2] is int


def test_a_result_that_cannot_come_back_is_told_with_its_path(master: Master) -> None:
    with pytest.raises(UnshippableError, match=r"result\['lock'\]: thread locks cannot be sent"):
        master.submit(lambda: {"lock": threading.Lock()}).result(LIMIT)
    assert master.submit(identity, 1).result(LIMIT) == 1


def die_with_a_child_left(flag: str) -> None:
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    Path(flag).write_text(str(child))
    os._exit(5)


def test_a_worker_whose_child_holds_its_connection_is_missed_all_the_same(master: Master, tmp_path: Path) -> None:
    flag = tmp_path / "child"
    error = master.options(attempts=1).submit(die_with_a_child_left, str(flag)).exception(LIMIT)
    assert isinstance(error, WorkerLost)
    assert eventually(lambda: gone(int(flag.read_text())))


def fork_and_return(x: int, fails: bool = False) -> tuple[int, int]:
    """The child comes back from here too. How it ended, and x."""
    if child := os.fork():
        return os.waitpid(child, 0)[1], x
    if fails:
        raise ValueError(x)
    return -1, x


@pytest.mark.parametrize("fails", [False, True])
def test_a_forked_child_that_returns_ends_and_spoils_nothing(fails: bool) -> None:
    with Master("local", max_workers=1, initializer=fork_and_return, initargs=(0, fails)) as master:
        assert master.submit(fork_and_return, 1, fails).result(LIMIT) == (0, 1)
        for chunksize in (1, 20):
            results = master.map(fork_and_return, range(20), [fails] * 20, chunksize=chunksize, timeout=LIMIT)
            assert list(results) == [(0, x) for x in range(20)]
        assert len({master.submit(os.getpid).result(LIMIT) for _ in range(3)}) == 1


@pytest.fixture
def idle() -> Iterator[Master]:
    """Its worker is ready, and has had nothing to do for longer than the master looks after anyone."""
    with Master("local", max_workers=1) as master:
        master.submit(identity, 1).result(LIMIT)
        time.sleep(2 * LOOK_EVERY)
        yield master


def test_a_time_limit_holds_after_a_time_of_rest(idle: Master) -> None:
    with pytest.raises(TimeLimitExceeded):
        idle.options(time_limit=0.5).submit(time.sleep, 600).result(LIMIT)


def test_a_lost_worker_is_missed_after_a_time_of_rest(idle: Master, tmp_path: Path) -> None:
    flag = tmp_path / "child"
    error = idle.options(attempts=1).submit(die_with_a_child_left, str(flag)).exception(LIMIT)
    assert isinstance(error, WorkerLost)
    assert eventually(lambda: gone(int(flag.read_text())))


def test_a_volunteers_rules_can_be_rehearsed() -> None:
    class Odd:
        pass

    with Master("local", max_workers=1, values="safe") as master:
        assert master.submit(lambda: {"a": (1, 2.5)}).result(LIMIT) == {"a": (1, 2.5)}
        assert list(master.map(identity, range(5), timeout=LIMIT)) == list(range(5))
        with pytest.raises(UnshippableError, match=r"args\[0\]\['odd'\]"):
            master.submit(identity, {"odd": Odd()})
        with pytest.raises(UnshippableError, match=r"result\[1\]"):
            master.submit(lambda: [1, Odd()]).result(LIMIT)


def test_output_is_kept(master: Master) -> None:
    def speak() -> None:
        print("to out")
        print("to err", file=sys.stderr)

    future = master.submit(speak)
    future.result(LIMIT)
    assert (future.stdout, future.stderr) == ("to out\n", "to err\n")


def test_progress_is_seen_while_the_task_runs(master: Master, tmp_path: Path) -> None:
    def wait_for(flag: str) -> str:
        pymw.progress(0.25)
        while not Path(flag).exists():
            time.sleep(0.01)
        return "done"

    future = master.submit(wait_for, str(tmp_path / "go"))
    assert eventually(lambda: future.progress == 0.25)
    assert future.state is pymw.TaskState.RUNNING
    assert "runs on process" in future.explain()
    (tmp_path / "go").touch()
    assert future.result(LIMIT) == "done"


def test_workers_that_cannot_start_break_the_backend_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymw.backends.local.process._CODE", "raise SystemExit(9)")
    with pytest.raises(pymw.BrokenBackend, match="exited with code 9"):
        with Master("local", max_workers=1) as master:
            master.submit(identity, 1).result(LIMIT)


def test_work_moves_from_a_busy_worker_to_an_idle_one(master: Master) -> None:
    """A chunk is cut by what was measured; when its first item takes long, what waits behind it is taken back."""
    list(master.map(time.sleep, [0.0] * 2000))  # measured: next to nothing
    began = time.monotonic()
    naps = [0.0] * 400 + [8.0, 8.0]
    list(master.map(time.sleep, naps, timeout=LIMIT))
    assert time.monotonic() - began < 15  # one after the other they take 16


def leave_a_line(x: int, folder: str, nap: float) -> int:
    with Path(folder, str(os.getpid())).open("a") as file:
        file.write(f"{x}\n")
    if nap:
        time.sleep(nap)
    return x


def move_work_about(tmp_path: Path, times: int) -> None:
    """Uneven items on more workers than cores: what one worker has not begun moves to another all the time."""
    chance = random.Random(times)
    for i in range(times):
        folder = tmp_path / str(i)
        folder.mkdir()
        naps = [chance.choice([0, 0, 0, 0, 0, 0.0005, 0.002]) for _ in range(1500)]
        for _ in range(5):
            naps[chance.randrange(len(naps))] = 0.05
        with Master("local", max_workers=4) as master:
            items = range(len(naps))
            results = list(master.map(leave_a_line, items, [str(folder)] * len(naps), naps, timeout=LIMIT))
        assert results == list(items)
        lines = [line for file in folder.iterdir() for line in file.read_text().split()]
        assert sorted(map(int, lines)) == list(items), "an item was run twice"


def test_moved_work_is_not_run_twice(tmp_path: Path) -> None:
    move_work_about(tmp_path, 5)


@pytest.mark.soak
def test_moved_work_is_not_run_twice_in_the_long_run(tmp_path: Path) -> None:
    move_work_about(tmp_path, 100)


SCRIPT = """
import os, sys, time
from multiprocessing import get_context
from pathlib import Path
from pymw import Master

print("top level", flush=True)

def nap(x):
    with open({log!r}, "a") as file:
        file.write(f"{{os.getpid()}} ")
    time.sleep(x)
    return x

class Mine:
    def __init__(self, x):
        self.x = x

{body}
"""


def run_script(tmp_path: Path, body: str) -> subprocess.Popen[str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(log=str(tmp_path / "pids"), body=body))
    return subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def worker_pids(tmp_path: Path) -> set[int]:
    try:
        return set(map(int, (tmp_path / "pids").read_text().split()))
    except FileNotFoundError:
        return set()


def test_a_script_without_main_guard_runs_its_top_level_once(tmp_path: Path) -> None:
    body = """
master = Master("local", max_workers=2)
print(sum(master.map(nap, [0.0] * 10)), master.submit(lambda m: Mine(m.x + 1), Mine(1)).result().x)
assert isinstance(master.submit(Mine, 2).result(), Mine)
"""
    out, err = run_script(tmp_path, body).communicate(timeout=LIMIT)
    assert (out, err) == ("top level\n0.0 2\n", "")
    assert eventually(lambda: all(map(gone, worker_pids(tmp_path))))


def test_a_scripts_functions_and_classes_may_be_wrapped_by_functools(tmp_path: Path) -> None:
    body = """
import functools

@functools.lru_cache(maxsize=100)
def fib(n):
    "Recursive."
    return n if n < 2 else fib(n - 1) + fib(n - 2)

class Square:
    def __init__(self, side):
        self.side = side

    @functools.cached_property
    def area(self):
        return self.side ** 2

    @functools.cache
    def scaled(self, factor):
        return Square(self.side * factor)

    @functools.singledispatchmethod
    def times(self, factor):
        return "what?"

    @times.register
    def _(self, factor: int):
        return self.scaled(factor).area

@functools.singledispatch
def size(x):
    return "any"

@size.register(list)
def _(x):
    return [size(one) for one in x]

@size.register
def _(x: Square):
    return x.area

with Master("local", max_workers=1) as master:
    print(*master.map(fib, range(10)), master.submit(lambda: (fib(20), fib.cache_parameters(), fib.__doc__)).result())
    print(master.submit(fib, 30).result(), master.submit(fib.__wrapped__, 3).result())
    misses = [master.submit(lambda: (fib(25), fib.cache_info().misses)[1]).result() for _ in range(2)]
    print(misses, master.submit(Square(2).times, 3).result(), [one.area for one in master.map(Square, [3, 4])])
    print(*master.map(size, [1, [Square(5), ["a"]]]), master.submit(size.dispatch(list), []).result())
"""
    out, err = run_script(tmp_path, body).communicate(timeout=LIMIT)
    assert out.splitlines() == [
        "top level",
        "0 1 1 2 3 5 8 13 21 34 (6765, {'maxsize': 100, 'typed': False}, 'Recursive.')",
        "832040 2",
        "[26, 26] 36 [9, 16]",
        "any [25, ['any']] []",
    ], err


def test_what_an_initializer_sets_is_there_for_the_tasks(tmp_path: Path) -> None:
    body = """
import functools

LEVEL, TABLE, ROUND = None, {}, 1

class Settings:
    def load(self, level):
        global LEVEL, model
        LEVEL, model = level, Mine(level)
        TABLE["level"] = level + ROUND

def helper():
    return LEVEL, TABLE

def look(x):
    return helper(), model.x, ROUND, x

def count():
    global model
    model = Mine(model.x + 1)
    return model.x

class Looks:
    def look(self):
        return look("method")

for start, given in [(Settings().load, (5,)), (functools.partial(Settings().load, level=6), ())]:
    with Master("local", max_workers=1, initializer=start, initargs=given) as master:
        print(*master.map(look, "a"), master.submit(Looks().look).result(), master.submit(lambda: TABLE).result())
        ROUND += 1
        print(master.submit(look, "b").result(), master.submit(count).result(), LEVEL, TABLE)
"""
    out, err = run_script(tmp_path, body).communicate(timeout=LIMIT)
    first, second = "((5, {'level': 6}), 5, ", "((6, {'level': 8}), 6, "
    assert out.splitlines() == [
        "top level",
        f"{first}1, 'a') {first}1, 'method') {{'level': 6}}",
        f"{first}2, 'b') 6 None {{}}",
        f"{second}2, 'a') {second}2, 'method') {{'level': 8}}",
        f"{second}3, 'b') 7 None {{}}",
    ], err


def test_a_cached_function_stays_with_a_worker(master: Master) -> None:
    cached = functools.lru_cache(lambda x: (os.getpid(), random.random()))
    drawn = [master.submit(cached, 1).result(LIMIT) for _ in range(10)]
    assert len(set(drawn)) == len({pid for pid, _ in drawn})


def test_a_script_sees_which_of_its_lines_raised(tmp_path: Path) -> None:
    body = """
with Master("local", max_workers=1) as master:
    print(master.submit(lambda: [][7]).exception().__cause__)
"""
    out, err = run_script(tmp_path, body).communicate(timeout=LIMIT)
    assert f'File "{tmp_path / "script.py"}", line ' in out, out + err
    assert "[][7]" in out


def test_the_interpreter_waits_for_what_was_submitted(tmp_path: Path) -> None:
    body = 'Master("local", max_workers=1).submit(lambda: (time.sleep(0.3), print("apple", flush=True)))'
    out, err = run_script(tmp_path, body).communicate(timeout=LIMIT)
    assert (out, err) == ("top level\napple\n", "")


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("with Master('local', max_workers=2) as master:", "unfinished tasks are cancelled"),
        ("if master := Master('local:2'):", "unfinished tasks are cancelled"),
        (
            "with Master('local:2', run='a run') as master:",
            "run the script again to go on with it; `pymw show 'a run'`",
        ),
        ("if master := Master('local:2', run='other'):", "run 'other' is not over; run the script again"),
    ],
)
def test_ctrl_c_returns_within_a_second_tells_how_to_go_on_and_leaves_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, told: str
) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))
    process = run_script(tmp_path, f"{how}\n    print(list(master.map(nap, [600.0] * 4)))")
    assert eventually(lambda: len(worker_pids(tmp_path)) == 2)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    _, err = process.communicate(timeout=LIMIT)
    took = time.monotonic() - began
    assert "KeyboardInterrupt" in err
    assert err.count("KeyboardInterrupt") == 1, err
    assert err.count(told) == 1, err
    assert took < 30  # a second on a quiet machine; this one may be loaded
    assert eventually(lambda: all(map(gone, worker_pids(tmp_path))))


def test_an_interrupted_cell_leaves_the_master_usable(tmp_path: Path) -> None:
    body = """
with Master("local", max_workers=2) as master:
    try:
        list(master.map(nap, [600.0] * 4))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print(list(master.map(abs, [-1, -2])))
"""
    process = run_script(tmp_path, body)
    assert eventually(lambda: len(worker_pids(tmp_path)) == 2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT)
    assert out == "top level\ninterrupted\n[1, 2]\n"
    assert err == 'pymw: unfinished tasks are cancelled; those of Master(..., run="a name") can go on\n'
    assert eventually(lambda: all(map(gone, worker_pids(tmp_path))))


def test_a_killed_master_leaves_no_orphans(tmp_path: Path) -> None:
    process = run_script(tmp_path, "with Master('local', max_workers=2) as master: list(master.map(nap, [600.0] * 2))")
    assert eventually(lambda: len(worker_pids(tmp_path)) == 2)
    process.kill()
    process.communicate(timeout=LIMIT)
    assert eventually(lambda: all(map(gone, worker_pids(tmp_path))))


def test_a_fork_of_the_master_leaves_its_workers_alone(master: Master) -> None:
    assert master.submit(identity, 1).result(LIMIT) == 1
    child = os.fork()
    if child == 0:
        try:
            master._backend.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert master.submit(identity, 2).result(LIMIT) == 2


def test_leaving_by_an_exception_does_not_wait_and_cancels(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        with Master("local", max_workers=1) as master:
            futures = [master.submit(time.sleep, 60) for _ in range(3)]
            1 / 0  # noqa: B018
    assert time.monotonic() - began < 30
    assert all(future.done() for future in futures)


def test_a_worker_ends_after_so_many_tasks_as_it_may_run() -> None:
    with Master("local", max_workers=2, max_tasks_per_child=3) as master:
        pids = Counter(master.map(lambda _: os.getpid(), range(20), timeout=LIMIT))
        pids += Counter(master.submit(os.getpid).result(LIMIT) for _ in range(4))
    assert max(pids.values()) <= 3, pids
    assert sum(pids.values()) == 24


def test_other_ways_to_start_workers_are_refused_by_name() -> None:
    assert Master("local", mp_context=get_context("spawn")).shutdown() is None
    with pytest.raises(pymw.UnsupportedOption, match="mp_context="):
        Master("local", mp_context=get_context("fork"))
    wrong = {"initializer": print, "max_tasks_per_child": 3, "mp_context": get_context("spawn"), "values": "safe"}
    for name, value in wrong.items():
        with pytest.raises(pymw.UnsupportedOption, match=f"{name}="):
            Master("memory", **{name: value})


@pytest.mark.parametrize("address", ["0", "00", "-1", "many"])
def test_what_is_no_number_of_workers_is_refused(address: str) -> None:
    with pytest.raises(pymw.BackendError, match=f"local:{address}: .* a number of workers, at least 1"):
        Master(f"local:{address}")


def test_checkpoints_are_due_now_and_then_and_never_outside_a_task(master: Master) -> None:
    def due_saved_due() -> tuple[bool, bool, bool]:
        from pymw import kept

        early = pymw.checkpoint.due()
        kept.DUE_EVERY = 0.0
        now = pymw.checkpoint.due()
        kept.DUE_EVERY = 3600.0
        pymw.checkpoint.save(1)
        return early, now, pymw.checkpoint.due()

    assert pymw.checkpoint.due() is False
    assert master.submit(due_saved_due).result(LIMIT) == (False, True, False)


def test_many_threads_may_use_one_master(master: Master) -> None:
    def use(first: int) -> bool:
        numbers = range(first, first + 300)
        futures = [master.submit(identity, n) for n in numbers]
        mapped = list(master.map(identity, numbers, timeout=LIMIT))
        return mapped == list(numbers) == [future.result(LIMIT) for future in futures]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(use, range(0, 8000, 1000)))
