"""Pickling by value what the workers cannot import, tracebacks included: a function keeps the name of its file."""

from __future__ import annotations

import functools
import io
from collections import ChainMap
from collections.abc import Callable
from pickle import PickleBuffer
from types import CodeType, FunctionType
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import cloudpickle  # type: ignore[import-untyped]

from pymw.initialized import renewed
from pymw.shipping import importable

__all__ = ["ByValue", "dumps"]


def _code_reduced(code: CodeType) -> tuple[Any, ...]:
    """As cloudpickle does, which from 3.1.3 on forgets where the code was written."""
    make, args = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return _code_made, (make, args, code.co_filename)


def _code_made(make: Callable[..., CodeType], args: tuple[Any, ...], filename: str) -> CodeType:
    return make(*args).replace(co_filename=filename)


def _function_completed(function: FunctionType, state: tuple[Callable[..., None], Any]) -> None:
    complete, rest = state
    complete(function, rest)
    renewed(function.__globals__)


Cached = functools._lru_cache_wrapper  # what `functools.lru_cache` makes


def _cached_reduced(cached: Cached[Any]) -> str | tuple[Any, ...]:
    """Its function, to be cached alike: cloudpickle leaves it to the standard library, which knows it by name alone."""
    if importable(cached) and cached.__module__ not in cloudpickle.list_registry_pickle_by_value():
        return cached.__qualname__
    state = {name: value for name, value in vars(cached).items() if name != "cache_parameters"}
    return _cached_made, (cached.__wrapped__, cached.cache_parameters()), state


def _cached_made(function: Callable[..., Any], parameters: dict[str, Any]) -> Cached[Any]:
    made: Cached[Any] = functools.lru_cache(**parameters)(function)
    return made


def _property_reduced(cached: functools.cached_property[Any]) -> tuple[Any, ...]:
    """Without the lock that it has up to Python 3.11."""
    state = {name: value for name, value in vars(cached).items() if name != "lock"}
    return functools.cached_property, (cached.func,), state


def _weakly_keyed_reduced(weak: WeakKeyDictionary[Any, Any]) -> tuple[Any, ...]:
    """As cloudpickle does with a WeakSet; a function of `functools.singledispatch` has one."""
    return WeakKeyDictionary, (dict(weak),)


REDUCED = {
    CodeType: _code_reduced,
    Cached: _cached_reduced,
    functools.cached_property: _property_reduced,
    WeakKeyDictionary: _weakly_keyed_reduced,
}


class ByValue(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle's pickler, whose functions raise with the file and the line that they come from."""

    dispatch_table: ClassVar[Any] = ChainMap(REDUCED, cloudpickle.Pickler.dispatch_table)

    def reducer_override(self, obj: Any) -> Any:
        """As cloudpickle has it; but functions look around where they arrive."""
        reduced = super().reducer_override(obj)
        if type(obj) is FunctionType and isinstance(reduced, tuple):
            make, args, state, *items, complete = reduced
            return make, args, (complete, state), *items, _function_completed
        return reduced


def dumps(value: Any, buffer_callback: Callable[[PickleBuffer], object] | None = None) -> bytes:
    """Pickled with protocol 5, without the buffers for which the callback returns a false value."""
    file = io.BytesIO()
    ByValue(file, protocol=5, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()
