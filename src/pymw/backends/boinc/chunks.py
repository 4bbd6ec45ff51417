"""How many calls travel in one workunit: pure arithmetic.

A volunteer's computer should be asked for minutes of work at a time, not for milliseconds; and every host that is
there should get some, several times over, so that the last ones to finish do not keep the rest waiting.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pymw.backends.protocol import Batch

__all__ = ["chunk_size", "cut"]

TARGET_SECONDS = 300.0  # of one job, on a typical host
ROUNDS = 4  # each core gets at least this many jobs of a call that is large enough
FEWEST_CORES = 4  # assumed before volunteers have come
MOST = 1000  # calls in one job: what its files may hold


def chunk_size(tasks: int, *, seconds: float | None, cores: int) -> int:
    """Calls for each workunit, where a call takes `seconds` (None: unknown) and `cores` volunteer."""
    fair = math.ceil(tasks / (ROUNDS * max(cores, FEWEST_CORES)))
    patient = MOST if not seconds else int(TARGET_SECONDS / seconds)
    return max(1, min(fair, patient, MOST))


def cut(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch in pieces of `size`, the last one shorter."""
    for start in range(0, len(batch), size):
        yield batch[start : start + size]
