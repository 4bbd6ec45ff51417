"""What a remote submitter asks about batches and their jobs; reads only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, case, func, or_, select

from boincserver.database import Session
from boincserver.errors import SubmissionRefused
from boincserver.schema import app as app_table
from boincserver.schema import batch as batch_table
from boincserver.schema import result as result_table
from boincserver.schema import user as user_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import BatchState, ErrorMask, ExitStatus, Outcome, ServerState, ValidateState

__all__ = ["BatchRow", "JobRow", "batch_of", "batches_of", "details", "jobs_of", "project_flops", "state_in_words"]

_B, _W, _R = batch_table.c, workunit_table.c, result_table.c
_OVER: Final = or_(_W.canonical_resultid != 0, _W.error_mask != 0)
_COLUMNS: Final = (
    _B.id, _B.name, app_table.c.name, _B.app_id, _B.user_id, _B.state, _B.create_time, _B.expire_time,
    _B.est_completion_time, _B.completion_time, _B.credit_estimate, _B.njobs,
)  # fmt: skip
_FROM: Final = batch_table.outerjoin(app_table, app_table.c.id == _B.app_id)
_BY_ID: Final = select(*_COLUMNS).select_from(_FROM).where(_B.id == bindparam("number"))
_BY_NAME: Final = select(*_COLUMNS).select_from(_FROM).where(_B.name == bindparam("batch_name"))
_OF_USER: Final = (
    select(*_COLUMNS)
    .select_from(_FROM)
    .where(_B.user_id == bindparam("owner"), _B.state != BatchState.RETIRED)
    .order_by(_B.id)
)
_COUNTS: Final = select(
    func.count(),
    func.sum(case((_OVER, 1), else_=0)),
    func.sum(case((_W.error_mask != 0, 1), else_=0)),
    func.sum(_W.canonical_credit),
).where(_W.batch == bindparam("number"))
_JOBS: Final = (
    select(_W.id, _W.name, _W.canonical_resultid, _W.error_mask, _R.name, _R.hostid)
    .select_from(workunit_table.outerjoin(result_table, _R.id == _W.canonical_resultid))
    .where(_W.batch == bindparam("number"))
    .order_by(_W.id)
)
_RESULTS: Final = select(_R.workunitid, _R.id, _R.server_state, _R.outcome, _R.exit_status, _R.cpu_time).where(
    _R.batch == bindparam("number")
)
_CPU: Final = select(func.sum(_R.cpu_time)).where(_R.batch == bindparam("number"))
_CREDIT: Final = select(func.sum(user_table.c.expavg_credit))


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch and how far it is."""

    id: int
    name: str
    app_name: str
    app_id: int
    user_id: int
    state: int
    create_time: int
    expire_time: float
    est_completion_time: float
    completion_time: float
    credit_estimate: float
    njobs: int
    nover: int = 0
    nerror_jobs: int = 0
    credit_canonical: float = 0.0

    @property
    def fraction_done(self) -> float:
        """How much of it is over, for better or worse."""
        return self.nover / self.njobs if self.njobs else 0.0


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job of a batch."""

    id: int
    name: str
    canonical_resultid: int
    error_mask: int
    canonical_name: str | None
    canonical_host: int | None


def batch_of(db: Session, owner: int, number: int, name: str) -> BatchRow:
    """A batch of this account, by its number or else its name; SubmissionRefused if there is none of its own."""
    if not number and not name:
        raise SubmissionRefused("batch not specified")
    row = db.first(_BY_ID, number=number) if number else db.first(_BY_NAME, batch_name=name)
    if row is None:
        raise SubmissionRefused("no such batch")
    if row[4] != owner:
        raise SubmissionRefused("not owner of batch")
    return _with_counts(db, BatchRow(*row))


def batches_of(db: Session, owner: int) -> list[BatchRow]:
    """Every batch of an account but those that were retired."""
    return [_with_counts(db, BatchRow(*row)) for row in db.all(_OF_USER, owner=owner)]


def _with_counts(db: Session, batch: BatchRow) -> BatchRow:
    count, over, errors, credit = db.first(_COUNTS, number=batch.id) or (0, 0, 0, 0)
    state = batch.state
    if state == BatchState.IN_PROGRESS and count and over == count:
        state = int(BatchState.COMPLETE)
    # Jobs that are over for long leave the tables; what the batch's row says of them stays.
    njobs = max(count, batch.njobs)
    gone = njobs - count
    values = {name: getattr(batch, name) for name in BatchRow.__slots__}
    return BatchRow(
        **values | {
            "app_name": batch.app_name or "none", "state": state, "njobs": njobs, "nover": int(over or 0) + gone,
            "nerror_jobs": int(errors or 0), "credit_canonical": float(credit or 0),
        }
    )  # fmt: skip


def jobs_of(db: Session, batch: int) -> Iterator[JobRow]:
    """The jobs of a batch, oldest first."""
    return (JobRow(*row) for row in db.all(_JOBS, number=batch))


@dataclass(slots=True)
class Details:
    """What is known of a job's copies."""

    sent: bool = False
    in_progress: bool = False
    exit_statuses: tuple[int, ...] = ()
    cpu_time: float | None = None


