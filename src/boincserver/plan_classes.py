"""Plan classes: for which computers a version of an application is, and how many processors it uses there.

A class with one method, built in or found by its name among the entry points of the group `boincserver.plan_classes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, Protocol

from boincserver import plugins
from boincserver.errors import BoincServerError
from boincserver.protocol.request import SchedulerRequest

__all__ = ["PlanClass", "find_plan_class"]


class PlanClass(Protocol):
    """What a version wants of a computer."""

    def processors(self, request: SchedulerRequest) -> float | None:
        """How many of the computer's processors the version uses; None where it cannot run."""
        ...


class _Any:
    """No plan class: any computer of the platform, one processor."""

    def processors(self, request: SchedulerRequest) -> float | None:
        return 1.0


class _Multithreaded:
    """`mt`: every processor at once, from two on."""

    def processors(self, request: SchedulerRequest) -> float | None:
        count = request.host.p_ncpus
        return float(count) if count > 1 else None


class _Instructions:
    """Processors that say they have these instructions."""

    name: ClassVar[str]

    def processors(self, request: SchedulerRequest) -> float | None:
        return 1.0 if self.name in request.p_features.split() else None


def _with(instructions: str) -> type[_Instructions]:
    return type(f"_{instructions}", (_Instructions,), {"name": instructions})


_BUILT_IN: Final[Mapping[str, type[PlanClass]]] = {
    "mt": _Multithreaded,
    **{name: _with(name) for name in ("sse2", "pni", "ssse3", "sse4_1", "sse4_2", "avx", "avx2", "fma", "avx512f")},
}


def find_plan_class(name: str) -> PlanClass:
    """The plan class of this name; BoincServerError, with a list of those that exist, if there is none."""
    if not name:
        return _Any()
    found: PlanClass = plugins.find("boincserver.plan_classes", _BUILT_IN, name, BoincServerError)
    return found
