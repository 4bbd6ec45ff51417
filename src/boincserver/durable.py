"""Bytes that survive a power cut: files written whole, and files and folders brought to disk in one go."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

__all__ = ["sync", "write_new"]


def sync(paths: Iterable[str | Path]) -> None:
    """Bring these files and the folders that name them to disk; each folder once."""
    files = dict.fromkeys(map(str, paths))
    for path in files:
        _fsync(path)
    for folder in dict.fromkeys(map(os.path.dirname, files)):
        _fsync(folder)


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
