"""Functions and arguments on their way to the user's own worker processes: pickled, by value where need be."""
# ruff: noqa: BLE001 - pickling the user's objects may raise anything

from __future__ import annotations

import builtins
import contextlib
import dis
import functools
import itertools
import pickle
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pymw.errors import UnshippableError

__all__ = [
    "Laden",
    "Shipment",
    "culprit",
    "global_names",
    "importable",
    "own_modules_by_value",
    "pack",
    "pack_call",
    "reach_of",
    "ship",
    "unchanged",
]

MOST_LOOKED_AT = 50  # parts that cannot be sent, in search of the one that is to blame
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_numbers = itertools.count(1)


@dataclass(eq=False, slots=True)
class Shipment:
    """A function as bytes, under a number by which a worker that has it is told to use it again."""

    data: Any  # bytes, or what the backend made of a function in which something large is captured
    number: int = field(default_factory=lambda: next(_numbers))
    items: int = 0  # how many items of it were measured, and
    pace: float = 0.0  # how many seconds one of them takes, lately
    size: float = 0.0  # how many bytes its arguments or its result take, whichever is more

    def measured(self, items: int, seconds: float, size: float = 0.0) -> None:
        """Another chunk of it was run."""
        if items:
            share = 0.5 if self.items else 1.0
            self.pace += share * (seconds / items - self.pace)
            self.size += share * (size / items - self.size)
            self.items += items


def pack(value: Any, root: str = "", apart: Callable[[pickle.PickleBuffer], object] | None = None) -> bytes:
    """Pickled, with the buffers in one piece left to `apart`; UnshippableError says which part cannot be sent."""
    from pymw.pickling import dumps

    def stays_in(buffer: pickle.PickleBuffer) -> bool:
        try:
            buffer.raw().release()
        except BufferError:
            return True
        assert apart is not None
        apart(buffer)
        return False

    try:
        return dumps(value, stays_in if apart is not None else None)
    except UnshippableError:
        raise  # of a part that is packed on its own
    except Exception as error:
        raise UnshippableError(culprit(value, root) or f"{root or value!r} cannot be sent: {error}") from error


def pack_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The arguments of one call, pickled; UnshippableError leads to the part that cannot be sent."""
    try:
        return pack((args, kwargs))
    except UnshippableError:
        pack(args, "args")
        pack(kwargs, "kwargs")
        raise


class Laden:
    """Travels in the place of a function, with more than that one reaches: the same objects while that is the same."""

    def __init__(self, function: Callable[..., Any], along: Sequence[Any]) -> None:
        self.function, self.along = function, along


def ship(function: Callable[..., Any], pickled: Callable[[Any, str], Any] | None = None) -> Shipment:
    """The function's shipment: the one made before, where nothing that it reaches can have changed since.

    `pickled` makes another kind of data of a function that something mutable goes with.
    """
    bare, along = (function.function, function.along) if isinstance(function, Laden) else (function, ())
    reach = reach_of(bare, _travels_as_name)
    if reach is None:
        return Shipment((pickled or pack)(function, _name(function)))
    reach.extend(along)
    try:
        known = _shipments.get(bare)
    except TypeError:  # cannot be hashed or referenced weakly
        return Shipment(pack(function, _name(function)))
    if known is not None and unchanged(known[0], reach):
        return known[1]
    shipment = Shipment(pack(function, _name(function)))
    with contextlib.suppress(TypeError):
        _shipments[bare] = (reach, shipment)
    return shipment


_shipments: weakref.WeakKeyDictionary[Any, tuple[list[Any], Shipment]] = weakref.WeakKeyDictionary()


_registering = threading.RLock()


@contextlib.contextmanager
def own_modules_by_value() -> Iterator[None]:
    """While this lasts, what is defined in modules of the user's own is pickled as it is, not as a name."""
    import cloudpickle  # type: ignore[import-untyped]

    from pymw.owners import is_the_users

    with _registering:
        found = [module for name, module in list(sys.modules.items()) if is_the_users(name, module)]
        modules = list({module.__name__: module for module in found}.values())  # mpi4py has the script under two names
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in modules:
                cloudpickle.unregister_pickle_by_value(module)


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def _travels_as_name(thing: Any) -> bool:
    return isinstance(thing, types.ModuleType) or importable(thing)


