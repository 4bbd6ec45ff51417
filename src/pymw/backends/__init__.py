"""The backends and how they are found: by the name before the colon of a URL."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pymw.errors import BackendError, UnknownBackend

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from importlib.metadata import EntryPoint

    from pymw.backends.protocol import Backend, BackendFactory, Setup

__all__ = ["BUILT_IN", "known_backends", "open_backend"]

GROUP = "pymw.backends"

# name -> (module:factory, what it is). Others come by entry points of the group "pymw.backends".
BUILT_IN: Mapping[str, tuple[str, str]] = {
    "local": ("pymw.backends.local:open_local", "worker processes on this machine"),
    "boinc": ("pymw.backends.boinc:open_boinc", "volunteers' computers, through the BOINC project in a directory"),
    "boinc+https": ("pymw.backends.boinc:open_boinc_https", "volunteers' computers, through a BOINC project elsewhere"),
    "boinc+http": ("pymw.backends.boinc:open_boinc_http", "the same without encryption, on this machine alone"),
    "mpi": ("pymw.backends.mpi:open_mpi", "the ranks of an MPI job, through mpi4py.futures"),
    "dask": ("pymw.backends.dask:open_dask", "the workers of a Dask scheduler: dask:ADDRESS"),
    "memory": ("pymw.testing:open_memory", "threads of this process, for tests"),
}

# name -> (the extra that it needs, a module that is there with it).
EXTRAS: Mapping[str, tuple[str, str]] = {
    "boinc": ("server", "sqlalchemy"),
    "mpi": ("mpi", "mpi4py"),
    "dask": ("dask", "distributed"),
}


def known_backends() -> dict[str, str]:
    """Name -> what it is, of all that could be opened by that name."""
    named = {name: about for name, (_, about) in BUILT_IN.items()}
    return named | {found.name: f"from {found.value}" for found in _installed().values() if found.name not in named}


def open_backend(url: str | Backend | Executor, setup: Setup) -> Backend:
    """The backend that `url` names: ``local``, ``boinc:DIR``, ``NAME:ADDRESS``."""
    if not isinstance(url, str):
        from concurrent.futures import Executor

        from pymw.backends.executor import ExecutorBackend

        if isinstance(url, Executor):
            return ExecutorBackend(url, setup)
        raise TypeError(f"a backend is a URL such as 'local' or an Executor, not {url!r}")
    name, _, address = url.partition(":")
    try:
        return _factory(name)(address, setup)
    except ModuleNotFoundError as error:
        if name not in EXTRAS:
            raise
        lacks = f"backend {name!r} needs the module {error.name!r}, which is not installed"
        raise BackendError(f"{lacks}: pip install 'pymw-grid[{EXTRAS[name][0]}]'") from error


def _factory(name: str) -> BackendFactory:
    if name not in BUILT_IN:
        installed = _installed().get(name)
        if installed is None:
            raise UnknownBackend(name, known_backends())
        factory: BackendFactory = installed.load()
        return factory
    module, _, function = BUILT_IN[name][0].partition(":")
    loaded: BackendFactory = getattr(importlib.import_module(module), function)
    return loaded


def _installed() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # here, because a worker process imports this package and not that

    return {found.name: found for found in entry_points(group=GROUP)}
