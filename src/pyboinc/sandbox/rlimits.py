"""The limits that every Unix has."""

from __future__ import annotations

import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyboinc.sandbox.policy import Policy

assert sys.platform != "win32"


def apply(policy: Policy) -> None:
    """Lower what the policy names; a limit that is already lower stays."""
    # What a process allocates, not its address space: libraries and thread stacks map far more than they use.
    _lower(resource.RLIMIT_DATA, policy.memory)
    _lower(resource.RLIMIT_FSIZE, policy.file_size)
    _lower(resource.RLIMIT_CPU, policy.cpu_seconds)
    _lower(resource.RLIMIT_NPROC, policy.processes)
    _lower(resource.RLIMIT_NOFILE, policy.open_files)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # nobody gets before others in the queue for the processor
        resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
        resource.setrlimit(resource.RLIMIT_NICE, (0, 0))


def _lower(which: int, bound: int) -> None:
    hard = resource.getrlimit(which)[1]
    if bound and (hard == resource.RLIM_INFINITY or bound < hard):
        resource.setrlimit(which, (bound, bound))
