"""What a function is, for a named run: a digest of everything of the user's own that it reaches by name.

Comments, docstrings, positions and unrelated functions do not count. What does:

    a function of the user's own     its syntax tree, its defaults, and whatever it reads: globals, closure cells
    a class of the user's own        its syntax tree, its bases, and what its methods read
    an attribute of the user's module   what it is, where the name is written out; else the module with all it imports
    a value                          its canonical digest; where there is none, its pickle, else its type
    an installed module              its name and version
    the standard library, built-ins  the name and Python's minor version

Where the reach is not static (getattr, globals, eval, star imports, imports by name) the whole module counts: when
in doubt, compute again. Where there is no source, the compiled code stands for it, bound to Python's minor version.
"""

# ruff: noqa: BLE001, S110, S112 - values of the user's may raise anything when they are looked at

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib
import importlib.metadata
import importlib.util
import itertools
import pickle
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymw import codec
from pymw.owners import PYTHON, owner_of
from pymw.shipping import global_names, reach_of, unchanged
from pymw.syntax import attributes_used, compiled, imported, is_dynamic, normal, tree_of

__all__ = ["Identity", "identify", "own_modules"]


@dataclass(frozen=True, slots=True)
class Identity:
    """The digest, and what went into it: a readable name for each part with a digest of its own."""

    digest: str
    parts: Mapping[str, str]

    def changed_from(self, other: Mapping[str, str]) -> list[str]:
        """The names of the parts that are new, gone or different."""
        return sorted(name for name in {*self.parts, *other} if self.parts.get(name) != other.get(name))


def identify(function: Callable[..., Any]) -> Identity:
    """The identity of `function` as it is now: the one found before, where nothing that it reaches can have changed."""
    reach = reach_of(function, _not_the_users)
    try:
        known = _identities.get(function)
        if known is not None and reach is not None and unchanged(known[0], reach):
            return known[1]
        identity = _identify(function)
        if reach is not None:
            _identities[function] = (reach, identity)
    except TypeError:  # cannot be hashed or referenced weakly
        return _identify(function)
    return identity


_identities: weakref.WeakKeyDictionary[Any, tuple[list[Any], Identity]] = weakref.WeakKeyDictionary()


def _not_the_users(thing: Any) -> bool:
    module = getattr(thing, "__module__", None)
    return isinstance(module, str) and isinstance(thing, (type, types.FunctionType)) and owner_of(module) is not None


def own_modules(function: Callable[..., Any], beside: Iterable[types.ModuleType] = ()) -> list[types.ModuleType]:
    """The modules of the user's own that are imported where the function runs, those `beside` it, and what they import.

    What the function reads by name alone is not among them.
    """
    walk = _Walk()
    walk.visit(function, "function")
    for module in beside:
        walk.visit(module, module.__name__)
    names = {name.removeprefix("module ") for name in walk.parts if name.startswith("module ")}
    names |= {name[:i] for name in names for i, sign in enumerate(name) if sign == "."}
    return [sys.modules[name] for name in sorted(names) if name in sys.modules]


def _identify(function: Callable[..., Any]) -> Identity:
    walk = _Walk()
    walk.visit(function, getattr(function, "__qualname__", type(function).__qualname__))
    parts = dict(sorted(walk.parts.items()))
    return Identity(_hash("\n".join(f"{name} {digest}" for name, digest in parts.items())), parts)


