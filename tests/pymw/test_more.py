"""map_reduce, shared objects, joblib, progress bars."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import doctest
import functools
import importlib.util
import io
import itertools
import operator
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl
from tests.pymw.test_losses import eventually
from tqdm import tqdm

import pymw
from pymw import Master, TaskOptions, UnshippableError, errors
from pymw.bar import Bar, BarOnTerminal, LinesInLog, bar_for
from pymw.testing import local_master, memory_master, pymw_home

__all__ = ["local_master", "memory_master", "pymw_home"]

LIMIT = 60.0


@pytest.fixture
def master() -> Iterator[Master]:
    with Master("local", max_workers=2) as master:
        yield master


def square(x: int) -> int:
    return x * x


def valley(x: np.ndarray) -> float:
    return float((1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)


def test_map_reduce_is_reduce_of_map(master: Master) -> None:
    assert master.map_reduce(square, operator.add, range(10_000)) == sum(x * x for x in range(10_000))


def test_map_reduce_keeps_the_order_and_streams(master: Master) -> None:
    letters = (chr(97 + i % 26) for i in range(2600))
    assert master.map_reduce(str.upper, operator.add, letters, block=7) == "ABCDEFGHIJKLMNOPQRSTUVWXYZ" * 100


def test_map_reduce_of_little_data(master: Master) -> None:
    assert master.map_reduce(square, operator.add, [3]) == 9
    assert master.map_reduce(square, operator.add, [3], initial=1) == 10
    assert master.map_reduce(square, operator.add, [], initial=0) == 0
    with pytest.raises(TypeError, match="initial="):
        master.map_reduce(square, operator.add, [])


def test_map_reduce_never_swallows_an_endless_input(master: Master) -> None:
    def up_to_a_thousand(x: int) -> int:
        if x == 1000:
            raise ValueError("a thousand is enough")
        return x

    with pytest.raises(ValueError, match="enough"):
        master.map_reduce(up_to_a_thousand, operator.add, itertools.count())


def test_map_reduce_reduces_at_the_workers(master: Master) -> None:
    def where(_: int) -> set[int]:
        return {os.getpid()}

    def both(left: set[int], right: set[int]) -> set[int]:
        return left | right | {os.getpid()}

    processes = master.map_reduce(where, both, range(5000), block=5)
    assert processes
    assert os.getpid() not in processes


def test_what_is_shared_is_read_once_by_each_worker(master: Master) -> None:
    table = master.share({"numbers": list(range(100_000))})

    def identity_of(shared: dict[str, list[int]], i: int) -> tuple[int, int, int]:
        return os.getpid(), id(shared), shared["numbers"][i]

    seen = [master.submit(identity_of, table, i).result(LIMIT) for i in range(20)]
    assert [value for _, _, value in seen] == list(range(20))
    assert len({(pid, where) for pid, where, _ in seen}) == len({pid for pid, _, _ in seen})


def test_a_shared_array_is_mapped_and_read_only(master: Master) -> None:
    array = np.arange(1_000_000.0)
    shared = master.share(array)
    assert repr(shared) == repr(master.share(array.copy()))  # by content

    def look(values: np.ndarray) -> tuple[float, bool, bool]:
        return float(values.sum()), values.flags.writeable, values.flags.owndata

    assert master.submit(look, shared).result(LIMIT) == (array.sum(), False, False)


def test_shared_files_are_gone_with_the_master() -> None:
    with Master("local", max_workers=1) as master:
        path = Path(master.share(np.zeros(10))._path)
        assert path.exists()
    assert not path.exists()


def test_an_input_that_is_changed_after_the_call_is_taken_as_it_was(master: Master) -> None:
    numbers = np.arange(20_000.0)
    results = master.map(float, numbers, timeout=LIMIT)
    numbers[:] = -1
    assert list(results) == list(range(20_000))


@pytest.mark.parametrize("count", [0, 3, 5000])
def test_what_an_input_gave_before_it_raised_is_computed(master: Master, count: int) -> None:
    def numbers() -> Iterator[int]:
        yield from range(count)
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match="the disk is gone"):
        found.extend(master.map(abs, numbers(), timeout=LIMIT))
    assert found == list(range(count))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"chunksize": 1.5}, "chunksize= is a whole number"),
        ({"chunksize": "a"}, "chunksize="),
        ({"timeout": "a"}, "timeout="),
    ],
)
def test_a_map_says_what_its_options_are(master: Master, option: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        master.map(abs, [1], **option)


def test_a_map_says_that_it_takes_no_dependencies(master: Master) -> None:
    with pytest.raises(UnshippableError, match=r"args\[0\].*map takes none"):
        list(master.map(abs, [master.submit(abs, -1)], timeout=LIMIT))


@pytest.mark.parametrize("backend", ["memory", "local"])
def test_who_waits_for_what_is_cancelled_is_told(backend: str, tmp_path: Path) -> None:
    """`wait` did not return, since it hears of a cancelled future only when that is told."""
    go = tmp_path / "go"

    def until_told() -> None:
        while not go.exists():
            time.sleep(0.01)

    with Master(backend, max_workers=1) as master, ThreadPoolExecutor(1) as threads:
        running = [master.submit(until_told) for _ in range(2)]
        queued = [master.submit(abs, n) for n in range(200)][-1]
        told = threads.submit(concurrent.futures.wait, [queued], LIMIT)
        assert eventually(lambda: bool(queued._waiters))  # type: ignore[attr-defined]
        assert queued.cancel()
        assert told.result(LIMIT).done == {queued}
        go.touch()
        for future in running:
            future.result(LIMIT)


def test_joblib_runs_on_a_master(master: Master) -> None:
    if importlib.util.find_spec("joblib") is None:
        pytest.skip("not installed: joblib")
    from joblib import Parallel, delayed, parallel_config

    from pymw.joblib import register

    register()
    with parallel_config("pymw", master=master):
        assert Parallel(n_jobs=2)(delayed(square)(i) for i in range(200)) == [i * i for i in range(200)]
        with pytest.raises(ValueError, match="invalid literal"):
            Parallel(n_jobs=2)(delayed(int)(text) for text in ["1", "x"])
        assert os.getpid() not in Parallel()(delayed(os.getpid)() for _ in range(8))
    with parallel_config("pymw"):
        assert Parallel(n_jobs=2)(delayed(square)(i) for i in range(20)) == [i * i for i in range(20)]


def test_scikit_learn_searches_on_a_master(master: Master) -> None:
    if importlib.util.find_spec("sklearn") is None:
        pytest.skip("not installed: scikit-learn")
    from joblib import parallel_config
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV

    from pymw.joblib import register

    register()
    x, y = load_iris(return_X_y=True)
    forest = RandomForestClassifier(n_estimators=5, random_state=1)
    alone = GridSearchCV(forest, {"max_depth": [1, 3]}, cv=3).fit(x, y)
    with parallel_config("pymw", master=master):
        here = GridSearchCV(forest, {"max_depth": [1, 3]}, cv=3, n_jobs=-1).fit(x, y)
        trees = RandomForestClassifier(n_estimators=8, random_state=2, n_jobs=2).fit(x, y)
    assert list(here.cv_results_["mean_test_score"]) == list(alone.cv_results_["mean_test_score"])
    assert here.best_params_ == alone.best_params_
    assert trees.score(x, y) > 0.9


def test_scipy_takes_a_masters_map(master: Master) -> None:
    if importlib.util.find_spec("scipy") is None:
        pytest.skip("not installed: scipy")
    from scipy.optimize import differential_evolution

    options = {"bounds": [(-2, 2)] * 2, "seed": 1, "maxiter": 3, "popsize": 4, "polish": False, "updating": "deferred"}
    alone = differential_evolution(valley, **options)
    assert list(differential_evolution(valley, workers=master.map, **options).x) == list(alone.x)


def test_the_public_fixtures(memory_master: Master, local_master: Master, pymw_home: Path) -> None:
    assert (memory_master.backend, memory_master.submit(abs, -3).result(LIMIT)) == ("memory", 3)
    assert (local_master.backend, local_master.submit(os.getpid).result(LIMIT) == os.getpid()) == ("local", False)
    with Master("memory", run="here") as master:
        master.submit(abs, -3).result(LIMIT)
    assert [path.name for path in (pymw_home / "runs").iterdir()] == ["here"]


def test_numerical_libraries_share_the_cores_with_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def threads() -> list[str | None]:
        names = ("OMP", "OPENBLAS", "MKL")
        return [os.environ.get(f"{name}_NUM_THREADS") for name in names]

    for name in ("OMP", "OPENBLAS", "MKL"):
        monkeypatch.delenv(f"{name}_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    with Master("local", max_workers=cores) as master:
        assert master.submit(threads).result(LIMIT) == ["1"] * 3
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    with Master("local", max_workers=1) as master:
        assert master.submit(threads).result(LIMIT) == [str(cores), str(cores), "7"]


def test_the_threads_of_a_real_numerical_library_share_the_cores() -> None:
    """OpenBLAS as NumPy brings it: as many threads in all workers together as there are cores."""

    def threads() -> list[int]:
        np.ones((200, 200)) @ np.ones((200, 200))
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    cores = len(os.sched_getaffinity(0))
    for workers in {1, cores}:
        with Master("local", max_workers=workers) as master:
            assert set(master.submit(threads).result(LIMIT)) == {cores // workers}


def test_outside_a_task_nothing_happens() -> None:
    pymw.progress(0.5)
    pymw.log("nobody hears")
    pymw.checkpoint.save([1])
    assert pymw.checkpoint.load() is None
    assert pymw.checkpoint.load("default") == "default"
    assert pymw.checkpoint.due() is False


@pytest.mark.parametrize("module", ["agree", "master", "scripting", "view", "worker"])
def test_the_examples_in_docstrings_run(module: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(f"pymw.{module}"))
    assert (failed, tried > 0) == (0, True)


def test_explain_says_where_a_task_is_at_every_stage(tmp_path: Path) -> None:
    def wait_for(file: str) -> str:
        while not Path(file).exists():
            time.sleep(0.01)
        return "done"

    go = str(tmp_path / "go")
    with Master("local", max_workers=1) as master:
        first, second, third = (master.submit(wait_for, go) for _ in range(3))
        assert eventually(lambda: first.state is pymw.TaskState.RUNNING and "runs on" in first.explain())
        assert re.fullmatch(r"wait_for runs on process \d+, for at most [\d.]+ s", first.explain())
        assert third.state is pymw.TaskState.QUEUED
        assert third.explain() == "wait_for waits among 2 tasks; 1 of 1 workers are busy"
        assert third.cancel()
        assert third.explain() == "wait_for was cancelled"
        Path(go).touch()
        assert second.result(LIMIT) == "done"
        assert re.fullmatch(r"wait_for returned in [\d.e-]+ s on process \d+", second.explain())
        failed = master.options(attempts=1, name="the killer").submit(os._exit, 4)
        failed.exception(LIMIT)
        assert failed.explain().startswith("the killer failed: WorkerLost: ")
        assert "exited with code 4" in failed.explain()


def test_a_local_future_tells_its_times(master: Master) -> None:
    before = time.time()
    future = master.submit(sum, range(10**6))
    future.result(LIMIT)
    assert future.started is not None
    assert future.seconds is not None
    assert future.cpu_seconds is not None
    assert before - 1 < future.submitted <= future.started + 1 <= time.time() + 2
    assert 0 < future.seconds < LIMIT
    assert 0 <= future.cpu_seconds < LIMIT
    assert f"on process {future.worker.split()[1]}" in repr(future)
    assert f"{future.seconds:.3g} s" in future.explain()


def test_lines_in_a_log() -> None:
    file = io.StringIO()
    bar = LinesInLog("work", file, every=0.0)
    bar.show(1, 4)
    bar.show(2, 4, 0.5)
    bar.show(4, 4)
    bar.close()
    assert [re.sub(r"\d+ s$", "0 s", line) for line in file.getvalue().splitlines()] == [
        "work: 1 of 4 done (25%), 0 s",
        "work: 2 of 4 done (62%), 0 s",
        "work: 4 of 4 done (100%), 0 s",
    ]


def test_a_bar_only_when_it_is_wanted(capsys: pytest.CaptureFixture[str], master: Master) -> None:
    assert bar_for(False, "x") is None
    assert list(master.map(square, range(3), timeout=LIMIT)) == [0, 1, 4]
    assert capsys.readouterr().err == ""
    assert list(master.map(square, range(3), progress=True, timeout=LIMIT)) == [0, 1, 4]
    assert "square: 3 of 3 done (100%)" in capsys.readouterr().err


def test_a_bar_of_ones_own_and_one_that_fails(master: Master, caplog: pytest.LogCaptureFixture) -> None:
    class Counting(Bar):
        def __init__(self) -> None:
            self.shown: list[tuple[int, int | None]] = []
            self.closed = False

        def show(self, home: int, total: int | None, fraction: float = 0.0) -> None:
            self.shown.append((home, total))

        def close(self) -> None:
            self.closed = True

    bar = Counting()
    assert list(master.map(square, range(3), progress=bar, timeout=LIMIT)) == [0, 1, 4]
    assert bar.shown[-1] == (3, 3)
    assert bar.closed

    class Failing(Bar):
        def show(self, home: int, total: int | None, fraction: float = 0.0) -> None:
            raise ZeroDivisionError

    assert list(master.map(square, range(3), progress=Failing(), timeout=LIMIT)) == [0, 1, 4]
    assert "the progress bar is given up" in caplog.text


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    bar = bar_for(True, "work")
    assert isinstance(bar, BarOnTerminal)
    bar.show(3, 3)
    bar.close()
    assert "3/3" in terminal.getvalue()


def test_tqdm_and_bars_of_it(master: Master) -> None:
    file = io.StringIO()
    mine = functools.partial(tqdm, file=file, mininterval=0.0)
    assert list(master.map(square, range(3), progress=mine, timeout=LIMIT)) == [0, 1, 4]
    assert "square: 100%" in file.getvalue()
    assert "3/3" in file.getvalue()
    assert file.getvalue().endswith("\n")  # closed
    with tqdm(desc="both", file=file) as bar:  # the caller's own: it goes on
        list(master.map(square, range(3), progress=bar, timeout=LIMIT))
        assert (bar.n, bar.total) == (3, 3)
        assert not bar.disable
        for _ in master.map(square, iter(range(4)), progress=bar, timeout=LIMIT):
            pass
        assert (bar.n, bar.total) == (7, 7)
    assert bar_for(tqdm(file=file, disable=True), "x") is not None  # though it is false, as an empty tqdm is
    for wrong in ("tqdm", 1, {}):
        with pytest.raises(TypeError, match="progress="):
            master.map(square, range(3), progress=wrong)


def test_names_are_sorted_and_all_there() -> None:
    assert pymw.__all__ == sorted(pymw.__all__, key=lambda name: (name[0].islower(), name))
    assert all(hasattr(pymw, name) for name in pymw.__all__)


def test_every_error_is_documented_with_an_example() -> None:
    page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
    names = [name for name in errors.__all__ if name != "RemoteTraceback"]
    tree = (errors.__doc__ or "").split("\n\n")[1]
    assert [line.strip().split("(")[0].rstrip() for line in tree.splitlines()] == [
        line.split("(")[0].rstrip() for line in page.split("```")[1].strip().splitlines()
    ]
    for name in names:
        assert name in tree
        assert name in ("PyMWError", "TaskError", "RunError", "NotInsideTask") or f"expect(pymw.{name}," in page, name


def test_every_option_is_in_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
    table = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    for field in dataclasses.fields(TaskOptions):
        assert f"`{field.name}`" in table, field.name
