"""A job, its copies, what hosts report of them and what validators say: frozen records, with BOINC's column names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from boincserver.states import (
    NEVER,
    AssimilateState,
    ClientState,
    ErrorMask,
    FileDeleteState,
    Outcome,
    ServerState,
    ValidateState,
)

__all__ = ["Job", "Report", "Result", "Verdict", "Workunit", "is_over"]


# Tuples, since every event of a job's life makes some anew, and they are made and compared many times faster.


class Result(NamedTuple):
    """One copy of a job; `id` is 0 until it is in the database."""

    id: int
    name: str
    server_state: int = ServerState.UNSENT
    outcome: int = Outcome.INIT
    validate_state: int = ValidateState.INIT
    file_delete_state: int = FileDeleteState.INIT
    client_state: int = ClientState.NEW
    exit_status: int = 0
    hostid: int = 0
    userid: int = 0
    sent_time: int = 0
    report_deadline: int = 0
    received_time: int = 0
    app_version_id: int = 0
    app_version_num: int = 0
    priority: int = 0
    cpu_time: float = 0.0
    elapsed_time: float = 0.0
    granted_credit: float = 0.0

    @property
    def is_success(self) -> bool:
        """Reported as a success and not found wrong."""
        return self.outcome == Outcome.SUCCESS and self.validate_state != ValidateState.INVALID


class Workunit(NamedTuple):
    """A job's own row, as far as its life goes."""

    id: int
    name: str
    appid: int = 0
    batch: int = 0
    create_time: int = 0
    transition_time: int = NEVER
    delay_bound: int = 7 * 86400
    min_quorum: int = 1
    target_nresults: int = 1
    max_error_results: int = 3
    max_total_results: int = 10
    max_success_results: int = 6
    priority: int = 0
    need_validate: int = 0
    canonical_resultid: int = 0
    canonical_credit: float = 0.0
    error_mask: int = ErrorMask.NONE
    assimilate_state: int = AssimilateState.INIT
    file_delete_state: int = FileDeleteState.INIT
    hr_class: int = 0
    app_version_id: int = 0
    rsc_fpops_est: float = 3.6e12
    rsc_fpops_bound: float = 8.64e13
    rsc_memory_bound: float = 5e8
    rsc_disk_bound: float = 1e9
    result_template_file: str = ""


class Job(NamedTuple):
    """A workunit and all its results. `held`: somebody has yet to fetch the outputs, so they stay."""

    workunit: Workunit
    results: tuple[Result, ...] = ()
    held: bool = False

    def result(self, name: str) -> Result | None:
        """The result of that name."""
        for result in self.results:
            if result.name == name:
                return result
        return None

    def with_result(self, changed: Result) -> Job:
        """The job with this result in the place of the one of its name."""
        results = tuple([changed if r.name == changed.name else r for r in self.results])
        return Job(self.workunit, results, self.held)

    def with_workunit(self, **changes: object) -> Job:
        """The job with a changed workunit; itself if nothing changes."""
        workunit = self.workunit._replace(**changes)  # type: ignore[arg-type]
        return self if workunit == self.workunit else Job(workunit, self.results, self.held)

    def with_results(self, results: tuple[Result, ...]) -> Job:
        """The job with these results; itself if they are its own."""
        return self if results == self.results else Job(self.workunit, results, self.held)


@dataclass(frozen=True, slots=True)
class Report:
    """What a host says of a result, as far as its life goes. `usable`: all outputs are here, whole."""

    client_state: int
    exit_status: int
    cpu_time: float = 0.0
    elapsed_time: float = 0.0
    app_version_num: int = 0
    usable: bool = True
    hr_class: int = 0
    one_version: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a validator says of the results of a job, by result id.

    `invalid` could not be right by themselves; `canonical` is 0 where no quorum agrees; `retry`: ask again later.
    """

    canonical: int = 0
    valid: frozenset[int] = frozenset()
    disagree: frozenset[int] = frozenset()
    invalid: frozenset[int] = frozenset()
    retry: bool = False
    credit: Mapping[int, float] = field(default_factory=dict)


def is_over(workunit: Workunit) -> bool:
    """True once the job has its canonical result or its error."""
    return bool(workunit.canonical_resultid or workunit.error_mask)
