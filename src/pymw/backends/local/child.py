"""What a worker process runs. Its own module `__main__` is empty: the script's top level never runs again here."""
# ruff: noqa: BLE001 - whatever the user's code raises, here it becomes an outcome

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pickle
import shutil
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pymw import worker
from pymw.backends.local import wire
from pymw.backends.local.live import MARK, LivePage, first_mark
from pymw.backends.local.memory import Place, Window
from pymw.backends.local.outbox import Outbox
from pymw.captured import captured
from pymw.kept import Checkpoints
from pymw.outcome import Ending, ExceptionData, Outcome

FLUSH_EVERY = 0.1  # seconds: how much a death can cost of finished work
TELL_EVERY = 0.05  # seconds between two progress messages of a task


def main(connection: Connection, page: LivePage, store: int, outbox: int, lifeline: int) -> None:
    """Serve the pool until it says goodbye or vanishes."""
    sys.modules["__main__"] = types.ModuleType("__main__")
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the master's to answer
    child = Child(connection, page, Window(store), Outbox(outbox, page))
    if lifeline >= 0:
        threading.Thread(target=_die_with_master, args=(lifeline, child), daemon=True).start()
    try:
        child.serve()
    except (EOFError, ConnectionError):
        pass  # the pool closed the connection: an ordinary end


def _die_with_master(lifeline: int, child: Child) -> None:
    """The master never writes here: the read ends when the master has, however it did. No orphans, no files."""
    with contextlib.suppress(OSError):
        os.read(lifeline, 1)
    if child.temporary is not None and child.temporary.exists():
        shutil.rmtree(child.temporary, ignore_errors=True)
    if sys.platform != "win32":
        os.killpg(0, signal.SIGKILL)  # with the processes that the task started
    os._exit(1)


