"""What a function is, for a named run: a digest of everything of the user's own that it reaches by name.

Comments, docstrings, positions and unrelated functions do not count. What does:

    a function of the user's own     its syntax tree, and whatever it reads or holds: globals, closure cells, defaults,
                                     attributes
    a class of the user's own        its syntax tree, its bases and its metaclass, its attributes and its methods
    an attribute of the user's module   what it is, where the name is written out; else the module with all it imports
    a value                          its canonical digest, and the classes in it
    another object                   the parts that it is made of; where its class is not the user's, its pickle and the
                                     code in that, or its type alone where it cannot be pickled
    an installed module              its name and version
    the standard library, built-ins  the name and Python's minor version

Where the reach is not static (getattr, globals, eval, star imports, imports by name) the whole module counts: when
in doubt, compute again. Where there is no source, or not that of what runs, the compiled code stands for it, bound to
Python's minor version.
"""

# ruff: noqa: BLE001, S112 - values of the user's may raise anything when they are looked at

from __future__ import annotations

import ast
import builtins
import collections
import dataclasses
import enum
import hashlib
import importlib
import itertools
import secrets
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, cast

from pymw import codec
from pymw.looking import look_into
from pymw.owners import PYTHON, owner_of
from pymw.shipping import global_names, importable, reach_of, unchanged
from pymw.syntax import attributes_used, compiled, imported, is_dynamic, normal, tree_of
from pymw.written import versions

__all__ = ["Identity", "identify", "own_modules"]

_BUILT_IN = (types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType)
_METHODS = (types.FunctionType, staticmethod, classmethod, property)
_COLLECTIONS = (list, tuple, dict, set, frozenset, collections.deque)
_SLOTS = (types.GetSetDescriptorType, types.MemberDescriptorType, types.DynamicClassAttribute)


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
    reach = reach_of(function, _fixed)
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


def _fixed(thing: Any) -> bool:
    """Whether this object is the same as long as the process lives, whatever is defined or imported anew."""
    if isinstance(thing, types.ModuleType):
        return owner_of(thing.__name__) is not None
    if isinstance(thing, types.FunctionType):
        return _library_of(thing) is not None
    return isinstance(thing, type) and importable(thing)


