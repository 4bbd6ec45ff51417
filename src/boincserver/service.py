"""A running project: the parts wired together, and what happens without anybody asking."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import bindparam, select

from boincserver import credit, jobs
from boincserver.bound import bound_to_nobody
from boincserver.catalog import Catalog
from boincserver.clock import JumpWatch, recall_from_future
from boincserver.deletion import DeletionLock
from boincserver.downloads import Downloads
from boincserver.events import Events
from boincserver.feeder import Entry, Feeder
from boincserver.file_deleter import FileDeleter
from boincserver.files import FileStore
from boincserver.followup import FollowUp
from boincserver.jobs import Outputs
from boincserver.lifecycle import Job
from boincserver.mail import Mailer
from boincserver.news import News
from boincserver.pipeline import Pipeline
from boincserver.project import Project
from boincserver.purge import purge
from boincserver.scheduler import Identity, Scheduler
from boincserver.schema import host as host_table
from boincserver.schema import result as result_table
from boincserver.schema import user as user_table
from boincserver.schema import workunit as workunit_table
from boincserver.shard import Shard, ShardLock, Siblings, in_shard
from boincserver.states import NEVER, AssimilateState, FileDeleteState
from boincserver.stats import Exporter
from boincserver.submit import Submitter
from boincserver.uploads import Uploads
from boincserver.writer import Transaction, Writer

__all__ = ["Service"]

log = Events(__name__)

_NEXT_DUE: Final = (
    select(workunit_table.c.transition_time)
    .where(workunit_table.c.transition_time < NEVER, in_shard(workunit_table.c.id))
    .order_by(workunit_table.c.transition_time)
    .limit(1)
)
_DUE: Final = (
    select(workunit_table.c.id)
    .where(
        workunit_table.c.transition_time <= bindparam("now"),
        workunit_table.c.transition_time < NEVER,
        in_shard(workunit_table.c.id),
    )
    .order_by(workunit_table.c.transition_time)
    .limit(bindparam("most"))
)
_TO_VALIDATE: Final = select(workunit_table.c.id).where(
    workunit_table.c.need_validate == 1, in_shard(workunit_table.c.id)
)
_TO_ASSIMILATE: Final = select(workunit_table.c.id).where(
    workunit_table.c.assimilate_state == AssimilateState.READY, in_shard(workunit_table.c.id)
)
_TO_DELETE: Final = select(workunit_table.c.id).where(
    workunit_table.c.file_delete_state == FileDeleteState.READY, in_shard(workunit_table.c.id)
)
_RESULTS_TO_DELETE: Final = select(result_table.c.workunitid).where(
    result_table.c.file_delete_state == FileDeleteState.READY, in_shard(result_table.c.workunitid)
)
_LONGEST_SLEEP: Final = 30.0
"""Seconds after which clocks and leases are looked at in any case; the wall clock may have jumped."""
_TAKE_UP: Final = 5.0
"""The same where there are several processes, one of which may have been killed before it told the others."""
_PAUSE: Final = 0.5
_SWEEP: Final = 3600.0
_SLICE: Final = 100
_SUBMITTERS: Final = 0
"""The process that answers on the control socket."""
_WHILE_BACKUP: Final = 1.0
"""Seconds until files are tried again that a backup keeps from being deleted."""
_RETRY: Final = 60.0
"""Seconds until an assimilator that failed is asked again."""


class Service:
    """All of a project but its network side. Made and closed by one event loop."""

    def __init__(self, project: Project, clock: Callable[[], float] = time.time, shard: Shard | None = None) -> None:
        self.project = project
        self.clock = clock
        self.shard = shard or Shard()
        config = project.config
        self.database = project.open_database()
        self._lock = ShardLock(self.database, self.shard)
        self._siblings = Siblings(project.directory / "run", self.shard)
        outputs = Outputs(project.directory / "templates", f"{config.url}file_upload_handler", project.upload_secret)
        self.downloads = FileStore(project.directory / "download")
        self.uploads = Uploads(FileStore(project.directory / "upload"), outputs, self.database)
        self.catalog = Catalog()
        self.feeder = Feeder(config.jobs.feeder_size, self.shard)
        self.pipeline = Pipeline(
            outputs, self.catalog, self.feeder, self, self.uploads.store.path, config.jobs, config.credit
        )
        self.submitter = Submitter(project, self.pipeline, Downloads(self.downloads, config.url))
        identity = Identity(config.name, config.url, project.public_key.text(), project.key_signature)
        self.scheduler = Scheduler(identity, self.pipeline, self.uploads, config.jobs, self.quiet)
        self.news = News(clock)
        self.mailer = Mailer(config.mail, config.name, project.directory / "keys" / "mail_password")
        self.statistics = Exporter(project.directory / "stats", config.statistics_hours)
        self._deletion_lock = DeletionLock(project.directory / "run")
        self._deleter = FileDeleter(self.downloads, self.uploads, self._deletion_lock)
        self._to_delete: dict[int, None] = {}
        self._delete_posted = False
        self._last_work = clock()
        self._last_told = 0.0
        self._waiters: dict[int, set[asyncio.Event]] = {}
        self._waiters_lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        self._released = False
        self._looked = time.monotonic()
        self._alarm = asyncio.Event()
        self._next_due = float(NEVER)
        self._jumps = JumpWatch(clock)
        self._task: asyncio.Task[None] | None = None
        self.writer = Writer(self.database)
        self._follow_up = FollowUp(
            self.database, self.pipeline, self.writer, self.shard, clock, self.due, self._assimilate_later
        )

    async def start(self) -> None:
        """Take up whatever an earlier run left undone."""
        await asyncio.to_thread(self._lock.take)
        self._siblings.listen(self._loop, self._hear)
        await self.writer.run(self._resume)
        self._task = asyncio.create_task(self._watch_clock())

    def stop_waiting(self) -> None:
        """Whoever waits for an outcome is told that there is none yet: the server ends."""
        self.stopping.set()
        with self._waiters_lock:
            for events in self._waiters.values():
                for event in events:
                    event.set()

    async def release(self) -> None:
        """Finish what was begun, and let go of all that another process needs; files may still come and go."""
        if self._released:
            return
        self._released = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await asyncio.to_thread(self._follow_up.close)
        await self.writer.close()
        await asyncio.to_thread(self.pipeline.close)
        self._siblings.close(self._loop)
        self._deletion_lock.close()
        await asyncio.to_thread(self._lock.release)

    async def close(self) -> None:
        """Let go of everything."""
        await self.release()
        await self.mailer.close()
        self.database.close()

    def _resume(self, tx: Transaction) -> None:
        self.catalog.load(tx.db)
        self.feeder.refill(tx.db)
        self._set_right(tx, int(self.clock()))
        self._take_up(tx)

    def _set_right(self, tx: Transaction, now: int) -> None:
        """Nobody could renew a lease while the server was away or the computer slept; the clock may be another."""
        self.submitter.renew_all(tx, now)
        if sent := recall_from_future(tx.db, now, self.shard):
            log.warning("copies-from-the-future", count=sent, now="they count as sent now")

    def _take_up(self, tx: Transaction) -> None:
        """What the tables say is to be done by this process."""
        mine = self.shard.parameters
        for (number,) in tx.db.all(_TO_VALIDATE, **mine):
            tx.on_commit(lambda number=number: self.to_validate(number))  # type: ignore[misc]
        tx.on_commit(self._follow_up.handle_trickles)
        for (number,) in tx.db.all(_TO_ASSIMILATE, **mine):
            tx.on_commit(lambda number=number: self.to_assimilate(number))  # type: ignore[misc]
        for (number,) in [*tx.db.all(_TO_DELETE, **mine), *tx.db.all(_RESULTS_TO_DELETE, **mine)]:
            tx.on_commit(lambda number=number: self.to_delete(number))  # type: ignore[misc]

    # --- the other processes ----------------------------------------------------------------------------------------

    def _hear(self, topic: str, value: int, text: str) -> None:
        """Another process says that something concerns this one."""
        if topic == "validate":
            self.to_validate(value)
        elif topic == "assimilate":
            self.to_assimilate(value)
        elif topic == "delete":
            self.to_delete(value)
        elif topic == "trickles":
            self._follow_up.handle_trickles()
        elif topic == "outcome":
            self.outcome(value)
        elif topic == "changed":
            if (job := jobs.load(self.database.reader(), value)) is not None:
                self.news.changed(job)
        elif topic == "told":
            self.news.said(*text.partition(" ")[::2], value)
        elif topic == "copies":
            self.feeder.look_again()
        elif topic == "expected":
            self._last_work = self.clock()
        elif topic == "catalog":
            self.writer.post(lambda tx: self.catalog.load(tx.db))

    def copies(self, entries: Sequence[Entry]) -> None:
        """Copies can be sent from now on."""
        self.feeder.add(entries)
        if self.shard.count > 1:
            for number in {self.shard.of(entry.id) for entry in entries} - {self.shard.number}:
                self._siblings.tell(number, "copies")

    def catalog_changed(self) -> None:
        """Applications or versions are others than before."""
        self._siblings.tell_all("catalog")

    def _is_others(self, topic: str, workunitid: int) -> bool:
        """True if another process looks after this job; it has been told."""
        if self.shard.owns(workunitid):
            return False
        self._siblings.tell(self.shard.of(workunitid), topic, workunitid)
        return True

    # --- work is there or to be expected ----------------------------------------------------------------------------

    def work_expected(self) -> None:
        """A submitter is there: hosts are to come back soon."""
        self._last_work = self.clock()
        if self._last_work - self._last_told > _TAKE_UP:
            self._last_told = self._last_work
            self._siblings.tell_all("expected")

    def quiet(self, now: float) -> float:
        """Seconds since there was work, or a sign of some to come."""
        if len(self.feeder):
            self._last_work = now
        return max(0.0, now - self._last_work)

    # --- followers of the pipeline, in the writer's thread ----------------------------------------------------------

    def to_validate(self, workunitid: int) -> None:
        """Files of this job are to be compared."""
        if not self._is_others("validate", workunitid):
            self._follow_up.validate(workunitid)

    def to_assimilate(self, workunitid: int) -> None:
        """An assimilator is to take this job's outcome."""
        if not self._is_others("assimilate", workunitid):
            self._follow_up.assimilate(workunitid)

    def _assimilate_later(self, workunitid: int) -> None:
        self._loop.call_soon_threadsafe(self._loop.call_later, _RETRY, self.to_assimilate, workunitid)

    def to_delete(self, workunitid: int) -> None:
        """Files of this job are to be deleted."""
        if self._is_others("delete", workunitid):
            return
        self._to_delete[workunitid] = None
        if not self._delete_posted:
            self._post_deletion()

    def trickled(self) -> None:
        """A message of a running program is to be handled."""
        self._follow_up.handle_trickles()
        self._siblings.tell_all("trickles")

    def watches(self, batch: int) -> bool:
        """Whether anybody wants to know what changes in this batch."""
        return self.shard.number != _SUBMITTERS or self.news.watches(batch)

    def changed(self, job: Job) -> None:
        """Something about this job changed."""
        if self.shard.number != _SUBMITTERS:
            self._siblings.tell(_SUBMITTERS, "changed", job.workunit.id)
        self.news.changed(job)

    def told(self, result_name: str, hostid: int, text: str) -> None:
        """A running program says how far it is."""
        if self.shard.number != _SUBMITTERS:
            self._siblings.tell(_SUBMITTERS, "told", hostid, f"{result_name} {text}")
        self.news.said(result_name, text, hostid)

    def outcome(self, batch: int) -> None:
        """An outcome of this batch can be fetched."""
        if self.shard.number != _SUBMITTERS:
            self._siblings.tell(_SUBMITTERS, "outcome", batch)
        if batch not in self._waiters:
            return
        with self._waiters_lock:
            events = list(self._waiters.get(batch, ()))
        for event in events:
            self._loop.call_soon_threadsafe(event.set)

    def due(self, time: int) -> None:
        """A job wants to be looked at again at this time."""
        if time < self._next_due:
            self._next_due = time
            self._loop.call_soon_threadsafe(self._alarm.set)

    def _post_deletion(self) -> None:
        self._delete_posted = True
        self.writer.post(self._delete_some, self._deletion_failed)

    def _deletion_failed(self) -> None:
        self._delete_posted = False
        self._loop.call_later(_WHILE_BACKUP, self._delete_later, list(self._to_delete))

    def _delete_some(self, tx: Transaction) -> None:
        numbers = list(self._to_delete)[:_SLICE]
        for number in numbers:
            del self._to_delete[number]
        self._delete_posted = bool(self._to_delete)
        if self._delete_posted:
            tx.on_commit(self._post_deletion)
        tx.on_rollback(lambda: self._to_delete.update(dict.fromkeys(numbers)))
        if not self._deleter.delete(tx, numbers, int(self.clock())):
            self._loop.call_soon_threadsafe(self._loop.call_later, _WHILE_BACKUP, self._delete_later, numbers)

    def _delete_later(self, workunits: list[int]) -> None:
        for number in workunits:
            self.to_delete(number)

    @property
    def health(self) -> dict[str, object]:
        """Seconds since deadlines were looked at and since the oldest change waits, and what the follow-up is at."""
        now = time.monotonic()
        return {"looked": now - self._looked, "waiting": self.writer.oldest, "doing": self._follow_up.doing}

    @property
    def backlog(self) -> int:
        """Jobs whose files wait to be compared or deleted."""
        return len(self._to_delete) + self._follow_up.backlog

    # --- waiting for outcomes ---------------------------------------------------------------------------------------

    async def wait_for_outcome(self, batch: int, ready: Callable[[], bool], seconds: float) -> None:
        """Return when `ready()` holds, or after so many seconds."""
        event = asyncio.Event()
        with self._waiters_lock:
            self._waiters.setdefault(batch, set()).add(event)
        try:
            # Looked at once more after the event is in place: an outcome may have come in between.
            if not ready() and not self.stopping.is_set():
                await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            pass
        finally:
            with self._waiters_lock:
                self._waiters[batch].discard(event)
                if not self._waiters[batch]:
                    del self._waiters[batch]

    # --- the clock --------------------------------------------------------------------------------------------------

    async def _watch_clock(self) -> None:
        last_sweep = 0.0
        longest = _LONGEST_SLEEP if self.shard.count == 1 else _TAKE_UP
        while True:
            more = False
            try:
                # Without the lock another process may be looking after this shard.
                if await asyncio.to_thread(self._lock.held):
                    # One time for all that follows: a jump after it is seen before anything is concluded from it.
                    now, jump = self._jumps.look()
                    if jump:
                        log.warning("clock-jumped", seconds=round(jump))
                        await self.writer.run(lambda tx, now=now: self._set_right(tx, int(now)))  # type: ignore[misc]
                    if self.shard.count > 1:
                        await self.writer.run(self._take_up)
                        self.feeder.look_again()
                    more = await self.writer.run(lambda tx, now=now: self._transition_due(tx, int(now)))  # type: ignore[misc]
                    await self._end_leases(int(now))
                    if abs(now - last_sweep) > _SWEEP:
                        last_sweep = now
                        await self._clean_up(int(now))
                    self._looked = time.monotonic()
            except Exception:
                log.exception("deadlines-not-seen-to", then="it is tried again")
                await asyncio.sleep(_PAUSE)
            self._alarm.clear()
            pause = 0.0 if more else min(max(self._next_due - self.clock(), 0.0), longest)
            try:
                await asyncio.wait_for(self._alarm.wait(), pause)
            except TimeoutError:
                pass

    def _transition_due(self, tx: Transaction, now: int) -> bool:
        numbers = [row[0] for row in tx.db.all(_DUE, now=now, most=_SLICE, **self.shard.parameters)]
        for number in numbers:
            job = jobs.load(tx.db, number)
            if job is not None:
                self.pipeline.follow(tx, job, job, now)
        # Whoever calls `due` from now on does so behind this commit.
        self._next_due = min(
            tx.db.value(_NEXT_DUE, **self.shard.parameters) or NEVER, self.submitter.next_lease_end(tx.db)
        )
        return len(numbers) == _SLICE

    async def _clean_up(self, now: int) -> None:
        """Remove files that nobody uses and rows of what is over for long, in slices."""
        if self.shard.number == 0:
            await self.writer.run(lambda tx: self._deleter.sweep(tx, now))
            await self._fade(now)
        await self._unbind(now)
        days = self.project.config.jobs.purge_after_days
        before = now - 86400 * days
        last = 0
        while days:
            last = await self.writer.run(lambda tx, after=last: purge(tx, before, after, self.shard))  # type: ignore[misc]
            if not last:
                break
        if self.shard.number == 0 and self.statistics.is_due(now):
            await asyncio.to_thread(lambda: self.statistics.write(self.database.reader(), now))

    async def _fade(self, now: int) -> None:
        """Averages tell what is recent also of who does nothing any more."""
        for table in (user_table, host_table):
            last = 0
            while last := await self.writer.run(lambda tx, t=table, after=last: credit.fade(tx.db, t, after, now)):  # type: ignore[misc]
                pass

    async def _unbind(self, now: int) -> None:
        """Jobs that only computers could take which are gone are for everybody."""
        rules = self.project.config.jobs
        since = now - 86400 * rules.gone_after_days
        if not rules.gone_after_days:
            return
        found = await asyncio.to_thread(
            lambda: bound_to_nobody(self.database.reader(), since, since, self.shard, by_user=rules.one_result_per_user)
        )
        for start in range(0, len(found), _SLICE):
            some = found[start : start + _SLICE]
            log.warning("jobs-unbound", count=len(some), why="they waited for a kind of computer that comes no more")
            await self.writer.run(lambda tx, some=some: self.submitter.unbind(tx, some, now))  # type: ignore[misc]

    async def _end_leases(self, now: int) -> None:
        for batch in filter(self.shard.owns, self.submitter.expired(self.database.reader(), now)):
            log.warning(
                "batch-abandoned",
                batch=batch,
                why="nobody has asked for it for too long",
                then="its jobs are cancelled",
            )
            await self.cancel_batch(batch, abandon=True)

    async def cancel_jobs(self, workunits: Sequence[int]) -> int:
        """Cancel those of these that are not over, in slices, and return how many."""
        count = 0
        for start in range(0, len(workunits), _SLICE):
            some = workunits[start : start + _SLICE]
            count += await self.writer.run(
                lambda tx, some=some: self.submitter.cancel(tx, some, int(self.clock()))  # type: ignore[misc]
            )
        return count

    async def cancel_batch(self, batch: int, *, abandon: bool = False) -> int:
        """Cancel what is not over, in slices, and return how many; `abandon`: nobody will fetch the outcomes either."""
        last = count = 0
        while numbers := self.submitter.unfinished(self.database.reader(), batch, last, _SLICE):
            last = numbers[-1]
            count += await self.cancel_jobs(numbers)
        if abandon:
            await self.acknowledge(batch, 2**62)
            await self.writer.run(lambda tx: self.submitter.retire(tx, batch))
        return count

    async def acknowledge(self, batch: int, upto: int) -> None:
        """The submitter has the outcomes up to this number."""
        while await self.writer.run(lambda tx: self._acknowledge_some(tx, batch, upto)):
            pass

    def _acknowledge_some(self, tx: Transaction, batch: int, upto: int) -> bool:
        numbers = self.submitter.acknowledged(tx.db, batch, upto, _SLICE)
        self.submitter.acknowledge(tx, numbers, int(self.clock()))
        return len(numbers) == _SLICE