class Child:
    """Runs chunks one after the other, item by item."""

    def __init__(self, connection: Connection, page: LivePage, store: Window, outbox: Outbox) -> None:
        self.store = store
        self.outbox = outbox
        self._connection = connection
        self._sending = threading.Lock()
        self.page = page
        self.checkpoints = Path()
        self.temporary: Path | None = None
        self._words = page.words[:]
        self._pid = os.getpid()
        if hasattr(os, "register_at_fork"):
            # A copy of this process cannot tell where it is; so the loop over a map's items notices, at no cost.
            os.register_at_fork(after_in_child=self._words.release)
        self._mark = 0
        self._functions: dict[int, Callable[..., Any]] = {}
        self._name = f"process {self._pid}"
        self._ticker = Ticker()

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

    def _hello(self, path: list[str], argv: list[str], initializer: bytes | None, checkpoints: str, last: bool) -> None:
        sys.path[:] = path
        sys.argv[:] = argv
        self.checkpoints = Path(checkpoints)
        self.temporary = None if last else self.checkpoints
        try:
            if initializer is not None:
                from pymw.initialized import watched  # a worker that has none never pays for it

                function, args = wire.loads(initializer)
                with watched(function):
                    function(*args)
                self._end_copy()
        except BaseException as error:
            self._end_copy()
            self.send((wire.BROKEN, ExceptionData.of(error, lambda value: False, skip=1).traceback))
            raise EOFError from error
        self.send((wire.READY,))

    def _end_copy(self) -> None:
        """The user's code forked, and came back here in the child too: that must not answer in the worker's place."""
        if os.getpid() != self._pid:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(0)

    def send(self, message: tuple[Any, ...]) -> None:
        """One message to the pool, from whichever thread."""
        data = pickle.dumps(message, protocol=5)
        with self._sending:
            self._connection.send_bytes(data)

    def _run(self, serial: int, segments: list[tuple[Any, ...]], forget: Sequence[int], free: Sequence[Place]) -> None:
        for number in forget:
            self._functions.pop(number, None)
        for place in free:
            self.outbox.free(place)
        try:
            calls = [self._read(*segment) for segment in segments]
        except BaseException as error:
            unreadable = pickle.dumps(ExceptionData.of(error, _picklable), protocol=5)
        else:
            unreadable = b""
        if unreadable:
            self.send((wire.UNREADABLE, serial, unreadable, self.store.lent()))
            return
        self._words[MARK] = self._mark = first_mark(serial)
        results = Results(self, serial)
        task = LocalTask(self, serial, [segment[-1] for segment in segments])
        worker.install(task)
        self._ticker.watch(results)
        clock = time.perf_counter()
        stopped = self._run_calls(calls, results, self.page.permits(serial))
        seconds = time.perf_counter() - clock
        self._ticker.watch(None)
        worker.install(None)
        calls.clear()  # what is still seen of the arguments then is seen for longer
        results.flush(stopped, seconds)
        task.forget()

    def _run_calls(self, calls: list[tuple[Any, ...]], results: Results, permits: memoryview) -> int:
        position = 0
        for function, many, arguments in calls:
            if many:
                end = position + len(arguments[0])
                while position < end and permits[position]:
                    position = self._run_many(function, arguments, position - end, position, results, permits)
                if position < end:
                    return position
            else:
                self._words[MARK] = self._mark + position
                if not permits[position]:
                    return position
                self._run_one(function, arguments, position, results)
                position += 1
        return position

    def _run_many(
        self, function: Any, columns: tuple[Any, ...], tail: int, position: int, results: Results, permits: memoryview
    ) -> int:
        """Run the last -`tail` items of a stretch of a map, the first of them at `position`.

        Return the position where it stopped: at the end, behind one that raised, or before one whose permit was
        withdrawn. This is the loop that a map of many small items lives in: `compress` reads the permit of an item
        after the line that says we are at it.
        """
        words, at, append = self._words, MARK, results.start(position)
        mark = self._mark + position
        words[at] = mark
        if tail + len(columns[0]):
            columns = tuple(column[tail:] for column in columns)
        try:
            if len(columns) == 1:
                for item in itertools.compress(columns[0], permits[position:]):
                    append(function(item))
                    mark += 1
                    words[at] = mark
            else:
                for items in itertools.compress(zip(*columns, strict=True), permits[position:]):
                    append(function(*items))
                    mark += 1
                    words[at] = mark
        except BaseException as error:
            self._end_copy()
            results.fail(mark - self._mark, error)
            mark += 1
        return mark - self._mark

    def _run_one(self, function: Any, arguments: Any, position: int, results: Results) -> None:
        with captured() as printed:
            outcome = worker.perform(function, *arguments, encodable=_picklable, worker=self._name)
            self._end_copy()
        results.outcome(position, outcome, printed.stdout, printed.stderr)

    def _read(
        self,
        number: int,
        function: wire.Packed | None,
        many: bool,
        data: wire.Packed,
        origin: tuple[str, Sequence[Any]],
    ) -> tuple[Callable[..., Any], bool, tuple[Any, ...]]:
        if function is not None:
            self._functions[number] = wire.read(function, self.store)
        return self._functions[number], many, wire.read(data, self.store)


class Ticker:
    """Has what a long chunk has finished sent home every 100 ms; sleeps while no chunk runs."""

    def __init__(self) -> None:
        self._results: Results | None = None
        self._asleep = True
        self._go = threading.Semaphore(0)
        threading.Thread(target=self._tick, daemon=True).start()

    def watch(self, results: Results | None) -> None:
        """From now on these results; None: the chunk is over."""
        self._results = results
        if results is not None and self._asleep:
            self._asleep = False
            self._go.release()

    def _tick(self) -> None:
        while True:
            self._go.acquire()
            while (results := self._results) is not None:
                time.sleep(FLUSH_EVERY)
                if results is self._results:
                    results.flush()
            self._asleep = True
            if self._results is not None:  # a chunk came in between
                self._asleep = False
                self._go.release()


