"""The log of a project: DIR/log/server.log, and older files beside it.

Any number of processes write; each line goes out in one piece. A file that is full becomes `server.log.1`, and so on.
Whoever prefers a tool of the system's may move it away at any time: the next line begins a new one, and no signal is
needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from boincserver.config import Config
from boincserver.logline import LineFormatter

__all__ = ["LogFile", "begin", "lines", "path_of"]

_PAUSE: Final = 0.2
_MEGABYTE: Final = 1_000_000


def path_of(project: Path) -> Path:
    """Where a project's log is."""
    return project / "log" / "server.log"


def begin(project: Path, config: Config, level: int) -> None:
    """From now on this process tells what happens to standard error and to the project's log."""
    formatter = LineFormatter(config.log_format)
    handlers = [logging.StreamHandler(), LogFile(path_of(project), config.log_megabytes * _MEGABYTE, config.log_files)]
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(level)
    # What it says of its own beginning and end is told better by `serving` and `stopping`.
    logging.getLogger("uvicorn").setLevel(max(level, logging.WARNING))


class LogFile(logging.Handler):
    """Appends lines to a file of at most so many bytes, and keeps so many older ones. 0 bytes: no limit."""

    def __init__(self, path: Path, most: int, keep: int) -> None:
        super().__init__()
        self._path = path
        self._most = most
        self._keep = keep
        self._file = -1
        self._opened: tuple[int, int] | None = None
        path.parent.mkdir(mode=0o700, exist_ok=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            data = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
            if self._size() + len(data) > self._most > 0:
                self._turn(len(data))
            while data:
                data = data[os.write(self._file, data) :]
        except Exception:  # noqa: BLE001 - such as a full disk: the standard library says so on standard error
            self.handleError(record)

    def _size(self) -> int:
        """How large the file is, which may be a new one since the last line."""
        with contextlib.suppress(FileNotFoundError):
            status = self._path.stat()
            if (status.st_dev, status.st_ino) == self._opened:
                return status.st_size
        self._open()
        return os.fstat(self._file).st_size

    def _open(self) -> None:
        self._close()
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        status = os.fstat(self._file)
        self._opened = status.st_dev, status.st_ino

    def _turn(self, more: int) -> None:
        """Begin a new file, unless another process did so just now."""
        lock = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            size = self._size()
            if size == 0 or size + more <= self._most:
                return
            for number in range(self._keep, 0, -1):
                source = older(self._path, number - 1)
                with contextlib.suppress(FileNotFoundError):
                    source.replace(older(self._path, number))
            if self._keep == 0:
                self._path.unlink()
            self._open()
        finally:
            os.close(lock)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file, self._opened = -1, None

    def close(self) -> None:
        """Write no more."""
        with self.lock or contextlib.nullcontext():
            self._close()
        super().close()


def older(path: Path, number: int) -> Path:
    """The file that was full so many files ago."""
    return path.with_name(f"{path.name}.{number}") if number else path


def lines(path: Path, *, endless: bool = False) -> Iterator[str]:
    """Every line that is kept, the oldest first; if `endless` then as they come, with an empty text when none has."""
    with contextlib.ExitStack() as stack:
        # The newest is opened first: it may become an older one while these are opened.
        newest = _opened(path)
        files = [file for number in _older_ones(path) if (file := _opened(older(path, number))) is not None]
        for file in files:
            stack.enter_context(file)
        for file in files:
            if newest is None or not os.path.samestat(os.fstat(file.fileno()), os.fstat(newest.fileno())):
                yield from file
    try:
        if not endless:
            yield from newest or ()
            return
        rest = ""
        while True:
            moved = newest is None or not _is_at(newest.fileno(), path)
            # After that look: what came into a file before it was moved is read before the next one is opened.
            line = newest.readline() if newest is not None else ""
            if line:
                rest += line
                if rest.endswith("\n"):
                    yield rest
                    rest = ""
            elif moved and (following := _opened(path)) is not None:
                if newest is not None:
                    newest.close()
                newest = following
            else:
                yield ""
                time.sleep(_PAUSE)
    finally:
        if newest is not None:
            newest.close()


def _opened(path: Path) -> TextIO | None:
    try:
        return path.open(encoding="utf-8", errors="replace", newline="\n")
    except FileNotFoundError:
        return None


def _older_ones(path: Path) -> list[int]:
    found = (each.name.rpartition(".")[2] for each in path.parent.glob(f"{path.name}.*"))
    return sorted((int(number) for number in found if number.isdecimal()), reverse=True)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return True  # moved away, and nothing has been written since
