"""Results that are home and not yet read: in memory while there is room, behind that in a file of the system's own.

So a map keeps its memory flat however many large results gather behind one slow task.
"""

from __future__ import annotations

import itertools
import pickle
import sys
import tempfile
import weakref
from collections.abc import Iterable, Sized
from typing import IO, Any

__all__ = ["Backlog", "weight"]

ROOM = 32 << 20  # bytes of results kept in memory
SAMPLE = 16  # members of a container that are looked at


class Backlog:
    """Stretches of results by the index of their first."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._held: dict[int, tuple[Any, int]] = {}  # index -> values, weight
        self._weight = 0
        self._written: dict[int, int] = {}  # index -> where in the file
        self._file: IO[bytes] | None = None
        self._end = 0

    def put(self, index: int, values: Any, *, soon: bool = False) -> None:
        """Keep it; what is read `soon` stays in memory."""
        bytes_ = weight(values)
        if self._weight + bytes_ > self._room and not soon and self._write(index, values):
            return
        self._held[index] = values, bytes_
        self._weight += bytes_

    def take(self, index: int) -> Any:
        """The stretch that begins there, or None."""
        if index in self._held:
            values, bytes_ = self._held.pop(index)
            self._weight -= bytes_
            return values
        return self._read(index) if index in self._written else None

    def __contains__(self, index: int) -> bool:
        return index in self._held or index in self._written

    def __len__(self) -> int:
        return len(self._held) + len(self._written)

    @property
    def spilled(self) -> int:
        """How many stretches are in the file."""
        return len(self._written)

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
        self._written.clear()
        self._weight = self._end = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, index: int, values: Any) -> bool:
        if self._file is None:
            # It has no name: the system frees it with this process, however that ends.
            self._file = tempfile.TemporaryFile(prefix="pymw-results-")  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        try:
            self._file.seek(self._end)
            pickle.dump(values, self._file, protocol=5)
        except Exception:  # noqa: BLE001 - it cannot be pickled, or the disk is full: then it has to stay
            self._file.truncate(self._end)
            return False
        self._written[index] = self._end
        self._end = self._file.tell()
        return True

    def _read(self, index: int) -> Any:
        assert self._file is not None
        self._file.seek(self._written.pop(index))
        values = pickle.load(self._file)  # noqa: S301 - written above
        if not self._written:
            self._file.truncate(0)
            self._end = 0
        return values


def weight(value: Any, depth: int = 3) -> int:
    """About how many bytes of memory the value takes, by a look at some of its parts."""
    if isinstance(value, (str, bytes, bytearray, int, float)):
        return sys.getsizeof(value)
    if (nbytes := getattr(value, "nbytes", None)) is not None and isinstance(nbytes, int):
        return nbytes
    own = sys.getsizeof(value, 64)
    parts: Iterable[Any]
    if isinstance(value, dict):
        parts = itertools.chain.from_iterable(itertools.islice(value.items(), SAMPLE))
        total = 2 * len(value)
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts, total = itertools.islice(value, SAMPLE), len(value)
    else:
        attributes = getattr(value, "__dict__", None)
        parts = attributes.values() if isinstance(attributes, dict) else ()
        total = len(parts) if isinstance(parts, Sized) else 0
    if not depth or not total:
        return own
    weights = [weight(part, depth - 1) for part in parts]
    return own + sum(weights) * total // len(weights)
