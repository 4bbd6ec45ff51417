"""Data files: there under their names where the task runs, and those that it leaves brought back."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from pymw.outcome import Outcome
from pymw.sources import Equipped
from pymw.workplace import left_behind, workplace

if TYPE_CHECKING:
    from pymw.task import TaskOptions

__all__ = ["InFolder", "Left", "digests", "named", "put_down"]

MOST = 1 << 31  # bytes in all of the files that one call leaves


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
        seen = path.stat()
        found.append((name, _digest(path, seen.st_ino, seen.st_size, seen.st_mtime_ns)))
    return tuple(found)


@functools.lru_cache(maxsize=1024)
def _digest(path: Path, *_: int) -> str:
    """Of the file as it was when it had this inode, size and time of change: thousands of tasks may share it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inside(name: str) -> str:
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"a file's name leads out of the task's folder: {name!r}")
    return name


def put_down(files: Mapping[str, bytes], options: TaskOptions, index: int | None) -> None:
    """Write those files that the option `outputs` names into the folder `into`, below it one for each item of a map."""
    if options.into is None:
        return
    folder = Path(options.into) if index is None else Path(options.into, str(index))
    for name in options.outputs:
        if name in files:
            path = folder / _inside(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(path.name + ".part")
            draft.write_bytes(files[name])
            draft.replace(path)


@dataclass(frozen=True)
class Left:
    """What a function returned, with the files that it left."""

    value: Any
    files: Mapping[str, bytes]

    @staticmethod
    def apart(outcome: Outcome) -> Outcome:
        """The outcome with its value and its files where they belong."""
        left = outcome.value
        return dataclasses.replace(outcome, value=left.value, files=left.files) if isinstance(left, Left) else outcome


@dataclass(frozen=True)
class InFolder:
    """A function that runs in a folder of its own, among its files or their content."""

    function: Callable[..., Any]
    files: Mapping[str, Path | bytes]
    outputs: Sequence[str]

    @classmethod
    def of(cls, function: Callable[..., Any], options: TaskOptions, *, carry: bool = False) -> Callable[..., Any]:
        """The function with its modules, in a folder if it has files or outputs.

        `carry` where workers do not see the files of ours.
        """
        function = Equipped.of(function, options.modules, send=carry)
        if not options.files and not options.outputs:
            return function
        files = {name: path.read_bytes() if carry else path for name, path in named(options).items()}
        return cls(function, files, tuple(options.outputs))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function there; `Left` if it has outputs."""
        with workplace(Path(tempfile.mkdtemp(prefix="pymw-task-")), self.files):
            value = self.function(*args, **kwargs)
            return Left(value, left_behind(self.outputs, MOST)) if self.outputs else value
