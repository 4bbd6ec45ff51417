"""A team's folder for one match: how much is in it, and an end to it however it was filled."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

MAX_ENTRIES: Final = 10_000
MAX_DEPTH: Final = 64


class Hidden(Exception):
    """There is more than can be counted; the message says what."""


class Scratch:
    """A fresh folder. Use as a context manager: it is removed with all that it holds."""

    def __enter__(self) -> Path:
        self._path = Path(tempfile.mkdtemp(prefix="pacman-"))
        return self._path

    def __exit__(self, *_: object) -> None:
        remove(self._path)


def size(folder: Path) -> int:
    """Bytes that a folder takes on its disk. Raises `Hidden` for a swamp of files and for folders that are shut."""
    total = looked_at = 0
    waiting = [(str(folder), 0)]
    while waiting:
        path, depth = waiting.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    looked_at += 1
                    with contextlib.suppress(FileNotFoundError):
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
        except FileNotFoundError:
            continue
        except PermissionError as error:
            raise Hidden("shut a folder of its own") from error
        if looked_at > MAX_ENTRIES:
            raise Hidden(f"made more than {MAX_ENTRIES} files")
        if depth > MAX_DEPTH:
            raise Hidden(f"nested more than {MAX_DEPTH} folders")
    return total


def remove(folder: Path) -> None:
    """Remove a folder in which a stranger has written: folders so deep that no path names them, folders that are shut.

    What is within a folder is moved to the top before that folder goes, so that no path grows long.
    """
    numbers = itertools.count()
    prefix = secrets.token_hex(8)
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        with contextlib.suppress(OSError):
            path.chmod(0o700)
            for inside in path.iterdir():
                with contextlib.suppress(OSError):
                    if inside.is_symlink() or not inside.is_dir():
                        inside.unlink()
                        continue
                    top = inside
                    if path != folder:
                        inside.chmod(0o700)
                        top = inside.rename(folder / f"{prefix}-{next(numbers)}")
                    waiting.append(top)
            if path != folder:
                path.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()
