"""How much time a team has: CPU seconds, scaled to how fast this machine is."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """CPU seconds of a team's whole process tree, per agent; `idle` and `wall` catch what uses none."""

    start: float = 15.0  # to load the team, and for each agent to prepare
    warning: float = 1.0  # a move above it is a warning
    warnings: int = 3  # this many lose
    move: float = 3.0  # a move above it loses at once
    total: float = 900.0
    idle: float = 30.0  # seconds in which the team sleeps instead of answering
    sleep: float = 120.0  # seconds of that in a whole match
    wall: float = 600.0  # seconds for one answer on however loaded a machine
    processes: int = 64  # that a team may have at a time
    threads: int = 512  # of all its processes
    memory: int = 2 << 30  # bytes, of each process and of all together
    disk: int = 256 << 20  # bytes of its folder, deleted files and shared memory included

    def scaled(self, factor: float) -> Limits:
        """The same limits on a machine that is `factor` times slower; never stricter."""
        factor = max(1.0, factor)
        return replace(
            self,
            start=self.start * factor,
            warning=self.warning * factor,
            move=self.move * factor,
            total=self.total * factor,
        )


# CPU seconds of the loop below where this project's speeds are measured (docs/pacman.md): what a limit's second means.
_REFERENCE: Final = 0.012


def calibrate() -> float:
    """How many times slower than the reference this machine computes, in CPU seconds; at least 1.

    The least of three runs counts, so that a moment's disturbance does not give more time.
    """
    times = []
    for _ in range(3):
        begin = time.process_time()
        table: dict[int, int] = {}
        for number in range(100_000):
            key = number * 7919 % 1009
            table[key] = table.get(key, 0) + number % 13
        times.append(time.process_time() - begin)
    return round(max(1.0, min(times) / _REFERENCE), 2)
