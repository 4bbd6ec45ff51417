"""The master: an Executor whose tasks run on whatever its backend's URL names."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pymw import worker
from pymw.backends import open_backend
from pymw.backends.protocol import Backend, Batch, Broken, Call, Capabilities, Receiver, Setup, refuse_unsupported
from pymw.bar import bar_for
from pymw.collector import Intake
from pymw.dependencies import dependencies, when_ready
from pymw.errors import NotInsideTask, UnsupportedOption
from pymw.feed import columns_of, rows_of
from pymw.files import named
from pymw.mapping import Gathering, OnError, read
from pymw.retrying import Retrying
from pymw.status import MasterStatus
from pymw.task import TaskFuture, TaskOptions

if TYPE_CHECKING:
    from pymw.run import Run
    from pymw.sharing import Shelf

__all__ = ["BoundMaster", "Master"]

FIRST_WINDOW = 16  # unfinished tasks of an unsized map per worker, at first
QUICK = 0.25  # seconds: a window that is half done sooner than this is doubled
LARGEST_WINDOW = 1 << 17


class Master(Executor):
    """Runs functions on a backend; a `concurrent.futures.Executor` with options beside the functions' own arguments.

    >>> from pymw import Master
    >>> with Master("local", max_workers=2) as master:
    ...     list(master.map(abs, [-1, -2, -3]))
    [1, 2, 3]
    """

    def __init__(
        self,
        backend: str | Backend | Executor | None = None,
        *,
        max_workers: int | None = None,
        run: str | None = None,
        retry_failed: bool = True,
        values: str = "native",
        rehearse: bool = True,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        mp_context: Any = None,
        max_tasks_per_child: int | None = None,
    ) -> None:
        here = worker.current()
        if here is not None and not here.may_be_master:
            raise NotInsideTask
        self._run = _hold(run, retry_failed)
        self._intake = Intake(self._run)
        setup = Setup(
            collector=self._intake,
            max_workers=max_workers,
            run=self._run,
            values=values,
            rehearse=rehearse,
            initializer=initializer,
            initargs=initargs,
            mp_context=mp_context,
            max_tasks_per_child=max_tasks_per_child,
        )
        chosen = backend if backend is not None else os.environ.get("PYMW_BACKEND") or "local"
        try:
            self._backend = open_backend(chosen, setup)
        except BaseException:
            if self._run is not None:
                self._run.close()
            raise
        self._options = TaskOptions()
        self._closed = False
        self._shelf: Shelf | None = None
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, _finish_unowned, self._intake, self._backend, self._run)
        self._finalizer.atexit = False
        _alive[id(self._backend)] = (self._intake, self._backend, self._run)

    # The Executor.

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskFuture:
        """Run ``fn(*args, **kwargs)`` on a worker."""
        return self._submit(self._options, fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        progress: Any = False,
        on_error: OnError = "raise",
    ) -> Iterator[Any]:
        """Run `fn` on each item, or on each row of several inputs; iterate over what it returned.

        A sized input is queued whole. An endless one is read only so far ahead of the unfinished tasks as
        `buffersize` says, by itself if None. `ordered=False` gives results as they come; `on_error` raises the
        exception of a task in its place, returns it there, or skips it; `progress=True` shows a bar.
        """
        reading = Reading(timeout, chunksize, buffersize, ordered, progress, on_error)
        return self._map(self._options, fn, iterables, reading)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks. With `wait`, return when all are done; without, leave them to go on."""
        with self._lock:
            self._closed = True
        for call in self._intake.open_calls():
            if isinstance(gathering := _waits_for(call), Gathering):
                gathering.count(0, complete=True)  # an endless input is not read any further
        if cancel_futures:
            self._cancel_waiting()
        if not wait:
            self._finalizer()
            return
        try:
            self._intake.wait()
        except BaseException:
            self._leave()
            raise
        self._close()

    def __exit__(self, exc_type: type[BaseException] | None, exc_val: Any, exc_tb: Any) -> None:
        """A normal end waits for the tasks; an exception leaves at once and cancels them."""
        if exc_type is None:
            self.shutdown()
        else:
            self._leave()

    # Beyond the Executor.

    def options(self, **options: Any) -> BoundMaster:
        """This master with options for the tasks that are given to what is returned.

        >>> from pymw import Master
        >>> with Master("local", max_workers=1) as master:
        ...     master.options(retries=3, name="smallest").submit(min, [3, 1, 2]).result()
        1
        """
        return BoundMaster(self, self._checked(self._options.but(**options)))

    def map_reduce(
        self,
        map_fn: Callable[[Any], Any],
        reduce_fn: Callable[[Any, Any], Any],
        data: Iterable[Any],
        **options: Any,
    ) -> Any:
        """``reduce(reduce_fn, map(map_fn, data))`` for an associative `reduce_fn`; see `pymw.mapreduce.map_reduce`.

        >>> from operator import add
        >>> from pymw import Master
        >>> with Master("local", max_workers=1) as master:
        ...     master.map_reduce(abs, add, range(-1000, 0))
        500500
        """
        from pymw.mapreduce import map_reduce

        return map_reduce(self, map_fn, reduce_fn, data, workers=self._backend.status().workers or 1, **options)

    def share(self, value: Any) -> Any:
        """What to pass in place of a large `value` to many tasks: each worker process reads it once.

        The function gets the value itself, an array memory-mapped and read-only. Where workers are not on this
        machine's file system the value itself is returned, and travels with each task.
        """
        if not self._backend.capabilities.shared_files:
            return value
        if self._shelf is None:
            from pymw.sharing import Shelf

            self._shelf = Shelf()
        return self._shelf.put(value)

    def status(self) -> MasterStatus:
        """How many tasks wait, run and are done, and what the backend says."""
        return MasterStatus(self._backend.name, len(self._intake.open_calls()), self._backend.status())

    @property
    def backend(self) -> str:
        """The backend's name, as in its URL."""
        return self._backend.name

    @property
    def capabilities(self) -> Capabilities:
        """What the backend promises."""
        return self._backend.capabilities

    def __repr__(self) -> str:
        return f"<Master {self._backend.name}{' closed' if self._closed else ''}>"

    def _repr_html_(self) -> str:
        return self.status()._repr_html_()

    # How it is done.

    def _checked(self, options: TaskOptions) -> TaskOptions:
        refuse_unsupported(options, self._backend.capabilities, self._backend.name)
        for name in ("key", "reuse"):
            if name in options.given() and self._run is None:
                raise UnsupportedOption(name, self._backend.name, 'it is for named runs: Master(..., run="a name")')
        if options.files or options.outputs:
            named(options)  # refuses what is not there
        return options

    def _submit(self, options: TaskOptions, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> TaskFuture:
        future = TaskFuture(self._backend, self._intake.dismiss)
        receiver: Receiver = future
        if options.retries:
            receiver = Retrying(future, self._resubmit)
        future._call = call = Call(fn, options, receiver, run=self._run)
        columns = tuple((arg,) for arg in args)
        keys = None if self._run is None else self._run.keys(call, columns, 1, kwargs)
        future.key = keys[0] if keys is not None else ""
        batch = Batch(call, range(1), columns, kwargs, keys)
        with self._lock:
            self._refuse_if_closed()
            self._intake.admit(call)
        try:
            if waits_for := dependencies(batch):
                when_ready(batch, waits_for, self._send_one)
            else:
                self._send_one(batch)
        except BaseException:
            self._intake.dismiss(call)
            raise
        return future

    def _send_one(self, batch: Batch) -> None:
        if isinstance(batch.call.receiver, Retrying):
            batch.call.receiver.sends(batch)
        self._send(batch)

    def _send(self, batch: Batch) -> None:
        """To the backend, or as far as the run's journal does not know the result already."""
        wanted: Batch | None = batch
        if self._run is not None:
            wanted, known = self._run.begin(batch)
            for event in known:
                _waits_for(batch.call).receive(event)
        if wanted is not None:
            self._backend.submit([wanted])

    def _map(
        self, options: TaskOptions, fn: Callable[..., Any], iterables: Sequence[Iterable[Any]], reading: Reading
    ) -> Iterator[Any]:
        if options.outputs:
            raise UnsupportedOption("outputs", self._backend.name, "files come back by submit() and TaskFuture.files")
        deadline = None if reading.timeout is None else time.monotonic() + reading.timeout
        with self._lock:
            self._refuse_if_closed()
        bar = bar_for(reading.progress, options.name or str(getattr(fn, "__name__", type(fn).__name__)))
        gathering = Gathering(reading.ordered, bar, lambda: self._intake.dismiss(call))
        receiver: Receiver = Retrying(gathering, self._resubmit) if options.retries else gathering
        call = Call(fn, options, receiver, many=True, chunksize=reading.chunksize, run=self._run)
        sending = Sending(self, call, gathering)

        def leave() -> None:
            if gathering.away and self._run is not None:
                gathering.stop_reading()  # the run goes on, and the journal takes what comes
            elif not gathering.complete or gathering.away:
                gathering.abandon()
                self._backend.cancel(call)
                self._intake.dismiss(call)

        try:
            columns = columns_of(iterables) if reading.buffersize is None else None
            if columns is not None or not iterables:
                sending.all(columns or ())
            else:
                sending.window_over([iter(iterable) for iterable in iterables], reading.buffersize)
                sending.feed()
        except BaseException:
            leave()
            if bar is not None:
                bar.close()
            raise
        return read(gathering, sending.feed, deadline=deadline, on_error=reading.on_error, leave=leave, bar=bar)

    def _resubmit(self, batch: Batch) -> None:
        self._backend.submit([batch])

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _cancel_waiting(self) -> None:
        for call in self._intake.open_calls():
            receiver = _waits_for(call)
            if isinstance(receiver, TaskFuture):
                receiver.cancel()
            elif isinstance(receiver, Gathering):
                receiver.abandon()
                self._backend.cancel(call)
                receiver.receive(Broken(CancelledError()))
                self._intake.dismiss(call)

    def _leave(self) -> None:
        """Go at once: what is not over is cancelled, and whoever waits for it is told."""
        with self._lock:
            if self._closed and not self._intake.open_calls():
                return
            self._closed = True
        open_calls = len(self._intake.open_calls())
        self._close()
        if self._run is not None and open_calls:
            told = f"pymw: run {self._run.name!r} is not over; run the script again to go on with it\n"
            sys.stderr.write(told)
        self._intake.deliver([Broken(CancelledError())])

    def _close(self) -> None:
        self._finalizer.detach()
        _alive.pop(id(self._backend), None)
        self._backend.close(detach=self._run is not None)
        if self._run is not None:
            self._run.close()
        if self._shelf is not None:
            self._shelf.close()


class BoundMaster(Executor):
    """A master with options; closing it does not close the master."""

    def __init__(self, master: Master, options: TaskOptions) -> None:
        self._master = master
        self._options = options

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskFuture:
        """As `Master.submit`, with these options."""
        return self._master._submit(self._options, fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        progress: Any = False,
        on_error: OnError = "raise",
    ) -> Iterator[Any]:
        """As `Master.map`, with these options."""
        reading = Reading(timeout, chunksize, buffersize, ordered, progress, on_error)
        return self._master._map(self._options, fn, iterables, reading)

    def options(self, **options: Any) -> BoundMaster:
        """With further options, or others."""
        return BoundMaster(self._master, self._master._checked(self._options.but(**options)))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Does nothing: the master is closed by whoever opened it."""

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        return None

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={getattr(self._options, name)!r}" for name in self._options.given())
        return f"<{self._master!r} with {given or 'no options'}>"


@dataclass(frozen=True, slots=True)
class Reading:
    """How the caller of a map wants to have it."""

    timeout: float | None
    chunksize: int | None
    buffersize: int | None
    ordered: bool
    progress: Any
    on_error: OnError

    def __post_init__(self) -> None:
        if self.chunksize is not None and self.chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if self.buffersize is not None and not isinstance(self.buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if self.buffersize is not None and self.buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        if self.on_error not in ("raise", "return", "skip"):
            raise ValueError(f'on_error= is "raise", "return" or "skip", not {self.on_error!r}')


class Sending:
    """The outward half of one map."""

    def __init__(self, master: Master, call: Call, gathering: Gathering) -> None:
        self._master = master
        self._call = call
        self._gathering = gathering
        self._iterators: Sequence[Iterator[Any]] | None = None
        self._window = 0
        self._fixed = False
        self._fed = 0.0
        self._error: BaseException | None = None

    def all(self, columns: tuple[Sequence[Any], ...]) -> None:
        """A sized input, as one batch."""
        tasks = len(columns[0]) if columns else 0
        if tasks:
            self._send(columns, tasks, complete=True)
        else:
            self._gathering.count(0, complete=True)

    def window_over(self, iterators: Sequence[Iterator[Any]], buffersize: int | None) -> None:
        """An input that may be endless."""
        self._iterators = iterators
        self._fixed = buffersize is not None
        self._window = buffersize or FIRST_WINDOW * (self._master._backend.status().workers or 1)

    def feed(self) -> int | None:
        """Send what the window has room for; return at how many unfinished tasks to come again, None for never.

        With `buffersize`, what is not yet read counts, as in the standard library. By itself the window does so
        only while there are results to read; behind a straggler, where the reader would have to wait, what is not
        yet finished counts: workers never idle because of one slow task.
        """
        if self._iterators is None:
            if self._error is not None and not self._gathering.unread:
                raise self._error
            return None
        low = self._window - 1 if self._fixed else self._window // 2
        exact = self._fixed or self._gathering.ready
        taken = self._gathering.unread if exact else self._gathering.away
        if taken > low:
            return None if exact else low
        if self._master._closed:
            raise RuntimeError("the master was shut down before the input of this map was at its end")
        now = time.monotonic()
        if not self._fixed and self._fed and now - self._fed < QUICK and self._window < LARGEST_WINDOW:
            self._window *= 2
        self._fed = now
        self._send_rows(self._iterators, self._window - taken)
        return None if self._fixed else self._window // 2

    def _send_rows(self, iterators: Sequence[Iterator[Any]], room: int) -> None:
        try:
            columns = rows_of(iterators, room)
        except BaseException as error:
            if not self._gathering.sent:
                raise
            self._error = error  # raised when the results before it have been read, as the built-in map does
            self._finish_feeding()
            return
        if columns[0]:
            self._send(columns, len(columns[0]))
        if len(columns[0]) < room:
            self._finish_feeding()

    def _finish_feeding(self) -> None:
        self._iterators = None
        self._gathering.count(0, complete=True)

    def _send(self, columns: tuple[Sequence[Any], ...], tasks: int, *, complete: bool = False) -> None:
        first = self._gathering.sent
        run = self._master._run
        keys = None if run is None else run.keys(self._call, columns, tasks, {})
        batch = Batch(self._call, range(first, first + tasks), columns, {}, keys)
        if isinstance(self._call.receiver, Retrying):
            self._call.receiver.sends(batch)
        self._master._intake.admit(self._call)
        self._gathering.count(tasks, complete=complete)
        self._master._send(batch)


def _waits_for(call: Call) -> Receiver:
    receiver = call.receiver
    return receiver.receiver if isinstance(receiver, Retrying) else receiver


# Masters that were neither closed nor collected: at exit their tasks are waited for, as the standard library does.
_alive: dict[int, tuple[Intake, Backend, Run | None]] = {}


def _hold(name: str | None, retry_failed: bool) -> Run | None:
    if name is None:
        return None
    from pymw.run import Run

    return Run(name, retry_failed=retry_failed)


def _finish_unowned(intake: Intake, backend: Backend, run: Run | None) -> None:
    """The master is gone or detached: its backend closes when the last task is over."""

    def close() -> None:
        _alive.pop(id(backend), None)
        backend.close(detach=run is not None)
        if run is not None:
            run.close()

    if run is not None and backend.capabilities.outlives_master:
        close()  # the run goes on without us
    else:
        intake.when_over(close)


def _at_exit() -> None:
    interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    for intake, backend, run in list(_alive.values()):
        with contextlib.suppress(KeyboardInterrupt):
            if not interrupted:
                intake.wait()
        backend.close(detach=run is not None)
        if run is not None:
            run.close()
    _alive.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alive.clear)  # what a fork inherits is not its own to wait for

# Before the interpreter joins its threads, as concurrent.futures does it; atexit itself runs too late.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
