"""The conformance suite, on the backends that run here."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import shutil
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
from tests.pymw.conformance import Suite

from pymw import Master, UnknownBackend


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


@pytest.mark.timeout(30)
def test_an_executor_may_end_a_task_before_its_submit_returns() -> None:
    executor = AtOnce()
    with Master(executor, max_workers=1) as master:
        assert list(master.map(abs, range(-2000, 0), chunksize=1)) == list(range(2000, 0, -1))
        stubborn = master.options(retries=500).submit(int, "no number")
        assert isinstance(stubborn.exception(20), ValueError)
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


@contextlib.contextmanager
def dask_cluster(folder: Path) -> Iterator[str]:
    """The address of a scheduler with two worker processes."""
    found = folder / "scheduler.json"
    python = [sys.executable, "-m"]
    scheduler = [*python, "distributed.cli.dask_scheduler", "--scheduler-file", str(found), "--no-dashboard"]
    scheduler += ["--host", "127.0.0.1", "--port", "0"]
    worker = [*python, "distributed.cli.dask_worker", "--scheduler-file", str(found), "--no-dashboard", "--no-nanny"]
    worker += ["--nthreads", "1", "--local-directory", str(folder)]
    commands = [scheduler, worker, worker]
    with contextlib.ExitStack() as stack:
        for i, command in enumerate(commands):
            log = stack.enter_context((folder / f"{i}.log").open("w"))
            stack.callback(_stop, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))
        deadline = time.monotonic() + 60
        while not found.exists() or not found.read_text().strip():
            assert time.monotonic() < deadline, "the Dask scheduler did not start"
            time.sleep(0.05)
        address = json.loads(found.read_text())["address"]
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


def test_mpi(tmp_path: Path) -> None:
    """The ranks of `mpiexec -n 3`: the suite's functions, as a script, since the ranks must be started with it."""
    if shutil.which("mpiexec") is None or importlib.util.find_spec("mpi4py") is None:
        pytest.skip("not installed: mpiexec or mpi4py (the extra mpi and Debian's openmpi-bin)")
    script = tmp_path / "script.py"
    script.write_text(
        "from pymw import Master\n"
        "def f(x):\n    if x == 3: raise ValueError(x)\n    return x * x\n"
        "if __name__ == '__main__':\n"
        "    with Master('mpi') as master:\n"
        "        print(list(master.map(f, range(3))), repr(master.submit(f, 3).exception()))\n"
        "        print(master.submit(lambda: 'lambda').result(), master.status().carried.workers)\n"
    )
    command = ["mpiexec", "--allow-run-as-root", "--oversubscribe", "-n", "3"]
    command += [sys.executable, "-m", "mpi4py.futures", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split("\n")[:2] == ["[0, 1, 4] ValueError(3)", "lambda 2"], done.stderr


def test_an_unknown_backend_is_told_with_those_there_are() -> None:
    with pytest.raises(UnknownBackend, match="boinc, dask, local, memory, mpi"):
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
