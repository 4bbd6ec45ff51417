"""Assimilation: what is done with a job's outcome.

An assimilator is a class with one method, found by its name among the entry points of the group
`boincserver.assimilators`. `outbox`, the default, keeps the outcome for whoever submitted the job; `discard` is for
applications that only want to be computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from boincserver import plugins
from boincserver.errors import UnknownAssimilator
from boincserver.states import ErrorMask
from boincserver.validator import ResultFiles

__all__ = ["Assimilator", "Discard", "FinishedJob", "Outbox", "find_assimilator"]


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A job with its canonical result, or with the reasons why there is none."""

    name: str
    app: str
    batch: int
    error_mask: ErrorMask
    canonical: ResultFiles | None


class Assimilator(Protocol):
    """What is done with the outcomes of an application."""

    def assimilate(self, job: FinishedJob) -> None:
        """Take this outcome. Called at least once for each job, and again later if it raises."""
        ...


class Outbox:
    """Keep the outcome until its submitter has acknowledged it; done within the transaction that settles the job."""

    def assimilate(self, job: FinishedJob) -> None:
        """Done by `outbox.deliver`."""


class Discard:
    """Let it go."""

    def assimilate(self, job: FinishedJob) -> None:
        """Nothing."""


_BUILT_IN: Final[Mapping[str, type[Any]]] = {"outbox": Outbox, "discard": Discard}


def find_assimilator(name: str) -> Assimilator:
    """A new assimilator of that name; UnknownAssimilator lists those that exist."""
    found: Assimilator = plugins.find("boincserver.assimilators", _BUILT_IN, name, UnknownAssimilator)
    return found
