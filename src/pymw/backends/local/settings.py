"""What the master was given, as the pool needs it: how many workers, and what they start with."""

from __future__ import annotations

import os

from pymw.backends.protocol import Setup
from pymw.errors import BackendError, UnsupportedOption
from pymw.shipping import pack

__all__ = ["count", "environment", "initializer"]

KEEP_MEMORY = 64 << 20  # bytes


def count(address: str, setup: Setup) -> int:
    """The number of workers; what of the set-up does not fit is refused by name."""
    if setup.mp_context is not None and setup.mp_context.get_start_method() != "spawn":
        raise UnsupportedOption("mp_context", "local", "its workers are always fresh interpreters, as with 'spawn'")
    if setup.values not in ("native", "safe"):
        raise ValueError(f'values= is "native" or "safe", not {setup.values!r}')
    if address and not (address.isdecimal() and int(address)):
        raise BackendError(f"local:{address}: what follows the colon is a number of workers, at least 1")
    count = setup.max_workers if setup.max_workers is not None else int(address or 0) or _cores()
    if count <= 0:
        raise ValueError("max_workers must be greater than 0")
    return count


def _cores() -> int:
    if (share := os.environ.get("PYMW_CORES", "")).isdecimal():
        return max(1, int(share))  # inside a task of ours: the other workers have the other cores
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def environment(workers: int) -> dict[str, str]:
    """Threads of numerical libraries share the cores with the workers, unless the user said otherwise."""
    threads = str(max(1, _cores() // workers))
    libraries = ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB", "NUMBA", "NUMEXPR")
    defaults = {f"{name}_NUM_THREADS": threads for name in libraries}
    # A worker frees and needs blocks of the same size all day: the C library should keep some instead of returning
    # them to the system, which costs more than all the copying.
    defaults |= {"MALLOC_MMAP_THRESHOLD_": str(KEEP_MEMORY), "MALLOC_TRIM_THRESHOLD_": str(KEEP_MEMORY)}
    return defaults | dict(os.environ) | {"PYMW_CORES": threads}


def initializer(setup: Setup) -> bytes | None:
    """The initializer and its arguments, pickled; None where there is none."""
    if setup.initializer is None:
        return None
    if not callable(setup.initializer):
        raise TypeError("initializer must be a callable")
    return pack((setup.initializer, setup.initargs), "initializer")
