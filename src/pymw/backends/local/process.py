"""One worker process as the pool sees it: started, told, ended. All that differs between systems is here."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from pymw.backends.local import wire
from pymw.backends.local.chunks import Chunk
from pymw.backends.local.live import MARK, READ, LivePage
from pymw.backends.local.memory import Place, Window, create
from pymw.backends.local.store import Region

__all__ = ["WorkerProcess"]

FUNCTIONS_KEPT = 256
FUNCTION_BYTES_KEPT = 256 << 20
KILLED = 9  # the number of SIGKILL, which Windows has no name for

# The script's own top level is never run: `__main__` of the child is this line.
_CODE = "import sys; sys.path[0:1] = []; sys.path.append(sys.argv.pop(1)); "
_CODE += "from pymw.backends.local.entry import start; start()"
_HERE = str(Path(__file__).parents[3])


class WorkerProcess:
    """A fresh interpreter in a session of its own, with a connection and a live page."""

    def __init__(self, hello: tuple[Any, ...], environment: dict[str, str], store: int) -> None:
        self.connection, theirs = Pipe(duplex=True)
        self.page, token = LivePage.create()
        self.outbox = Window(create())
        shared = [store, self.outbox.descriptor]
        self._lifeline, self._process = _start(theirs, self.page, token, shared, environment)
        theirs.close()
        self._kills_before = _kills_for_memory()
        self.page.forget_descriptor()
        self.pid = self._process.pid
        self.name = f"process {self.pid}"
        self.ready = False
        self.retiring = False
        self.chunks: list[Chunk] = []  # at most two: the one that runs and the one behind it
        self.kept: list[Region] = []  # of the store, of which it still has views
        self.tasks_given = 0
        self._serial = 0
        self._seen, self._since = -1, 0.0
        self._known: dict[int, int] = {}  # functions that the child holds and their sizes, the least lately used first
        self._known_bytes = 0
        self.tell(hello)

    def tell(self, message: tuple[Any, ...]) -> None:
        """Send one message; a dead child is noticed elsewhere."""
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            self.connection.send_bytes(pickle.dumps(message, protocol=5))

    def next_serial(self) -> int:
        """The number of the next chunk; its limit word is free, since at most two chunks are under way."""
        self._serial += 1
        return self._serial

    def run(self, chunk: Chunk, segments: Sequence[tuple[Any, ...]]) -> None:
        """Hand over a chunk."""
        self.page.permit(chunk.serial, chunk.size)
        self.chunks.append(chunk)
        self.tasks_given += chunk.size
        complete = []
        for number, function, *rest in segments:
            size = self._known.pop(number, None)
            complete.append((number, function if size is None else None, *rest))
            if size is None:
                size = wire.size(function)
                self._known_bytes += size
            self._known[number] = size
        forget = list(self._superfluous({segment[0] for segment in segments}))
        self.tell((wire.RUN, chunk.serial, complete, forget, self._free()))

    def _superfluous(self, needed: set[int]) -> Iterator[int]:
        """The functions that the child should forget."""
        while len(self._known) > FUNCTIONS_KEPT or self._known_bytes > FUNCTION_BYTES_KEPT:
            oldest = next(iter(self._known))
            if oldest in needed:
                return
            self._known_bytes -= self._known.pop(oldest)
            yield oldest

    def _free(self) -> list[Place]:
        """What the master's program has dropped of the results since it was last asked."""
        free = []
        with contextlib.suppress(IndexError):
            while self.outbox.gone:
                free.append(self.outbox.gone.popleft())
        return free

    def has_read(self) -> None:
        """One more message of results was read: the child may use the memory again where the pickles lay."""
        self.page.words[READ] += 1

    def done_with(self, chunk: Chunk, kept: Sequence[int]) -> None:
        """The chunk is over for the child, but of these places in the store it still has views."""
        self.chunks.remove(chunk)
        if kept or self.kept:
            regions = {region.place[0]: region for region in (*self.kept, *chunk.regions)}
            self.kept = [regions[offset] for offset in kept if offset in regions]

    def position(self, chunk: Chunk) -> int:
        """Which item of the chunk it runs, or is next to run; -1: it has not begun."""
        return self.page.position(chunk.serial)

    def seconds_running(self) -> float:
        """For how long it has been seen at the item where it is; look often, for this is how it is measured."""
        mark, now = int(self.page.words[MARK]), time.monotonic()
        if mark != self._seen:
            self._seen, self._since = mark, now
        return now - self._since

    def stop_before(self, chunk: Chunk, position: int) -> None:
        """Forbid the child to begin items from this position on."""
        self.page.withdraw(chunk.serial, position, chunk.size)

    def kill(self) -> None:
        """End it and what it started, now."""
        if sys.platform == "win32":
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(self.pid)], check=False, capture_output=True)
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit code, or None if it still runs after `timeout`."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def ending(self, patience: float) -> str:
        """How it ended, in words."""
        code = self.wait(patience)
        if code == -KILLED and _kills_for_memory() > self._kills_before:
            return f"{end_of(code)}; the system was out of memory, and ended a process for it"
        return end_of(code)

    def close(self) -> None:
        """Free everything; the process is over."""
        self.connection.close()
        self.page.close()
        self.outbox.close()
        self.kept.clear()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


def _kills_for_memory() -> int:
    """How many processes the Linux kernel has ended for want of memory, in this or any container of the machine."""
    try:
        return int(Path("/proc/vmstat").read_bytes().rpartition(b"\noom_kill ")[2].split()[0])
    except (OSError, IndexError, ValueError):
        return 0


def end_of(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None:
        return "vanished"
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exited with code {code}"


def _start(
    theirs: Connection, page: LivePage, token: str, shared: list[int], environment: dict[str, str]
) -> tuple[int, subprocess.Popen[bytes]]:
    command = [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", _CODE, _HERE]  # type: ignore[attr-defined]
    if sys.platform == "win32":
        handle = theirs.fileno()
        os.set_handle_inheritable(handle, True)
        info = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})
        return -1, subprocess.Popen(
            [*command, str(handle), token, "-1", "-1", "-1"],
            env=environment,
            stdin=subprocess.DEVNULL,
            startupinfo=info,
            creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,
        )
    read, write = os.pipe()
    try:
        process = subprocess.Popen(
            [*command, str(theirs.fileno()), token, *map(str, shared), str(read)],
            env=environment,
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), page.descriptor, *(one for one in shared if one >= 0), read),
            start_new_session=True,
        )
    except BaseException:
        os.close(write)
        raise
    finally:
        os.close(read)
    return write, process
