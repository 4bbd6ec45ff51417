"""What a worker process runs. Its own module `__main__` is empty: the script's top level never runs again here."""
# ruff: noqa: BLE001 - whatever the user's code raises, here it becomes an outcome

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pickle
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pymw import worker
from pymw.backends.local import wire
from pymw.backends.local.live import CHUNK, LIMIT, POSITION, STARTED, LivePage
from pymw.outcome import Ending, ExceptionData, Outcome

FLUSH_EVERY = 0.1  # seconds: what a death can cost of finished work
TELL_EVERY = 0.05  # seconds between two progress messages of a task
CHECKPOINT_EVERY = 10.0
KEEP_OUTPUT = 1 << 16  # characters of captured output per task


def main(connection: Connection, page: LivePage, lifeline: int) -> None:
    """Serve the pool until it says goodbye or vanishes."""
    sys.modules["__main__"] = types.ModuleType("__main__")
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the master's to answer
    if lifeline >= 0:
        threading.Thread(target=_die_with_master, args=(lifeline,), daemon=True).start()
    try:
        Child(connection, page).serve()
    except (EOFError, ConnectionError):
        pass  # the pool closed the connection: an ordinary end


def _die_with_master(lifeline: int) -> None:
    """The master never writes here: the read ends when the master has, however it did. No orphans."""
    with contextlib.suppress(OSError):
        os.read(lifeline, 1)
    if sys.platform != "win32":
        os.killpg(0, signal.SIGKILL)  # with the processes that the task started
    os._exit(1)


class Child:
    """Runs chunks one after the other, item by item."""

    def __init__(self, connection: Connection, page: LivePage) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self.page = page
        self.checkpoints = Path()
        self._words = page.words
        self._functions: dict[int, Callable[..., Any]] = {}
        self._name = f"process {os.getpid()}"

    @property
    def name(self) -> str:
        """What people read."""
        return self._name

    def serve(self) -> None:
        """Answer the pool's messages in turn."""
        while True:
            message = wire.loads(self._connection.recv_bytes())
            if message[0] == wire.RUN:
                self._run(*message[1:])
            elif message[0] == wire.HELLO:
                self._hello(*message[1:])
            else:
                return

    def _hello(self, path: list[str], argv: list[str], initializer: bytes | None, checkpoints: str) -> None:
        sys.path[:] = path
        sys.argv[:] = argv
        self.checkpoints = Path(checkpoints)
        try:
            if initializer is not None:
                function, args = wire.loads(initializer)
                function(*args)
        except BaseException as error:
            self.send((wire.BROKEN, ExceptionData.of(error, lambda value: False, skip=1).traceback))
            raise EOFError from error
        self.send((wire.READY,))

    def send(self, message: tuple[Any, ...]) -> None:
        """One message to the pool, from whichever thread."""
        data = pickle.dumps(message, protocol=5)
        with self._sending:
            self._connection.send_bytes(data)

    def _run(self, serial: int, segments: list[tuple[Any, ...]], forget: Sequence[int]) -> None:
        for number in forget:
            self._functions.pop(number, None)
        try:
            calls = [self._read(*segment) for segment in segments]
        except BaseException as error:
            data = pickle.dumps(ExceptionData.of(error, _picklable), protocol=5)
            self.send((wire.UNREADABLE, serial, data))
            return
        words = self._words
        words[POSITION] = -1
        words[CHUNK] = serial
        results = Results(self, serial)
        worker.install(LocalTask(self, serial, [segment[-1] for segment in segments]))
        clock = time.perf_counter()
        stopped = self._run_calls(calls, results, LIMIT + serial % 2)
        seconds = time.perf_counter() - clock
        worker.install(None)
        results.flush(stopped, seconds)

    def _run_calls(self, calls: list[tuple[Any, ...]], results: Results, limit: int) -> int:
        position = 0
        for function, many, arguments in calls:
            if many:
                end = self._run_many(function, arguments, position, results, limit)
                if end < position + len(arguments[0]):
                    return end
                position = end
            else:
                self._words[STARTED] = time.monotonic_ns()
                self._words[POSITION] = position
                if position >= self._words[limit]:
                    return position
                self._run_one(function, arguments, position, results)
                position += 1
        return position

    def _run_many(self, function: Any, columns: tuple[Any, ...], position: int, results: Results, limit: int) -> int:
        """Run a stretch of a map; return the position where it stopped."""
        words, now, values = self._words, time.monotonic_ns, results.values
        append = values.append
        results.start(position)
        for args in zip(*columns, strict=True):
            # First say what runs, then look how far it may go: the pool writes its limit first and looks here after.
            words[STARTED] = started = now()
            words[POSITION] = position
            if position >= words[limit]:
                return position
            try:
                append(function(*args))
            except BaseException as error:
                results.fail(position, error, started)
                results.start(position + 1)
            position += 1
            if started > results.next_flush:
                results.flush()
        return position

    def _run_one(self, function: Any, arguments: Any, position: int, results: Results) -> None:
        with captured() as (stdout, stderr):
            outcome = worker.perform(function, *arguments, encodable=_picklable, worker=self._name)
        results.outcome(position, outcome, stdout.text, stderr.text)

    def _read(
        self, number: int, function: bytes | None, many: bool, data: bytes, origin: tuple[str, Sequence[int]]
    ) -> tuple[Callable[..., Any], bool, tuple[Any, ...]]:
        if function is not None:
            self._functions[number] = wire.loads(function)
        return self._functions[number], many, wire.loads(data)


