"""The libraries that do what the local backend does, each warm and ready, all in one process tree."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from pymw import Master

__all__ = ["NAMES", "WORKERS", "Peer", "peers"]

WORKERS = 2


class Peer:
    """A library with what the benches ask of it; `maps` and `submits` say what it offers."""

    def __init__(self, name: str, submit: Any = None, mapping: Any = None) -> None:
        self.name, self._submit, self._mapping = name, submit, mapping
        self.maps, self.submits = mapping is not None, submit is not None

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Results in order, with chunks as the library makes them when it is not told."""
        return list(self._mapping(function, items))

    def submit_all(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """One by one, as futures."""
        return [future.result() for future in [self._submit(function, item) for item in items]]


def same(x: Any) -> Any:
    """The least that a task can do."""
    return x


@contextlib.contextmanager
def peers(names: Sequence[str]) -> Iterator[list[Peer]]:
    """Ours, ProcessPoolExecutor, and of those named all that are installed; the others are told."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(Master("local", max_workers=WORKERS))
        stdlib = stack.enter_context(ProcessPoolExecutor(WORKERS))
        found = [Peer("pymw", ours.submit, ours.map), Peer("ProcessPoolExecutor", stdlib.submit, stdlib.map)]
        for peer in found:  # the standard library forks: before others have started their threads
            peer.map(same, range(100))
        for name in names:
            try:
                found.append(_OTHERS[name](stack))
            except ImportError as error:
                print(f"  missing: {name} ({error}); `make bench` installs it: pip install 'pymw-grid[bench]'")
            except Exception as error:  # noqa: BLE001 - whatever keeps a peer from starting, the others go on
                print(f"  missing: {name} did not start: {error!r:.200}")
        for peer in found:
            (peer.map if peer.maps else peer.submit_all)(same, range(100))
        yield found


def _pool(stack: contextlib.ExitStack) -> Peer:
    import multiprocessing

    pool = stack.enter_context(multiprocessing.Pool(WORKERS))
    return Peer("multiprocessing.Pool", None, pool.map)


def _loky(stack: contextlib.ExitStack) -> Peer:
    loky = importlib.import_module("loky")
    executor = stack.enter_context(loky.ProcessPoolExecutor(WORKERS))
    return Peer("loky", executor.submit, executor.map)


def _joblib(stack: contextlib.ExitStack) -> Peer:
    joblib = importlib.import_module("joblib")
    parallel = stack.enter_context(joblib.Parallel(n_jobs=WORKERS))
    return Peer("joblib", None, lambda function, items: parallel(joblib.delayed(function)(item) for item in items))


def _mpire(stack: contextlib.ExitStack) -> Peer:
    mpire = importlib.import_module("mpire")
    pool = stack.enter_context(mpire.WorkerPool(WORKERS, keep_alive=True))
    return Peer("mpire", None, pool.map)


def _dask(stack: contextlib.ExitStack) -> Peer:
    distributed = importlib.import_module("distributed")
    warnings.filterwarnings("ignore", message="Sending large graph")
    logging.getLogger("distributed").setLevel(logging.ERROR)
    cluster = distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
    client = stack.enter_context(distributed.Client(stack.enter_context(cluster)))
    return Peer(
        "Dask", lambda f, x: client.submit(f, x, pure=False), lambda f, xs: client.gather(client.map(f, xs, pure=False))
    )


def _ray(stack: contextlib.ExitStack) -> Peer:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray = importlib.import_module("ray")
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    stack.callback(ray.shutdown)
    remotes: dict[Any, Any] = {}

    def call(function: Any, item: Any) -> Any:
        if function not in remotes:
            remotes[function] = ray.remote(function)
        return remotes[function].remote(item)

    class Result:
        def __init__(self, reference: Any) -> None:
            self._reference = reference

        def result(self) -> Any:
            return ray.get(self._reference)

    return Peer(
        "Ray",
        lambda function, item: Result(call(function, item)),
        lambda function, items: ray.get([call(function, item) for item in items]),
    )


def _parsl(stack: contextlib.ExitStack) -> Peer:
    parsl = importlib.import_module("parsl")
    # It starts its own commands, whose workers look for the functions by their modules' names.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    executor = parsl.HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=WORKERS, provider=parsl.providers.LocalProvider(), encrypted=False
    )
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    kernel = parsl.load(parsl.Config(executors=[executor], run_dir=folder, usage_tracking=0))
    stack.callback(parsl.clear)
    stack.callback(kernel.cleanup)
    apps: dict[Any, Any] = {}

    def submit(function: Any, item: Any) -> Any:
        if function not in apps:
            apps[function] = parsl.python_app(function)
        return apps[function](item)

    return Peer("Parsl", submit)


_OTHERS: dict[str, Callable[[contextlib.ExitStack], Peer]] = {
    "multiprocessing.Pool": _pool,
    "loky": _loky,
    "joblib": _joblib,
    "mpire": _mpire,
    "Dask": _dask,
    "Ray": _ray,
    "Parsl": _parsl,
}
NAMES = tuple(_OTHERS)
