"""Validators and assimilators by name: built in, or found among the entry points of a group.

One that has a method `close` is closed when its server ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any

from boincserver.errors import BoincServerError
from boincserver.events import Events

__all__ = ["close", "find", "names"]

log = Events(__name__)


def names(group: str, built_in: Mapping[str, type[Any]]) -> list[str]:
    """Every name that `find` knows."""
    return sorted({*built_in, *(entry.name for entry in entry_points(group=group))})


def find(group: str, built_in: Mapping[str, type[Any]], name: str, unknown: type[BoincServerError]) -> Any:
    """A new instance of the class of this name; `unknown`, with a list of those that exist, if there is none."""
    if name in built_in:
        return built_in[name]()
    for entry in entry_points(group=group, name=name):
        return entry.load()()
    kind = group.rpartition(".")[2].replace("_", " ").removesuffix("es" if group.endswith("sses") else "s")
    raise unknown(f"there is no {kind} {name!r}; installed are: {', '.join(names(group, built_in))}")


def close(instances: Iterable[object]) -> None:
    """Let each that has a `close` end what it began."""
    for each in instances:
        try:
            getattr(each, "close", lambda: None)()
        except Exception:
            log.exception("plugin-not-closed", plugin=type(each).__qualname__)
