"""Any `concurrent.futures.Executor` as a backend: the door to pools and clusters that have one.

Functions and arguments travel as our own pickles, so that a lambda or a function of the script works wherever
cloudpickle is; an Executor that runs threads gets them as they are. An Executor cannot kill a running task, and tells
nothing of it before its end, so that what the function prints and logs comes home with its outcome.
"""

# ruff: noqa: BLE001 - reading and writing the user's objects may raise anything

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pymw.backends.at_worker import Beside, in_process, in_thread, process
from pymw.backends.protocol import (
    AttemptLost,
    BackendStatus,
    Batch,
    Broken,
    Call,
    Capabilities,
    Ended,
    Event,
    Logged,
    Progressed,
    Setup,
)
from pymw.errors import BackendError, BrokenBackend, UnshippableError
from pymw.files import InFolder, Left
from pymw.outcome import Attempt, Ending, Outcome, resolve_imported
from pymw.shipping import own_modules_by_value, pack, pack_call, ship

__all__ = ["ExecutorBackend"]

WAITING = 4  # chunks at the executor for each of its workers: enough to keep them busy, few enough to cancel
LONGEST = 256  # tasks in a chunk


class ExecutorBackend:
    """Chunks of tasks, each one call of the executor."""

    def __init__(
        self,
        executor: Executor,
        setup: Setup,
        *,
        name: str | None = None,
        workers: int | None = None,
        close: Callable[[], None] | None = None,
        survives_worker_loss: bool = False,
        elsewhere: bool = False,
    ) -> None:
        self.name = name or f"executor {type(executor).__name__}"
        options = ("initializer", "max_tasks_per_child", "mp_context")
        setup.refuse(*options, backend=self.name, why="give it to the executor itself")
        setup.refuse("values", backend=self.name, why="its workers are trusted; rehearse on local")
        self._executor = executor
        self._collector = setup.collector
        self._in_threads = isinstance(executor, ThreadPoolExecutor)
        self._close = close
        # Workers on other machines import what is installed there; the user's own modules travel by value.
        self._elsewhere = elsewhere
        self._pickling = own_modules_by_value if elsewhere else contextlib.nullcontext
        self._workers = setup.max_workers or workers or getattr(executor, "_max_workers", None) or os.cpu_count() or 1
        self.capabilities = Capabilities(
            trusted=True,
            survives_worker_loss=survives_worker_loss,
            progress=self._in_threads,
            logs=True,
            output=not self._in_threads,
            checkpoints=True,
            files=not self._in_threads,
            counts_attempts=self._in_threads,
        )
        # Made before anything is handed out: workers keep checkpoints if they see it.
        self._checkpoints = Path() if setup.run is None else setup.run.folder / "checkpoints"
        self._checkpoints_last = setup.run is not None
        self._lock = threading.RLock()
        self._home: deque[Callable[[], list[Event]]] = deque()  # what came home and was not yet delivered
        self._handing_out, self._delivering = threading.Lock(), threading.Lock()
        self._waiting: deque[tuple[Batch, int]] = deque()  # batches, and how far each has been handed out
        self._out: dict[Future[Any], Batch] = {}
        self._attempts: dict[tuple[int, int], tuple[Attempt, ...]] = {}  # of tasks that may go again
        self._closed = False
        self._broken = False

    def submit(self, batches: Sequence[Batch]) -> None:
        """As Backend says."""
        for batch in batches:
            if not batch.call.many and not self._in_threads:
                with self._pickling():
                    pack_call(batch.args(0), dict(batch.kwargs))  # refuses at the call what cannot be sent
                    pack(batch.call.function)
        with self._lock:
            if self._closed:
                raise BackendError(f"backend {self.name!r} is closed")
            self._waiting.extend((batch, 0) for batch in batches if len(batch))
        self._hand_out()

    def cancel(self, call: Call, indices: Sequence[int] | None = None, *, running: bool = False) -> None:
        """As Backend says: what the executor has not begun is cancelled there, what it runs is not."""
        with self._lock:
            if indices is None:
                self._waiting = deque(item for item in self._waiting if item[0].call is not call)
            theirs = [future for future, part in self._out.items() if part.call is call]
        self._cancel(theirs)

    def explain(self, call: Call, index: int) -> str:
        """As Backend says."""
        with self._lock:
            out, waiting = len(self._out), sum(len(batch) - start for batch, start in self._waiting)
        return f"{call.name} waits or runs at {self.name}: it has {out} chunks, and {waiting} tasks wait for it"

    def status(self) -> BackendStatus:
        """As Backend says."""
        with self._lock:
            running = sum(future.running() for future in self._out)
            waiting = sum(len(batch) - start for batch, start in self._waiting)
            return BackendStatus(self._workers, running, waiting + len(self._out) - running)

    def close(self, *, detach: bool = False) -> None:
        """As Backend says; an executor that was handed to us is its owner's to shut down."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._waiting.clear()
            out = list(self._out)
        self._cancel(out)
        if self._close is not None:
            self._close()
        if not self._checkpoints_last and self._checkpoints != Path():
            shutil.rmtree(self._checkpoints, ignore_errors=True)

    def _cancel(self, futures: Sequence[Future[Any]]) -> None:
        # A broken executor ends all that it has; up to CPython 3.11 a pool cannot bear it to be cancelled meanwhile.
        if not self._broken:
            for future in futures:
                future.cancel()

    # Handing out.

    def _hand_out(self) -> None:
        _in_turn(self._handing_out, self._may_hand_out, self._hand_out_one)

    def _may_hand_out(self) -> bool:
        with self._lock:
            return not self._closed and bool(self._waiting) and len(self._out) < WAITING * self._workers

    def _hand_out_one(self) -> None:
        with self._lock:
            if not self._may_hand_out():
                return
            batch, start = self._waiting.popleft()
            share = -(-(len(batch) - start) // (WAITING * self._workers))
            end = min(len(batch), start + (batch.call.chunksize or min(LONGEST, max(1, share))))
            if end < len(batch):
                self._waiting.appendleft((batch, end))
            part = batch[start:end]
            if not self._collector.begin(batch.call, part.indices[0], len(part), self.name):
                return
            try:
                future = self._call(part)
            except Exception as error:
                future = Future()
                future.set_exception(error)
            self._out[future] = part
        future.add_done_callback(self._take_home)

    def _call(self, part: Batch) -> Future[Any]:
        named = self._checkpoints_last
        beside = Beside(_ids(part), str(self._folder()), not part.call.many, process(), recorded=named)
        if self._in_threads:
            tasks = [(args, dict(part.kwargs)) for _, args in part.tasks()]
            tell = functools.partial(self._told, part)
            return self._executor.submit(in_thread, part.call.function, tasks, beside, tell)
        with self._pickling():
            data = pack([(args, dict(part.kwargs)) for _, args in part.tasks()], "args")
            if not part.call.shipped:
                part.call.shipped.append(self._packed(part.call))
        return self._executor.submit(in_process, part.call.shipped[0], data, beside)

    def _folder(self) -> Path:
        if self._checkpoints == Path():
            self._checkpoints = Path(tempfile.mkdtemp(prefix="pymw-"))
        self._checkpoints.mkdir(mode=0o700, exist_ok=True)
        return self._checkpoints

    def _packed(self, call: Call) -> bytes:
        function = InFolder.of(call.function, call.options, carry=self._elsewhere)
        return pack(function) if self._elsewhere else bytes(ship(function).data)

    # Coming home: called in whichever thread the executor has for it.

    def _take_home(self, future: Future[Any]) -> None:
        with self._lock:
            part = self._out.pop(future)
        self._deliver(lambda: self._events(part, future))
        self._hand_out()

    def _told(self, part: Batch, position: int, told: float | str) -> None:
        kind: Any = Logged if isinstance(told, str) else Progressed
        self._deliver(lambda: [kind(part.call, part.indices[position], told)])

    def _deliver(self, found: Callable[[], list[Event]]) -> None:
        self._home.append(found)
        _in_turn(self._delivering, lambda: bool(self._home), self._deliver_one)

    def _deliver_one(self) -> None:
        found = self._home.popleft()
        if not self._closed:
            self._collector.deliver(found())

    def _events(self, part: Batch, future: Future[Any]) -> list[Event]:
        call = part.call
        try:
            outcomes = [pickle.loads(o) if isinstance(o, bytes) else o for o in future.result()]  # noqa: S301 - trusted
        except CancelledError:
            return []
        except BrokenExecutor as error:
            with self._lock:
                self._broken = True
                self._waiting.clear()
            return [Broken(BrokenBackend(f"{self.name}: {error}"))]
        except UnshippableError as error:
            outcome = Outcome(Ending.UNSENDABLE, detail=str(error))
            if len(part) == 1:
                return [Ended(call, part.indices[0], outcome, error)]
            return self._again_one_by_one(part)
        except Exception as error:  # the engine's own way of saying that it lost the worker
            return self._lost(part, Attempt(self.name, f"{type(error).__name__}: {error}"))
        events: list[Event] = []
        for index, outcome in zip(part.indices, outcomes, strict=True):
            events += (Logged(call, index, line) for line in outcome.log)
            events.append(self._ended(call, index, outcome))
        return events

    def _again_one_by_one(self, part: Batch) -> list[Event]:
        """Until the culprit stands alone."""
        with self._lock:
            self._waiting.extendleft((part[i : i + 1], 0) for i in reversed(range(len(part))))
        return []

    def _lost(self, part: Batch, attempt: Attempt) -> list[Event]:
        """The innocent are not charged; who stands alone may only have waited at a worker that another one killed."""
        if len(part) > 1:
            return self._again_one_by_one(part)
        call, index = part.call, part.indices[0]
        attempts = (*self._attempts.pop((call.number, index), ()), attempt)
        if len(attempts) < call.options.attempts:
            self._attempts[call.number, index] = attempts
            self._again_one_by_one(part)
            return [AttemptLost(call, index, attempt)]
        outcome = Outcome(Ending.LOST, attempts=attempts)
        return [Ended(call, index, outcome, outcome.error(f"{call.id} ({call.name})"))]

    def _ended(self, call: Call, index: int, outcome: Outcome) -> Ended:
        outcome = Left.apart(outcome)
        return Ended(call, index, outcome, outcome.error(f"{call.id} ({call.name})", resolve_imported))


def _ids(part: Batch) -> list[str]:
    return list(part.keys) if part.keys is not None else [f"{part.call.id}-{index}" for index in part.indices]


def _in_turn(turn: threading.Lock, pending: Callable[[], bool], step: Callable[[], None]) -> None:
    """Step while something is pending, in one thread at a time.

    Whoever finds the turn taken goes on: the one who has it does the rest. So nobody waits for himself where a step
    leads back here, as when an executor ends a task before its submit returns.
    """
    while pending() and turn.acquire(blocking=False):
        try:
            while pending():
                step()
        finally:
            turn.release()
