"""One run on a server: its official batches, and what came of their jobs."""

from __future__ import annotations

from dataclasses import dataclass, field

from boincserver.records import JobOutcome
from boincserver.remote.told import JobStatus

__all__ = ["Family", "Official"]


@dataclass
class Official:
    """A batch of the server's."""

    id: int
    app: str
    names: set[str] = field(default_factory=set)  # of its jobs
    outputs: dict[str, tuple[str, ...]] = field(default_factory=dict)  # names of output files, by job
    ids: dict[str, int] = field(default_factory=dict)  # the server's numbers of jobs
    growing: int = 0  # calls under way that bring it more jobs
    counts: tuple[float, int] = (-1.0, -1)  # that it had when its jobs were looked at
    seen: dict[str, int] = field(default_factory=dict)  # jobs that ended, with the number of their outcome; 0: none yet
    complete: bool = False
    epoch: str = ""
    change: int = 0

    def is_fetched(self, upto: int) -> bool:
        """Whether nothing of it is to come but outcomes with numbers up to this one."""
        return self.complete and not self.growing and all(0 < seq <= upto for seq in self.seen.values())


@dataclass
class Family:
    """A run, and what of it waits to be fetched and to be handed on."""

    app: str
    name: str
    lease: float | None
    batches: dict[int, Official] = field(default_factory=dict)
    seq: int = 0
    waiting: list[JobOutcome] = field(default_factory=list)
    to_fetch: dict[tuple[int, str], JobStatus] = field(default_factory=dict)
    next_poll: float = 0.0
    next_look: float = 0.0
    changes: int = 0
    renewed: float = 0.0

    def holding(self, name: str) -> Official | None:
        """The batch of a job."""
        return next((each for each in list(self.batches.values()) if name in each.names), None)

    def number(self) -> int:
        """The next outcome's."""
        self.seq += 1
        return self.seq
