"""The local backend beside its peers: the same work in the same minute, interleaved, as medians of ratios."""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from pymw import Master

WORKERS = 2
ROUNDS = 5


def nothing(x: Any = None) -> Any:
    """The least that a task can do."""
    return x


def blob(data: bytes) -> bytes:
    """There and back."""
    return data


def nap(seconds: float) -> float:
    """A task of known length that needs no core."""
    time.sleep(seconds)
    return seconds


class Peer:
    """A library, warm, with what the benches ask of it. What it does not offer raises NotImplementedError."""

    def __init__(self, name: str, submit: Any = None, mapping: Any = None) -> None:
        self.name, self._submit, self._mapping = name, submit, mapping

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Results in order, with chunks as the library's user would have them."""
        if self._mapping is None:
            raise NotImplementedError
        return list(self._mapping(function, items))

    def submit_all(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """One by one, as futures."""
        if self._submit is None:
            raise NotImplementedError
        return [future.result() for future in [self._submit(function, item) for item in items]]


@contextlib.contextmanager
def peers(names: Sequence[str]) -> Iterator[list[Peer]]:
    """All that are installed, ours and ProcessPoolExecutor first."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(Master("local", max_workers=WORKERS))
        stdlib = stack.enter_context(ProcessPoolExecutor(WORKERS))
        found = [Peer("pymw", ours.submit, ours.map), Peer("ProcessPoolExecutor", stdlib.submit, stdlib.map)]
        for name in names:
            try:
                found.append(OTHERS[name](stack))
            except ImportError as error:
                print(f"  {name}: not installed ({error.name})")
        for peer in found:
            with contextlib.suppress(NotImplementedError):
                peer.map(nothing, range(100))
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
    cluster = distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
    client = stack.enter_context(distributed.Client(stack.enter_context(cluster)))
    return Peer(
        "dask", lambda f, x: client.submit(f, x, pure=False), lambda f, xs: client.gather(client.map(f, xs, pure=False))
    )


def _ray(stack: contextlib.ExitStack) -> Peer:
    ray = importlib.import_module("ray")
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    stack.callback(ray.shutdown)
    remotes: dict[Any, Any] = {}

    def call(function: Any, item: Any) -> Any:
        if function not in remotes:
            remotes[function] = ray.remote(function)
        return remotes[function].remote(item)

    return Peer("ray", None, lambda function, items: ray.get([call(function, item) for item in items]))


def _parsl(stack: contextlib.ExitStack) -> Peer:
    parsl = importlib.import_module("parsl")
    executor = parsl.HighThroughputExecutor(max_workers_per_node=WORKERS, provider=parsl.providers.LocalProvider())
    kernel = parsl.load(parsl.Config(executors=[executor], run_dir=stack.enter_context(tempfile.TemporaryDirectory())))
    stack.callback(parsl.clear)
    stack.callback(kernel.cleanup)
    apps: dict[Any, Any] = {}

    def submit(function: Any, item: Any) -> Any:
        if function not in apps:
            apps[function] = parsl.python_app(function)
        return apps[function](item)

    return Peer("parsl", submit)


OTHERS: dict[str, Callable[[contextlib.ExitStack], Peer]] = {
    "multiprocessing.Pool": _pool,
    "loky": _loky,
    "joblib": _joblib,
    "mpire": _mpire,
    "dask": _dask,
    "ray": _ray,
    "parsl": _parsl,
}


def compare(
    title: str, runs: dict[str, Callable[[], object]], count: int, unit: str, base: str, rounds: int = ROUNDS
) -> None:
    """Run all of them in turn, several times; print each one's speed as a multiple of the base's in the same round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    print(f"\n{title}")
    for name in sorted(runs, key=lambda name: statistics.median(times[name])):
        ratio = statistics.median(b / t for b, t in zip(times[base], times[name], strict=True))
        took = statistics.median(times[name])
        print(f"  {name:28} {ratio:8.2f} x {base:22} {count / took:12,.0f} {unit}/s")


def startup() -> None:
    """How long the first result and the import take, in fresh interpreters."""
    codes = {
        "python alone": "pass",
        "import pymw": "import pymw",
        "pymw, first result": "from pymw import Master; Master('local:1').submit(abs, -1).result()",
        "ProcessPoolExecutor (spawn)": "from multiprocessing import get_context\nfrom concurrent.futures import "
        "ProcessPoolExecutor as P\nif __name__ == '__main__': P(1, get_context('spawn')).submit(abs, -1).result()",
        "loky, first result": "from loky import ProcessPoolExecutor as P; P(1).submit(abs, -1).result()",
    }
    print("\nfrom nothing to there, median of 5 [ms]")
    for name, code in codes.items():
        took = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
            took.append(1000 * (time.perf_counter() - began))
        print(f"  {name:28} {statistics.median(took):8.0f}" + ("" if done.returncode == 0 else "  (failed)"))


def memory() -> None:
    """Peak of the master process over a map of a million items, in a process of its own."""
    code = (
        "import resource\nfrom pymw import Master\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with Master('local:2') as m: n = sum(1 for _ in m.map(abs, range(10**6)))\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, before // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, peak, before = done.stdout.split()
    print(f"\nmap over {count} items: {peak} MB at the peak ({before} MB before it began)")
    assert resource


def uneven() -> None:
    """Makespan of uneven tasks, a few long ones last, against the same tasks handed out one by one."""
    naps = [0.001 * (1 + i % 10) for i in range(400)] + [0.1] * 4 + [1.0] * 2
    with Master("local", max_workers=WORKERS) as master:
        list(master.map(nap, [0.001] * 10))
        runs: dict[str, Callable[[], object]] = {
            "chunks of one": lambda: list(master.map(nap, naps, chunksize=1)),
            "pymw's own chunks": lambda: list(master.map(nap, naps)),
        }
        compare("uneven tasks, 1 ms to 1 s, long ones last", runs, len(naps), "tasks", "chunks of one", 3)


def durable() -> None:
    """Recorded tasks per second: SQLite with synchronous=FULL, and each result on disk before its future resolves."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["PYMW_HOME"] = home
        with Master("local", max_workers=WORKERS, run="bench") as master, Master("local", max_workers=WORKERS) as plain:
            numbers = iter(range(10**9))
            runs: dict[str, Callable[[], object]] = {
                "map, no journal": lambda: list(plain.map(nothing, range(20_000))),
                "map, recorded": lambda: list(master.map(nothing, [next(numbers) for _ in range(20_000)])),
            }
            compare(
                "map of 20 000 new tasks in a named run (synchronous=FULL)", runs, 20_000, "tasks", "map, no journal", 3
            )
            runs = {
                "submits, no journal": lambda: [f.result() for f in [plain.submit(nothing, i) for i in range(2000)]],
                "submits, recorded": lambda: [
                    f.result() for f in [master.submit(nothing, next(numbers)) for _ in range(2000)]
                ],
            }
            compare("2 000 submits in a named run", runs, 2000, "tasks", "submits, no journal", 3)
        del os.environ["PYMW_HOME"]


def main() -> None:
    """All of it; PYMW_BENCH_PEERS names other peers than those that start quickly."""
    chosen = os.environ.get("PYMW_BENCH_PEERS", "multiprocessing.Pool,loky,joblib,mpire").split(",")
    startup()
    memory()
    uneven()
    durable()
    with peers([name for name in OTHERS if name in chosen or chosen == ["all"]]) as found:
        fast = [peer for peer in found if peer.name in ("pymw", "multiprocessing.Pool", "joblib", "mpire")]
        ints = range(100_000)
        runs = {peer.name: (lambda peer=peer: peer.map(nothing, ints)) for peer in fast}
        compare(
            "map of 100 000 ints",
            runs,
            len(ints),
            "tasks",
            "multiprocessing.Pool" if "multiprocessing.Pool" in runs else "pymw",
        )
        few = range(2000)
        runs = {peer.name: (lambda peer=peer: peer.map(nothing, few)) for peer in found if peer._mapping}
        compare("map of 2 000 ints", runs, len(few), "tasks", "ProcessPoolExecutor")
        runs = {peer.name: (lambda peer=peer: peer.submit_all(nothing, few)) for peer in found if peer._submit}
        compare("2 000 single submits", runs, len(few), "tasks", "ProcessPoolExecutor")
        blobs = [os.urandom(1 << 20) for _ in range(100)]
        runs = {peer.name: (lambda peer=peer: peer.map(blob, blobs)) for peer in found if peer._mapping}
        compare("100 distinct blobs of 1 MiB, there and back", runs, len(blobs), "blobs", "ProcessPoolExecutor", 3)
