"""How often somebody may fail before he is asked to wait: guessing keys is to be hopeless, and cheap to refuse."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

__all__ = ["Throttle"]

_REMEMBERED: Final = 10_000


class Throttle:
    """Counts failures by address within a window of time."""

    def __init__(self, most: int = 20, window: float = 60.0) -> None:
        self._most, self._window = most, window
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def blocked(self, address: str, now: float) -> bool:
        """True while this address has failed too often lately."""
        since, count = self._failures.get(address, (now, 0))
        return count >= self._most and now < since + self._window

    def forgiven(self, address: str) -> None:
        """What was noted last was no failure after all."""
        if address in self._failures:
            since, count = self._failures[address]
            self._failures[address] = (since, max(count - 1, 0))

    def failed(self, address: str, now: float) -> None:
        """Note a failure."""
        since, count = self._failures.pop(address, (now, 0))
        if now >= since + self._window:
            since, count = now, 0
        self._failures[address] = (since, count + 1)
        if len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)
