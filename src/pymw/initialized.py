"""What the initializer of a worker process made of the script's globals: the tasks find it there.

A function of the script travels with the globals that it reaches, into a namespace of its own. The names that the
initializer has set in its own are put into those of all functions that come later.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from pymw.shipping import unchanged

__all__ = ["renewed", "watched"]

_set: dict[str, dict[str, Any]] = {}  # by module: what the initializer of this process set there


@contextlib.contextmanager
def watched(initializer: Callable[..., Any]) -> Iterator[None]:
    """While it runs: keep what it sets, or changes in place."""
    names = _globals_of(initializer)
    before = {name: _content(value) for name, value in names.items()}
    yield
    module = str(names.get("__name__"))
    if names is not vars(sys.modules.get(module, sys)):  # a module that was imported shows it to all its functions
        now = {name: _content(value) for name, value in names.items()}
        _set[module] = {name: names[name] for name in now if not unchanged(before.get(name, []), now[name])}


def renewed(namespace: dict[str, Any]) -> None:
    """The globals of a function that came just now: with what the initializer set."""
    if _set:
        namespace.update(_set.get(str(namespace.get("__name__")), {}))


def _globals_of(function: Any) -> dict[str, Any]:
    while isinstance(function, functools.partial) or hasattr(function, "__wrapped__"):
        function = function.func if isinstance(function, functools.partial) else function.__wrapped__
    found = getattr(function, "__globals__", None) or getattr(type(function).__call__, "__globals__", {})
    assert isinstance(found, dict)
    return found


def _content(value: Any) -> list[Any]:
    """The value, and what is directly in it."""
    if isinstance(value, dict):
        return [value, *value, *value.values()]
    if isinstance(value, (list, set, deque)):
        return [value, *value]
    try:
        return [value, *vars(value).values()]
    except Exception:  # noqa: BLE001 - it has none, or is a proxy of the user's
        return [value]
