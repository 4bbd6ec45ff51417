"""How many calls travel in one workunit: pure arithmetic.

A volunteer's computer should be asked for minutes of work at a time, not for milliseconds; and every host that is
there should get some, several times over, so that the last ones to finish do not keep the rest waiting.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeVar

from pymw.backends.protocol import Batch

__all__ = ["chunk_size", "cut"]

TARGET_SECONDS = 300.0  # of one job, on a typical host
ROUNDS = 4  # each core gets at least this many jobs of a call that is large enough
MOST = 1000  # calls in one job: what its files may hold

_T = TypeVar("_T")


def chunk_size(tasks: int, *, seconds: float | None, cores: int, explicit: int | None = None) -> int:
    """Calls for each workunit, where a call takes `seconds` (None: unknown) and `cores` volunteer."""
    if explicit is not None:
        return explicit
    fair = math.ceil(tasks / (ROUNDS * max(cores, 1)))
    patient = MOST if not seconds else int(TARGET_SECONDS / seconds)
    return max(1, min(fair, patient, MOST))


def cut(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch in pieces of `size`, the last one shorter."""
    for start in range(0, len(batch), size):
        yield batch[start : start + size]
