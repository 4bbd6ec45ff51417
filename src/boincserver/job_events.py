"""What the log is told of jobs and their copies, from how a change left them: pure functions over records."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final

from boincserver.lifecycle import Job, Result
from boincserver.states import ErrorMask, Outcome, ServerState, ValidateState

__all__ = ["changes"]

_FAILED: Final = frozenset({Outcome.CLIENT_ERROR, Outcome.NO_REPLY, Outcome.VALIDATE_ERROR, Outcome.CLIENT_DETACHED})


def changes(before: Job, after: Job, level: int) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Level, event and fields of everything from this level on that a change did to a job."""
    job = after.workunit
    known = {result.name: result for result in before.results}
    for result in after.results:
        was = known.get(result.name)
        if result is was or result.hostid == 0:
            continue
        about = {"host": result.hostid, "job": job.name, "copy": result.name}
        if (found := _of_copy(was, result)) is not None and found[0] >= level:
            yield found[0], found[1], {**about, **found[2]}
    if job.error_mask and not before.workunit.error_mask:
        what = "job-cancelled" if job.error_mask == ErrorMask.CANCELLED else "job-failed"
        importance = logging.INFO if job.error_mask == ErrorMask.CANCELLED else logging.WARNING
        if importance >= level:
            yield importance, what, {"job": job.name, "batch": job.batch, "why": ErrorMask(job.error_mask).name}
    elif job.canonical_resultid and not before.workunit.canonical_resultid and level <= logging.DEBUG:
        yield logging.DEBUG, "job-done", {"job": job.name, "batch": job.batch}


def _of_copy(was: Result | None, result: Result) -> tuple[int, str, dict[str, Any]] | None:
    if result.server_state == ServerState.IN_PROGRESS:
        return (logging.DEBUG, "copy-sent", {}) if was is None or was.server_state != result.server_state else None
    if was is not None and was.outcome == result.outcome:
        wrong = result.validate_state == ValidateState.INVALID != was.validate_state
        return (logging.INFO, "copy-invalid", {}) if wrong else None
    if result.outcome in _FAILED:
        return logging.INFO, "copy-failed", {"outcome": Outcome(result.outcome).name, "exit": result.exit_status}
    return (logging.DEBUG, "copy-succeeded", {}) if result.outcome == Outcome.SUCCESS else None
