"""Interpreters for kinds of machines: the files of an app version that an application comes on top of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyboinc.package import build, recipe, standalone, windows
from pyboinc.package.sources import SourceError

__all__ = ["APPLICATION", "RUNTIME", "TARGETS", "File", "Runtime", "build_runtime", "build_standalone", "find"]

APPLICATION, RUNTIME = "main.zip", "runtime.tar"
"""What interpreters look for in the slot: the application, and where the interpreter is no single file the rest."""

TARGETS = {
    **{name: target.platform for name, target in recipe.TARGETS.items()},
    windows.SHORT: windows.PLATFORM,
    **standalone.PLATFORMS,
}
"""Kinds of machines, and BOINC's names of them."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of an app version: where it lies, and its name in the slot."""

    path: Path
    open_name: str = ""
    main_program: bool = False


@dataclass(frozen=True, slots=True)
class Runtime:
    """An interpreter for one kind of machine."""

    target: str
    python: str
    """Its version."""
    files: tuple[File, ...]

    @property
    def platform(self) -> str:
        """BOINC's name of the kind of machine."""
        return TARGETS[self.target]


def build_runtime(target: str, cache: Path, *, tell: build.Tell = lambda line: None) -> Runtime:
    """The interpreter for a kind of machine, from the cache or built into it."""
    if target in standalone.PLATFORMS:
        return build_standalone(target, cache)
    if target == windows.SHORT:
        return _with_tar(target, windows.PYTHON_VERSION, *windows.build(cache))
    return _single(target, build.build(recipe.TARGETS[target], cache, tell=tell))


def build_standalone(target: str, cache: Path, archive: Path | None = None) -> Runtime:
    """The one of python-build-standalone, downloaded or from a local file; for Linux, too, if that is wanted."""
    if target not in standalone.pins():
        there = ", ".join(sorted(standalone.pins()))
        raise SourceError(f"there is no python-build-standalone for {target} here; there are {there}")
    return _with_tar(target, standalone.pins()[target].python, *standalone.make(target, cache, archive))


def find(target: str, cache: Path) -> Runtime | None:
    """The same if it is built already."""
    if target in standalone.PLATFORMS:
        return build_runtime(target, cache) if standalone.place(target, cache).exists() else None
    if target == windows.SHORT:
        return build_runtime(target, cache) if windows.place(cache).exists() else None
    path = cache / "runtime" / recipe.digest(recipe.TARGETS[target]) / build.name(recipe.TARGETS[target])
    return _single(target, path) if path.exists() else None


def _single(target: str, path: Path) -> Runtime:
    return Runtime(target, recipe.PYTHON_VERSION, (File(path, path.name, main_program=True),))


def _with_tar(target: str, python: str, launcher: Path, tar: Path) -> Runtime:
    return Runtime(target, python, (File(launcher, launcher.name, main_program=True), File(tar, RUNTIME)))