def details(db: Session, batch: int) -> dict[int, Details]:
    """What is known of the copies of each job of a batch, in one query."""
    found: defaultdict[int, Details] = defaultdict(Details)
    canonical = {job.canonical_resultid for job in jobs_of(db, batch)}
    for workunit, number, server_state, outcome, exit_status, cpu_time in db.all(_RESULTS, number=batch):
        job = found[workunit]
        job.sent |= server_state in (ServerState.IN_PROGRESS, ServerState.OVER) and outcome != Outcome.DIDNT_NEED
        job.in_progress |= server_state == ServerState.IN_PROGRESS
        if outcome == Outcome.CLIENT_ERROR:
            job.exit_statuses += (exit_status,)
        if number in canonical:
            job.cpu_time = cpu_time
    return found


def cpu_time(db: Session, batch: int) -> float:
    """The processor time of all copies of a batch."""
    return float(db.value(_CPU, number=batch) or 0)


def project_flops(db: Session) -> float:
    """How much the volunteers compute in a second, by the credit that they got lately."""
    return 1e9 * (float(db.value(_CREDIT) or 0) or 200.0) / 200


_ERRORS: Final = {
    ErrorMask.COULDNT_SEND_RESULT: "couldnt_send_result",
    ErrorMask.TOO_MANY_ERROR_RESULTS: "too_many_error_results",
    ErrorMask.TOO_MANY_SUCCESS_RESULTS: "too_many_success_results",
    ErrorMask.TOO_MANY_TOTAL_RESULTS: "too_many_total_results",
    ErrorMask.CANCELLED: "cancelled",
    ErrorMask.NO_CANONICAL_RESULT: "no_canonical_result",
}


def errors_in_words(mask: int) -> list[str]:
    """The official words for why a job failed."""
    return [word for bit, word in _ERRORS.items() if mask & bit]


def job_status(job: JobRow, found: Details) -> str:
    """The official word for how far a job is."""
    if job.error_mask:
        return "error"
    if job.canonical_resultid:
        return "done"
    return "in_progress" if found.in_progress else "queued"


_SUCCESS: Final = {
    ValidateState.INIT: "Completed, waiting for validation",
    ValidateState.VALID: "Completed and validated",
    ValidateState.INVALID: "Completed, marked as invalid",
    ValidateState.NO_CHECK: "Completed, can't validate",
    ValidateState.INCONCLUSIVE: "Completed, validation inconclusive",
    ValidateState.TOO_LATE: "Completed, too late to validate",
}
_ENDED: Final = {
    Outcome.COULDNT_SEND: "Couldn't send",
    Outcome.NO_REPLY: "Timed out - no response",
    Outcome.DIDNT_NEED: "Didn't need",
    Outcome.VALIDATE_ERROR: "Validate error",
    Outcome.CLIENT_DETACHED: "Abandoned",
}
_CLIENT_ERROR: Final[dict[int, str]] = {
    ExitStatus.ABORTED_BY_PROJECT: "Cancelled by server",
    ExitStatus.ABORTED_VIA_GUI: "Aborted",
}


def state_in_words(server_state: int, outcome: int, validate_state: int, exit_status: int) -> str:
    """The official words for how far a copy is."""
    if server_state == ServerState.UNSENT:
        return "Unsent"
    if server_state == ServerState.IN_PROGRESS:
        return "In progress"
    if server_state != ServerState.OVER:
        return "Inactive"
    if outcome == Outcome.SUCCESS:
        return _SUCCESS.get(ValidateState(validate_state), "Completed")
    if outcome == Outcome.CLIENT_ERROR:
        return _CLIENT_ERROR.get(exit_status, "Error while computing")
    return _ENDED.get(Outcome(outcome), "Completed")
