"""The local backend beside its peers: the same work in the same minute, interleaved, as medians of ratios.

Every contender has two workers that are warm. A round runs each of them once; a ratio is that of two times of the same
round. `docs/speed.md` says what the tables mean.
"""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from bench._compare import Cost, compare, cost
from bench._contenders import Contender, contenders, same
from bench._peers import NAMES, OURS, WORKERS
from pymw import Master

POOL, STDLIB = "multiprocessing.Pool", "ProcessPoolExecutor"
Runs = dict[str, Callable[[], Cost]]


def nap(seconds: float) -> float:
    """A task of known length that needs no core."""
    time.sleep(seconds)
    return seconds


def startup() -> None:
    """How long the import and the first result take, in fresh interpreters."""
    stdlib = (
        "from multiprocessing import get_context\nfrom concurrent.futures import ProcessPoolExecutor as P\n"
        "if __name__ == '__main__': P(1, get_context('spawn')).submit(abs, -1).result()"
    )
    codes = {
        "python alone": "pass",
        "import pymw": "import pymw",
        "pymw, first result": "from pymw import Master; Master('local:1').submit(abs, -1).result()",
        "ProcessPoolExecutor, spawned": stdlib,
        "loky, first result": "from loky import ProcessPoolExecutor as P; P(1).submit(abs, -1).result()",
    }
    print("\nfrom nothing to there, median of 5 [ms]")
    for name, code in codes.items():
        took = []
        for _ in range(5):
            began = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
            took.append(1000 * (time.perf_counter() - began))
        print(f"  {name:30}{statistics.median(took):8.0f}" + ("" if done.returncode == 0 else "  (failed)"), flush=True)
    print("  aim: import pymw in less than 100 ms")


def memory() -> None:
    """Peaks of the master process and of its largest worker over maps of a million items, in processes of their own."""
    code = """
from pymw import Master
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
before = getrusage(RUSAGE_SELF).ru_maxrss
with Master("local:2") as master:
    assert sum(1 for _ in master.map(abs, INPUT)) == 10**6
print(*(size // 1024 for size in (getrusage(RUSAGE_SELF).ru_maxrss, before, getrusage(RUSAGE_CHILDREN).ru_maxrss)))
"""
    print("\nmap over 1 000 000 items, peak memory [MB]")
    for title, items in {"a range": "range(10**6)", "a generator": "(n for n in range(10**6))"}.items():
        script = code.replace("INPUT", items)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        peak, before, worker = done.stdout.split()
        print(f"  {title:14}{peak:>5} in the master ({before} before it began), {worker} in a worker", flush=True)
    print("  aim: less than 100")


def uneven() -> None:
    """Makespan of uneven tasks, a few long ones last, against the same tasks handed out one by one."""
    naps = [0.001 * (1 + i % 10) for i in range(400)] + [0.1] * 4 + [1.0] * 2
    with Master("local", max_workers=WORKERS) as master:
        list(master.map(nap, [0.001] * 10))
        runs: Runs = {
            "pymw's own chunks": lambda: cost(lambda: list(master.map(nap, naps))),
            "chunks of one": lambda: cost(lambda: list(master.map(nap, naps, chunksize=1))),
        }
        title = "406 uneven tasks, 1 ms to 1 s, the long ones last"
        compare(title, runs, len(naps), "task", "chunks of one", rounds=3, aim=0.9)


def durable() -> None:
    """Recorded tasks per second: each result is on disk before its future resolves."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["PYMW_HOME"] = home
        with Master("local", max_workers=WORKERS, run="bench") as master, Master("local", max_workers=WORKERS) as plain:
            numbers = iter(range(10**9))

            def some(count: int) -> list[int]:
                return [next(numbers) for _ in range(count)]

            runs: Runs = {
                "recorded": lambda: cost(lambda: list(master.map(same, some(20_000)))),
                "without a journal": lambda: cost(lambda: list(plain.map(same, some(20_000)))),
            }
            title = "map of 20 000 new tasks in a named run (SQLite, synchronous=FULL; aim: 5 000 tasks/s)"
            compare(title, runs, 20_000, "task", "without a journal", rounds=3)
            runs = {
                "recorded": lambda: cost(lambda: [f.result() for f in [master.submit(same, n) for n in some(2000)]]),
                "without a journal": lambda: cost(
                    lambda: [f.result() for f in [plain.submit(same, n) for n in some(2000)]]
                ),
            }
            compare("2 000 submits in a named run (aim: 5 000 tasks/s)", runs, 2000, "task", "without a journal")
        del os.environ["PYMW_HOME"]


def against(
    title: str,
    way: str,
    work: str,
    found: list[Contender],
    *,
    count: int,
    base: str,
    unit: str = "task",
    **options: Any,
) -> None:
    """The same work by all of these."""
    if any(contender.name == base for contender in found):
        runs: Runs = {each.name: functools.partial(each.run, way, work) for each in found}
        compare(title, runs, count, unit, base, **options)


def main() -> None:
    """All of it; PYMW_BENCH_PEERS names some peers where not all are wanted: multiprocessing.Pool,loky."""
    chosen = os.environ.get("PYMW_BENCH_PEERS", ",".join(NAMES)).split(",")
    startup()
    memory()
    uneven()
    durable()
    with contenders([name for name in NAMES if name in chosen]) as found:
        mapping = [each for each in found if each.maps]
        quick = [each for each in mapping if each.name in (OURS, POOL, "joblib", "mpire")]
        for kind in ("range", "list"):
            title, work = f"map of 100 000 ints, a {kind}", f"a {kind} of 100 000"
            against(title, "map", work, quick, count=100_000, base=POOL, rounds=99, aim=1.0)  # some milliseconds each
        against("map of 1 000 ints", "map", "1 000 ints", mapping, count=1000, base=STDLIB)
        submitting = [each for each in found if each.submits]
        against("1 000 single submits", "submit", "1 000 ints", submitting, count=1000, base=STDLIB, rounds=15, aim=1.5)
        for kind in ("bytes", "arrays"):
            title = f"100 distinct blobs of 1 MiB there and back, {kind}"
            against(title, "map", kind, mapping, count=100, base=STDLIB, unit="blob", aim=2.0)
