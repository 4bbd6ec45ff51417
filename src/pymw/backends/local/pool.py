"""LocalBackend: chunks out to the workers, outcomes back through one thread."""
# ruff: noqa: BLE001 - reading and writing the user's objects may raise anything

from __future__ import annotations

import contextlib
import math
import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pymw.backends.local import wire
from pymw.backends.local.chunks import Chunk, Queue, Stretch
from pymw.backends.local.incoming import events_of, unreadable
from pymw.backends.local.moving import after_loss, out_of_time, overdue, taken_back, time_limit
from pymw.backends.local.outgoing import apart, one_by_one, prepared, segment
from pymw.backends.local.process import WorkerProcess
from pymw.backends.local.settings import count, environment, initializer
from pymw.backends.local.store import Region, Store
from pymw.backends.local.waiting import Waiter
from pymw.backends.protocol import (
    BackendStatus,
    Batch,
    Broken,
    Call,
    Capabilities,
    Event,
    Logged,
    Progressed,
    Setup,
)
from pymw.errors import BackendError, BrokenBackend
from pymw.outcome import ExceptionData

__all__ = ["LocalBackend"]

AHEAD_BYTES = 32 << 10  # what a socket surely takes at once while its worker is busy
AHEAD_SECONDS = 0.02  # a chunk shorter than this has another one wait behind it
TICK = 0.02
LOOK_EVERY = 1.0
STARTS_ALLOWED = 3  # workers that die one after the other before they are ready: something is wrong with all
GRACE = 5.0

CAPABILITIES = Capabilities(
    survives_worker_loss=True,
    cancels_running=True,
    kills_tasks=True,
    trusted=True,
    progress=True,
    logs=True,
    output=True,
    checkpoints=True,
    files=True,
    shared_files=True,
    priorities=True,
)


