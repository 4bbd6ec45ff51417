"""What a server tells of batches and jobs, as frozen records."""

from __future__ import annotations

import html
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from boincserver.records import HostInfo, JobState
from boincserver.states import BatchState, ErrorMask, Outcome, ServerState, ValidateState

__all__ = ["BatchStatus", "CompletedJob", "Instance", "JobStatus"]

_ERRORS: Final[Mapping[str, ErrorMask]] = {
    "couldnt_send_result": ErrorMask.COULDNT_SEND_RESULT,
    "too_many_error_results": ErrorMask.TOO_MANY_ERROR_RESULTS,
    "too_many_success_results": ErrorMask.TOO_MANY_SUCCESS_RESULTS,
    "too_many_total_results": ErrorMask.TOO_MANY_TOTAL_RESULTS,
    "cancelled": ErrorMask.CANCELLED,
    "no_canonical_result": ErrorMask.NO_CANONICAL_RESULT,
}


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job of a batch; `status` (queued, in_progress, done, error) only where details were asked for."""

    id: int
    name: str
    canonical: int
    canonical_name: str = ""
    canonical_host: int = 0
    status: str = ""
    errors: ErrorMask = ErrorMask.NONE
    exit_statuses: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """A batch."""

    id: int
    name: str
    app_name: str
    state: BatchState
    njobs: int
    nerror_jobs: int
    fraction_done: float
    create_time: int
    expire_time: float
    credit_canonical: float
    total_cpu_time: float | None
    jobs: tuple[JobStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class Instance:
    """A copy of a job; `sizes` are those of its outputs. The official server does not tell the host."""

    id: int
    name: str
    state: str
    sizes: tuple[int, ...] = ()
    host: int = 0
    exit_status: int = 0
    deadline: int = 0

    @property
    def server_state(self) -> ServerState:
        """Where it is."""
        return {"Unsent": ServerState.UNSENT, "In progress": ServerState.IN_PROGRESS}.get(self.state, ServerState.OVER)

    @property
    def outcome(self) -> tuple[Outcome, ValidateState] | None:
        """What the official words mean; None for a copy that is not over."""
        return (
            _MEANING.get(self.state, (Outcome.CLIENT_ERROR, ValidateState.INIT)) if self.state not in _ALIVE else None
        )


@dataclass(frozen=True, slots=True)
class CompletedJob:
    """The copy of a job that was kept, or else one that failed (`result` 0: none came back)."""

    error_mask: ErrorMask
    result: int = 0
    exit_status: int = 0
    elapsed_time: float = 0.0
    cpu_time: float = 0.0
    stderr: str = ""


_ALIVE: Final = frozenset({"Unsent", "In progress", "Inactive"})
_MEANING: Final[Mapping[str, tuple[Outcome, ValidateState]]] = {
    "Completed, waiting for validation": (Outcome.SUCCESS, ValidateState.INIT),
    "Completed and validated": (Outcome.SUCCESS, ValidateState.VALID),
    "Completed, marked as invalid": (Outcome.SUCCESS, ValidateState.INVALID),
    "Completed, can't validate": (Outcome.SUCCESS, ValidateState.NO_CHECK),
    "Completed, validation inconclusive": (Outcome.SUCCESS, ValidateState.INCONCLUSIVE),
    "Completed, too late to validate": (Outcome.SUCCESS, ValidateState.TOO_LATE),
    "Completed": (Outcome.SUCCESS, ValidateState.INIT),
    "Couldn't send": (Outcome.COULDNT_SEND, ValidateState.INIT),
    "Timed out - no response": (Outcome.NO_REPLY, ValidateState.INIT),
    "Didn't need": (Outcome.DIDNT_NEED, ValidateState.INIT),
    "Validate error": (Outcome.VALIDATE_ERROR, ValidateState.INVALID),
    "Abandoned": (Outcome.CLIENT_DETACHED, ValidateState.INIT),
}


def text_of(element: ET.Element, name: str) -> str:
    """The text of a child."""
    return (element.findtext(name) or "").strip()


def number_of(element: ET.Element, name: str) -> float:
    """The number in a child; 0 for what is none."""
    try:
        return float(text_of(element, name) or 0)
    except ValueError:
        return 0.0


def _whole(element: ET.Element, name: str) -> int:
    return int(number_of(element, name))


def batch_of(element: ET.Element) -> BatchStatus:
    """A batch, with its jobs if they were told."""
    cpu_time = element.find("total_cpu_time")
    return BatchStatus(
        _whole(element, "id"), text_of(element, "name"), text_of(element, "app_name"),
        BatchState(min(max(_whole(element, "state"), 0), 4)), _whole(element, "njobs"),
        _whole(element, "nerror_jobs"), number_of(element, "fraction_done"), _whole(element, "create_time"),
        number_of(element, "expire_time"), number_of(element, "credit_canonical"),
        None if cpu_time is None else number_of(element, "total_cpu_time"),
        tuple(_job(job) for job in element.findall("job")),
    )  # fmt: skip


def _job(element: ET.Element) -> JobStatus:
    errors = ErrorMask.NONE
    for word in element.findall("error"):
        errors |= _ERRORS.get((word.text or "").strip(), ErrorMask.NONE)
    statuses = [text for status in element.findall("exit_status") if (text := (status.text or "").strip())]
    return JobStatus(
        _whole(element, "id"), text_of(element, "name"), _whole(element, "canonical_instance_id"),
        text_of(element, "canonical_instance_name"), _whole(element, "canonical_hostid"), text_of(element, "status"),
        errors, tuple(int(text) for text in statuses if text.lstrip("-").isdecimal()),
    )  # fmt: skip


def instance_of(element: ET.Element) -> Instance:
    """A copy of a job."""
    sizes = tuple(int(number_of(file, "size")) for file in element.findall("outfile"))
    return Instance(
        _whole(element, "id"), text_of(element, "name"), text_of(element, "state"), sizes,
        _whole(element, "hostid"), _whole(element, "exit_status"), _whole(element, "deadline"),
    )  # fmt: skip


def completed_of(element: ET.Element) -> CompletedJob:
    """How a job ended."""
    return CompletedJob(
        ErrorMask(_whole(element, "error_mask") & 63),
        _whole(element, "canonical_resultid") or _whole(element, "error_resultid"),
        _whole(element, "exit_status"),
        number_of(element, "elapsed_time"),
        number_of(element, "cpu_time"),
        # It was escaped inside a CDATA section, so one time more than XML would.
        html.unescape((element.findtext("stderr_out") or "").strip("\n")).strip(),
    )


def change_of(element: ET.Element) -> JobState:
    """Where a job is now."""
    hosts = tuple(int(text) for host in element.findall("hostid") if (text := (host.text or "").strip()).isdecimal())
    name, state = text_of(element, "name"), text_of(element, "state")
    return JobState(name, state, hosts, _whole(element, "deadline"), text_of(element, "said"))


def host_of(element: ET.Element) -> HostInfo:
    """A volunteer's computer, without the names that a submitter is not told."""
    return HostInfo(
        id=_whole(element, "id"),
        user_id=_whole(element, "user_id"),
        user_name="",
        domain_name="",
        os_name="",
        ncpus=_whole(element, "ncpus"),
        last_contact=_whole(element, "last_contact"),
        in_progress=_whole(element, "in_progress"),
        succeeded=_whole(element, "succeeded"),
        failed=_whole(element, "failed"),
    )
