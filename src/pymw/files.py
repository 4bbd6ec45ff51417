"""Data files: there under their names where the task runs, and those that it leaves brought back."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from pymw.task import TaskOptions

__all__ = ["InFolder", "Left", "digests", "named"]


def named(options: TaskOptions) -> dict[str, Path]:
    """The data files by the names under which the task finds them; FileNotFoundError names one that is missing."""
    given = options.files
    pairs = given.items() if isinstance(given, Mapping) else ((Path(file).name, file) for file in given)
    found: dict[str, Path] = {}
    for name, file in pairs:
        path = Path(file).resolve()
        if not path.is_file():
            raise FileNotFoundError(f"files=: there is no file {file}")
        if name in found and found[name] != path:
            raise ValueError(
                f"files=: {found[name]} and {path} would both be called {name}; give names: {{name: path}}"
            )
        found[_inside(name)] = path
    for name in options.outputs:
        _inside(name)
    return found


def digests(options: TaskOptions) -> tuple[tuple[str, str], ...]:
    """The names of the data files, each with the SHA-256 of its content."""
    found = []
    for name, path in sorted(named(options).items()):
        with path.open("rb") as file:
            found.append((name, hashlib.file_digest(file, "sha256").hexdigest()))
    return tuple(found)


def _inside(name: str) -> str:
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"a file's name leads out of the task's folder: {name!r}")
    return name


@dataclass(frozen=True)
class Left:
    """What a function returned, with the files that it left."""

    value: Any
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class InFolder:
    """A function that runs in a folder of its own, for workers on the master's file system."""

    function: Callable[..., Any]
    files: Mapping[str, Path]
    outputs: Sequence[str]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function among its files; `Left` if it has outputs."""
        with _folder() as folder:
            for name, path in self.files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                _place(path, folder / name)
            value = self.function(*args, **kwargs)
            if not self.outputs:
                return value
            return Left(value, {name: _read(folder / name) for name in self.outputs})


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    before = Path.cwd()
    folder = Path(tempfile.mkdtemp(prefix="pymw-task-"))
    try:
        os.chdir(folder)
        yield folder
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)


def _place(file: Path, at: Path) -> None:
    try:
        at.symlink_to(file)
    except OSError:  # Windows without the right to make links
        shutil.copyfile(file, at)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"outputs=: the function left no file {path.name}") from None
