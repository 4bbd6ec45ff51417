"""The conformance suite, on the backends that run here."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from importlib.metadata import EntryPoint
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from tests import errands
from tests.pymw.conformance import Suite

from pymw import BrokenBackend, Master, UnknownBackend, UnshippableError, WorkerLost, checkpoint
from pymw.backends.at_worker import Beside, in_process
from pymw.shipping import pack

LIMIT = 60.0


class TestLocal(Suite):
    @pytest.fixture(scope="class")
    @classmethod
    def master(cls) -> Iterator[Master]:
        with Master("local", max_workers=2) as master:
            yield master


class TestMemory(Suite):
    @pytest.fixture(scope="class")
    @classmethod
    def master(cls) -> Iterator[Master]:
        with Master("memory", max_workers=2) as master:
            yield master


class TestThreads(Suite):
    @pytest.fixture(scope="class")
    @classmethod
    def master(cls) -> Iterator[Master]:
        with ThreadPoolExecutor(2) as executor, Master(executor) as master:
            yield master


class TestProcesses(Suite):
    @pytest.fixture(scope="class")
    @classmethod
    def master(cls) -> Iterator[Master]:
        with ProcessPoolExecutor(2, get_context("spawn")) as executor, Master(executor) as master:
            yield master


def test_an_executor_that_breaks_says_so_and_nobody_waits() -> None:
    """A pool of the standard library ends with its first lost worker: every task that is not home is told."""
    with ProcessPoolExecutor(2, get_context("spawn")) as executor, Master(executor) as master:
        futures = [master.submit(time.sleep, 0.0), master.submit(os._exit, 3)]
        with pytest.raises(BrokenBackend):
            list(master.map(time.sleep, [0.2] * 50, timeout=LIMIT))
        assert isinstance(futures[1].exception(LIMIT), BrokenBackend)
        with pytest.raises(BrokenBackend):
            master.submit(abs, -1).result(LIMIT)


def test_what_an_executors_worker_cannot_read_is_told_and_spares_the_others() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as executor, Master(executor) as master:
        kept = list(master.map(type, [1, Unreadable(), 2], on_error="return", timeout=LIMIT))
        assert (kept[0], kept[2]) == (int, int)
        assert isinstance(kept[1], UnshippableError)
        assert "cannot be read by process" in str(kept[1])


class Unreadable:
    def __reduce__(self) -> Any:
        return int, ("no number",)


class AtOnce(Executor):
    """Ends each task before its submit returns, as an executor may whose worker is quick."""

    begun = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.begun += 1
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.mark.timeout(120)
def test_an_executor_may_end_a_task_before_its_submit_returns() -> None:
    executor = AtOnce()
    with Master(executor, max_workers=1) as master:
        assert list(master.map(abs, range(-2000, 0), chunksize=1)) == list(range(2000, 0, -1))
        stubborn = master.options(retries=500).submit(int, "no number")
        assert isinstance(stubborn.exception(60), ValueError)
        assert executor.begun == 2000 + 501


class TestDask(Suite):
    """A real scheduler and real workers, started as their own commands."""

    @pytest.fixture(scope="class")
    @classmethod
    def master(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
        if importlib.util.find_spec("distributed") is None:
            pytest.skip("not installed: distributed (the extra dask)")
        folder = tmp_path_factory.mktemp("dask")
        with dask_cluster(folder) as address, Master(f"dask:{address}") as master:
            yield master


def die_once(x: int, killer: int, flag: str) -> int:
    if x == killer and not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def test_a_killer_on_dask_costs_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("not installed: distributed (the extra dask)")
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")  # Dask itself tries nothing again
    with dask_cluster(tmp_path) as address, Master(f"dask:{address}") as master:
        flag = str(tmp_path / "died")
        assert list(master.map(die_once, range(60), [37] * 60, [flag] * 60, timeout=120)) == list(range(60))
        assert Path(flag).exists()


@pytest.mark.parametrize("tries_of_dask", [0, 3])
def test_a_task_that_dask_lost_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries_of_dask: int
) -> None:
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("not installed: distributed (the extra dask)")
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", str(tries_of_dask))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with dask_cluster(tmp_path) as address, Master(f"dask:{address}") as master:
        future = master.submit(errands.once_more, "")
        assert future.result(120) == 5
        assert len(future.attempts) == (1 if tries_of_dask == 0 else 0)
    assert not list(tmp_path.glob("pymw-*"))


RESUMED = """
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pymw import Master
from tests import errands

