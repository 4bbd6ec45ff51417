"""Who holds a run: a lock that the system releases however its holder ends, and a door where the holder can be asked.

The door is a socket on this machine. Only who can read the run's folder knows its port and its word.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import platform
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from pymw.errors import RunBusy, RunError

__all__ = ["Lease", "ask_to_cancel", "holder"]

LOCK, DOOR = "lease", "door"
CANCEL, LEAVE = b"cancel", b"leave"
PATIENCE = 2.0  # seconds that one caller may take to say its word
ANSWER_WITHIN = 60.0  # seconds that stopping may take
TRIES, PAUSE = 5, 0.05  # whoever only looks whether a run is held has the lock for an instant


class Lease:
    """Held from construction until `close`, or until this process ends; RunBusy where another process has it."""

    def __init__(self, folder: Path, run: str) -> None:
        self._folder = folder
        self._file = _taken(folder / LOCK, run)
        self._door: Door | None = None

    def answer(self, cancel: Callable[[], int]) -> None:
        """From now on other processes may ask that the run be cancelled; `cancel` says how many tasks that ended."""
        with contextlib.suppress(OSError):  # where there is no loopback network there is no door
            self._door = Door(self._folder / DOOR, cancel)

    def close(self) -> None:
        """Let others have it."""
        if self._door is not None:
            self._door.close()
        self._file.close()


class Door:
    """A thread that waits for somebody to come."""

    def __init__(self, path: Path, cancel: Callable[[], int]) -> None:
        self._path = path
        self._cancel = cancel
        self._word = secrets.token_hex(16)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._port = self._socket.getsockname()[1]
        with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            file.write(f"{self._port} {self._word}\n")
        self._thread = threading.Thread(target=self._serve, name="pymw door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Nobody is let in any more; more than once does no harm."""
        self._path.unlink(missing_ok=True)
        if self._thread is not threading.current_thread():
            with contextlib.suppress(OSError, ValueError):
                _say(self._port, LEAVE, self._word)
            self._thread.join()

    def _serve(self) -> None:
        with self._socket:
            while True:
                visit, _ = self._socket.accept()
                with contextlib.suppress(OSError):
                    visit.settimeout(PATIENCE)
                    asked, _, word = visit.makefile("rb").readline(100).strip().partition(b" ")
                    if hmac.compare_digest(word, self._word.encode()):
                        # No daemon: what is cancelled may end this process, which stays until who asked is told.
                        threading.Thread(target=self._answer, args=(visit, asked), daemon=False).start()
                        return
                visit.close()

    def _answer(self, visit: socket.socket, asked: bytes) -> None:
        with visit, contextlib.suppress(OSError):
            visit.sendall(b"%d\n" % (self._cancel() if asked == CANCEL else 0))


def _say(port: int, what: bytes, word: str) -> int:
    with socket.create_connection(("127.0.0.1", port), ANSWER_WITHIN) as visit:
        visit.sendall(what + b" " + word.encode() + b"\n")
        return int(visit.makefile().readline())


def holder(folder: Path) -> str:
    """Who holds the run, in words; empty where nobody does."""
    try:
        _locked(folder / LOCK, "").close()
    except RunBusy as busy:
        return busy.holder
    return ""


def ask_to_cancel(folder: Path, run: str) -> int:
    """Have whoever holds the run cancel what of it is under way; how many tasks these were."""
    try:
        port, word = (folder / DOOR).read_text(encoding="ascii").split()
        return _say(int(port), CANCEL, word)
    except (OSError, ValueError) as error:
        told = f"run {run!r} is held by {holder(folder) or 'a process that has just ended'}, which does not answer"
        raise RunError(f"{told} here; cancel it on that machine, or stop that process") from error


def _taken(path: Path, run: str) -> IO[str]:
    for _ in range(TRIES - 1):
        with contextlib.suppress(RunBusy):
            return _signed(_locked(path, run))
        time.sleep(PAUSE)
    return _signed(_locked(path, run))


def _signed(file: IO[str]) -> IO[str]:
    file.seek(0)
    file.truncate()
    file.write(f"process {os.getpid()} on {platform.node()}\n")
    file.flush()
    return file


def _locked(path: Path, run: str) -> IO[str]:
    """An open file that the system unlocks when this process ends, however it ends."""
    file = path.open("a+", encoding="utf-8")
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 20)  # far behind the text, so that others can read who holds it
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        told = file.read().strip() or "another process"
        file.close()
        raise RunBusy(run, told) from None
    return file
