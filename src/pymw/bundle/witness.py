"""What a bundle was made from, so that it is made anew when any of that was changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CellType
from typing import Any

from pymw import codec

__all__ = ["Cell", "Witness", "pickled", "stamp"]


@dataclass(slots=True)
class Witness:
    """What a bundle was made from: what names meant, what values were, what files held."""

    names: list[tuple[Mapping[str, Any], str, Any]] = field(default_factory=list)
    values: list[tuple[Any, bytes]] = field(default_factory=list)
    files: list[tuple[Path, tuple[int, int]]] = field(default_factory=list)
    pickles: list[tuple[Any, bytes]] = field(default_factory=list)

    def holds(self) -> bool:
        """Whether all of it is still so."""
        return (
            all(names.get(name, self) is value for names, name, value in self.names)
            and all(stamp(path) == before for path, before in self.files)
            and all(_encoded(value) == data for value, data in self.values)
            and all(pickled(value) == data for value, data in self.pickles)
        )


def stamp(path: Path) -> tuple[int, int]:
    """What changes when a file does."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size


def _encoded(value: Any) -> bytes | None:
    try:
        return codec.encode(value)
    except codec.CodecError:
        return None


def pickled(value: Any) -> bytes:
    """By value, with what it reaches: for this minor version of Python alone."""
    import cloudpickle  # type: ignore[import-untyped]  # only here: who has source needs none of it

    data: bytes = cloudpickle.dumps(value, protocol=5)
    return data


class Cell(dict[str, Any]):
    """A closure's cell, read like a mapping."""

    def __init__(self, cell: CellType) -> None:
        super().__init__()
        self._cell = cell

    def get(self, name: str, default: Any = None) -> Any:
        """The cell's content."""
        return getattr(self._cell, name, default)
