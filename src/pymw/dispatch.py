"""How tasks leave the master: calls are made, admitted, and sent as far as a run's journal has no result of them."""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

from pymw.backends.protocol import Batch, Broken, Call, Event, Receiver, refuse_unsupported
from pymw.bar import bar_for
from pymw.dependencies import dependencies, when_ready
from pymw.errors import UnsupportedOption
from pymw.files import named
from pymw.leaving import Belongings
from pymw.mapping import Gathering, Reading, stretches
from pymw.retrying import Retrying
from pymw.sending import Sending
from pymw.sources import find_named
from pymw.task import TaskFuture, TaskOptions

__all__ = ["Dispatch"]


class Dispatch:
    """What a master and its views share."""

    def __init__(self, belongings: Belongings) -> None:
        self._belongings = belongings
        self.intake, self.run = belongings.intake, belongings.run
        self.backend = backend = belongings.backend
        self._lock = threading.Lock()
        self._closed = ""
        # Not a method: a call that is under way must not keep the master alive.
        self._again: Callable[[Batch], None] = lambda batch: backend.submit([batch])

    def checked(self, options: TaskOptions) -> TaskOptions:
        """The options, if the backend can honour them; UnsupportedOption names one that it cannot."""
        refuse_unsupported(options, self.backend.capabilities, self.backend.name)
        for name in ("key", "reuse"):
            if name in options.given() and self.run is None:
                raise UnsupportedOption(name, self.backend.name, 'it is for named runs: Master(..., run="a name")')
        if options.files or options.outputs:
            named(options)  # refuses what is not there
        find_named(options.modules)  # likewise
        if options.into is not None and not options.outputs:
            raise ValueError("into= is the folder for outputs=: say which files these are")
        return options

    # Opening and closing.

    @property
    def closed(self) -> bool:
        """Whether no more tasks are accepted."""
        return bool(self._closed)

    def close(self, reason: str = "cannot schedule new futures after shutdown") -> None:
        """Accept no more tasks, and read no further in the inputs of maps; the first reason given is told."""
        with self._lock:
            self._closed = self._closed or reason
        for call in self.intake.open_calls():
            if isinstance(gathering := _waits_for(call), Gathering):
                gathering.end_if_unsized()

    def cancel_waiting(self) -> None:
        """Cancel what has not begun."""
        for call in self.intake.open_calls():
            receiver = _waits_for(call)
            if isinstance(receiver, TaskFuture):
                receiver.cancel()
            elif isinstance(receiver, Gathering):
                receiver.abandon()
                self.backend.cancel(call)
                receiver.receive(Broken(CancelledError()))
                self.intake.dismiss(call)

    def end(self, reason: str = "", *, detach: bool | None = None) -> int:
        """End at once: whoever waits is told so, and a named run may go on elsewhere. How many tasks were not over."""
        self.close(*[reason] if reason else [])
        receivers = map(_waits_for, self.intake.open_calls())
        tasks = sum(receiver.left if isinstance(receiver, Gathering) else 1 for receiver in receivers)
        self._belongings.close(detach=detach)
        with self._lock:
            self.intake.deliver([Broken(CancelledError(*[reason] if reason else []))])
        return tasks

    def cancel_run(self) -> int:
        """Another process asks for the end of the run, wherever its tasks are."""
        assert self.run is not None
        reason = f"run {self.run.name!r} was cancelled by another process"
        sys.stderr.write(f"pymw: {reason}\n")
        return self.end(reason, detach=False)

    def _admit(self, call: Call) -> None:
        with self._lock:
            self._refuse_if_closed()
            self.intake.admit(call)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise RuntimeError(self._closed)

    # Out.

    def submit(
        self, options: TaskOptions, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> TaskFuture:
        """One task."""
        future = TaskFuture(self.backend, self.intake.dismiss)
        receiver: Receiver = Retrying(future, self._again) if options.retries else future
        future._call = call = Call(fn, options, receiver, run=self.run)
        columns = tuple((arg,) for arg in args)
        try:
            with self._turn():
                with self._lock:
                    self._refuse_if_closed()
                batch = self._batch(call, range(1), columns, kwargs)
                future.key = batch.keys[0] if batch.keys is not None else ""
                self._admit(call)
                waits_for = dependencies(batch)
                begun = None if waits_for else self._begin(batch)
            if begun is None:
                when_ready(batch, waits_for, self.send)
            else:
                self._pass_on(batch, *begun)
        except BaseException:
            self.intake.dismiss(call)
            raise
        return future

    def map(
        self, options: TaskOptions, fn: Callable[..., Any], iterables: Sequence[Iterable[Any]], reading: Reading
    ) -> Iterator[Any]:
        """Many tasks, and the iterator over what becomes of them."""
        if options.outputs and options.into is None:
            raise ValueError("outputs= of a map needs into=: the folder in which each item's files get a folder")
        deadline = None if reading.timeout is None else time.monotonic() + reading.timeout
        with self._lock:
            self._refuse_if_closed()
        bar = bar_for(reading.progress, options.name or str(getattr(fn, "__name__", type(fn).__name__)))
        dismiss = self.intake.dismiss
        gathering = Gathering(reading.ordered, bar, lambda: dismiss(call))
        receiver: Receiver = Retrying(gathering, self._again) if options.retries else gathering
        call = Call(fn, options, receiver, many=True, chunksize=reading.chunksize, run=self.run)
        sending = Sending(self, call, gathering, iterables, reading.buffersize)

        def leave(interrupted: bool) -> None:
            if gathering.over:
                return
            if self.run is not None:
                gathering.stop_reading()  # the run goes on, and the journal takes what comes
                return
            if interrupted:
                self._belongings.tell(interrupted=True)
            cancel(running=interrupted)  # the workers are free at once for what comes next

        def cancel(*, running: bool = False) -> None:
            gathering.abandon()
            self.backend.cancel(call, running=running)
            dismiss(call)

        try:
            sending.begin()
        except BaseException:
            cancel()
            if bar is not None:
                bar.close()
            raise
        parts = stretches(gathering, sending.more, deadline=deadline, on_error=reading.on_error, leave=leave, bar=bar)
        return itertools.chain.from_iterable(parts)  # several times quicker, item by item, than a generator

    def send_new(self, call: Call, indices: range, columns: tuple[Sequence[Any], ...]) -> None:
        """Tasks of a map."""
        with self._turn():
            batch = self._batch(call, indices, columns, {})
            begun = self._begin(batch)
        self._pass_on(batch, *begun)

    def send(self, batch: Batch) -> None:
        """To the backend, or as far as the run's journal does not know the result already."""
        self._pass_on(batch, *self._begin(batch))

    def _turn(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.run is None else self.run.turns

    def _batch(
        self, call: Call, indices: range, columns: tuple[Sequence[Any], ...], kwargs: Mapping[str, Any]
    ) -> Batch:
        keys = None if self.run is None else self.run.keys(call, columns, len(indices), kwargs)
        return Batch(call, indices, columns, kwargs, keys)

    def _begin(self, batch: Batch) -> tuple[Batch | None, Sequence[Event]]:
        if isinstance(batch.call.receiver, Retrying):
            batch.call.receiver.sends(batch)
        return (batch, ()) if self.run is None else self.run.begin(batch)

    def _pass_on(self, batch: Batch, wanted: Batch | None, known: Sequence[Event]) -> None:
        if wanted is not None:
            self.backend.submit([wanted])
        for event in known:
            _waits_for(batch.call).receive(event)

    def __repr__(self) -> str:
        return f"Master {self.backend.name}"


def _waits_for(call: Call) -> Receiver:
    receiver = call.receiver
    return receiver.receiver if isinstance(receiver, Retrying) else receiver
