"""The record of a host with an application version: daily quota, and whether its results can be trusted unchecked."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

from boincserver.config import JobsConfig
from boincserver.database import Session, update_where
from boincserver.lifecycle import Result, Workunit
from boincserver.schema import host_app_version as table
from boincserver.states import ExitStatus, Outcome, ValidateState

__all__ = ["Track", "load", "save"]

_TRUSTED: Final = 10
"""Valid results in a row after which a host may go unchecked."""
_ENOUGH: Final = 5
"""Results after which a host's turnaround says something."""
_WEIGHT: Final = 0.2
"""Of the newest result in the average turnaround."""
_COLUMNS: Final = ("max_jobs_per_day", "n_jobs_today", "consecutive_valid", "turnaround_n", "turnaround_avg")


@dataclass(frozen=True, slots=True)
class Track:
    """What a host did with one application version."""

    max_jobs_per_day: int
    n_jobs_today: int = 0
    consecutive_valid: int = 0
    turnaround_n: float = 0.0
    turnaround_avg: float = 0.0

    def room(self, ncpus: int) -> int:
        """How many more copies the host may have today. Once down to one a day, it is one whatever the CPUs."""
        limit = self.max_jobs_per_day * (ncpus if self.max_jobs_per_day > 1 else 1)
        return max(0, limit - self.n_jobs_today)

    def sent(self) -> Track:
        """A copy was sent."""
        return replace(self, n_jobs_today=self.n_jobs_today + 1)

    def after(self, was: Result, result: Result, workunit: Workunit, quota: int) -> Track:
        """After what happened to a result of this host."""
        track = self
        if result.outcome != was.outcome:
            track = track._reported(result, quota)
        if result.validate_state != was.validate_state:
            track = track._validated(result, workunit, quota)
        return track

    def _reported(self, result: Result, quota: int) -> Track:
        if result.outcome == Outcome.SUCCESS:
            taken = max(0, result.received_time - result.sent_time)
            average = self.turnaround_avg + (taken - self.turnaround_avg) * max(_WEIGHT, 1 / (self.turnaround_n + 1))
            return replace(
                self,
                max_jobs_per_day=min(quota, 2 * self.max_jobs_per_day),
                turnaround_n=self.turnaround_n + 1,
                turnaround_avg=average,
            )
        failed = result.outcome in (Outcome.CLIENT_ERROR, Outcome.NO_REPLY, Outcome.VALIDATE_ERROR)
        if failed and result.exit_status != ExitStatus.ABORTED_BY_PROJECT:
            return replace(self, max_jobs_per_day=max(1, self.max_jobs_per_day - 1), consecutive_valid=0)
        return self

    def _validated(self, result: Result, workunit: Workunit, quota: int) -> Track:
        if result.validate_state == ValidateState.VALID:
            # Only agreement with another host says anything about this one.
            more = self.consecutive_valid + (workunit.min_quorum > 1)
            return replace(self, max_jobs_per_day=min(quota, self.max_jobs_per_day + 1), consecutive_valid=more)
        if result.validate_state == ValidateState.INVALID and result.outcome == Outcome.SUCCESS:
            # A quarter: its next success doubles it again, and a host that goes on lying is soon down to one a day.
            return replace(self, max_jobs_per_day=max(1, min(self.max_jobs_per_day, quota) // 4), consecutive_valid=0)
        return self

    @property
    def turnaround(self) -> float | None:
        """Seconds after which this host brings a result back, on the average; None as long as that is not known."""
        return self.turnaround_avg if self.turnaround_n >= _ENOUGH else None

    def is_reliable(self, rules: JobsConfig) -> bool:
        """True if this host brings results back soon, and has not failed since it last had its full quota."""
        soon = self.turnaround is not None and self.turnaround <= rules.reliable_turnaround
        return soon and not self.failed_lately(rules)

    def failed_lately(self, rules: JobsConfig) -> bool:
        """True from a failure on until as many successes have made up for it."""
        return self.max_jobs_per_day < rules.daily_quota

    @property
    def is_proven(self) -> bool:
        """True if this host's results agreed with others' often enough, and none differed since."""
        return self.consecutive_valid >= _TRUSTED

    def is_trusted(self, chance: random.Random, spot_checks: float = 0.0) -> bool:
        """True if this host's next result may go unchecked: ever more often, and never more than `spot_checks` allow.

        Without that share a patient liar would be checked the less the longer he has behaved.
        """
        return self.is_proven and chance.random() >= max(spot_checks, 1 / self.consecutive_valid)


def load(db: Session, host: int, version: int, quota: int) -> Track:
    """The record of this host; a new one starts with the full quota."""
    row = db.locked(table, _COLUMNS, host_id=host, app_version_id=version)
    return Track(*row) if row else Track(quota)


def save(db: Session, host: int, version: int, track: Track) -> None:
    """Write a record down."""
    values = {name: getattr(track, name) for name in _COLUMNS}
    key = {"was_host_id": host, "was_app_version_id": version}
    if not db.run(update_where(table, _COLUMNS, ("host_id", "app_version_id")), **key, **values):
        db.insert(table, host_id=host, app_version_id=version, **values)