class Results:
    """Collects what a chunk's items returned and sends it home in stretches."""

    def __init__(self, child: Child, serial: int) -> None:
        self._child = child
        self._serial = serial
        self._records: list[tuple[Any, ...]] = []
        self._first = 0
        self.values: list[Any] = []  # of items _first, _first + 1, ...
        self.next_flush = time.monotonic_ns() + int(FLUSH_EVERY * 1e9)

    def start(self, position: int) -> None:
        """A stretch of values begins at `position`."""
        self._settle()
        self._first = position

    def fail(self, position: int, error: BaseException, started: int) -> None:
        """The item at `position` raised."""
        self._settle()
        seconds = (time.monotonic_ns() - started) / 1e9
        data = ExceptionData.of(error, _picklable, skip=1)
        outcome = Outcome(Ending.RAISED, exception=data, worker=self._child.name, seconds=seconds)
        self._records.append((position, wire.OUTCOME, pickle.dumps(outcome, protocol=5)))

    def outcome(self, position: int, outcome: Outcome, stdout: str, stderr: str) -> None:
        """The single task at `position` ended."""
        self._settle()
        if outcome.ending is Ending.RETURNED and not stdout and not stderr:
            kind, payload = _value(outcome.value)
            times = (outcome.started, outcome.seconds, outcome.cpu_seconds)
            self._records.append((position, kind, payload, times))
        else:
            data = _sendable(dataclasses.replace(outcome, stdout=stdout, stderr=stderr))
            self._records.append((position, wire.OUTCOME, data))

    def flush(self, stopped: int | None = None, seconds: float = 0.0) -> None:
        """Send what there is; `stopped` tells how far the chunk went when it is over."""
        self._settle()
        if self._records or stopped is not None:
            self._child.send((wire.FLUSH, self._serial, self._records, stopped, seconds))
            self._records = []
        self.next_flush = time.monotonic_ns() + int(FLUSH_EVERY * 1e9)

    def _settle(self) -> None:
        values = self.values
        if not values:
            return
        if wire.plain(values):
            self._records.append((self._first, wire.VALUES, pickle.dumps(values, protocol=5)))
        else:
            for position, value in enumerate(values, self._first):
                self._records.append((position, *_value(value)))
        self._first += len(values)
        values.clear()


