"""What volunteers' computers made of one function so far: how long its calls take, and whether any ever worked."""

from __future__ import annotations

import statistics
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from pymw.outcome import Attempt

__all__ = ["Experience", "Rate"]

TRIES, HOSTS = 20, 3  # so many attempts on so many hosts that fail alike, and none that worked, are enough
FEWEST = 5  # calls that were measured before their time counts for more than what was guessed


@dataclass
class Experience:
    """Of one bundle. What hosts say of times is a stranger's word, so the median counts."""

    worked: bool = False
    times: deque[float] = field(default_factory=lambda: deque(maxlen=51))
    lost: Counter[str] = field(default_factory=Counter)
    nbytes: int = 0  # of the largest outcome
    hosts: set[str] = field(default_factory=set)
    said: str = ""  # what the last of the failed attempts wrote

    def ended(self, seconds: float | None, nbytes: int = 0) -> None:
        """A call came to its end there, whatever that was."""
        self.worked = True
        self.nbytes = max(self.nbytes, nbytes)
        if seconds is not None and seconds >= 0:
            self.times.append(seconds)

    def failed(self, attempt: Attempt) -> None:
        """An attempt brought nothing."""
        if not self.worked:
            self.lost[attempt.ending] += 1
            self.hosts.add(attempt.worker)
            self.said = attempt.stderr.strip()[-2000:] or self.said

    @property
    def seconds(self) -> float | None:
        """That a call takes on the typical host; None as long as that is not known."""
        return statistics.median(self.times) if len(self.times) >= FEWEST else None

    @property
    def hopeless(self) -> str:
        """Why nothing more of this function should be sent; empty as long as it may work."""
        if self.worked or len(self.hosts) < HOSTS or not self.lost:
            return ""
        ending, count = self.lost.most_common(1)[0]
        if count < TRIES:
            return ""
        said = f"\nThe last of them wrote:\n{self.said}" if self.said else ""
        return f"its first {count} attempts on {len(self.hosts)} hosts failed alike, and none worked: {ending}{said}"


class Rate:
    """How many tasks end in a second, over the last minutes."""

    SPAN = 600.0

    def __init__(self) -> None:
        self._ended: deque[tuple[float, int]] = deque(maxlen=4096)

    def begun(self, now: float | None = None) -> None:
        """A host took some: the time that the first of them take counts from now, if none ended lately."""
        now = time.monotonic() if now is None else now
        if not self._ended or now - self._ended[-1][0] > self.SPAN:
            self._ended.append((now, 0))

    def ended(self, count: int, now: float | None = None) -> None:
        """So many tasks ended just now."""
        if count:
            self._ended.append((time.monotonic() if now is None else now, count))

    def left(self, waiting: int, seconds: float | None, cores: int, now: float | None = None) -> float | None:
        """Seconds until so many tasks have ended; from `seconds` for each on `cores`, until there is a record."""
        now = time.monotonic() if now is None else now
        recent = [(when, count) for when, count in list(self._ended) if now - when <= self.SPAN]
        done = sum(count for _, count in recent[1:])  # what came with the first of them took time before it
        if done and now > recent[0][0]:
            return waiting * (now - recent[0][0]) / done
        return waiting * seconds / cores if seconds is not None and cores else None
