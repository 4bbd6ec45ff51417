"""The validator that a BOINC project uses for jobs of pymw: copies agree when each of their outcomes does.

`boincserver` finds it under the name "pymw" among its entry points, and knows nothing of this package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from boincserver.errors import InvalidResult
from boincserver.validator import ResultFiles
from pymw import envelope
from pymw.agree import difference
from pymw.codec import CodecError
from pymw.volunteer import OUTCOMES

__all__ = ["OutcomeValidator", "Readable", "name_for"]

# How exactly results must agree is part of a workunit's name, and so of its results': it is known wherever they are,
# also to the validators of an official server, and no volunteer can change it.
_TOLERANCE = re.compile(r"_rtol([0-9.e+-]+)_[0-9]+_[0-9]+$")


def name_for(run: str, content: object, attempt: int, rtol: float | None) -> str:
    """The name of a workunit whose results must agree within `rtol`; None: exactly."""
    tolerance = "" if rtol is None else f"_rtol{rtol:g}"
    return f"{run}_{content}{tolerance}_{attempt}"


@dataclass(frozen=True)
class Readable:
    """What of a result is compared: for exact agreement a fingerprint of each outcome, else what it says."""

    outcomes: tuple[Any, ...]
    rtol: float | None


class OutcomeValidator:
    """Compares type and content of values, and type and arguments of exceptions."""

    def load(self, result: ResultFiles) -> Readable:
        """One entry for each item; InvalidResult for a file that no worker of ours would have written."""
        found = _TOLERANCE.search(result.name)
        rtol = float(found[1]) if found else None
        read = envelope.fingerprint if rtol is None else envelope.agreement
        try:
            return Readable(tuple(read(outcome) for outcome in envelope.unpack_outcomes(result.read(OUTCOMES))), rtol)
        except CodecError as error:
            raise InvalidResult(f"{result.name}: {error}") from error

    def agree(self, first: Readable, second: Readable) -> bool:
        """The same number of items, and each the same."""
        if first.rtol is None:
            return first == second
        return difference(first.outcomes, second.outcomes, first.rtol) is None
