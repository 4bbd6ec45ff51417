"""The life of a job, as pure functions on frozen records: BOINC's rules, with `now` passed in and nothing touched.

    UNSENT ──send──> IN_PROGRESS ──report──> OVER(SUCCESS | CLIENT_ERROR)
       │                  └─deadline, detach─> OVER(NO_REPLY | CLIENT_DETACHED) ──late report──> OVER(SUCCESS | ...)
       └─job settled─> OVER(DIDNT_NEED)

    enough successes ──> need_validate ──> canonical result, or one copy more
    canonical result or error ──> assimilate READY ──> DONE ──> files READY ──> DONE

A job is a workunit with its results. Each function takes a job and returns the job as it is after the event; the
caller writes down what differs. `transition` is what the official server's transitioner does, `settle` repeats it
with validation in between until there is nothing to validate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from boincserver.model import Job, Report, Result, Verdict, Workunit, is_over
from boincserver.states import (
    NEVER,
    AssimilateState,
    ClientState,
    ErrorMask,
    ExitStatus,
    FileDeleteState,
    Outcome,
    ServerState,
    ValidateState,
)

__all__ = [
    "Job",
    "Report",
    "Result",
    "Verdict",
    "Workunit",
    "apply_verdict",
    "assimilated",
    "cancel",
    "detach",
    "files_deleted",
    "is_over",
    "report",
    "send",
    "settle",
    "transition",
    "viable",
]

_DAY: Final = 86400
_RETRY_VALIDATION: Final = 6 * 3600
_SAFETY_NET: Final = 10 * _DAY


# --- events --------------------------------------------------------------------------------------------------------


def send(
    job: Job,
    name: str,
    now: int,
    *,
    hostid: int,
    userid: int,
    version: tuple[int, int],
    grace: int = 0,
    hr_class: int = 0,
    one_version: bool = False,
) -> Job:
    """The copy goes to a host; `version` is the application version's id and number.

    With `hr_class`, or `one_version`, the first copy decides for all.
    """
    result = job.result(name)
    if result is None or result.server_state != ServerState.UNSENT:
        return job
    deadline = now + job.workunit.delay_bound
    sent = result._replace(
        server_state=ServerState.IN_PROGRESS,
        hostid=hostid,
        userid=userid,
        sent_time=now,
        report_deadline=deadline,
        app_version_id=version[0],
        app_version_num=version[1],
    )
    transition_time = min(job.workunit.transition_time, deadline + grace)
    job = job.with_result(sent).with_workunit(transition_time=transition_time)
    return _bound(job, hr_class, version[0] if one_version else 0)


def _bound(job: Job, hr_class: int, version: int) -> Job:
    """Copies go to this kind of computer, and to this version, unless they go to another one already."""
    workunit = job.workunit
    return job.with_workunit(hr_class=workunit.hr_class or hr_class, app_version_id=workunit.app_version_id or version)


def replicate(job: Job, copies: int) -> Job:
    """Have a job checked that would have gone unchecked."""
    return job.with_workunit(
        min_quorum=copies,
        target_nresults=copies,
        max_total_results=max(job.workunit.max_total_results, 2 * copies),
        max_success_results=max(job.workunit.max_success_results, copies),
    )


def spare(job: Job) -> Job:
    """One copy more beside those that hosts are slow with; itself where that was done before, or is not allowed."""
    workunit = job.workunit
    out = any(result.server_state == ServerState.IN_PROGRESS for result in job.results)
    if not out or is_over(workunit) or workunit.target_nresults > workunit.min_quorum:
        return job
    if len(job.results) >= workunit.max_total_results:
        return job
    return job.with_workunit(target_nresults=workunit.target_nresults + 1)


def is_spare(job: Job) -> bool:
    """Whether a copy that is sent now is one more than needed, as long as the others come back."""
    workunit = job.workunit
    out = any(result.server_state == ServerState.IN_PROGRESS for result in job.results)
    return out and workunit.target_nresults > workunit.min_quorum


def unbind(job: Job) -> Job:
    """Let copies go to other kinds of computers than those before them: nobody of that kind comes any more."""
    return job if is_over(job.workunit) else job.with_workunit(hr_class=0, app_version_id=0)


def may_be_reported(result: Result) -> bool:
    """True while a report changes something: in progress, or given up too early."""
    late = result.server_state == ServerState.OVER and result.outcome in (Outcome.NO_REPLY, Outcome.CLIENT_DETACHED)
    return result.server_state == ServerState.IN_PROGRESS or late


def report(job: Job, name: str, report: Report, now: int) -> Job:
    """A host brings a result back. A report of a result that is over already changes nothing."""
    result = job.result(name)
    if result is None or not may_be_reported(result):
        return job
    success = report.client_state == ClientState.UPLOADED and report.exit_status == 0
    # Nobody computed for longer than he had the job, in the whole seconds of the tables.
    elapsed = min(report.elapsed_time, max(0, now - result.sent_time) + 1) if result.sent_time else report.elapsed_time
    back = result._replace(
        server_state=ServerState.OVER,
        client_state=report.client_state,
        exit_status=report.exit_status,
        received_time=now,
        cpu_time=report.cpu_time,
        elapsed_time=elapsed,
        app_version_num=report.app_version_num or result.app_version_num,
    )
    if not success:
        back = back._replace(outcome=Outcome.CLIENT_ERROR, validate_state=ValidateState.INVALID)
    elif not report.usable:
        back = back._replace(outcome=Outcome.VALIDATE_ERROR, validate_state=ValidateState.INVALID)
    else:
        back = back._replace(outcome=Outcome.SUCCESS)
        # Where it comes late, nothing may have been left that bound the copies to come.
        job = _bound(job, report.hr_class, back.app_version_id if report.one_version else 0)
    return job.with_result(back)


def detach(job: Job, name: str, now: int) -> Job:
    """The host no longer knows of this copy and never will."""
    result = job.result(name)
    if result is None or result.server_state != ServerState.IN_PROGRESS:
        return job
    return job.with_result(
        result._replace(server_state=ServerState.OVER, outcome=Outcome.CLIENT_DETACHED, received_time=now)
    )


def cancel(job: Job) -> Job:
    """The submitter does not want it any more; what has an outcome already keeps it."""
    if is_over(job.workunit):
        return job
    return job.with_workunit(error_mask=job.workunit.error_mask | ErrorMask.CANCELLED)


def assimilated(job: Job, *, held: bool = False) -> Job:
    """The outcome was handed over."""
    return job.with_workunit(assimilate_state=AssimilateState.DONE)._replace(held=held)


def released(job: Job) -> Job:
    """Whoever was to fetch the outputs has them."""
    return job._replace(held=False)


def files_deleted(job: Job) -> Job:
    """Everything that was READY for deletion is gone."""
    gone = FileDeleteState.DONE
    results = tuple(
        r._replace(file_delete_state=gone) if r.file_delete_state == FileDeleteState.READY else r for r in job.results
    )
    if job.workunit.file_delete_state == FileDeleteState.READY:
        job = job.with_workunit(file_delete_state=gone)
    return job._replace(results=results)


# --- the transitioner ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Counts:
    """How many copies are where."""

    unsent: int
    in_progress: int
    success: int
    errors: int
    couldnt_send: int
    to_check: int


def _count(job: Job) -> _Counts:
    unsent = in_progress = success = errors = couldnt_send = to_check = 0
    for result in job.results:
        if result.server_state == ServerState.UNSENT:
            unsent += 1
        elif result.server_state == ServerState.IN_PROGRESS:
            in_progress += 1
        elif result.is_success:
            success += 1
            to_check += result.validate_state == ValidateState.INIT
        elif result.outcome == Outcome.COULDNT_SEND:
            couldnt_send += 1
        elif result.outcome in (Outcome.SUCCESS, Outcome.VALIDATE_ERROR) or _is_host_error(result):
            errors += 1
    return _Counts(unsent, in_progress, success, errors, couldnt_send, to_check)


def _is_host_error(result: Result) -> bool:
    # Whoever aborts a job by hand says nothing about the job.
    return result.outcome == Outcome.CLIENT_ERROR and result.exit_status != ExitStatus.ABORTED_VIA_GUI


def transition(job: Job, now: int, *, grace: int = 0) -> Job:
    """Draw every conclusion that follows from the states of the results and the time."""
    job = _time_out(job, now, grace)
    counts = _count(job)
    if not (counts.in_progress or counts.success or is_over(job.workunit)):
        # Nothing is left that new copies would have to be like.
        job = job.with_workunit(hr_class=0, app_version_id=0)
    job = _error_limits(job, counts)
    job = _create_copies(job, counts)
    if job.workunit.error_mask:
        job = _give_up(job)
    job = _mark_for_validation(job)
    if is_over(job.workunit):
        job = _close(job)
    return job.with_workunit(transition_time=_next_time(job, now, grace))


def _time_out(job: Job, now: int, grace: int) -> Job:
    results = tuple(
        r._replace(server_state=ServerState.OVER, outcome=Outcome.NO_REPLY)
        if r.server_state == ServerState.IN_PROGRESS and r.report_deadline + grace <= now
        else r
        for r in job.results
    )
    return job.with_results(results)


def _error_limits(job: Job, counts: _Counts) -> Job:
    workunit = job.workunit
    if is_over(workunit):
        return job
    mask = workunit.error_mask
    if counts.errors > workunit.max_error_results:
        mask |= ErrorMask.TOO_MANY_ERROR_RESULTS
    if counts.couldnt_send:
        mask |= ErrorMask.COULDNT_SEND_RESULT
    if len(job.results) >= workunit.max_total_results and _missing(workunit, counts) > 0:
        mask |= ErrorMask.TOO_MANY_TOTAL_RESULTS
    return job.with_workunit(error_mask=mask) if mask != workunit.error_mask else job


def _missing(workunit: Workunit, counts: _Counts) -> int:
    return workunit.target_nresults - counts.unsent - counts.in_progress - counts.success


def _create_copies(job: Job, counts: _Counts) -> Job:
    workunit = job.workunit
    missing = min(_missing(workunit, counts), workunit.max_total_results - len(job.results))
    if missing <= 0 or is_over(workunit):
        return job
    first = 1 + max((int(r.name.rpartition("_")[2]) for r in job.results), default=-1)
    # What is begun is finished before something new is begun.
    priority = workunit.priority + bool(job.results)
    created = tuple(Result(id=0, name=f"{workunit.name}_{first + n}", priority=priority) for n in range(missing))
    return job._replace(results=job.results + created)


def _give_up(job: Job) -> Job:
    """An error ends the job: nothing more is checked."""
    undecided = (ValidateState.INIT, ValidateState.INCONCLUSIVE)
    results = tuple(
        r._replace(validate_state=ValidateState.NO_CHECK)
        if r.outcome == Outcome.SUCCESS and r.validate_state in undecided
        else r
        for r in job.results
    )
    return job.with_results(results).with_workunit(need_validate=0)


def _mark_for_validation(job: Job) -> Job:
    workunit = job.workunit
    if workunit.error_mask:
        return job
    to_check = [r for r in job.results if r.is_success and r.validate_state == ValidateState.INIT]
    if not to_check:
        return job
    canonical = next((r for r in job.results if r.id and r.id == workunit.canonical_resultid), None)
    if canonical is not None and canonical.file_delete_state != FileDeleteState.INIT:
        late = {r.name: r._replace(validate_state=ValidateState.TOO_LATE) for r in to_check}
        return job._replace(results=tuple(late.get(r.name, r) for r in job.results))
    successes = sum(r.is_success for r in job.results)
    if canonical is not None or successes >= workunit.min_quorum:
        return job.with_workunit(need_validate=1)
    return job


def _close(job: Job) -> Job:
    """The job is settled: unsent copies are not needed, the outcome is to be handed over, files may go."""
    results = tuple(
        r._replace(server_state=ServerState.OVER, outcome=Outcome.DIDNT_NEED)
        if r.server_state == ServerState.UNSENT
        else r
        for r in job.results
    )
    job = job.with_results(results)
    if job.workunit.assimilate_state == AssimilateState.INIT:
        job = job.with_workunit(assimilate_state=AssimilateState.READY)
    if job.workunit.assimilate_state == AssimilateState.DONE and not job.held:
        job = _mark_files(job)
    return job


def _mark_files(job: Job) -> Job:
    """Inputs go when no copy can want them; outputs when nobody can want to look at them or compare with them."""
    undecided = (ValidateState.INIT, ValidateState.INCONCLUSIVE)
    all_over = all(r.server_state == ServerState.OVER for r in job.results)
    all_checked = all_over and not any(
        r.outcome == Outcome.SUCCESS and r.validate_state in undecided for r in job.results
    )

    def may_go(result: Result) -> bool:
        if result.server_state != ServerState.OVER or result.file_delete_state != FileDeleteState.INIT:
            return False
        if result.id == job.workunit.canonical_resultid:
            return all_checked
        return result.outcome != Outcome.SUCCESS or result.validate_state not in undecided

    results = tuple(r._replace(file_delete_state=FileDeleteState.READY) if may_go(r) else r for r in job.results)
    job = job.with_results(results)
    if all_checked and job.workunit.file_delete_state == FileDeleteState.INIT:
        job = job.with_workunit(file_delete_state=FileDeleteState.READY)
    return job


def _next_time(job: Job, now: int, grace: int) -> int:
    times = [r.report_deadline + grace for r in job.results if r.server_state == ServerState.IN_PROGRESS]
    if not is_over(job.workunit):
        waits_for_retry = job.workunit.need_validate and now < job.workunit.transition_time < NEVER
        if waits_for_retry:
            times.append(job.workunit.transition_time)
        times.append(now + max(_SAFETY_NET, job.workunit.delay_bound * 3 // 2))
    return min(min(times, default=NEVER), NEVER)


# --- validation ----------------------------------------------------------------------------------------------------


def viable(job: Job) -> tuple[Result, ...]:
    """The results that a validator is to look at: with a canonical result, this and those not yet compared to it."""
    successes = [r for r in job.results if r.is_success]
    canonical = job.workunit.canonical_resultid
    if not canonical:
        return tuple(r for r in successes if r.validate_state in (ValidateState.INIT, ValidateState.INCONCLUSIVE))
    undecided = (ValidateState.INIT, ValidateState.INCONCLUSIVE)
    return tuple(r for r in successes if r.id == canonical or r.validate_state in undecided)


def apply_verdict(job: Job, verdict: Verdict, now: int) -> Job:
    """Write a validator's verdict into the job."""
    workunit = job.workunit
    if verdict.retry:
        return job.with_workunit(need_validate=0, transition_time=now + _RETRY_VALIDATION)
    canonical = workunit.canonical_resultid or verdict.canonical
    results = tuple(_judged(result, verdict, bool(canonical)) for result in job.results)
    credit = verdict.credit.get(canonical, workunit.canonical_credit)
    job = job._replace(results=results).with_workunit(
        need_validate=0, canonical_resultid=canonical, canonical_credit=credit
    )
    return job if canonical else _one_more(job)


