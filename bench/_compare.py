"""Side by side: each contender in turn, round after round, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["Cost", "compare", "cost"]

SLOW, SLOW_ROUNDS = 8.0, 3  # one that takes so many times as long as the base is out after so many rounds


class Cost(NamedTuple):
    """What something took, in seconds: by the clock, and of processors."""

    wall: float
    cpu: float


def cost(run: Callable[[], object]) -> Cost:
    """Run it; processor time is that of this process and of all that descend from it."""
    before, began = cpu_seconds(), time.perf_counter()
    run()
    wall = time.perf_counter() - began
    return Cost(wall, cpu_seconds() - before)


def compare(
    title: str,
    runs: Mapping[str, Callable[[], Cost]],
    count: int,
    unit: str,
    base: str,
    *,
    rounds: int = 7,
    aim: float | None = None,
) -> None:
    """Print each one's speed as a multiple of the base's in the same round: the median, the least and the most.

    Beside it: how many a second (the median), and processor time for one, which other people's load changes less.
    `aim` is what ours, the first, is to reach.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    ratios: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            if len(ratios[name]) < SLOW_ROUNDS or statistics.median(ratios[name]) >= 1 / SLOW:
                costs[name].append(run())
        for name in runs:
            if len(costs[name]) == len(costs[base]):
                ratios[name].append(costs[base][-1].wall / costs[name][-1].wall)
    print(f"\n{title}\n  {'':22}{f'times {base}':>28}{f'{unit}/s':>14}{f'CPU ms/{unit}':>14}")
    for name in sorted(runs, key=lambda name: -statistics.median(ratios[name])):
        low, middle, high = min(ratios[name]), statistics.median(ratios[name]), max(ratios[name])
        per_second = count / statistics.median(each.wall for each in costs[name])
        cpu = 1000 * statistics.mean(each.cpu for each in costs[name]) / count
        print(f"  {name:22}{middle:10.2f}  ({low:5.2f} to {high:6.2f}){per_second:14,.0f}{cpu:14.4f}", flush=True)
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
