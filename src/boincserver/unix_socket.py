"""Unix sockets whose path may be longer than the hundred bytes that the system's address structure holds."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["bind", "connect"]

_LONGEST: Final = 100


def connect(path: Path, timeout: float | None, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A connection to the socket at this path."""
    connection = socket.socket(socket.AF_UNIX, kind)
    try:
        connection.settimeout(timeout)
        with _short(path) as address:
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def bind(path: Path, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket at this path that only its owner can connect to."""
    listener = socket.socket(socket.AF_UNIX, kind)
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        with _short(path) as address:
            listener.bind(address)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """The path itself, or one through a link in a temporary folder."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="bs-", dir="/tmp") as folder:
        link = Path(folder) / "d"
        link.symlink_to(path.parent)
        yield str(link / path.name)