def executor():
    return {executor}

if __name__ == "__main__":
    with Master(executor(), run="to be resumed") as master:
        print("started at", master.submit(errands.once_more, "").result())
"""


@pytest.mark.parametrize(
    "executor", ["ProcessPoolExecutor(1, get_context('spawn'))", "ThreadPoolExecutor(1)", "'mpi'", "'local:1'"]
)
def test_a_run_that_is_taken_up_again_goes_on_from_its_checkpoints(executor: str, tmp_path: Path) -> None:
    """The first time the task takes its worker along, and with it whatever cannot live without it."""
    script = tmp_path / "script.py"
    script.write_text(RESUMED.format(executor=executor))
    command = [sys.executable, str(script)]
    if executor == "'mpi'":
        if shutil.which("mpiexec") is None or importlib.util.find_spec("mpi4py") is None:
            pytest.skip("not installed: mpiexec or mpi4py (the extra mpi and Debian's openmpi-bin)")
        command[1:1] = ["-m", "mpi4py.futures"]
        command[:0] = ["mpiexec", "--allow-run-as-root", "--oversubscribe", "-n", "2"]
    here = os.environ | {"PYMW_HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[2])}
    first = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False, env=here)
    if executor != "'local:1'":  # there the worker alone is lost, and the task goes on at once
        assert first.returncode, first.stdout + first.stderr
        first = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False, env=here)
    assert first.stdout == "started at 5\n", first.stderr
    assert not list((tmp_path / "home").glob("runs/*/checkpoints/*"))


def test_a_worker_that_does_not_see_the_folder_of_checkpoints_says_so() -> None:
    def save_twice() -> tuple[object, bool]:
        checkpoint.save(1)
        checkpoint.save(2)
        return checkpoint.load("nothing"), checkpoint.due()

    beside = Beside(["a"], "/no/such/folder", printed=True, master="another process")
    [data] = in_process(pack(save_twice), pack([((), {})]), beside)
    outcome = pickle.loads(data)
    assert outcome.value == ("nothing", False)
    assert len(outcome.log) == 1
    assert "checkpoints are not kept" in outcome.log[0]


class Careless(Executor):
    """Loses its worker whenever a task is to be run that holds 13: a stand-in for what clusters do."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if any(task == ((13,), {}) for task in pickle.loads(args[1])):
            future.set_exception(OSError("the worker is gone"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_a_killer_stands_alone_in_the_end_and_every_attempt_is_told() -> None:
    with Master(Careless(), max_workers=1) as master:
        kept = list(master.map(abs, range(100), chunksize=25, on_error="return", timeout=LIMIT))
        lost = kept.pop(13)
        assert kept == [x for x in range(100) if x != 13]
        assert isinstance(lost, WorkerLost)
        assert [attempt.ending for attempt in lost.attempts] == ["OSError: the worker is gone"] * 3
        future = master.submit(abs, 13)
        assert isinstance(future.exception(LIMIT), WorkerLost)
        assert len(future.attempts) == 3


@contextlib.contextmanager
def dask_cluster(folder: Path) -> Iterator[str]:
    """The address of a scheduler with two worker processes."""
    found = folder / "scheduler.json"
    python = [sys.executable, "-m"]
    scheduler = [*python, "distributed.cli.dask_scheduler", "--scheduler-file", str(found), "--no-dashboard"]
    scheduler += ["--host", "127.0.0.1", "--port", "0"]
    worker = [*python, "distributed.cli.dask_worker", "--scheduler-file", str(found), "--no-dashboard", "--no-nanny"]
    worker += ["--nthreads", "1", "--local-directory", str(folder)]
    with contextlib.ExitStack() as stack:

        def start(name: str, command: list[str]) -> None:
            log = stack.enter_context((folder / f"{name}.log").open("w"))
            stack.callback(_stop, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))

        start("scheduler", scheduler)
        deadline = time.monotonic() + 60
        while not found.exists() or not found.read_text().strip():
            assert time.monotonic() < deadline, "the Dask scheduler did not start"
            time.sleep(0.05)
        address = json.loads(found.read_text())["address"]
        for name in ("one", "other"):
            start(name, worker)  # not before: it looks for that file for a second only
        with importlib.import_module("distributed").Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it for certain: a Dask worker waits half a minute for a task of its that nobody can kill."""
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def test_mpi() -> None:
    """The suite among the ranks of `mpiexec -n 3`, since these must be started together with whoever uses them."""
    if shutil.which("mpiexec") is None or importlib.util.find_spec("mpi4py") is None:
        pytest.skip("not installed: mpiexec or mpi4py (the extra mpi and Debian's openmpi-bin)")
    command = ["mpiexec", "--allow-run-as-root", "--oversubscribe", "-n", "3", sys.executable, "-m", "mpi4py.futures"]
    command += ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no", "--timeout=120"]
    command += [str(Path(__file__).with_name("suite_mpi.py"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert re.search(r"^\d{2} passed in", done.stdout, re.MULTILINE), done.stdout + done.stderr


def test_ranks_do_not_run_the_script_again(tmp_path: Path) -> None:
    if shutil.which("mpiexec") is None or importlib.util.find_spec("mpi4py") is None:
        pytest.skip("not installed: mpiexec or mpi4py (the extra mpi and Debian's openmpi-bin)")
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    command = ["mpiexec", "--allow-run-as-root", "--oversubscribe", "-n", "3", sys.executable, "-m", "mpi4py.futures"]
    done = subprocess.run([*command, str(script)], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.stdout == "[3, 6, 9]\n12\n", done.stderr


UNGUARDED = """
from pymw import Master

factor = 3

def scaled(x):
    return plus_one(x) * factor

def plus_one(x):
    return x + 1

with Master("mpi") as master:
    print(list(master.map(scaled, range(3))))
    print(master.submit(lambda x: scaled(x), 3).result())
"""


LEFT = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY))
from itertools import islice
from pymw import Master

with Master(sys.argv[1]) as master:
    for _ in range(20):
        results = master.map(abs, range(10**12))
        print(*islice(results, 3))
        del results
        print(master.submit(abs, -1).result())
    print(master.status().carried.queued < 10**6)
"""


@pytest.mark.parametrize("backend", ["local:1", "memory"])
def test_a_map_that_nobody_reads_to_its_end_is_nobodys_burden(backend: str) -> None:
    script = [sys.executable, "-c", LEFT, backend]
    done = subprocess.run(script, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.stdout, done.stderr) == ("0 1 2\n1\n" * 20 + "True\n", "")


def test_an_unknown_backend_is_told_with_those_there_are() -> None:
    with pytest.raises(UnknownBackend, match=r"boinc, boinc\+http, boinc\+https, dask, local, memory, mpi"):
        Master("cloud")
    with pytest.raises(TypeError, match="a URL such as 'local'"):
        Master(object())  # type: ignore[arg-type]


def test_a_backend_may_come_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("mine", "pymw.testing:open_memory", "pymw.backends")
    monkeypatch.setattr("pymw.backends._installed", lambda: {"mine": entry})
    with Master("mine") as master:
        assert master.submit(abs, -1).result(10) == 1


def test_the_environment_names_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMW_BACKEND", "memory")
    with Master() as master:
        assert master.backend == "memory"