class LocalTask(worker.CurrentTask):
    """progress(), checkpoint and log of whichever item of the chunk is running."""

    def __init__(self, child: Child, serial: int, origins: list[tuple[str, Sequence[int]]]) -> None:
        self._child = child
        self._serial = serial
        self._origins = origins
        self._told = (-1, 0.0)
        self._saved = time.monotonic()

    @property
    def id(self) -> str:  # type: ignore[override]
        """The call and the position in it."""
        position: int = self._child.page.words[POSITION]
        for call, indices in self._origins:
            if position < len(indices):
                return f"{call}-{indices[position]}"
            position -= len(indices)
        return ""

    def progress(self, fraction: float) -> None:
        """Tell the master, at most twenty times a second."""
        position, now = self._child.page.words[POSITION], time.monotonic()
        if position != self._told[0] or now - self._told[1] >= TELL_EVERY or fraction >= 1:
            self._told = (position, now)
            self._child.send((wire.PROGRESS, self._serial, position, fraction))

    def log(self, message: str) -> None:
        """Tell the master."""
        self._child.send((wire.LOG, self._serial, self._child.page.words[POSITION], message))

    def load(self, default: Any) -> Any:
        """From a file that survives this process."""
        try:
            return wire.loads(self._file.read_bytes())
        except FileNotFoundError:
            return default

    def save(self, value: Any) -> None:
        """Into a new file that takes the old one's place."""
        data, file = _dumps(value), self._file
        draft = file.with_suffix(".new")
        draft.write_bytes(data)
        draft.replace(file)
        self._saved = time.monotonic()

    def due(self) -> bool:
        """Every ten seconds."""
        return time.monotonic() - self._saved >= CHECKPOINT_EVERY

    @property
    def _file(self) -> Path:
        return self._child.checkpoints / self.id


class Tee(io.TextIOBase):
    """Standard output that keeps what passes through it."""

    def __init__(self, beneath: Any) -> None:
        self._beneath = beneath
        self._kept: list[str] = []
        self._size = 0

    def write(self, text: str) -> int:
        """Pass `text` on and keep it."""
        if self._size < KEEP_OUTPUT:
            self._kept.append(text[: KEEP_OUTPUT - self._size])
            self._size += len(text)
        self._beneath.write(text)
        return len(text)

    def flush(self) -> None:
        """Pass it on."""
        self._beneath.flush()

    def fileno(self) -> int:
        """The descriptor beneath, for subprocesses."""
        return int(self._beneath.fileno())

    def isatty(self) -> bool:
        """As what is beneath says."""
        return bool(self._beneath.isatty())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As what is beneath says."""
        return str(self._beneath.encoding)

    @property
    def text(self) -> str:
        """What was written."""
        return "".join(self._kept)


@contextlib.contextmanager
def captured() -> Iterator[tuple[Tee, Tee]]:
    """Keep what is printed, and print it."""
    before = sys.stdout, sys.stderr
    tees = Tee(before[0]), Tee(before[1])
    sys.stdout, sys.stderr = tees
    try:
        yield tees
    finally:
        if tees[0]._kept:
            before[0].flush()
        sys.stdout, sys.stderr = before


def _picklable(value: Any) -> bool:
    try:
        _dumps(value)
    except Exception:
        return False
    return True


def _dumps(value: Any) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:
        return wire.dumps(value)  # classes and functions of the script: by value


def _sendable(outcome: Outcome) -> bytes:
    try:
        return _dumps(outcome)
    except Exception as error:
        from pymw.shipping import culprit

        detail = culprit(outcome.value, "result") or f"result: {error}"
        return _dumps(dataclasses.replace(outcome, ending=Ending.UNSENDABLE, value=None, detail=detail))


def _value(value: Any) -> tuple[str, bytes]:
    try:
        return wire.VALUE, _dumps(value)
    except Exception:
        return wire.OUTCOME, _sendable(Outcome(Ending.RETURNED, value=value))
