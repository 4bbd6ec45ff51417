"""map_reduce: blocks of the data are mapped and folded by one task each, what is left of them in a tree of tasks."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Executor
from typing import Any

__all__ = ["map_reduce"]

ARITY = 16  # partial results that one task of the tree folds
BLOCK = 64  # items of an input whose length is not known
LARGEST = 4096
_NOTHING = object()


def map_reduce(
    executor: Executor,
    map_fn: Callable[[Any], Any],
    reduce_fn: Callable[[Any, Any], Any],
    data: Iterable[Any],
    *,
    initial: Any = _NOTHING,
    block: int | None = None,
    workers: int = 1,
) -> Any:
    """``reduce(reduce_fn, map(map_fn, data))`` for an associative `reduce_fn`, in the order of the data.

    Only partial results come home, and no more than a window of them at a time; `initial` is the result for no data.
    """
    size = block or _block(data, workers)
    partials: Iterator[Any] = executor.map(functools.partial(_fold, map_fn, reduce_fn), _blocks(data, size))
    combine = functools.partial(_fold, None, reduce_fn)
    while True:
        group = list(itertools.islice(partials, ARITY + 1))
        if len(group) <= 1:
            break
        partials = iter(list(executor.map(combine, _blocks(itertools.chain(group, partials), ARITY))))
    if group:
        return group[0] if initial is _NOTHING else reduce_fn(initial, group[0])
    if initial is _NOTHING:
        raise TypeError("map_reduce() of no data needs initial=")
    return initial


def _block(data: Iterable[Any], workers: int) -> int:
    if not isinstance(data, Sized):
        return BLOCK
    return max(1, min(LARGEST, len(data) // (8 * workers)))


def _blocks(data: Iterable[Any], size: int) -> Iterator[list[Any]]:
    items = iter(data)
    while block := list(itertools.islice(items, size)):
        yield block


def _fold(map_fn: Callable[[Any], Any] | None, reduce_fn: Callable[[Any, Any], Any], block: list[Any]) -> Any:
    """Runs at the worker."""
    return functools.reduce(reduce_fn, block if map_fn is None else map(map_fn, block))