class Results:
    """Collects what a chunk's items returned and sends it home in stretches. Two threads flush."""

    def __init__(self, child: Child, serial: int) -> None:
        self._child = child
        self._serial = serial
        self._outbox = child.outbox
        self._lock = threading.RLock()
        self._records: list[tuple[Any, ...]] = []
        self._first = 0
        self._values: list[Any] = []  # of items _first, _first + 1, ...; appended to without the lock
        self._over = False

    def start(self, position: int) -> Callable[[Any], None]:
        """A stretch of values begins at `position`; return what takes them."""
        with self._lock:
            self._settle()
            self._first = position
            return self._values.append

    def fail(self, position: int, error: BaseException) -> None:
        """The item at `position` raised."""
        data = ExceptionData.of(error, _picklable, skip=1)
        outcome = Outcome(Ending.RAISED, exception=data, worker=self._child.name)
        with self._lock:
            self._settle()
            self._records.append((position, wire.OUTCOME, pickle.dumps(outcome, protocol=5)))

    def outcome(self, position: int, outcome: Outcome, stdout: str, stderr: str) -> None:
        """The single task at `position` ended."""
        with self._lock:
            self._settle()
            if outcome.ending is Ending.RETURNED and not stdout and not stderr:
                times = (outcome.started, outcome.seconds, outcome.cpu_seconds)
                self._records.append((position, *self._value(outcome.value), times))
            else:
                data = _sendable(dataclasses.replace(outcome, stdout=stdout, stderr=stderr), self._outbox)
                self._records.append((position, wire.OUTCOME, data))

    def flush(self, stopped: int | None = None, seconds: float = 0.0) -> None:
        """Send what there is; `stopped` tells how far the chunk went when it is over."""
        with self._lock:
            if self._over:
                return
            self._settle()
            if self._records or stopped is not None:
                self._over = stopped is not None
                kept = () if stopped is None else self._child.store.lent()
                self._child.send((wire.FLUSH, self._serial, self._records, stopped, seconds, kept))
                self._records = []
                self._outbox.sent()

    def _settle(self) -> None:
        count = len(self._values)
        if not count:
            return
        values = self._values[:count]
        del self._values[:count]  # the other thread may have appended meanwhile
        if (data := wire.plain_dumps(values, self._outbox)) is not None:
            self._records.append((self._first, wire.VALUES, data))
        else:
            for position, value in enumerate(values, self._first):
                self._records.append((position, *self._value(value)))
        self._first += count

    def _value(self, value: Any) -> tuple[str, Any]:
        try:
            return wire.VALUE, wire.dumps(value, self._outbox)
        except Exception:
            return wire.OUTCOME, _sendable(Outcome(Ending.RETURNED, value=value), self._outbox)


class LocalTask(worker.CurrentTask):
    """progress(), checkpoint and log of whichever item of the chunk is running."""

    def __init__(self, child: Child, serial: int, origins: list[tuple[str, Sequence[Any]]]) -> None:
        self._child = child
        self._serial = serial
        self._origins = origins
        self._told = (-1, 0.0)
        self._checkpoints = Checkpoints(child.checkpoints)

    @property
    def id(self) -> str:  # type: ignore[override]
        """The call and the position in it, or the key in a named run."""
        position = self._child.page.position(self._serial)
        for call, indices in self._origins:
            if position < len(indices):
                return f"{call}-{indices[position]}" if call else str(indices[position])
            position -= len(indices)
        return ""

    def progress(self, fraction: float) -> None:
        """Tell the master, at most twenty times a second."""
        position, now = self._child.page.position(self._serial), time.monotonic()
        if position != self._told[0] or now - self._told[1] >= TELL_EVERY or fraction >= 1:
            self._told = (position, now)
            self._child.send((wire.PROGRESS, self._serial, position, fraction))

    def log(self, message: str) -> None:
        """Tell the master."""
        self._child.send((wire.LOG, self._serial, self._child.page.position(self._serial), message))

    def load(self, default: Any) -> Any:
        """From a file that survives this process."""
        return self._checkpoints.load(self.id, default)

    def save(self, value: Any) -> None:
        """Likewise."""
        self._checkpoints.save(self.id, value)

    def due(self) -> bool:
        """As its checkpoints say."""
        return self._checkpoints.due()

    def forget(self) -> None:
        """The chunk is over, and this process has survived it."""
        self._checkpoints.forget()


def _picklable(value: Any) -> bool:
    try:
        wire.dumps(value)
    except Exception:
        return False
    return True


def _sendable(outcome: Outcome, outbox: Outbox) -> Any:
    try:
        return wire.dumps(outcome, outbox)
    except Exception as error:
        from pymw.shipping import culprit

        detail = culprit(outcome.value, "result") or f"result: {error}"
        return wire.dumps(dataclasses.replace(outcome, ending=Ending.UNSENDABLE, value=None, detail=detail))
