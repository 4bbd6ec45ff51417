"""The validator that a BOINC project uses for jobs of pymw: copies agree when each of their outcomes does.

`boincserver` finds it under the name "pymw" among its entry points, and knows nothing of this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from boincserver.errors import InvalidResult
from boincserver.validator import ResultFiles
from pymw import envelope
from pymw.backends.boinc.rules import Packed, Rule, Rules
from pymw.codec import CodecError
from pymw.volunteer import OUTCOMES

__all__ = ["OutcomeValidator", "Readable"]


@dataclass(frozen=True)
class Readable:
    """The outcomes in a result, and by which rule they are compared."""

    outcomes: tuple[Packed, ...]
    rule: Rule
    project: Path | None


class OutcomeValidator:
    """Compares type and content of values, and type and arguments of exceptions."""

    alone_on_the_spot = True

    def __init__(self) -> None:
        self._rules: dict[Path | None, Rules] = {}

    def load(self, result: ResultFiles) -> Readable:
        """One entry for each item; InvalidResult for a file that no worker of ours would have written."""
        try:
            outcomes = tuple(Packed(data) for data in envelope.unpack_outcomes(result.read(OUTCOMES)))
        except CodecError as error:
            raise InvalidResult(f"{result.name}: {error}") from error
        return Readable(outcomes, Rule.of(result.name), result.project)

    def agree(self, first: Readable, second: Readable) -> bool:
        """The same number of items, and each the same."""
        rules = self._rules.setdefault(first.project, Rules(first.project))
        return len(first.outcomes) == len(second.outcomes) and all(
            rules.agree(a, b, first.rule) for a, b in zip(first.outcomes, second.outcomes, strict=True)
        )

    def close(self) -> None:
        """End the children that run users' functions."""
        for rules in self._rules.values():
            rules.close()
