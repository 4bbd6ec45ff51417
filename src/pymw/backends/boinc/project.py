"""What the backend needs of a BOINC project, whatever the way to it."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Protocol

from boincserver.records import Batch, Changes, Copy, HostInfo, Job, JobOutcome, JobState

__all__ = ["Project"]


class Project(Protocol):
    """What the backend asks of a project. `boincserver.control.Control` is the one on this machine.

    Raises BoincServerError; ServerNotRunning and ControlError where it is worth asking again.
    """

    def create_batch(self, app: str, name: str, *, lease: float | None = None) -> Batch:
        """The batch of this name; with a lease its jobs end when nobody asks for them for so many seconds."""
        ...

    def put_file(self, source: str | PathLike[str] | bytes) -> str:
        """Keep a file for jobs to use, unless it is there; returns its name."""
        ...

    def create_jobs(self, batch_id: int, jobs: Sequence[Job]) -> int:
        """Create those whose names are new; returns how many."""
        ...

    def outcomes(self, batch_id: int, *, after: int = 0, limit: int = 1000, wait: float = 0.0) -> list[JobOutcome]:
        """Outcomes with numbers above `after`, oldest first; waits up to `wait` seconds for the first."""
        ...

    def acknowledge(self, batch_id: int, upto_seq: int) -> None:
        """The outcomes up to this number are kept elsewhere."""
        ...

    def cancel_jobs(self, batch_id: int, names: Sequence[str] | None = None) -> int:
        """End these jobs, or all of the batch, also on hosts."""
        ...

    def hurry(self, batch_id: int, names: Sequence[str]) -> None:
        """Send one more copy of each of these jobs, if the project can, to hosts that fail at nothing."""
        ...

    def job_states(self, batch_id: int) -> list[JobState]:
        """Where each job of the batch is."""
        ...

    def changes(self, batch_id: int, epoch: str = "", after: int = 0) -> Changes:
        """Which jobs went to hosts or came back from them since a number of this epoch, and what programs say."""
        ...

    def copies(self, batch_id: int, name: str) -> list[Copy]:
        """Every copy of one job, with the outputs that are kept."""
        ...

    def hosts(self) -> list[HostInfo]:
        """Every volunteer's computer, as far as the project tells."""
        ...