def _library_of(function: types.FunctionType) -> tuple[str, str] | None:
    """Whose a function is that is not the user's and is found where it says; what is made of it is not."""
    module = function.__module__
    if not isinstance(module, str) or (owner := owner_of(module)) is None:
        return None
    return owner if importable(function) else None


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
    """Follows names from the function on; what is followed counts once, a value under each of its names."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self._seen: dict[int, Any] = {}  # keeps what it has seen alive, so that no id is used twice
        self._examined: dict[int, tuple[Any, tuple[str, set[type]] | None]] = {}

    def visit(self, thing: Any, name: str) -> None:
        """Count `thing`, which is known as `name`, and what it reaches."""
        if self._is_value(thing, name) or id(thing) in self._seen:
            return
        self._seen[id(thing)] = thing
        if isinstance(thing, types.ModuleType):
            self._module(thing)
        elif isinstance(thing, types.MethodType):
            self.visit(thing.__func__, name)
            self.visit(thing.__self__, f"{name}.self")
        elif isinstance(thing, types.FunctionType):
            self._function(thing, name)
        elif isinstance(thing, type):
            self._class(thing)
        elif isinstance(thing, (staticmethod, classmethod)):
            self.visit(thing.__func__, name)
        elif isinstance(thing, property):
            for part in (thing.fget, thing.fset, thing.fdel):
                self.visit(part, name)
        elif isinstance(thing, _BUILT_IN):
            self._note(name, f"{getattr(thing, '__module__', None)}.{thing.__qualname__} {PYTHON}")
            self._extension(thing)
        elif hasattr(thing, "__wrapped__"):  # functools.lru_cache and its like
            self._wrapper(thing, name)
        elif hasattr(thing, "func") and hasattr(thing, "keywords"):  # functools.partial
            self.visit(thing.func, f"{name}.func")
            self.visit(thing.args, f"{name}.args")
            self.visit(thing.keywords, f"{name}.keywords")
        elif type(thing) in (list, tuple):
            for i, item in enumerate(thing):
                self.visit(item, f"{name}[{i}]")
        elif type(thing) is dict:
            for i, (key, item) in enumerate(thing.items()):
                told = repr(key) if isinstance(key, (str, int, float, bytes)) else str(i)
                self.visit(key, f"{name} key {told}")
                self.visit(item, f"{name}[{told}]")
        else:
            self._object(thing, name)

    def _note(self, name: str, content: str) -> None:
        digest, told = _hash(content), name
        # A decorated function and its wrapper go by one name; both count.
        for other in itertools.count(2):
            if self.parts.setdefault(told, digest) == digest:
                return
            told = f"{name} ({other})"

    def _is_value(self, thing: Any, name: str) -> bool:
        """Count it as what it is worth, with the classes of that, if it is something that the codec takes."""
        if id(thing) in self._seen or (callable(thing) and not dataclasses.is_dataclass(thing)):
            return False
        if id(thing) not in self._examined:
            try:
                self._examined[id(thing)] = thing, codec.examine(thing)
            except Exception:
                self._examined[id(thing)] = thing, None
        known = self._examined[id(thing)][1]
        if known is None:
            return False
        digest, classes = known
        self._note(name, digest)
        for kind in sorted(classes, key=_full_name):
            self.visit(kind, kind.__qualname__)
        return True

    # --- code -------------------------------------------------------------------------------------------------------

    def _function(self, function: types.FunctionType, known_as: str) -> None:
        owner = _library_of(function)
        if owner is not None:
            self._note(*owner)
            return
        if hasattr(function, "registry") and hasattr(function, "dispatch"):  # functools.singledispatch
            for kind, implementation in function.registry.items():
                self.visit(kind, kind.__qualname__)
                self.visit(implementation, implementation.__qualname__)
                self._note(f"{known_as} for {_full_name(kind)}", _full_name(implementation))
            return
        # Where it was written: functools.wraps gives a wrapper the module of what it wraps.
        module = function.__globals__.get("__name__")
        name = f"{module}.{function.__qualname__}"
        owner = owner_of(module) if isinstance(module, str) else None
        if owner is not None:
            self._note(*owner)
        else:
            self._reads(function, self._own(function, name, module), name)
        self._holds(function, name)

    def _own(self, thing: Any, name: str, module: Any) -> ast.AST | None:
        """A function or class of the user's own: what its source says, or its code where there is none."""
        tree, inside = tree_of(thing), sys.modules.get(str(module))
        self._note(name, compiled(thing) if tree is None else normal(tree))
        if tree is not None:
            self._imports_inside(tree, inside)
        if inside is not None and is_dynamic(thing, tree):
            self._whole(inside)
        return tree

    def _reads(self, function: types.FunctionType, tree: ast.AST | None, name: str) -> None:
        attributes = attributes_used(tree) if tree is not None else {}
        for word in global_names(function.__code__):
            if word in function.__globals__:
                self._global(function.__globals__[word], word, attributes.get(word), function.__module__)
            elif not hasattr(builtins, word):
                self._note(f"{name} {word}", "missing")

    def _holds(self, function: types.FunctionType, name: str) -> None:
        """What a function carries along, whoever wrote its code."""
        for i, default in enumerate(function.__defaults__ or ()):
            self.visit(default, f"{name} default {i}")
        for keyword, default in (function.__kwdefaults__ or {}).items():
            self.visit(default, f"{name} default {keyword}")
        for cell_name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            try:
                self.visit(cell.cell_contents, f"{name} closure {cell_name}")
            except ValueError:
                pass  # not yet assigned
        for attribute, value in vars(function).items():
            self.visit(value, f"{name}.{attribute}")

    def _class(self, kind: type) -> None:
        owner = owner_of(kind.__module__)
        if owner is not None:
            self._note(*owner)
            return
        name = _full_name(kind)
        self._own(kind, name, kind.__module__)
        for base in (*kind.__bases__, type(kind)):
            self.visit(base, base.__qualname__)
        if issubclass(kind, enum.Enum):
            for attribute, value in kind.__members__.items():
                self.visit(value.value, f"{name}.{attribute}")
        for attribute, member in vars(kind).items():
            of_enum = issubclass(kind, enum.Enum) and (attribute.startswith("_") or isinstance(member, kind))
            if _counts(attribute, member) and (isinstance(member, _METHODS) or not of_enum):
                self.visit(member, f"{name}.{attribute}")

    def _wrapper(self, thing: Any, name: str) -> None:
        """An object that stands for the function that it wraps."""
        self.visit(thing.__wrapped__, name)
        kind = type(thing)
        self._note(f"{name} wrapper", kind.__qualname__)
        if owner_of(kind.__module__) is None:
            self._object(thing, name)

    def _global(self, value: Any, word: str, attributes: set[str] | None, module: str) -> None:
        if isinstance(value, types.ModuleType) and owner_of(value.__name__) is None and attributes:
            for attribute in sorted(attributes):
                if hasattr(value, attribute):
                    self.visit(getattr(value, attribute), f"{value.__name__}.{attribute}")
        else:
            self.visit(value, f"{module}.{word}")

    # --- modules ----------------------------------------------------------------------------------------------------

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
        texts = versions(str(getattr(module, "__file__", None)))
        if not texts:
            self._note(name, _file_digest(module) or f"no source {PYTHON}")
            return
        fitting = [text for text in texts if text.module(module)]
        if fitting:  # where several may be what runs, it is none of them for sure
            self._note(name, " or ".join(normal(text.tree) for text in fitting))
        else:  # it was edited since it was imported, and nothing tells what it was
            self._note(name, f"edited {secrets.token_hex(8)}")
        for text in fitting or texts:
            self._imports_inside(text.tree, module)

    def _imports_inside(self, tree: ast.AST, inside: types.ModuleType | None) -> None:
        for name in imported(tree, inside):
            module = sys.modules.get(name)
            if module is None and owner_of(name) is None:
                try:
                    module = importlib.import_module(name)
                except Exception:
                    continue
            if module is not None:
                self._module(module)

    # --- objects ----------------------------------------------------------------------------------------------------

    def _object(self, value: Any, name: str) -> None:
        """What the codec does not take: what it is made of, or its pickle and the code in that."""
        kind = type(value)
        self.visit(kind, kind.__qualname__)
        self._extension(value)
        if owner_of(kind.__module__) is None or (isinstance(value, _COLLECTIONS) and kind not in _COLLECTIONS):
            self._made_of(value, name)
            return
        content, met = look_into(value)
        self._note(name, content or _full_name(kind))
        for thing in met:
            self.visit(thing, getattr(thing, "__qualname__", name))

    def _made_of(self, value: Any, name: str) -> None:
        """The parts of which a pickle would make it anew."""
        try:
            made = value.__reduce_ex__(5)
        except Exception:
            made = (type(value), (), getattr(value, "__dict__", None))
        if isinstance(made, str):
            self._note(name, made)
            return
        maker, given, state, items, pairs = (*made, None, None, None)[:5]
        self.visit(maker, name)
        self.visit(given, name)
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                for attribute, content in part.items():
                    self.visit(content, f"{name}.{attribute}")
            else:
                self.visit(part, f"{name} state")
        self.visit(list(items or ()), f"{name} items")
        self.visit(dict(pairs or ()), f"{name} items")

    def _extension(self, thing: Any) -> None:
        """Where a function or an object comes from a compiled module of the user's own, that counts as a whole."""
        module = sys.modules.get(str(getattr(thing, "__module__", None)))
        if str(getattr(module, "__file__", None)).endswith(tuple(EXTENSION_SUFFIXES)):
            self._module(cast(types.ModuleType, module))


def _full_name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _counts(attribute: str, member: Any) -> bool:
    """Whether a class's attribute is the user's; Python and libraries keep things of their own there."""
    if attribute.startswith("__") and attribute.endswith("__"):
        return isinstance(member, _METHODS) or callable(member)
    return attribute != "_abc_impl" and not isinstance(member, _SLOTS)


def _file_digest(module: types.ModuleType) -> str:
    try:
        return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
    except (OSError, AttributeError):
        return ""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
