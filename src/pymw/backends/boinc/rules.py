"""By which rule the results of a workunit must agree: a part of its name, so known wherever its results are.

    pymw_run_17_1               exactly: type and content
    pymw_run_17_rtol1e-09_1     floating-point numbers within a relative tolerance
    pymw_run_17_agreeDIGEST_1   as a Python function says, which the operator keeps under this digest

No volunteer can change it, and also the validators of an official server could know it.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymw import envelope
from pymw.agree import difference
from pymw.backends.boinc.judge import Agreements, Judge
from pymw.codec import CodecError
from pymw.outcome import Ending

__all__ = ["EXACT", "Packed", "Rule", "Rules", "name_for"]

_PART = re.compile(r"_(?:rtol(?P<rtol>[0-9.e+-]+)|agree(?P<digest>[0-9a-f]{24}))_[0-9]+(?:_[0-9]+)?$")


@dataclass(frozen=True, slots=True)
class Rule:
    """Exact agreement; or within `rtol`; or as the function of that digest has it."""

    rtol: float | None = None
    digest: str = ""

    @classmethod
    def of(cls, name: str) -> Rule:
        """The rule in the name of a workunit or of one of its results."""
        found = _PART.search(name)
        if found is None:
            return EXACT
        return cls(float(found["rtol"])) if found["rtol"] else cls(digest=found["digest"])

    def __str__(self) -> str:
        return f"_agree{self.digest}" if self.digest else "" if self.rtol is None else f"_rtol{self.rtol:g}"


EXACT = Rule()


def name_for(run: str, content: object, attempt: int, rule: Rule) -> str:
    """The name of a workunit whose results must agree by this rule."""
    return f"{run}_{content}{rule}_{attempt}"


class Packed:
    """A packed outcome on its way to a comparison, read no earlier and no oftener than it takes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @functools.cached_property
    def said(self) -> tuple[str, Any]:
        """How it ended, and the value with the files or the exception; CodecError for what nobody can read."""
        return envelope.agreement(self.data)

    @functools.cached_property
    def fingerprint(self) -> str | None:
        """Equal where outcomes are equal; None where it cannot be read."""
        try:
            return envelope.fingerprint(self.data)
        except CodecError:
            return None


class Rules:
    """Applies rules; `project` is the directory where the functions are kept, None where there are none."""

    def __init__(self, project: Path | None) -> None:
        self._kept = Agreements(project) if project is not None else None
        self._judges: dict[str, Judge] = {}
        self._used: set[str] = set()

    def agree(self, first: Packed, second: Packed, rule: Rule) -> bool:
        """Whether two outcomes say the same. Raises ComparisonFailed where the user's function fails."""
        if first.fingerprint is None or second.fingerprint is None:
            return False
        if first.fingerprint == second.fingerprint:
            return True
        if rule == EXACT:
            return False
        (kind, value), (other_kind, other) = first.said, second.said
        if kind != other_kind:
            return False
        if rule.digest and kind == Ending.RETURNED.value:
            return bool(value[1] == other[1]) and self._judge(rule.digest).agree(
                envelope.packed_value(first.data), envelope.packed_value(second.data)
            )
        return difference(value, other, rule.rtol) is None

    def difference(self, first: Packed, second: Packed, rule: Rule) -> str | None:
        """In words, where two outcomes differ; None where they agree or nobody can tell."""
        with contextlib.suppress(CodecError):
            if self.agree(first, second, rule):
                return None
            (kind, value), (other_kind, other) = first.said, second.said
            if kind != other_kind:
                return f": one {_ended(kind)}, one {_ended(other_kind)}"
            if kind == Ending.RETURNED.value:
                files = difference(value[1], other[1], None)
                found = difference(value[0], other[0], rule.rtol) or (f" in the files{files}" if files else None)
                return found if not rule.digest else f"{found or ''} (and agree= says that this is not the same)"
            return difference(value, other, rule.rtol)
        return ": one of them cannot be read"

    def _judge(self, digest: str) -> Judge:
        if digest not in self._judges:
            assert self._kept is not None
            self._judges[digest] = Judge(self._kept, digest)
        return self._judges[digest]

    def use(self, digest: str, data: bytes) -> None:
        """Results are to be compared by this function."""
        assert self._kept is not None
        self._kept.keep(digest, data)
        self._used.add(digest)

    def failures(self) -> Iterator[tuple[str, str]]:
        """The functions in use that failed, here or at the server, and how; each is told once."""
        for digest in list(self._used):
            assert self._kept is not None
            if (reason := self._kept.failure(digest)) is not None:
                self._used.discard(digest)
                yield digest, reason

    def close(self) -> None:
        """End the children that run users' functions."""
        for judge in self._judges.values():
            judge.close()
        self._judges.clear()


def _ended(kind: str) -> str:
    return {"lost": "lost its worker", "out of time": "ran out of time", "unsendable": "cannot be sent"}.get(kind, kind)
