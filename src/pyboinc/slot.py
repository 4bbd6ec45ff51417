"""The slot directory as client and application share it: soft links, the lock, the files that end a task."""

from __future__ import annotations

import os
import sys
import time

LOCK_FILE = "boinc_lockfile"
LOCK_PATIENCE = 35.0
"""Seconds that another holder of the slot gets to leave: longer than an application without a client lives."""
FINISH_FILE = "boinc_finish_called"
TEMPORARY_EXIT_FILE = "boinc_temporary_exit"
LONGEST_TEMPORARY_EXIT = 86400

# Exit codes that servers and other volunteers know by these meanings.
EXIT_ABORTED_BY_CLIENT = 194
EXIT_CHILD_FAILED = 195
EXIT_DISK_LIMIT_EXCEEDED = 196
EXIT_TIME_LIMIT_EXCEEDED = 197
EXIT_MEMORY_LIMIT_EXCEEDED = 198
EXIT_INIT_FAILURE = 206

_SOFT_LINK_BYTES = 512


def resolve(name: str, slot: str = "") -> str:
    """The real path of a file that the job calls `name`: what its soft link names, or the name itself."""
    path = os.path.join(slot, name) if slot else name
    target = soft_link(path)
    if target is None:
        return path
    return os.path.normpath(os.path.join(slot, target))  # the client writes paths from the slot, in its folders too


def soft_link(path: str) -> str | None:
    """What BOINC's soft link at `path` points to; None for a real file, a symbolic link or nothing at all."""
    if os.path.islink(path):
        return None
    try:
        with open(path, "rb") as file:
            start = file.read(_SOFT_LINK_BYTES)
    except OSError:
        return None
    opened, closed = start.find(b"<soft_link>"), start.find(b"</soft_link>")
    if opened != 0 or closed < 0:
        return None
    return os.fsdecode(start[len(b"<soft_link>") : closed].strip())


class SlotBusyError(Exception):
    """Another process still works in this slot."""


class SlotLock:
    """The slot's lock file. The system lets go of it when its process dies, so a stale file locks nobody out."""

    def __init__(self, slot: str = "", *, patience: float = LOCK_PATIENCE, step: float = 1.0) -> None:
        self._path = os.path.join(slot, LOCK_FILE)
        give_up = time.monotonic() + patience
        while True:
            try:
                self._handle = _take(self._path)
                return
            except OSError as error:
                left = give_up - time.monotonic()
                if left <= 0:
                    raise SlotBusyError(f"another process holds {self._path}") from error
                time.sleep(min(step, left))

    def release(self) -> None:
        """Remove the file and let the next one in."""
        try:
            if sys.platform == "win32":
                _let_go(self._handle)
                os.unlink(self._path)
            else:
                os.unlink(self._path)
                os.close(self._handle)
        except OSError:
            pass


if sys.platform == "win32":
    import _winapi

    def _take(path: str) -> int:
        # Share mode 0: nobody else can open it while we do.
        generic_write, open_always, normal = 0x40000000, 4, 0x80
        return _winapi.CreateFile(path, generic_write, 0, 0, open_always, normal, 0)

    def _let_go(handle: int) -> None:
        _winapi.CloseHandle(handle)

else:
    import fcntl

    def _take(path: str) -> int:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o664)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def write_finish(code: int, message: str = "", *, notice: bool = False, slot: str = "") -> None:
    """Tell the client that the task is over; the process must then vanish within 300 seconds."""
    text = f"{code}\n"
    if message:
        text += f"{_line(message)}\n" + ("notice\n" if notice else "")
    _write(os.path.join(slot, FINISH_FILE), text)


def write_temporary_exit(delay: float, reason: str, *, notice: bool = False, slot: str = "") -> None:
    """Ask the client to start the task again after `delay` seconds."""
    seconds = int(delay) if 0 <= delay <= LONGEST_TEMPORARY_EXIT else 300
    # Without a reason the client would ignore the file.
    text = f"{seconds}\n{_line(reason) or 'no reason given'}\n" + ("notice\n" if notice else "")
    _write(os.path.join(slot, TEMPORARY_EXIT_FILE), text)


def clear_temporary_exit(slot: str = "") -> None:
    """Remove what an earlier episode left, so that it does not speak for this one."""
    try:
        os.unlink(os.path.join(slot, TEMPORARY_EXIT_FILE))
    except OSError:
        pass


def _line(text: str) -> str:
    return " ".join(text.split())[:255]


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