class _Walk:
    """Follows names from the function on; each thing counts once."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self._seen: dict[int, Any] = {}  # keeps what it has seen alive, so that no id is used twice

    def visit(self, thing: Any, name: str) -> None:
        """Count `thing`, which is known as `name`, and what it reaches."""
        if id(thing) in self._seen:
            return
        self._seen[id(thing)] = thing
        if isinstance(thing, types.ModuleType):
            self._module(thing)
        elif isinstance(thing, types.MethodType):
            self.visit(thing.__func__, name)
            self.visit(thing.__self__, f"{name}.self")
        elif isinstance(thing, (types.FunctionType, type)):
            self._code(thing)
        elif isinstance(thing, (staticmethod, classmethod)):
            self.visit(thing.__func__, name)
        elif isinstance(thing, property):
            for part in (thing.fget, thing.fset, thing.fdel):
                self.visit(part, name)
        elif isinstance(thing, (types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType)):
            self._note(name, f"{getattr(thing, '__module__', None)}.{thing.__qualname__} {PYTHON}")
        elif hasattr(thing, "__wrapped__"):  # functools.lru_cache and its like
            self.visit(thing.__wrapped__, name)
            self._note(f"{name} wrapper", type(thing).__qualname__)
        elif hasattr(thing, "func") and hasattr(thing, "keywords"):  # functools.partial
            self.visit(thing.func, f"{name}.func")
            self.visit(thing.args, f"{name}.args")
            self.visit(thing.keywords, f"{name}.keywords")
        else:
            self._value(thing, name)

    def _note(self, name: str, content: str) -> None:
        digest, told = _hash(content), name
        # A decorated function and its wrapper go by one name; both count.
        for other in itertools.count(2):
            if self.parts.setdefault(told, digest) == digest:
                return
            told = f"{name} ({other})"

    def _code(self, thing: Any) -> None:
        """A function or a class."""
        name = f"{thing.__module__}.{thing.__qualname__}"
        owner = owner_of(thing.__module__)
        if owner is not None:
            self._note(*owner)
            return
        tree = tree_of(thing)
        if tree is None:
            self._note(name, compiled(thing))
        else:
            self._note(name, normal(tree))
            if is_dynamic(tree) and (module := sys.modules.get(thing.__module__)) is not None:
                self._whole(module)
            self._imports_inside(tree)
        if isinstance(thing, type):
            for base in thing.__bases__:
                self.visit(base, base.__qualname__)
            for attribute, member in vars(thing).items():
                if isinstance(member, (types.FunctionType, staticmethod, classmethod, property)):
                    self.visit(member, f"{name}.{attribute}")
        else:
            self._reads(thing, tree, name)

    def _reads(self, function: types.FunctionType, tree: ast.AST | None, name: str) -> None:
        for i, default in enumerate(function.__defaults__ or ()):
            self.visit(default, f"{name} default {i}")
        for keyword, default in (function.__kwdefaults__ or {}).items():
            self.visit(default, f"{name} default {keyword}")
        for cell_name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            try:
                self.visit(cell.cell_contents, f"{name} closure {cell_name}")
            except ValueError:
                pass  # not yet assigned
        attributes = attributes_used(tree) if tree is not None else {}
        for word in global_names(function.__code__):
            if word in function.__globals__:
                self._global(function.__globals__[word], word, attributes.get(word), function.__module__)
            elif not hasattr(builtins, word):
                self._note(f"{name} {word}", "missing")

    def _global(self, value: Any, word: str, attributes: set[str] | None, module: str) -> None:
        if isinstance(value, types.ModuleType) and owner_of(value.__name__) is None and attributes:
            for attribute in attributes:
                if hasattr(value, attribute):
                    self.visit(getattr(value, attribute), f"{value.__name__}.{attribute}")
        else:
            self.visit(value, f"{module}.{word}")

    def _module(self, module: types.ModuleType) -> None:
        owner = owner_of(module.__name__)
        if owner is not None:
            self._note(*owner)
        else:
            self._whole(module)

    def _whole(self, module: types.ModuleType) -> None:
        """A module of the user's own, with those that it imports."""
        name = f"module {module.__name__}"
        if name in self.parts:
            return
        try:
            tree: ast.AST = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        except (OSError, SyntaxError, AttributeError, TypeError):
            self._note(name, f"no source {PYTHON}")
            return
        self._note(name, normal(tree))
        self._imports_inside(tree, module)

    def _imports_inside(self, tree: ast.AST, inside: types.ModuleType | None = None) -> None:
        for name in imported(tree, inside):
            module = sys.modules.get(name)
            if module is None and owner_of(name) is None:
                try:
                    module = importlib.import_module(name)
                except Exception:
                    continue
            if module is not None:
                self._module(module)

    def _value(self, value: Any, name: str) -> None:
        try:
            self._note(name, codec.digest(value))
            return
        except Exception:
            pass
        kind = type(value)
        self.visit(kind, kind.__qualname__)
        if isinstance(value, (list, tuple, set, frozenset)):
            for i, item in enumerate(value):
                self.visit(item, f"{name}[{i}]")
            return
        if isinstance(value, dict):
            for key, item in value.items():
                self.visit(item, f"{name}[{key!r}]")
            return
        try:
            self._note(name, hashlib.sha256(pickle.dumps(value, protocol=5)).hexdigest())
        except Exception:
            self._note(name, f"{kind.__module__}.{kind.__qualname__}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