def _judged(result: Result, verdict: Verdict, decided: bool) -> Result:
    if result.id in verdict.invalid:
        return result._replace(outcome=Outcome.VALIDATE_ERROR, validate_state=ValidateState.INVALID)
    if result.id in verdict.valid:
        granted = verdict.credit.get(result.id, result.granted_credit)
        return result._replace(validate_state=ValidateState.VALID, granted_credit=granted)
    if result.id in verdict.disagree:
        state = ValidateState.INVALID if decided else ValidateState.INCONCLUSIVE
        return result._replace(validate_state=state)
    return result


def _one_more(job: Job) -> Job:
    """No quorum agrees: one copy more, unless there are too many that differ."""
    workunit = job.workunit
    undecided = len(viable(job))
    if undecided > workunit.max_success_results:
        return job.with_workunit(error_mask=workunit.error_mask | ErrorMask.TOO_MANY_SUCCESS_RESULTS)
    if undecided >= workunit.target_nresults:
        return job.with_workunit(target_nresults=undecided + 1)
    return job


def settle(job: Job, now: int, *, judge: Callable[[Job], Verdict] | None = None, grace: int = 0) -> Job:
    """Transition, and validate where that can be done on the spot, until nothing changes."""
    job = transition(job, now, grace=grace)
    # Each round decides at least one result or creates one, and both are limited; the bound is for a broken judge.
    for _ in range(2 * job.workunit.max_total_results + 8):
        if judge is None or not job.workunit.need_validate:
            break
        # Once is enough: whatever follows from a state, the transitioner draws in one go.
        job = transition(apply_verdict(job, judge(job), now), now, grace=grace)
    return job
