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
MOST = 10_000  # calls in one job
MOST_BYTES = 16 << 20  # of arguments or results in one job's files, as far as they are foreseen
UNKNOWN_BYTES = 16 << 10  # of a call's result, where nothing is known of it


def chunk_size(tasks: int, *, seconds: float | None, cores: int, nbytes: int = 0) -> int:
    """Calls for each workunit, where a call takes `seconds` (None: unknown) and `cores` volunteer.

    `nbytes` is the size of a call's arguments or result, whichever is larger; 0: unknown.
    """
    fair = math.ceil(tasks / (ROUNDS * max(cores, FEWEST_CORES)))
    patient = MOST if not seconds else int(TARGET_SECONDS / seconds)
    return max(1, min(fair, patient, MOST, MOST_BYTES // (nbytes or UNKNOWN_BYTES)))


def cut(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch in pieces of `size`, the last one shorter."""
    for start in range(0, len(batch), size):
        yield batch[start : start + size]
