"""What a job must be like to be able to run at all."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from boincserver.errors import BoincServerError
from boincserver.protocol.request import is_name
from boincserver.records import Job

__all__ = ["check_job"]

MOST_COPIES: Final = 100
"""Of a job at a time; each is looked at whenever one of them is sent or comes back."""
MOST_TRIES: Final = 1000
MOST_URGENT: Final = 10**9
LARGEST: Final = 1e30
LONGEST: Final = 100_000
"""Letters of a command line."""
_COUNTS: Final = {
    "min_quorum": (1, MOST_COPIES),
    "max_error_results": (0, MOST_TRIES),
    "max_total_results": (1, MOST_TRIES),
    "max_success_results": (1, MOST_TRIES),
    "delay_bound": (60, 10 * 365 * 86400),
    "priority": (-(2**31), MOST_URGENT),
}
_LIMITS: Final = slice(Job._fields.index("min_quorum"), Job._fields.index("priority") + 1)
_AMOUNTS: Final = ("rsc_fpops_est", "rsc_fpops_bound", "rsc_memory_bound", "rsc_disk_bound")


def check_job(job: Job) -> None:
    """Raise BoincServerError, naming the job, for what could never run."""
    if not isinstance(job.name, str) or not is_name(job.name) or len(job.name) > 180:
        raise BoincServerError(f"{job.name!r} cannot name a job: up to 180 letters, digits and _ . + = - only")
    try:
        copied = job.copy_files if isinstance(job.copy_files, (bool, str)) else tuple(job.copy_files)
        _check_files(tuple(job.inputs), tuple(job.outputs.items()), copied, tuple(job.optional))
        _check_limits(*tuple(job)[_LIMITS])
        _check_texts(job)
    except BoincServerError as error:
        raise BoincServerError(f"job {job.name}: {error}") from None
    except (TypeError, AttributeError) as error:  # of what is no mapping, no list, or cannot be hashed
        raise BoincServerError(f"job {job.name}: a field has a value of the wrong kind: {error}") from None


def _check_texts(job: Job) -> None:
    line = job.command_line
    if not isinstance(line, str) or len(line) > LONGEST or "\0" in line or (not line.isascii() and not _is_sound(line)):
        raise BoincServerError(f"command_line is a text of at most {LONGEST} letters, not {str(line)[:100]!r}")
    if not isinstance(job.app, str):
        raise BoincServerError(f"app is the name of an application, not {job.app!r}")
    for name, content in job.inputs.items():
        if not isinstance(content, (bytes, bytearray, memoryview, str)):
            raise BoincServerError(f"input {name}: it is bytes, or the name of a file, not {content!r}")


def _is_sound(text: str) -> bool:
    """Whether it can be written down; half of a surrogate pair cannot."""
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


# Cached, since a batch has very many jobs that differ in their names and contents alone.
@lru_cache(maxsize=256, typed=True)
def _check_files(inputs: tuple[Any, ...], outputs: tuple[Any, ...], copied: Any, optional: tuple[Any, ...]) -> None:
    names = [*inputs, *(name for name, _ in outputs)]
    for name in names:
        if not isinstance(name, str) or not _is_open_name(name):
            raise BoincServerError(f"{name!r} cannot name a file")
    for name in names:
        if any(other.startswith(f"{name}/") for other in names):
            raise BoincServerError(f"{name!r} cannot be a file and a folder")
    for name, nbytes in outputs:
        if not _is_whole(nbytes) or not 0 < nbytes < 2**60:
            raise BoincServerError(f"output {name}: its largest size is a number of bytes, not {nbytes!r}")
    _check_known(optional, "optional", [name for name, _ in outputs])
    if isinstance(copied, str):
        raise BoincServerError(f"copy_files is true, false or a list of names, not {copied!r}")
    if not isinstance(copied, bool):
        _check_known(copied, "copy_files", names)


def _check_known(given: Iterable[Any], what: str, names: list[str]) -> None:
    for name in given:
        if name not in names:
            raise BoincServerError(f"{what}: there is no file {name!r}")


@lru_cache(maxsize=1024)
def _is_open_name(name: str) -> bool:
    parts = name.split("/")
    return 0 < len(name) <= 200 and all(is_name(part) for part in parts)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@lru_cache(maxsize=256, typed=True)
def _check_limits(*values: Any) -> None:
    given = dict(zip(Job._fields[_LIMITS], values, strict=True))
    for field, (low, high) in _COUNTS.items():
        if not _is_whole(given[field]) or not low <= given[field] <= high:
            raise BoincServerError(f"{field} is a whole number from {low} to {high}, not {given[field]!r}")
    for field in _AMOUNTS:
        value = given[field]
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= LARGEST:
            raise BoincServerError(f"{field} is a number above 0, not {value!r}")
    quorum, target, total = given["min_quorum"], given["target_nresults"], given["max_total_results"]
    target = quorum if target is None else target
    if not _is_whole(target) or not quorum <= target <= min(total, MOST_COPIES):
        raise BoincServerError(
            "it must hold that 1 <= min_quorum <= target_nresults <= max_total_results, with no more than "
            f"{MOST_COPIES} copies at a time: {quorum}, {target!r}, {total}"
        )
    if given["max_success_results"] < quorum:
        raise BoincServerError("max_success_results is below min_quorum, so it could never succeed")