class LocalBackend:
    """Worker processes on this machine, started when there is work for them."""

    capabilities = CAPABILITIES

    def __init__(self, address: str, setup: Setup) -> None:
        self.name = f"local:{address}" if address else "local"
        self._workers_wanted = count(address, setup)
        self._collector = setup.collector
        self._hello_parts = initializer(setup)
        self._max_tasks = setup.max_tasks_per_child
        self._safe = setup.values == "safe"
        self._lock = threading.RLock()
        self._queue = Queue()
        self._store = Store()
        self._workers: list[WorkerProcess] = []
        self._failed_starts = 0
        self._looked = 0.0
        self._heard = False  # whether anything was heard when the collecting thread last waited, and
        self._waits = 0.0  # for how long it waits now; 0: it does not, or was woken
        self._owner = os.getpid()
        self._closing = False
        self._broken: BaseException | None = None
        self._undelivered: list[Event] = []  # found while handing out, perhaps in a caller's thread
        # Whoever saves a checkpoint makes the folder; where it is not to last, a name that nobody could guess.
        self._checkpoints_last = setup.run is not None
        folder = setup.run.folder if setup.run is not None else Path(tempfile.gettempdir())
        self._checkpoints = folder / ("checkpoints" if self._checkpoints_last else f"pymw-{secrets.token_hex(16)}")
        self._waiter: Waiter[WorkerProcess] = Waiter()
        self._thread: threading.Thread | None = None

    # What the master calls.

    def submit(self, batches: Sequence[Batch]) -> None:
        """Queue the tasks and give idle workers theirs at once, from the caller's own thread."""
        stretches = [prepared(batch, self._store, safe=self._safe) for batch in batches if len(batch)]
        with self._lock:
            self._refuse_if_over()
            for stretch in stretches:
                self._queue.put(stretch)
            self._hand_out()

    def cancel(self, call: Call, indices: Sequence[int] | None = None, *, running: bool = False) -> None:
        """What waits of a map is dropped, a single task when its turn comes; what a worker has not begun likewise."""
        with self._lock:
            if call.many and indices is None:
                self._queue.drop(call)
            for worker in self._workers:
                for chunk in worker.chunks:
                    theirs = [stretch for stretch in chunk.stretches if stretch.batch.call is call]
                    if len(theirs) == len(chunk.stretches) and indices is None:
                        worker.stop_before(chunk, 0)
                        if running and worker.position(chunk) >= 0:
                            worker.kill()

    def explain(self, call: Call, index: int) -> str:
        """Where the task is."""
        with self._lock:
            for worker in self._workers:
                for chunk in worker.chunks:
                    position = worker.position(chunk)
                    for offset, stretch in _offsets(chunk):
                        if stretch.batch.call is call and index in stretch.batch.indices[stretch.start : stretch.end]:
                            if 0 <= position < chunk.size and chunk.at(position)[0].index(position - offset) == index:
                                since = time.monotonic() - chunk.sent
                                return f"{call.name} runs on {worker.name}, for at most {since:.1f} s"
                            return f"{call.name} waits in the chunk that {worker.name} works on"
            busy = sum(bool(worker.chunks) for worker in self._workers)
            return (
                f"{call.name} waits among {self._queue.tasks} tasks; {busy} of {self._workers_wanted} workers are busy"
            )

    def status(self) -> BackendStatus:
        """How many workers there are, and what they do."""
        with self._lock:
            running = sum(bool(worker.chunks) for worker in self._workers)
            given = sum(chunk.size - chunk.home for worker in self._workers for chunk in worker.chunks)
            return BackendStatus(self._workers_wanted, running, self._queue.tasks + given - running)

    def close(self, *, detach: bool = False) -> None:
        """Idle workers end as a Python program does; busy ones are killed."""
        if os.getpid() != self._owner:
            return  # a fork of the master's process: the workers are not its own
        with self._lock:
            if self._closing:
                return
            self._closing = True
            list(self._queue.drain())
            for worker in self._workers:
                if worker.chunks or not worker.ready:
                    worker.kill()
                else:
                    worker.tell((wire.EXIT,))
        self._waiter.wake()
        thread = self._thread
        if thread is None:
            self._free()
        elif thread is not threading.current_thread():
            thread.join()

    # Handing out. Everything below runs under the lock, except where it says so.

    def _refuse_if_over(self) -> None:
        if self._broken is not None:
            raise BrokenBackend(str(self._broken)) from self._broken
        if self._closing:
            raise BackendError(f"backend {self.name!r} is closed")

    def _hand_out(self) -> None:
        """Give every worker that can take one a chunk; start workers while there is more to do than they can."""
        if self._closing or self._broken:
            return
        for worker in self._workers:
            if not worker.retiring and not worker.chunks and self._queue.tasks:
                self._give(worker)
        while len(self._workers) < self._workers_wanted and self._queue.tasks:
            if not self._start_worker():
                break
            self._give(self._workers[-1])
        for worker in self._workers:
            if self._queue.tasks and len(worker.chunks) == 1 and self._may_run_ahead(worker):
                self._give(worker)

    def _may_run_ahead(self, worker: WorkerProcess) -> bool:
        chunk = worker.chunks[0]
        if (
            worker.retiring
            or not worker.ready
            or self._max_tasks is not None
            or any(stretch.alone for stretch in chunk.stretches)
        ):
            return False
        shipments = [(stretch.shipment, len(stretch)) for stretch in chunk.stretches]
        if not all(shipment.items for shipment, _ in shipments):
            return False
        return sum(shipment.pace * tasks for shipment, tasks in shipments) < AHEAD_SECONDS

    def _give(self, worker: WorkerProcess) -> None:
        ahead = bool(worker.chunks) or not worker.ready
        may_run = None if self._max_tasks is None else self._max_tasks - worker.tasks_given
        while True:
            stretches = self._wanted(self._queue.take(self._workers_wanted * (2 if ahead else 1), may_run), worker)
            if stretches is None:
                return
            if not stretches:
                continue
            regions: list[Region] = []
            segments = self._segments(stretches, regions)
            if segments is None:
                continue
            if ahead and sum(wire.carried(one[1]) + wire.carried(one[3]) for one in segments) > AHEAD_BYTES:
                self._put_back(stretches)
                return
            chunk = Chunk(worker.next_serial(), stretches, sum(map(len, stretches)), time.monotonic())
            chunk.out = sum(wire.size(segment[3]) for segment in segments)
            chunk.regions = regions
            worker.run(chunk, segments)
            self._watch(chunk)
            return

    def _wanted(self, stretches: list[Stretch], worker: WorkerProcess) -> list[Stretch] | None:
        if not stretches:
            return None
        begin = self._collector.begin
        wanted = [s for s in stretches if begin(s.batch.call, s.index(), len(s), worker.name)]
        if len(wanted) < len(stretches):  # what follows is not wanted either, and whoever cancels may wait for our lock
            for call in {s.batch.call for s in stretches if s.many} - {s.batch.call for s in wanted}:
                self._queue.drop(call)
        return wanted

    def _segments(self, stretches: list[Stretch], regions: list[Region]) -> list[tuple[Any, ...]] | None:
        """The stretches as the worker reads them; None where one could not be pickled and all were put back."""
        segments: list[tuple[Any, ...]] = []
        for which, stretch in enumerate(stretches):
            try:
                segments.append(segment(stretch, self._store, regions))
            except Exception as error:
                sound, events = one_by_one(stretch, error)
                self._put_back([*stretches[:which], *sound, *stretches[which + 1 :]])
                self._undelivered.extend(events)
                self._waiter.wake()
                return None
        return segments

    # Workers come and go.

    def _start_worker(self) -> bool:
        if self._thread is None:
            self._thread = threading.Thread(target=self._collect, name=f"pymw {self.name}", daemon=True)
            self._thread.start()
        hello = (wire.HELLO, sys.path, sys.argv, self._hello_parts, str(self._checkpoints), self._checkpoints_last)
        try:
            worker = WorkerProcess(hello, environment(self._workers_wanted), self._store.descriptor)
        except OSError as error:
            if not self._workers:
                raise BackendError(f"cannot start a worker process: {error}") from error
            return False
        self._workers.append(worker)
        self._waiter.add(worker.connection, worker)
        self._waiter.wake()
        return True

    def _watch(self, chunk: Chunk) -> None:
        """The collecting thread may have begun to wait when there was nothing to look after."""
        if self._waits > (LOOK_EVERY if time_limit(chunk) is None else TICK):
            self._waits = 0.0
            self._waiter.wake()

    # The collecting thread.

    def _collect(self) -> None:
        try:
            while True:
                ready = self._waiter.wait(self._patience())
                events: list[Event] = []
                with self._lock:
                    self._heard, self._waits = bool(ready), 0.0
                    for worker in ready:
                        self._listen(worker, events)
                    self._watch_times(events)
                    self._look_after(events)
                    self._hand_out()
                    self._spread()
                    events += self._undelivered
                    self._undelivered.clear()
                    over = self._closing and not self._workers
                if over:
                    return
                if events and not self._closing:
                    self._collector.deliver(events)
                del events  # nothing of the tasks is held while this thread waits
        except BaseException as error:  # a bug of ours must not leave anyone waiting for ever
            self._break(error)
            raise
        finally:
            self._free()

    def _patience(self) -> float | None:
        with self._lock:
            idle = any(worker.ready and not worker.chunks for worker in self._workers)
            behind = any(len(w.chunks) > 1 or (w.chunks and w.chunks[0].limit > 1) for w in self._workers)
            timed = any(time_limit(chunk) is not None for w in self._workers for chunk in w.chunks[:1])
            if (idle and behind) or timed or self._closing:
                self._waits = TICK
            elif self._heard or any(worker.chunks for worker in self._workers):
                self._waits = LOOK_EVERY  # once more when all is done: who calls again at once need not wake it
            else:
                self._waits = math.inf
            return self._waits if self._waits < math.inf else None

    def _listen(self, worker: WorkerProcess, events: list[Event]) -> None:
        """One message of the worker's, or the news that it is gone."""
        try:
            message = worker.connection.recv_bytes()
        except (EOFError, OSError):
            self._lose(worker, events)
        else:
            self._hear(worker, wire.loads(message), events)

    def _look_after(self, events: list[Event]) -> None:
        """A dead worker's connection stays open where a process that its task started has inherited it."""
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        for worker in list(self._workers):
            if worker.wait(0) is None:
                continue
            self._hear_the_rest(worker, events)
            self._lose(worker, events)

    def _hear_the_rest(self, worker: WorkerProcess, events: list[Event]) -> None:
        """What a worker that is over managed to say before."""
        with contextlib.suppress(EOFError, OSError):
            while worker.connection.poll():
                self._hear(worker, wire.loads(worker.connection.recv_bytes()), events)

    def _hear(self, worker: WorkerProcess, message: tuple[Any, ...], events: list[Event]) -> None:
        match message:
            case (wire.FLUSH, serial, records, stopped, seconds, kept):
                chunk = _chunk(worker, serial)
                for record in records:
                    events.extend(events_of(chunk, record, worker.outbox, worker.name))
                worker.has_read()
                if stopped is not None:
                    worker.done_with(chunk, kept)
                    self._finish(worker, chunk, stopped, seconds)
            case (wire.PROGRESS, serial, position, fraction):
                stretch, offset = _chunk(worker, serial).at(position)
                events.append(Progressed(stretch.batch.call, stretch.index(offset), fraction))
            case (wire.LOG, serial, position, line):
                stretch, offset = _chunk(worker, serial).at(position)
                events.append(Logged(stretch.batch.call, stretch.index(offset), line))
            case (wire.READY,):
                worker.ready = True
                self._failed_starts = 0
            case (wire.UNREADABLE, serial, data, kept):
                worker.done_with(chunk := _chunk(worker, serial), kept)
                self._sort_out(worker, chunk, wire.loads(data), events)
            case (wire.BROKEN, text):
                self._break(BrokenBackend(f"the initializer raised in a worker process:\n{text}"), events)

    def _finish(self, worker: WorkerProcess, chunk: Chunk, stopped: int, seconds: float) -> None:
        self._put_back(list(chunk.parts(stopped, chunk.limit)))
        if len({stretch.shipment for stretch in chunk.stretches}) == 1:
            chunk.stretches[0].shipment.measured(stopped, seconds, max(chunk.out, chunk.back))
        else:
            for stretch in chunk.stretches:
                stretch.shipment.measured(len(stretch), seconds * len(stretch) / max(stopped, 1))
        if self._max_tasks is not None and worker.tasks_given >= self._max_tasks and not worker.chunks:
            worker.retiring = True
            worker.tell((wire.EXIT,))

    def _sort_out(self, worker: WorkerProcess, chunk: Chunk, error: ExceptionData, events: list[Event]) -> None:
        """The worker could not read its chunk: each task on its own, until the culprit stands alone."""
        if chunk.size > 1:
            self._put_back(apart(chunk.parts(0, chunk.limit)))
            return
        events.append(unreadable(chunk.stretches[0], error, worker.name))

    # Losses, time limits, moving work.

    def _lose(self, worker: WorkerProcess, events: list[Event]) -> None:
        """The worker is gone: charge the item that it ran, and move the rest on."""
        self._workers.remove(worker)
        self._waiter.remove(worker.connection)
        if not worker.retiring:
            worker.kill()  # with whatever it started
        ending = worker.ending(GRACE)
        if not worker.ready and not self._closing:
            self._failed_starts += 1
            if self._failed_starts >= STARTS_ALLOWED:
                self._break(
                    BrokenBackend(f"{STARTS_ALLOWED} worker processes ended before they were ready; {ending}"), events
                )
        told, left = after_loss(worker, ending)
        events += told
        self._put_back(left)
        worker.chunks.clear()
        worker.close()

    def _watch_times(self, events: list[Event]) -> None:
        for worker in list(self._workers):
            if (found := overdue(worker)) is None:
                continue
            chunk, position, ran = found
            worker.kill()
            self._hear_the_rest(worker, events)
            if chunk in worker.chunks and chunk.home <= position:
                ended, again = out_of_time(worker, chunk, position, ran)
                events.append(ended)
                self._put_back(again)

    def _put_back(self, stretches: Sequence[Stretch]) -> None:
        for stretch in reversed(stretches):
            self._queue.put(stretch, front=True)

    def _spread(self) -> None:
        """Take back what busy workers have not begun, where others have nothing to do."""
        idle = [w for w in self._workers if w.ready and not w.retiring and not w.chunks]
        if not idle or self._queue.tasks or self._closing:
            return
        for worker in self._workers:
            for chunk in reversed(worker.chunks):
                if idle and (back := taken_back(worker, chunk)):
                    self._put_back(back)
                    idle.pop()
        self._hand_out()

    def _break(self, error: BaseException, events: list[Event] | None = None) -> None:
        with self._lock:
            self._broken = error
            list(self._queue.drain())
            for worker in self._workers:
                worker.chunks.clear()
                worker.kill()
        if events is not None:
            events.append(Broken(error))
        else:
            self._collector.deliver([Broken(error)])

    def _free(self) -> None:
        """Not under the lock; nobody else uses any of this any more."""
        for worker in self._workers:
            worker.kill()
            worker.wait(GRACE)
            worker.close()
        self._workers.clear()
        self._waiter.close()
        self._store.close()
        if not self._checkpoints_last:
            shutil.rmtree(self._checkpoints, ignore_errors=True)


def _offsets(chunk: Chunk) -> Iterator[tuple[int, Stretch]]:
    base = 0
    for stretch in chunk.stretches:
        yield base, stretch
        base += len(stretch)


def _chunk(worker: WorkerProcess, serial: int) -> Chunk:
    return next(chunk for chunk in worker.chunks if chunk.serial == serial)
