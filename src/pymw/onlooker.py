"""Looking at a named run from any process, also while another one works on it."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from pymw.errors import RunError
from pymw.files import Left
from pymw.journal import Journal, Record, Recorded, Unreadable
from pymw.lease import holder
from pymw.outcome import Ending, Outcome
from pymw.run import BACKEND, error_of
from pymw.task import TaskFuture

__all__ = ["RecordedTask", "RunView", "open_run"]

FOLLOW_EVERY = 0.2  # seconds between two looks at the journal, while somebody waits for what is not yet in it


def open_run(name: str) -> RunView:
    """Look at a run from any process; RunNotFound tells which runs there are."""
    return RunView(name)


class RunView:
    """A run as its journal has it: rows, read when they are wanted. Whoever holds the run goes on meanwhile.

    >>> with open_run("pi-2026") as run:                               # doctest: +SKIP
    ...     for future in run:
    ...         print(future.result())
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._journal = Journal(name, write=False)
        self._closed = threading.Event()
        self._waiting: weakref.WeakValueDictionary[str, RecordedTask] = weakref.WeakValueDictionary()
        self._follower: threading.Thread | None = None
        self._more = False  # somebody waits for a task that was not looked for yet

    def __len__(self) -> int:
        return sum(self._journal.counts().values())

    def counts(self) -> dict[str, int]:
        """How many tasks are asked for and not over, returned, failed."""
        return {state.name.lower(): count for state, count in self._journal.counts().items()}

    def functions(self) -> dict[str, int]:
        """The functions of the run, and how many tasks each has."""
        return self._journal.functions()

    def records(self) -> Iterator[Record]:
        """Each task in the order in which it was asked for."""
        return self._journal.records()

    @property
    def folder(self) -> Path:
        """The directory that holds all there is of the run."""
        return self._journal.folder

    @property
    def backend(self) -> str:
        """The URL of the backend where the run goes on without a master; empty where it does not."""
        return self._journal.note(BACKEND) or ""

    @property
    def holder(self) -> str:
        """Which process works on the run, in words; empty where none does."""
        return holder(self.folder)

    def __iter__(self) -> Iterator[TaskFuture]:
        """A future for each task, in order; one that is not over ends when the journal has its end."""
        for record in self._journal.records():
            yield self.future(record)

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Results in order, as they are recorded; ends with the tasks that are known."""
        for record in self._journal.records():
            while not (end := self._journal.ended([record.key])):
                await asyncio.sleep(FOLLOW_EVERY)
            yield self._task(record, end[record.key]).result()

    def results(self, *, timeout: float | None = None) -> Iterator[Any]:
        """Results in order, waiting for those that are not there yet."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for record in self._journal.records():
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                yield self.future(record).result(left)
            except TimeoutError:
                if deadline is None or time.monotonic() < deadline:
                    raise  # the task's own
                raise TimeoutError(f"task {record.number} of run {self.name!r} is not over") from None

    def future(self, record: Record) -> TaskFuture:
        """What became of a task, or becomes of it."""
        end = self._journal.ended([record.key])
        task = self._task(record, end.get(record.key))
        if not end:
            self._waiting[record.key] = task
            self._more = True
            self._follow()
        return task

    def _task(self, record: Record, end: tuple[Recorded, Any] | None) -> RecordedTask:
        task = RecordedTask(self.name, record, lambda: self.holder)
        if end is not None:
            task.ends(end)
        return task

    def _follow(self) -> None:
        if self._follower is None:
            self._follower = threading.Thread(target=self._look_on, name="pymw onlooker", daemon=True)
            self._follower.start()

    def _look_on(self) -> None:
        seen = -1
        while not self._closed.wait(FOLLOW_EVERY):
            version, more = self._journal.version(), self._more
            if version == seen and not more:
                continue
            seen, self._more = version, False
            keys = list(self._waiting.keys())
            for key, end in self._journal.ended(keys).items():
                if (task := self._waiting.pop(key, None)) is not None:
                    task.ends(end)

    def close(self) -> None:
        """Look no longer; what was not over counts as cancelled here."""
        self._closed.set()
        if self._follower is not None:
            self._follower.join()
        for task in list(self._waiting.values()):
            task.look_away()
        self._journal.close()

    def __enter__(self) -> RunView:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        told = ", ".join(f"{count} {state}" for state, count in self.counts().items())
        return f"<run {self.name!r}: {told}>"


class RecordedTask(TaskFuture):
    """The future of a task that another process asked for."""

    def __init__(self, run: str, record: Record, holder: Callable[[], str]) -> None:
        Future.__init__(self)
        self._id, self._name, self.key = f"{run}/{record.number}", record.function, record.key
        self._submitted = record.asked
        self._run, self._holder = run, holder

    def ends(self, end: tuple[Recorded, Any]) -> None:
        """The journal has its end."""
        state, value = end
        if isinstance(value, Unreadable):
            self._outcome = Outcome(Ending.RETURNED, None)
            self.set_exception(RunError(f"{self.name} is over, but what it gave cannot be read here: {value.reason}"))
        elif state is Recorded.RETURNED:
            left = value if isinstance(value, Left) else Left(value, {})
            self._outcome = Outcome(Ending.RETURNED, left.value, files=left.files)
            self.set_result(left.value)
        else:
            self._outcome = value
            self.set_exception(error_of(value))

    def explain(self) -> str:
        """Why the task is not done, or how it ended."""
        if self.done():
            return super().explain()
        by = self._holder()
        return f"{self.name} is not over; " + (
            f"{by} works on it" if by else "nobody works on it: run its script again"
        )

    def cancel(self) -> bool:
        """An onlooker cannot; `pymw cancel` can."""
        return False

    def look_away(self) -> None:
        """Whoever still waits is told that nothing will come."""
        Future.cancel(self)
        self.set_running_or_notify_cancel()
