"""Modules of the user's own, where workers may lack them: found on the master's path, or sent along as source."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import pickle
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from pymw.errors import UnshippableError
from pymw.shipping import Laden, pack

__all__ = ["Equipped", "find_named", "workers_begin"]


class Source(NamedTuple):
    """One module as it travels."""

    text: str
    path: str
    is_package: bool


# sys.path when the first workers began: they have it. What was added since is told with each function.
_begun_with: frozenset[str] | None = None


def workers_begin() -> None:
    """Workers that begin from now on get sys.path as it is."""
    global _begun_with  # noqa: PLW0603
    if _begun_with is None:
        _begun_with = frozenset(sys.path)


def find_named(named: Iterable[str | ModuleType]) -> list[ModuleType]:
    """The modules that the option `modules` names; UnshippableError for one that is not there."""
    return [each if isinstance(each, ModuleType) else _import(each) for each in named]


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise UnshippableError(f"modules=: {name!r} cannot be imported here: {error}") from error


class Equipped(Laden):
    """Pickled, a function with the modules that it imports; unpickled at a worker, the function itself."""

    def __init__(self, function: Callable[..., Any], path: Sequence[str], sources: Mapping[str, Source]) -> None:
        super().__init__(function, (*path, *sources.values()))
        self._path, self._sources = path, sources
        self.__qualname__ = getattr(function, "__qualname__", type(function).__qualname__)

    @classmethod
    def of(
        cls, function: Callable[..., Any], named: Iterable[str | ModuleType], *, send: bool = False
    ) -> Callable[..., Any]:
        """The function, ready for workers who see our files, or to which `send` has to bring the modules."""
        if send:
            sources = dict(_sources(function, find_named(named)))
            return cls(function, (), sources) if sources else function
        added = [folder for folder in sys.path if folder not in (_begun_with or ())]
        return cls(function, added, {}) if added else function

    def __reduce__(self) -> Any:
        return _unpack, (tuple(self._path), dict(self._sources), pack(self.function, self.__qualname__))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Where nothing is pickled."""
        return self.function(*args, **kwargs)


def _sources(function: Callable[..., Any], named: Iterable[ModuleType]) -> Iterator[tuple[str, Source]]:
    """The modules of the user's own that the function imports while it runs, and those that are named."""
    from pymw.identity import own_modules

    for module in own_modules(function, [*named, *_inside(named)]):
        path = getattr(module, "__file__", None)
        if path is not None and path.endswith(".py"):
            yield module.__name__, Source(Path(path).read_text("utf-8"), path, hasattr(module, "__path__"))


def _inside(packages: Iterable[ModuleType]) -> Iterator[ModuleType]:
    for package in packages:
        for found in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{package.__name__}."):
            yield _import(found.name)


# At the worker.


def _unpack(path: Sequence[str], sources: Mapping[str, Source], function: bytes) -> Any:
    sys.path.extend(folder for folder in path if folder not in sys.path)
    if sources:
        _lent.take(sources)
    return pickle.loads(function)  # noqa: S301 - the master's own


class _Lent(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports what masters sent; a module that came anew in another form is imported anew."""

    def __init__(self) -> None:
        self._sources: dict[str, Source] = {}

    def take(self, sources: Mapping[str, Source]) -> None:
        """From now on these are what is imported."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        for name, source in sources.items():
            if self._sources.get(name) != source:
                self._sources[name] = source
                sys.modules.pop(name, None)

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """As finders do."""
        if fullname not in self._sources:
            return None
        spec = importlib.util.spec_from_loader(fullname, self, origin=self._sources[fullname].path)
        if spec is not None:
            spec.has_location = True  # so that the module has a __file__, for tracebacks
        return spec

    def is_package(self, fullname: str) -> bool:
        """As loaders do."""
        return self._sources[fullname].is_package

    def get_source(self, fullname: str) -> str:
        """As loaders do."""
        return self._sources[fullname].text

    def get_code(self, fullname: str) -> CodeType:
        """As loaders do."""
        source = self._sources[fullname]
        return self.source_to_code(source.text, source.path)


_lent = _Lent()
