"""How many hosts come, and what serving one costs: from that follows how often they may come at most."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["Crowd"]

_SHARE: Final = 0.2
"""Of the measured capacity may go into hosts that ask and messages of running programs, at most."""
_MEMORY: Final = 7200.0
"""Seconds for which a host counts after it came; twice the longest time between two contacts."""
_FADE: Final = 0.02
_SWEEP: Final = 300.0


class Crowd:
    """Used by the writer's thread alone; `clock` measures processor time."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._seen: dict[int, float] = {}
        self._next_sweep = 0.0
        self.cost = 0.0

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Around the work for one request."""
        began = self._clock()
        yield
        took = self._clock() - began
        self.cost += (took - self.cost) * (_FADE if self.cost else 1.0)

    def came(self, hostid: int, now: float) -> None:
        """This host is here."""
        self._seen[hostid] = now
        if now >= self._next_sweep:
            self._next_sweep = now + _SWEEP
            self._seen = {host: when for host, when in self._seen.items() if when > now - _MEMORY}

    @property
    def delay(self) -> float:
        """Seconds between two contacts of a host that leave the server free for other things."""
        return len(self._seen) * self.cost / _SHARE
