"""The keys of very many tasks in little memory: twenty bytes each, wherever they are kept."""
# ruff: noqa: S608 - what is put into the query are question marks

from __future__ import annotations

import bisect
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from pymw.backends.protocol import Batch

__all__ = ["Keys", "Occurrences", "UnderWay"]

AT_ONCE = 500  # SQLite's variables in one query
AT_HAND = 1 << 14  # calls
SIZE = 20  # bytes of a key, which everybody sees as hexadecimal digits


class Keys(Sequence[str]):
    """Some keys, one after the other."""

    __slots__ = ("_packed",)

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._packed = b"".join(map(bytes.fromhex, keys))

    @classmethod
    def _of(cls, packed: bytes) -> Keys:
        keys = cls()
        keys._packed = packed
        return keys

    def __len__(self) -> int:
        return len(self._packed) // SIZE

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Keys: ...
    def __getitem__(self, at: int | slice) -> str | Keys:
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            return Keys._of(self._packed[start * SIZE : stop * SIZE]) if step == 1 else Keys(list(self)[at])
        place = range(len(self))[at] * SIZE
        return self._packed[place : place + SIZE].hex()

    def __iter__(self) -> Iterator[str]:
        text = self._packed.hex()
        return (text[at : at + 2 * SIZE] for at in range(0, len(text), 2 * SIZE))

    def __repr__(self) -> str:
        return f"Keys({list(self)})"


class Occurrences:
    """How often each call was asked for.

    What was asked for lately is at hand. The rest is in a file of SQLite's own, which has no name and little memory.
    """

    def __init__(self) -> None:
        self._times: dict[bytes, int] = {}
        self._rest = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._rest.execute("PRAGMA journal_mode = OFF")
        self._rest.execute("CREATE TABLE call (digest BLOB PRIMARY KEY, times INTEGER) WITHOUT ROWID")
        self._rest.execute("BEGIN")
        self._any_rest = False

    def numbers(self, calls: Sequence[str]) -> list[int]:
        """How many equal calls came before each of these."""
        digests = [hashlib.blake2b(call.encode(), digest_size=16).digest() for call in calls]
        if self._any_rest:
            self._fetch([digest for digest in digests if digest not in self._times])
        numbers = []
        for digest in digests:
            times = self._times.get(digest, 0)
            numbers.append(times)
            self._times[digest] = times + 1
        if len(self._times) > AT_HAND:
            self._rest.executemany("INSERT OR REPLACE INTO call VALUES (?, ?)", self._times.items())
            self._times.clear()
            self._any_rest = True
        return numbers

    def _fetch(self, digests: Sequence[bytes]) -> None:
        for start in range(0, len(digests), AT_ONCE):
            some = digests[start : start + AT_ONCE]
            marks = ",".join("?" * len(some))
            self._times.update(self._rest.execute(f"SELECT * FROM call WHERE digest IN ({marks})", some))

    def close(self) -> None:
        """Forget them."""
        self._rest.close()


class UnderWay:
    """The keys of the tasks of one call that have not ended, by their indices."""

    def __init__(self) -> None:
        self._parts: list[_Part] = []  # in the order of their indices

    def add(self, batch: Batch) -> None:
        """These tasks begin."""
        assert batch.keys is not None
        self._parts.append(_Part(batch.indices, batch.keys))

    def take(self, first: int, count: int) -> list[str | None]:
        """The keys of consecutive tasks, which end with this; None for each that is not under way."""
        part = self._part(first)
        if part is not None and isinstance(part.indices, range):
            start = first - part.indices[0]
            end = start + count
            if end <= len(part.keys) and part.ended.find(1, start, end) < 0:
                part.ended[start:end] = b"\1" * count
                self._have_ended(part, count)
                return list(part.keys[start:end])
        return [self.key(index, ends=True) for index in range(first, first + count)]

    def key(self, index: int, *, ends: bool) -> str | None:
        """The key of a task, None if it is not under way; it `ends` with this."""
        part = self._part(index)
        if part is None:
            return None
        position = bisect.bisect_left(part.indices, index)
        if position == len(part.indices) or part.indices[position] != index or part.ended[position]:
            return None
        if ends:
            part.ended[position] = 1
            self._have_ended(part, 1)
        return part.keys[position]

    def _part(self, index: int) -> _Part | None:
        at = bisect.bisect_right(self._parts, index, key=lambda part: part.indices[0]) - 1
        return self._parts[at] if at >= 0 else None

    def _have_ended(self, part: _Part, tasks: int) -> None:
        part.left -= tasks
        if not part.left:
            self._parts.remove(part)


class _Part:
    """Some of them, which began together."""

    def __init__(self, indices: Sequence[int], keys: Sequence[str]) -> None:
        self.indices, self.keys = indices, keys
        self.ended, self.left = bytearray(len(keys)), len(keys)
