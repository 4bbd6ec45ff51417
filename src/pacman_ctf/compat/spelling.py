"""Two spellings of every name: what is defined as `get_food` is there as `getFood` too."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

T = TypeVar("T", bound=type)


def camel(name: str) -> str:
    """`_agent_moved` is `_agentMoved`; constants and special methods stay as they are."""
    if name.isupper() or name.startswith("__"):
        return name
    head = name[: len(name) - len(name.lstrip("_"))]
    first, *rest = name[len(head) :].split("_")
    return head + first + "".join(part[:1].upper() + part[1:] for part in rest)


def snake(name: str) -> str:
    """`getFood` is `get_food`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def both_spellings(*attributes: str) -> Callable[[T], T]:
    """A class decorator: each method, and each of these instance attributes, answers to both spellings."""

    def spell(cls: T) -> T:
        for name, member in list(vars(cls).items()):
            if isinstance(member, FunctionType | staticmethod | classmethod | property) and not name.startswith("__"):
                _alias(cls, name, member)
        for name in attributes:
            if camel(name) != name:
                setattr(cls, camel(name), _attribute(name))
        return cls

    return spell


def _alias(cls: type, name: str, member: Any) -> None:
    if camel(name) not in vars(cls):
        setattr(cls, camel(name), member)


def _attribute(name: str) -> property:
    def get(self: Any) -> Any:
        return getattr(self, name)

    def put(self: Any, value: Any) -> None:
        setattr(self, name, value)

    return property(get, put, doc=f"`{name}` in the other spelling.")


class Respelled:
    """A base whose subclasses override a method in whichever spelling they like: both names reach it."""

    def __init_subclass__(cls, **arguments: object) -> None:
        super().__init_subclass__(**arguments)
        for name in list(vars(cls)):
            for other in {camel(name), snake(name)} - {name}:
                known = any(name in vars(base) and other in vars(base) for base in cls.__mro__[1:])
                if known and other not in vars(cls):
                    setattr(cls, other, vars(cls)[name])


def spell_module(namespace: dict[str, Any]) -> None:
    """The functions of a module, in the other spelling too."""
    for name, member in list(namespace.items()):
        if isinstance(member, FunctionType) and not name.startswith("_"):
            namespace.setdefault(camel(name), member)
