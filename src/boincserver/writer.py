"""The one place that changes the database, and the group commit that lets many requests share one sync to disk.

    request ──┐
    request ──┼─> queue ──> BEGIN │ op │ op │ op │ ══> sync files, COMMIT ──> every caller gets its reply
    upload  ──┘              on the event loop's thread    on a thread of its own

While one group is being synced the next one gathers, so groups grow with the load by themselves and an idle server
answers at once. Nobody is answered before the commit that holds his change. Changes run one after the other: inside a
process there are no races to think about, and state in memory changes with `on_commit`.

Operations run on the event loop's own thread, since two threads that both work would spend a good part of their time on
handing the interpreter's lock to each other; only what waits for the disk is done elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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

    __slots__ = ("_committed", "_last", "_rolled_back", "db", "notes", "sync")

    def __init__(self, session: Session) -> None:
        self.db = session
        self.sync: list[str | Path] = []
        self.notes: dict[str, Any] = {}
        """What the parts of an operation gather for its end."""
        self._last: dict[Hashable, Callable[[], object]] = {}
        self._committed: list[Callable[[], object]] = []
        self._rolled_back: list[Callable[[], object]] = []

    def at_end(self, key: Hashable, action: Callable[[], object]) -> None:
        """Call this once, still within the transaction, when the operation is done; the first for a key counts."""
        self._last.setdefault(key, action)

    def end(self) -> None:
        """Run what was left for the end."""
        for action in self._last.values():
            action()

    def on_commit(self, action: Callable[[], object]) -> None:
        """Call this, on the event loop, as soon as the change is durable."""
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


@dataclass(slots=True, eq=False)
class _Work(Generic[T]):
    """An operation that waits for its turn, and the future of its caller."""

    operation: Callable[[Transaction], T]
    future: Future[T] | asyncio.Future[T]
    transaction: Transaction | None = None
    value: T | None = None
    error: Exception | None = None

    def resolve(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)  # type: ignore[arg-type]


class Writer:
    """Runs operations in groups, each group in one durable transaction. Made and closed on one event loop."""

    def __init__(self, database: Database) -> None:
        self._session = database.session()
        self._begin = "BEGIN IMMEDIATE" if database.is_sqlite else "START TRANSACTION"
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Work[Any]] = deque()
        self._busy = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._disk = ThreadPoolExecutor(1, "boincserver-commit")
        self.commits = 0
        self.operations = 0

    async def run(self, operation: Callable[[Transaction], T]) -> T:
        """Run from the event loop; resumes when the change is durable."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._put(_Work(operation, future))
        return await future

    def call(self, operation: Callable[[Transaction], T]) -> T:
        """Run from any other thread; returns when the change is durable."""
        future: Future[T] = Future()
        self._loop.call_soon_threadsafe(self._put, _Work(operation, future))
        return future.result()

    def post(self, operation: Callable[[Transaction], object]) -> None:
        """Run some time soon, from any thread; nobody waits, and a failure is logged."""
        future: Future[object] = Future()
        future.add_done_callback(_log_failure)
        self._loop.call_soon_threadsafe(self._put, _Work(operation, future))

    async def close(self) -> None:
        """Finish what is queued and stop."""
        self._closed = True
        await self._idle.wait()
        self._disk.shutdown()

    def _put(self, work: _Work[Any]) -> None:
        if self._closed:
            work.error = RuntimeError("the server is stopping")
            work.resolve()
            return
        self._waiting.append(work)
        if not self._busy:
            # Not at once: requests that arrived together share a commit.
            self._busy = True
            self._idle.clear()
            self._loop.call_soon(self._group)

    def _group(self) -> None:
        """Run as many operations as fit into one slice, then have them brought to disk."""
        group: list[_Work[Any]] = []
        try:
            self._session.script(self._begin)
            until = time.monotonic() + SLICE
            while self._waiting and time.monotonic() < until:
                group.append(self._waiting.popleft())
                self._operate(group[-1])
        except Exception as error:
            log.exception("the database refuses a transaction")
            group = group or [self._waiting.popleft()]
            self._finish(group, error)
            return
        paths = [path for work in group if work.transaction is not None for path in work.transaction.sync]
        self._disk.submit(self._commit, group, paths)

    def _operate(self, work: _Work[Any]) -> None:
        session = self._session
        transaction = Transaction(session)
        session.script("SAVEPOINT operation")
        try:
            work.value = work.operation(transaction)
            transaction.end()
            work.transaction = transaction
        except Exception as error:  # noqa: BLE001 - the caller gets it
            work.error = error
            session.script("ROLLBACK TO SAVEPOINT operation")
            transaction.rolled_back()
        session.script("RELEASE SAVEPOINT operation")

    def _commit(self, group: list[_Work[Any]], paths: list[str | Path]) -> None:
        """In the thread that waits for the disk."""
        failure: Exception | None = None
        try:
            durable.sync(paths)
            self._session.script("COMMIT")
        except Exception as error:
            log.exception("a commit failed; %d operations are refused", len(group))
            failure = error
        self._loop.call_soon_threadsafe(self._finish, group, failure)

    def _finish(self, group: list[_Work[Any]], failure: Exception | None) -> None:
        """Back on the loop: tell everybody, and go on with what came meanwhile."""
        if failure is not None:
            self._undo(group, failure)
        else:
            self.commits += 1
            self.operations += len(group)
            for work in group:
                if work.transaction is not None:
                    work.transaction.committed()
        for work in group:
            work.resolve()
        if self._waiting:
            self._loop.call_soon(self._group)
        else:
            self._busy = False
            self._idle.set()

    def _undo(self, group: list[_Work[Any]], failure: Exception) -> None:
        try:
            self._session.script("ROLLBACK")
        except Exception:
            log.debug("there was no transaction to roll back", exc_info=True)
        for work in reversed(group):
            if work.error is None:
                work.error = failure
                if work.transaction is not None:
                    work.transaction.rolled_back()


def _log_failure(future: Future[object]) -> None:
    if (error := future.exception()) is not None:
        log.error("a background change failed", exc_info=error)
