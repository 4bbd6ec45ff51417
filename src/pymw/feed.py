"""The input of a map: sized and cut where it lies, or endless and read as far as the window reaches."""

from __future__ import annotations

import array
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

__all__ = ["columns_of", "rows_of"]


def columns_of(iterables: Sequence[Iterable[Any]]) -> tuple[Sequence[Any], ...] | None:
    """The input as columns of one length, where its length is known; None where reading it might never end.

    What could change later is copied; nothing is read from an iterator. An endless `itertools.repeat` beside
    a sized input is as long as that.
    """
    if not iterables or not all(_sized(iterable) or isinstance(iterable, itertools.repeat) for iterable in iterables):
        return None
    lengths = [_length(iterable) for iterable in iterables]
    known = [length for length in lengths if length is not None]
    if not known:
        return None
    shortest = min(known)
    return tuple(_column(iterable, shortest) for iterable in iterables)


def rows_of(iterators: Sequence[Iterator[Any]], most: int) -> tuple[tuple[Sequence[Any], ...], BaseException | None]:
    """The next items, at most so many, as columns, and what was raised behind them.

    Fewer than asked for, or none, where the input is at its end.
    """
    rows: list[Any] = []
    error = None
    try:
        rows.extend(itertools.islice(iterators[0] if len(iterators) == 1 else zip(*iterators, strict=False), most))
    except BaseException as raised:  # noqa: BLE001 - raised when its turn comes
        error = raised
    if len(iterators) == 1:
        return (rows,), error
    return tuple(zip(*rows, strict=True)) if rows else tuple(() for _ in iterators), error


def _sized(iterable: object) -> bool:
    # A type that is its own iterator (an open file with a length, a partly used generator) is no collection.
    return isinstance(iterable, Sized) and not isinstance(iterable, Iterator)


def _length(iterable: Any) -> int | None:
    if not isinstance(iterable, itertools.repeat):
        return len(iterable)
    try:
        return iterable.__length_hint__()
    except TypeError:
        return None


def _column(iterable: Any, length: int) -> Sequence[Any]:
    if isinstance(iterable, (range, tuple, bytes, str)):
        return iterable[:length]
    if isinstance(iterable, (list, array.array)):
        return iterable[:length]
    if _is_array(iterable):
        return iterable[:length].copy()  # type: ignore[no-any-return]  # a slice would be a view
    return list(itertools.islice(iterable, length))


def _is_array(thing: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(thing) is numpy.ndarray
