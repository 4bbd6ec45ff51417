"""The validator that a BOINC project uses for jobs of pymw: copies agree when each of their outcomes does.

`boincserver` finds it under the name "pymw" among its entry points, and knows nothing of this package.
"""

from __future__ import annotations

from boincserver.errors import InvalidResult
from boincserver.validator import ResultFiles
from pymw import envelope
from pymw.codec import CodecError
from pymw.volunteer import OUTCOMES

__all__ = ["OutcomeValidator"]


class OutcomeValidator:
    """Compares by canonical digests: type and content of values, type and arguments of exceptions."""

    def load(self, result: ResultFiles) -> tuple[str, ...]:
        """One fingerprint for each item; InvalidResult for a file that no worker of ours would have written."""
        try:
            return tuple(envelope.fingerprint(outcome) for outcome in envelope.unpack_outcomes(result.read(OUTCOMES)))
        except CodecError as error:
            raise InvalidResult(f"{result.name}: {error}") from error

    def agree(self, first: tuple[str, ...], second: tuple[str, ...]) -> bool:
        """The same number of items, and each the same."""
        return first == second
