"""What a job must be like to be able to run at all."""

from __future__ import annotations

from functools import lru_cache

from boincserver.errors import BoincServerError
from boincserver.protocol.request import is_name
from boincserver.records import Job

__all__ = ["check_job"]


def check_job(job: Job) -> None:
    """Raise BoincServerError, naming the job, for what could never run."""
    if not is_name(job.name) or len(job.name) > 180:
        raise BoincServerError(f"{job.name!r} cannot name a job: up to 180 letters, digits and _ . + = - only")
    for open_name in [*job.inputs, *job.outputs]:
        if not _is_open_name(open_name):
            raise BoincServerError(f"job {job.name}: {open_name!r} cannot name a file")
    if not 1 <= job.min_quorum <= (job.target_nresults or job.min_quorum) <= job.max_total_results:
        raise BoincServerError(
            f"job {job.name}: it must hold that 1 <= min_quorum <= target_nresults <= max_total_results"
        )
    if job.max_success_results < job.min_quorum:
        raise BoincServerError(f"job {job.name}: max_success_results is below min_quorum, so it could never succeed")
    if job.delay_bound < 60 or job.delay_bound > 10 * 365 * 86400:
        raise BoincServerError(f"job {job.name}: delay_bound must be between a minute and ten years")


@lru_cache(maxsize=1024)
def _is_open_name(name: str) -> bool:
    parts = name.split("/")
    return 0 < len(name) <= 200 and all(is_name(part) for part in parts)
