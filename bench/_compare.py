"""Side by side: each contender in turn, round after round, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["compare", "cpu_seconds"]

SLOW, SLOW_ROUNDS = 8.0, 3  # one that takes so many times as long as the base is out after so many rounds


def compare(
    title: str,
    runs: Mapping[str, Callable[[], object]],
    count: int,
    unit: str,
    base: str,
    *,
    rounds: int = 7,
    aim: float | None = None,
) -> None:
    """Print each one's speed as a multiple of the base's in the same round: the median, the least and the most.

    Beside it: how many a second (the median), and processor time for one, of this process and all that descend from
    it, which other people's load changes less. `aim` is what ours, the first, is to reach.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    ratios: dict[str, list[float]] = {name: [] for name in runs}
    cpu = dict.fromkeys(runs, 0.0)
    for _ in range(rounds):
        for name, run in runs.items():
            if len(times[name]) >= SLOW_ROUNDS and statistics.median(ratios[name]) < 1 / SLOW:
                continue
            before, began = cpu_seconds(), time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
            cpu[name] += cpu_seconds() - before
        for name in runs:
            if len(times[name]) == len(times[base]):
                ratios[name].append(times[base][-1] / times[name][-1])
    print(f"\n{title}\n  {'':22}{f'times {base}':>28}{f'{unit}/s':>14}{f'CPU ms/{unit}':>14}")
    for name in sorted(runs, key=lambda name: -statistics.median(ratios[name])):
        low, middle, high = min(ratios[name]), statistics.median(ratios[name]), max(ratios[name])
        per_second = count / statistics.median(times[name])
        each = 1000 * cpu[name] / count / len(times[name])
        print(f"  {name:22}{middle:10.2f}  ({low:5.2f} to {high:6.2f}){per_second:14,.0f}{each:14.4f}", flush=True)
    if aim is not None:
        reached = statistics.median(ratios[next(iter(runs))])
        print(f"  aim: {aim:g} times {base}; {'reached' if reached >= aim else 'missed'} ({reached:.2f})")


def cpu_seconds() -> float:
    """User and system time so far of this process and of its descendants, as far as they live; 0 where unknown."""
    parents, times = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            threads = [path.read_text().split() for path in folder.glob("task/*/schedstat")]
        except OSError:
            continue  # it ended meanwhile
        pid = int(folder.name)
        parents[pid] = int(fields[1])
        times[pid] = sum(int(thread[0]) for thread in threads) / 1e9
    family, todo = set(), [os.getpid()]
    while todo:
        family.add(pid := todo.pop())
        todo += [child for child, parent in parents.items() if parent == pid and child not in family]
    return sum(times.get(pid, 0.0) for pid in family)
