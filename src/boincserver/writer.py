"""The one thread that changes the database, and the group commit that lets many requests share one sync to disk.

    request ──┐
    request ──┼─> queue ──> BEGIN │ op │ op │ op │ sync files │ COMMIT ──> every caller gets its reply
    upload  ──┘                    (each in a savepoint of its own)

While one group is being synced the next one gathers, so groups grow with the load by themselves and an idle server
answers at once. Nobody is answered before the commit that holds his change. All changes run on one thread, one after
the other: inside a process there are no races to think about, and state in memory changes with `on_commit`.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from boincserver import durable
from boincserver.database import Database, Session

__all__ = ["Transaction", "Writer"]

T = TypeVar("T")
log = logging.getLogger(__name__)

SLICE: Final = 0.05
"""Seconds of work after which a group is committed, so that bulk work never holds up a volunteer for longer."""


class Transaction:
    """What an operation sees: the session, and what is to happen with the commit or instead of it."""

    __slots__ = ("_committed", "_rolled_back", "db", "sync")

    def __init__(self, session: Session) -> None:
        self.db = session
        self.sync: list[str | Path] = []
        self._committed: list[Callable[[], object]] = []
        self._rolled_back: list[Callable[[], object]] = []

    def on_commit(self, action: Callable[[], object]) -> None:
        """Call this in the writer thread as soon as the change is durable."""
        self._committed.append(action)

    def on_rollback(self, action: Callable[[], object]) -> None:
        """Call this if the change does not come to be."""
        self._rolled_back.append(action)

    def committed(self) -> None:
        """Run what was to follow the commit."""
        _call_all(self._committed)

    def rolled_back(self) -> None:
        """Undo what was done in memory, last first."""
        _call_all(self._rolled_back[::-1])


def _call_all(actions: list[Callable[[], object]]) -> None:
    for action in actions:
        try:
            action()
        except Exception:
            log.exception("an action after a transaction failed: %r", action)


class _Work(Generic[T]):
    """An operation that waits for its turn, and the future of its caller."""

    __slots__ = ("error", "future", "loop", "operation", "transaction", "value")

    def __init__(
        self,
        operation: Callable[[Transaction], T],
        future: Future[T] | asyncio.Future[T],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.operation = operation
        self.future = future
        self.loop = loop
        self.transaction: Transaction
        self.value: T | None = None
        self.error: BaseException | None = None

    def resolve(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)  # type: ignore[arg-type]


class Writer:
    """Runs operations in groups, each group in one durable transaction."""

    def __init__(self, database: Database) -> None:
        self._session = database.session()
        self._begin = "BEGIN IMMEDIATE" if database.is_sqlite else "START TRANSACTION"
        self._queue: queue.SimpleQueue[_Work[Any] | None] = queue.SimpleQueue()
        self._closed = False
        self.commits = 0
        self.operations = 0
        self._thread = threading.Thread(target=self._serve, name="boincserver-writer")
        self._thread.start()

    def call(self, operation: Callable[[Transaction], T]) -> T:
        """Run from any thread but the event loop's; returns when the change is durable."""
        future: Future[T] = Future()
        self._put(_Work(operation, future, None))
        return future.result()

    async def run(self, operation: Callable[[Transaction], T]) -> T:
        """Run from the event loop; resumes when the change is durable."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Work(operation, future, loop))
        return await future

    def post(self, operation: Callable[[Transaction], object]) -> None:
        """Run some time soon; nobody waits, and a failure is logged."""
        future: Future[object] = Future()
        future.add_done_callback(_log_failure)
        self._put(_Work(operation, future, None))

    def _put(self, work: _Work[Any]) -> None:
        if self._closed:
            raise RuntimeError("the writer is closed")
        self._queue.put(work)

    def close(self) -> None:
        """Finish what is queued and stop."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

    def _serve(self) -> None:
        waiting: list[_Work[Any]] = []
        running = True
        while running or waiting:
            if not waiting:
                waiting = [item] if (item := self._queue.get()) else []
                running = bool(waiting)
            while not self._queue.empty():
                item = self._queue.get()
                if item is None:
                    running = False
                else:
                    waiting.append(item)
            if waiting:
                done = self._group(waiting)
                waiting = waiting[done:]

    def _group(self, waiting: list[_Work[Any]]) -> int:
        """Commit as many of these as fit into one slice; returns how many."""
        session = self._session
        done = 0
        try:
            session.script(self._begin)
            until = time.monotonic() + SLICE
            for work in waiting:
                done += 1
                self._operate(work)
                if time.monotonic() > until:
                    break
            group = waiting[:done]
            durable.sync([path for work in group if work.error is None for path in work.transaction.sync])
            session.script("COMMIT")
        except Exception as error:
            log.exception("a commit failed; %d operations are refused", max(done, 1))
            group = waiting[: max(done, 1)]
            self._undo(group, error)
        else:
            self.commits += 1
            self.operations += done
            for work in group:
                if work.error is None:
                    work.transaction.committed()
        _resolve(group)
        return len(group)

    def _operate(self, work: _Work[Any]) -> None:
        session = self._session
        transaction = work.transaction = Transaction(session)
        session.script("SAVEPOINT operation")
        try:
            work.value = work.operation(transaction)
        except Exception as error:  # noqa: BLE001 - the caller gets it
            work.error = error
            session.script("ROLLBACK TO SAVEPOINT operation")
            transaction.rolled_back()
        session.script("RELEASE SAVEPOINT operation")

    def _undo(self, group: list[_Work[Any]], error: Exception) -> None:
        try:
            self._session.script("ROLLBACK")
        except Exception:
            log.debug("there was no transaction to roll back", exc_info=True)
        for work in reversed(group):
            if work.error is None:
                work.error = error
                if hasattr(work, "transaction"):
                    work.transaction.rolled_back()


def _resolve(group: list[_Work[Any]]) -> None:
    """Wake every caller, each event loop once."""
    loops: dict[asyncio.AbstractEventLoop, list[_Work[Any]]] = {}
    for work in group:
        if work.loop is None:
            work.resolve()
        else:
            loops.setdefault(work.loop, []).append(work)
    for loop, works in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve_all, works)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.debug("replies without a reader: %d", len(works))


def _resolve_all(works: list[_Work[Any]]) -> None:
    for work in works:
        work.resolve()


def _log_failure(future: Future[object]) -> None:
    if (error := future.exception()) is not None:
        log.error("a background change failed", exc_info=error)