def importable(thing: Any) -> bool:
    """Whether a worker finds it by importing, so that it travels as a mere name."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if module is None or name is None or module == "__main__" or "<" in name:
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is thing


def unchanged(before: list[Any], now: list[Any]) -> bool:
    """Whether two reaches hold the very same objects."""
    return len(before) == len(now) and all(a is b for a, b in zip(before, now, strict=True))


def reach_of(function: Any, as_name: Callable[[Any], bool]) -> list[Any] | None:
    """Every object that the function depends on, or None where one of them could change in place.

    A helper redefined in another notebook cell is another object; a list among the globals may change unseen.
    What `as_name` says to be known by its name alone is followed no further.
    """
    reach: list[Any] = []
    todo, seen = [function], set()
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        reach.append(thing)
        if isinstance(thing, (*_PLAIN, types.BuiltinFunctionType, types.CodeType)) or as_name(thing):
            continue
        if isinstance(thing, (tuple, frozenset)):
            todo.extend(thing)
        elif isinstance(thing, types.ModuleType):
            reach.extend(vars(thing).values())  # others, once it was imported anew
        elif isinstance(thing, types.FunctionType):
            if thing.__dict__:
                return None
            todo.extend(_parts(thing))
        elif isinstance(thing, functools._lru_cache_wrapper):
            todo.extend(value for name, value in vars(thing).items() if name != "__annotations__")
        else:
            return None
    return reach


def _parts(function: types.FunctionType) -> Iterator[Any]:
    yield function.__code__
    yield function.__defaults__
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not yet assigned
            yield None
    for name in global_names(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]
        elif not hasattr(builtins, name):
            yield None


_names: dict[types.CodeType, tuple[str, ...]] = {}


def global_names(code: types.CodeType) -> tuple[str, ...]:
    """The names that the code, and what is nested in it, looks up among the globals."""
    known = _names.get(code)
    if known is None:
        nested = (const for const in code.co_consts if isinstance(const, types.CodeType))
        found = [i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
        known = _names[code] = tuple(dict.fromkeys([*found, *(name for c in nested for name in global_names(c))]))
    return known


def culprit(value: Any, root: str) -> str | None:
    """The path to the innermost part of `value` that cannot be pickled, and what it is; None if all can."""
    from pymw.pickling import dumps

    def fails(thing: Any) -> bool:
        try:
            dumps(thing)
        except Exception:
            return True
        return False

    if not fails(value):
        return None
    dead_ends: list[tuple[str, Any]] = []
    path, part = _innermost(root, value, fails, {id(value)}, dead_ends) or dead_ends[0]
    return f"{path}: {_what(part)} cannot be sent"


def _innermost(
    path: str, value: Any, fails: Callable[[Any], bool], seen: set[int], dead_ends: list[tuple[str, Any]]
) -> tuple[str, Any] | None:
    """The failing part that has none. One that leads back, as a method to its class, may fail of that: a dead end."""
    if type(value).__name__ in _KINDS:
        return path, value  # what is inside says less
    leads_back = len(seen) > MOST_LOOKED_AT
    for step, part in () if leads_back else _children(value):
        if id(part) in seen:
            leads_back = True
        elif fails(part):
            seen.add(id(part))
            if (found := _innermost(path + step, part, fails, seen, dead_ends)) is not None:
                return found
            leads_back = True
    if not leads_back:
        return path, value
    dead_ends.append((path, value))
    return None


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{i}]", item) for i, item in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from ((f"{{{item!r}}}", item) for item in value)
    elif isinstance(value, types.FunctionType):
        names = zip(value.__code__.co_freevars, value.__closure__ or (), strict=False)
        for name, cell in names:
            with_value = getattr(cell, "cell_contents", None)
            yield f".{name}", with_value
        for name in global_names(value.__code__):
            if name in value.__globals__:
                yield f".{name}", value.__globals__[name]
    elif isinstance(value, types.MethodType):
        yield ".self", value.__self__
        yield from _children(value.__func__)
    elif isinstance(value, functools.partial):
        yield ".func", value.func
        yield from ((f".args[{i}]", item) for i, item in enumerate(value.args))
        yield from ((f".keywords[{name!r}]", item) for name, item in value.keywords.items())
    elif isinstance(value, (staticmethod, classmethod)):
        yield from _children(value.__func__)
    elif isinstance(value, property):
        yield from _children(value.fget)
    elif isinstance(value, type):
        own = ("__dict__", "__weakref__")  # every class makes them for itself
        yield from ((f".{name}", item) for name, item in vars(value).items() if name not in own)
        yield from ((f".__bases__[{i}]", base) for i, base in enumerate(value.__bases__))
    elif not isinstance(value, types.ModuleType):
        yield from ((f".{name}", item) for name, item in getattr(value, "__dict__", {}).items())
        slots = [name for kind in type(value).__mro__ for name in vars(kind).get("__slots__", ())]
        yield from ((f".{name}", getattr(value, name)) for name in slots if hasattr(value, name))


_KINDS = {
    "lock": "thread locks",
    "RLock": "thread locks",
    "generator": "generators",
    "coroutine": "coroutines (asyncio.run gives what they return)",
    "socket": "sockets",
    "TextIOWrapper": "open files",
    "BufferedReader": "open files",
    "BufferedWriter": "open files",
    "Thread": "threads",
    "TaskFuture": "futures (they are dependencies as arguments of submit, alone or in a list or tuple; map takes none)",
    "Master": "a Master",
    "BoundMaster": "a Master",
}


def _what(value: Any) -> str:
    name = type(value).__name__
    if name in _KINDS:
        return _KINDS[name]
    try:
        pickle.dumps(value)
    except Exception as error:
        return f"{type(value).__module__}.{type(value).__qualname__} ({error})"
    return f"{type(value).__module__}.{type(value).__qualname__}"
