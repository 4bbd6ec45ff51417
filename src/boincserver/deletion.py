"""Who deletes files and who copies them wait for each other, across threads and processes.

A deletion holds the project's `run/deleting` shared until the transaction that says so is durable; a backup holds it
alone while it takes its snapshot and links the files that the snapshot speaks of. A second lock in front keeps new
deletions out while a backup waits, or it could wait for ever.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["DeletionLock"]


class DeletionLock:
    """The two locks, in the folder of running things."""

    def __init__(self, folder: Path) -> None:
        self._gate = _open(folder / "deleting.gate")
        self._room = _open(folder / "deleting")
        self._inside = 0

    def enter(self) -> bool:
        """Begin a deletion, if no backup is being made; `leave` ends it."""
        if self._inside == 0:
            if not _try(self._gate):
                return False
            try:
                if not _try(self._room):
                    return False
            finally:
                fcntl.flock(self._gate, fcntl.LOCK_UN)
        self._inside += 1
        return True

    def leave(self) -> None:
        """The deletion is durable, or did not come to be."""
        self._inside -= 1
        if self._inside == 0:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nothing is deleted within the block."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._room, fcntl.LOCK_UN)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give both up."""
        os.close(self._gate)
        os.close(self._room)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
