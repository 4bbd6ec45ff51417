"""Validation: do the results of a job agree, and which of them is the one to keep?

A validator is a class with two methods, found by its name among the entry points of the group
`boincserver.validators`. It reads a result (`load`) and compares two (`agree`); counting votes is done here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from boincserver import plugins
from boincserver.errors import InvalidResult, UnknownValidator
from boincserver.lifecycle import Verdict

__all__ = ["Bitwise", "ResultFiles", "Trivial", "Validator", "find_validator", "judge"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ResultFiles:
    """The outputs of one result, by the names under which the program wrote them."""

    name: str
    paths: Mapping[str, Path]
    md5: Mapping[str, str]
    stderr: str = ""
    hostid: int = 0
    project: Path | None = None
    """The project's directory."""

    def read(self, open_name: str) -> bytes:
        """The whole of one output."""
        try:
            return self.paths[open_name].read_bytes()
        except (KeyError, FileNotFoundError) as error:
            raise InvalidResult(f"{self.name} has no output {open_name!r}") from error


class Validator(Protocol[T]):
    """How the results of an application are compared.

    With `alone_on_the_spot = True` a small result that needs no comparison is loaded within its report's transaction.
    """

    def load(self, result: ResultFiles) -> T:
        """What is to be compared; InvalidResult for an output that cannot be right."""
        ...

    def agree(self, first: T, second: T) -> bool:
        """True if two results say the same."""
        ...


class Bitwise:
    """Results agree if all their output files are equal, byte for byte."""

    from_digests = True
    """`load` needs the digests alone, so it runs within the report's own transaction."""

    def load(self, result: ResultFiles) -> Mapping[str, str]:
        """The digests of the outputs."""
        return result.md5

    def agree(self, first: Mapping[str, str], second: Mapping[str, str]) -> bool:
        """Equal digests."""
        return first == second


class Trivial:
    """Every result is right that brings its files."""

    from_digests = True

    def load(self, result: ResultFiles) -> None:
        """Nothing to look at."""

    def agree(self, first: None, second: None) -> bool:
        """Always."""
        return True


_BUILT_IN: Final[Mapping[str, type[Any]]] = {"bitwise": Bitwise, "trivial": Trivial}


def find_validator(name: str) -> Validator[Any]:
    """A new validator of that name; UnknownValidator lists those that exist."""
    found: Validator[Any] = plugins.find("boincserver.validators", _BUILT_IN, name, UnknownValidator)
    return found


def judge(values: Mapping[int, T | InvalidResult], agree: Any, *, min_quorum: int, canonical: int = 0) -> Verdict:
    """Count votes. `values` are the loaded results by id, or why they cannot be right.

    Without a canonical result, the largest group wins that agrees with one of its members and is a strict majority of
    `min_quorum`; with one, everybody else is compared to it.
    """
    invalid = frozenset(number for number, value in values.items() if isinstance(value, InvalidResult))
    readable = {number: value for number, value in values.items() if number not in invalid}
    if canonical:
        if canonical not in readable:
            return Verdict(canonical=canonical, disagree=frozenset(readable), invalid=invalid - {canonical})
        group = _friends(canonical, readable, agree)
        return Verdict(canonical, group, frozenset(readable) - group, invalid)
    if len(readable) < min_quorum:
        return Verdict(disagree=frozenset(readable), invalid=invalid)
    chosen, group = _largest(readable, agree)
    if len(group) < min_quorum // 2 + 1:
        return Verdict(disagree=frozenset(readable), invalid=invalid)
    return Verdict(chosen, group, frozenset(readable) - group, invalid)


def _friends(of: int, values: Mapping[int, Any], agree: Any) -> frozenset[int]:
    return frozenset(other for other in values if other == of or agree(values[of], values[other]))


def _largest(values: Mapping[int, Any], agree: Any) -> tuple[int, frozenset[int]]:
    groups: Sequence[tuple[int, frozenset[int]]] = [(number, _friends(number, values, agree)) for number in values]
    # The oldest of the largest groups, whatever the order in which results came back.
    return max(groups, key=lambda item: (len(item[1]), -item[0]))
