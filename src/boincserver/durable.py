"""Bytes that survive a power cut: files written whole, and files and folders brought to disk in one go."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["remove", "sync", "write_new"]

_SYNCFS: Final = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if sys.platform == "linux" else None
_MANY: Final = 3


def sync(paths: Iterable[str | Path]) -> None:
    """Bring these files and the folders that name them to disk; each folder once."""
    files = dict.fromkeys(map(str, paths))
    if _SYNCFS is not None and len(files) >= _MANY:
        _sync_file_systems(files)
        return
    for path in files:
        _fsync(path)
    for folder in dict.fromkeys(map(os.path.dirname, files)):
        _fsync(folder)


def remove(paths: Iterable[str]) -> None:
    """Delete these files; those that are gone already are no error."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108


def _sync_file_systems(files: Iterable[str]) -> None:
    """One call for each file system, whatever the number of files: a tenth of the cost when there are many."""
    assert _SYNCFS is not None
    folders = {os.stat(folder).st_dev: folder for folder in dict.fromkeys(map(os.path.dirname, files))}  # noqa: PTH116
    for folder in folders.values():
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            if _SYNCFS(descriptor) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), folder)
        finally:
            os.close(descriptor)


def _fsync(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # deleted in the meantime: nothing left to keep
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_new(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file that is there whole or not at all; not yet on disk until `sync`."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
