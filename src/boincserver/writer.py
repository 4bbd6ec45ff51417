"""The one place that changes the database, and the group commit that lets many requests share one sync to disk.

    request ──┐
    request ──┼─> queue ──> BEGIN │ op │ op │ op │ ══> sync files, COMMIT ──> every caller gets its reply
    upload  ──┘              on the event loop's thread    on a thread of its own

While one group is being synced the next one gathers, so groups grow with the load by themselves and an idle server
answers at once. Nobody is answered before the commit that holds his change. Changes run one after the other: inside a
process there are no races to think about, and state in memory changes with `on_commit`. Between processes the rows'
locks keep order; a group that loses such a race is undone and run again, and so are its operations' changes in memory.

Operations run on the event loop's own thread, since two threads that both work would spend a good part of their time on
handing the interpreter's lock to each other; only what waits for the disk is done elsewhere.

An operation that fails must leave nothing behind, and a savepoint for each costs as much as several of its statements.
So a group begins without them; only when one of its operations fails is it undone and run again with a savepoint each.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from boincserver import durable
from boincserver.database import Database, Session
from boincserver.errors import Conflict
from boincserver.events import Events

__all__ = ["Transaction", "Writer"]

T = TypeVar("T")
log = Events(__name__)

SLICE: Final = 0.05
"""Seconds of work after which a group is committed, so that bulk work never holds up a volunteer for longer."""
_MOST: Final = 10_000
_ATTEMPTS: Final = 8
_PATIENCE: Final = 60.0
"""Seconds for which a database that is away, or locked by another program, is waited for."""
_PAUSE: Final = 0.05


class Transaction:
    """What an operation sees: the session, and what is to happen with the commit or instead of it."""

    __slots__ = ("_committed", "_group", "_rolled_back", "db", "remove", "sync")

    def __init__(self, session: Session, group: _Group) -> None:
        self.db = session
        self.sync: list[str | Path] = []
        """What is to be on disk before the commit."""
        self.remove: list[str] = []
        """Files that are to be gone before the commit; deleting waits for the disk as well."""
        self._group = group
        self._committed: list[Callable[[], object]] = []
        self._rolled_back: list[Callable[[], object]] = []

    @property
    def notes(self) -> dict[str, Any]:
        """What the operations of a group gather for its end; take back with `on_rollback` what you put there."""
        return self._group.notes

    def at_end(self, key: Hashable, action: Callable[[Session], object]) -> None:
        """Call this once, before the commit, when all operations of the group are done; the first for a key counts."""
        self._group.last.setdefault(key, action)

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
            log.exception("action-after-transaction-failed", action=repr(action))


@dataclass(slots=True, eq=False)
class _Work(Generic[T]):
    """An operation that waits for its turn, and the future of its caller."""

    operation: Callable[[Transaction], T]
    future: Future[T] | asyncio.Future[T]
    since: float = field(default_factory=time.monotonic)
    transaction: Transaction | None = None
    value: T | None = None
    error: Exception | None = None
    attempts: int = 0

    def undo(self) -> None:
        """As if it had not been run."""
        if self.transaction is not None:
            self.transaction.rolled_back()
        self.transaction = self.value = self.error = None

    def resolve(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)  # type: ignore[arg-type]


class _Group:
    """Operations that share a transaction; `apart`: each can fail by itself."""

    def __init__(self, *, apart: bool) -> None:
        self.apart = apart
        self.works: list[_Work[Any]] = []
        self.notes: dict[str, Any] = {}
        self.last: dict[Hashable, Callable[[Session], object]] = {}

    def end(self, session: Session) -> None:
        """What was left for the end; in the order of the keys, so that processes do not lock rows crosswise."""
        for _, action in sorted(self.last.items(), key=lambda item: str(item[0])):
            action(session)

    @property
    def transactions(self) -> list[Transaction]:
        """Of the operations that did not fail."""
        return [work.transaction for work in self.works if work.transaction is not None]


class Writer:
    """Runs operations in groups, each group in one durable transaction. Made and closed on one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._session = database.session()
        if database.is_sqlite:
            # A database that somebody else writes is waited for without holding up the event loop.
            self._session.script("PRAGMA busy_timeout = 0")
        self._begin = "BEGIN IMMEDIATE" if database.is_sqlite else "START TRANSACTION"
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Work[Any]] = deque()
        self._most = _MOST
        self._apart = False
        self._busy = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._disk = ThreadPoolExecutor(1, "boincserver-commit")
        self.commits = 0
        self.operations = 0

    @property
    def oldest(self) -> float:
        """For how many seconds the oldest operation has waited for its turn."""
        return time.monotonic() - self._waiting[0].since if self._waiting else 0.0

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

    def post(self, operation: Callable[[Transaction], object], failed: Callable[[], object] | None = None) -> None:
        """Run some time soon, from any thread; nobody waits, a failure is logged and `failed` called.

        When the loop is over it is left to the next start, which finds in the tables what is to be done.
        """
        future: Future[object] = Future()
        future.add_done_callback(lambda done: _log_failure(done, failed))
        try:
            self._loop.call_soon_threadsafe(self._put, _Work(operation, future))
        except RuntimeError:
            log.debug("left-to-the-next-start")

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
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        """Run as many operations as fit into one slice, then have them brought to disk."""
        if not self._begin_transaction():
            return
        group, self._apart = _Group(apart=self._apart), False
        try:
            until = time.monotonic() + SLICE
            while self._waiting and len(group.works) < self._most and time.monotonic() < until:
                group.works.append(self._waiting.popleft())
                operate = self._operate_apart if group.apart else self._operate
                operate(group, group.works[-1])
            group.end(self._session)
        except Exception as error:  # noqa: BLE001 - told to every caller, or tried again
            self._undone(group, error)
            return
        self._disk.submit(self._commit, group)

    def _begin_transaction(self) -> bool:
        """False if the database is away or another program's for the moment: a later call has been arranged."""
        try:
            try:
                self._session.script(self._begin)
            except Exception as error:
                if self._database.is_sqlite or not self._database.is_away(error):
                    raise
                self._session.reconnect()
                self._session.script(self._begin)
        except Exception as error:  # noqa: BLE001 - told to every caller
            self._wait_for_database(error, _PATIENCE if self._database.is_away(error) and not self._closed else 0.0)
            return False
        return True

    def _wait_for_database(self, error: Exception, patience: float) -> None:
        """Whoever has waited for too long is refused; clients come again with everything they had."""
        too_old = time.monotonic() - patience
        if self._waiting and self._waiting[0].since <= too_old:
            log.error("database-refuses", error=error)
        while self._waiting and self._waiting[0].since <= too_old:
            work = self._waiting.popleft()
            work.error = error
            work.resolve()
        if self._waiting:
            self._loop.call_later(_PAUSE, self._next)
        else:
            self._rest()

    def _operate(self, group: _Group, work: _Work[Any]) -> None:
        work.transaction = Transaction(self._session, group)
        work.value = work.operation(work.transaction)

    def _operate_apart(self, group: _Group, work: _Work[Any]) -> None:
        session = self._session
        for attempt in range(1, _ATTEMPTS + 1):
            work.transaction = Transaction(session, group)
            session.script("SAVEPOINT operation")
            try:
                work.value = work.operation(work.transaction)
                break
            except Exception as error:
                if self._database.lost_race(error) or self._database.is_away(error):
                    raise
                session.script("ROLLBACK TO SAVEPOINT operation")
                work.undo()
                if attempt == _ATTEMPTS or not self._may_succeed(error):
                    work.error = error
                    break
        session.script("RELEASE SAVEPOINT operation")

    def _may_succeed(self, error: Exception) -> bool:
        """True if another process changed or made a row that was read as it had been; reading it again helps."""
        return isinstance(error, Conflict) or self._database.is_duplicate(error)

    def _commit(self, group: _Group) -> None:
        """In the thread that waits for the disk."""
        failure: Exception | None = None
        try:
            durable.remove(path for transaction in group.transactions for path in transaction.remove)
            durable.sync(path for transaction in group.transactions for path in transaction.sync)
            self._session.script("COMMIT")
        except Exception as error:
            log.exception("commit-failed", operations_refused=len(group.works))
            failure = error
        self._loop.call_soon_threadsafe(self._finish, group, failure)

    def _finish(self, group: _Group, failure: Exception | None) -> None:
        """Back on the loop: tell everybody, and go on with what came meanwhile."""
        if failure is not None:
            self._roll_back()
            for work in reversed(group.works):
                if work.error is None:
                    work.undo()
                    work.error = failure
        else:
            self._most = min(_MOST, 2 * self._most)
            self.commits += 1
            self.operations += len(group.works)
            for work in group.works:
                if work.transaction is not None:
                    work.transaction.committed()
        for work in group.works:
            work.resolve()
        self._go_on()

    def _undone(self, group: _Group, error: Exception) -> None:
        """Nothing of this group came to be: its operations are tried again, apart or, against a race, one by one."""
        self._roll_back()
        self._apart = not (group.apart or self._database.lost_race(error) or self._database.is_away(error))
        again = []
        for work in reversed(group.works):
            work.undo()
            work.attempts += not self._apart
            if work.attempts < _ATTEMPTS:
                again.append(work)
            else:
                log.error("operation-given-up", attempts=work.attempts, raised=error)
                work.error = error
                work.resolve()
        self._waiting.extendleft(again)
        if not self._apart:
            self._most = max(1, len(group.works) // 4)
        log.debug("operations-tried-again", count=len(again), error=error)
        self._go_on()

    def _roll_back(self) -> None:
        try:
            self._session.script("ROLLBACK")
        except Exception:  # noqa: BLE001 - the connection is gone, and the transaction with it
            log.debug("no-transaction-to-roll-back")

    def _go_on(self) -> None:
        if self._waiting:
            self._loop.call_soon(self._next)
        else:
            self._rest()

    def _rest(self) -> None:
        self._busy = False
        self._idle.set()


def _log_failure(future: Future[object], failed: Callable[[], object] | None) -> None:
    if (error := future.exception()) is not None:
        log.error("background-change-failed", raised=error)
        if failed is not None:
            failed()
