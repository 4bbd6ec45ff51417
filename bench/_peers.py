"""The libraries that do what the local backend does, and how each is started and asked."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from pymw import Master

__all__ = ["NAMES", "OURS", "WORKERS", "Missing", "Peer", "open_peer"]

WORKERS = 2

Function = Callable[[Any], Any]
Way = Callable[[Function, Sequence[Any]], Sequence[Any]]


class Missing(Exception):
    """It is not installed, or does not start."""


class Peer(NamedTuple):
    """A library as the benches use it: each way takes a function and its items, and returns the results in order."""

    map: Way | None  # with chunks as the library makes them when it is not told
    submit_all: Way | None  # one by one, as futures


def open_peer(name: str, stack: contextlib.ExitStack) -> Peer:
    """Start it with two workers; `stack` ends it. Raises whatever keeps the library from starting."""
    return _PEERS[name](stack)


def _submitting(submit: Callable[[Function, Any], Any]) -> Way:
    return lambda function, items: [future.result() for future in [submit(function, item) for item in items]]


def _executor(executor: Any) -> Peer:
    return Peer(lambda function, items: list(executor.map(function, items)), _submitting(executor.submit))


def _ours(stack: contextlib.ExitStack) -> Peer:
    return _executor(stack.enter_context(Master("local", max_workers=WORKERS)))


def _stdlib(stack: contextlib.ExitStack) -> Peer:
    return _executor(stack.enter_context(ProcessPoolExecutor(WORKERS)))


def _pool(stack: contextlib.ExitStack) -> Peer:
    import multiprocessing

    pool = stack.enter_context(multiprocessing.Pool(WORKERS))
    return Peer(pool.map, None)


def _loky(stack: contextlib.ExitStack) -> Peer:
    loky = importlib.import_module("loky")
    return _executor(stack.enter_context(loky.ProcessPoolExecutor(WORKERS)))


def _joblib(stack: contextlib.ExitStack) -> Peer:
    joblib = importlib.import_module("joblib")
    parallel = stack.enter_context(joblib.Parallel(n_jobs=WORKERS))
    return Peer(lambda function, items: parallel(joblib.delayed(function)(item) for item in items), None)


def _mpire(stack: contextlib.ExitStack) -> Peer:
    mpire = importlib.import_module("mpire")
    pool = stack.enter_context(mpire.WorkerPool(WORKERS, keep_alive=True))
    return Peer(pool.map, None)


def _dask(stack: contextlib.ExitStack) -> Peer:
    distributed = importlib.import_module("distributed")
    warnings.filterwarnings("ignore", message="Sending large graph")
    logging.getLogger("distributed").setLevel(logging.ERROR)
    cluster = distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
    client = stack.enter_context(distributed.Client(stack.enter_context(cluster)))
    return Peer(
        lambda function, items: client.gather(client.map(function, items, pure=False)),
        _submitting(lambda function, item: client.submit(function, item, pure=False)),
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

    def call_all(function: Any, items: Any) -> Any:
        return ray.get([call(function, item) for item in items])

    return Peer(call_all, call_all)  # it has no other map than futures made one by one


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

    return Peer(None, _submitting(submit))


OURS = "pymw"
_PEERS: dict[str, Callable[[contextlib.ExitStack], Peer]] = {
    OURS: _ours,
    "ProcessPoolExecutor": _stdlib,
    "multiprocessing.Pool": _pool,
    "loky": _loky,
    "joblib": _joblib,
    "mpire": _mpire,
    "Dask": _dask,
    "Ray": _ray,
    "Parsl": _parsl,
}
NAMES = tuple(name for name in _PEERS if name != OURS)
