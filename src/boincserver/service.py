"""A running project: the parts wired together, and what happens without anybody asking."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from sqlalchemy import bindparam, func, select

from boincserver import jobs, lifecycle, trickles
from boincserver.assimilator import Assimilator, FinishedJob, find_assimilator
from boincserver.catalog import Catalog
from boincserver.errors import InvalidResult
from boincserver.feeder import Feeder
from boincserver.file_deleter import FileDeleter
from boincserver.files import FileStore
from boincserver.jobs import Outputs
from boincserver.pipeline import Pipeline
from boincserver.project import Project
from boincserver.purge import purge
from boincserver.scheduler import Identity, Scheduler
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import NEVER, AssimilateState, ErrorMask, FileDeleteState
from boincserver.submit import Submitter
from boincserver.uploads import Uploads
from boincserver.validator import judge
from boincserver.writer import Transaction, Writer

__all__ = ["Service"]

log = logging.getLogger(__name__)

_NEXT_DUE: Final = select(func.min(workunit_table.c.transition_time)).where(workunit_table.c.transition_time < NEVER)
_DUE: Final = (
    select(workunit_table.c.id)
    .where(workunit_table.c.transition_time <= bindparam("now"), workunit_table.c.transition_time < NEVER)
    .order_by(workunit_table.c.transition_time)
    .limit(bindparam("most"))
)
_TO_VALIDATE: Final = select(workunit_table.c.id).where(workunit_table.c.need_validate == 1)
_TO_ASSIMILATE: Final = select(workunit_table.c.id).where(workunit_table.c.assimilate_state == AssimilateState.READY)
_TO_DELETE: Final = select(workunit_table.c.id).where(workunit_table.c.file_delete_state == FileDeleteState.READY)
_RESULTS_TO_DELETE: Final = select(result_table.c.workunitid).where(
    result_table.c.file_delete_state == FileDeleteState.READY
)
_LONGEST_SLEEP: Final = 30.0
"""Seconds after which clocks and leases are looked at in any case; the wall clock may have jumped."""
_SWEEP: Final = 3600.0
_SLICE: Final = 100
_RETRY: Final = 60.0
"""Seconds until an assimilator that failed is asked again."""


class Service:
    """All of a project but its network side. Made and closed by one event loop."""

    def __init__(self, project: Project, clock: Callable[[], float] = time.time) -> None:
        self.project = project
        self.clock = clock
        config = project.config
        self.database = project.open_database()
        outputs = Outputs(project.directory / "templates", f"{config.url}file_upload_handler", project.upload_secret)
        self.downloads = FileStore(project.directory / "download")
        self.uploads = Uploads(FileStore(project.directory / "upload"), outputs, self.database)
        self.catalog = Catalog()
        self.feeder = Feeder(config.jobs.feeder_size)
        self.pipeline = Pipeline(
            outputs, self.catalog, self.feeder, self, self.uploads.store.path, config.jobs, config.credit
        )
        self.submitter = Submitter(project, self.pipeline, self.downloads)
        identity = Identity(config.name, config.url, project.public_key.text(), project.key_signature)
        self.scheduler = Scheduler(identity, self.pipeline, self.uploads, config.jobs, self.quiet)
        self._deleter = FileDeleter(self.downloads, self.uploads)
        self._to_delete: dict[int, None] = {}
        self._delete_posted = False
        self._validating = ThreadPoolExecutor(1, "boincserver-validator")
        self._assimilators: dict[str, Assimilator] = {}
        self._handlers: dict[str, trickles.Handler | None] = {}
        self._last_work = clock()
        self._waiters: dict[int, set[asyncio.Event]] = {}
        self._waiters_lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        self._alarm = asyncio.Event()
        self._next_due = float(NEVER)
        self._task: asyncio.Task[None] | None = None
        self.writer = Writer(self.database)

    async def start(self) -> None:
        """Take up whatever an earlier run left undone."""
        await self.writer.run(self._resume)
        self._task = asyncio.create_task(self._watch_clock())

    async def close(self) -> None:
        """Finish what was begun and let go of everything."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await asyncio.to_thread(self._validating.shutdown, cancel_futures=True)
        await self.writer.close()
        self.database.close()

    def _resume(self, tx: Transaction) -> None:
        self.catalog.load(tx.db)
        self.feeder.refill(tx.db)
        self.submitter.renew_all(tx, int(self.clock()))
        for (number,) in tx.db.all(_TO_VALIDATE):
            tx.on_commit(lambda number=number: self.to_validate(number))  # type: ignore[misc]
        tx.on_commit(self.trickled)
        for (number,) in tx.db.all(_TO_ASSIMILATE):
            tx.on_commit(lambda number=number: self.to_assimilate(number))  # type: ignore[misc]
        for (number,) in [*tx.db.all(_TO_DELETE), *tx.db.all(_RESULTS_TO_DELETE)]:
            tx.on_commit(lambda number=number: self.to_delete(number))  # type: ignore[misc]

    # --- work is there or to be expected ----------------------------------------------------------------------------

    def work_expected(self) -> None:
        """A submitter is there: hosts are to come back soon."""
        self._last_work = self.clock()

    def quiet(self, now: float) -> float:
        """Seconds since there was work, or a sign of some to come."""
        if len(self.feeder):
            self._last_work = now
        return max(0.0, now - self._last_work)

    # --- followers of the pipeline, in the writer's thread ----------------------------------------------------------

    def to_validate(self, workunitid: int) -> None:
        """Files of this job are to be compared."""
        try:
            self._validating.submit(self._validate, workunitid)
        except RuntimeError:
            log.debug("closing: job %d is validated at the next start", workunitid)

    def to_assimilate(self, workunitid: int) -> None:
        """An assimilator is to take this job's outcome."""
        try:
            self._validating.submit(self._assimilate, workunitid)
        except RuntimeError:
            log.debug("closing: job %d is assimilated at the next start", workunitid)

    def to_delete(self, workunitid: int) -> None:
        """Files of this job are to be deleted."""
        self._to_delete[workunitid] = None
        if not self._delete_posted:
            self._delete_posted = True
            self._post(self._delete_some)

    def trickled(self) -> None:
        """A message of a running program is to be handled."""
        try:
            self._validating.submit(self._handle_trickles)
        except RuntimeError:
            log.debug("closing: messages are handled at the next start")

    def outcome(self, batch: int) -> None:
        """An outcome of this batch can be fetched."""
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

    def _post(self, operation: Callable[[Transaction], object]) -> None:
        try:
            self.writer.post(operation)
        except RuntimeError:
            log.debug("closing: the rest is done at the next start")

    def _delete_some(self, tx: Transaction) -> None:
        numbers = list(self._to_delete)[:_SLICE]
        for number in numbers:
            del self._to_delete[number]
        self._delete_posted = bool(self._to_delete)
        if self._delete_posted:
            tx.on_commit(lambda: self._post(self._delete_some))
        self._deleter.delete(tx, numbers, int(self.clock()))

    @property
    def backlog(self) -> int:
        """Jobs whose files wait to be compared or deleted."""
        return len(self._to_delete) + self._validating._work_queue.qsize()

    # --- waiting for outcomes ---------------------------------------------------------------------------------------

    async def wait_for_outcome(self, batch: int, ready: Callable[[], bool], seconds: float) -> None:
        """Return when `ready()` holds, or after so many seconds."""
        event = asyncio.Event()
        with self._waiters_lock:
            self._waiters.setdefault(batch, set()).add(event)
        try:
            # Looked at once more after the event is in place: an outcome may have come in between.
            if not ready():
                await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            pass
        finally:
            with self._waiters_lock:
                self._waiters[batch].discard(event)
                if not self._waiters[batch]:
                    del self._waiters[batch]

    # --- validation of files, in a thread of its own ----------------------------------------------------------------

    def _validate(self, workunitid: int) -> None:
        try:
            job = jobs.load(self.database.reader(), workunitid)
            if job is None or not job.workunit.need_validate:
                return
            verdict = self._verdict(job)
            seen = lifecycle.viable(job)
            self.writer.call(lambda tx: self._decide(tx, workunitid, seen, verdict))
        except Exception:
            log.exception("validating job %d failed; it is tried again later", workunitid)
            self._post(lambda tx: self._later(tx, workunitid))

    def _verdict(self, job: lifecycle.Job) -> lifecycle.Verdict:
        validator = self.pipeline.validator(job.workunit.appid)
        values: dict[int, Any] = {}
        for result in lifecycle.viable(job):
            try:
                values[result.id] = validator.load(self.pipeline.result_files(self.database.reader(), result))
            except InvalidResult as error:
                values[result.id] = error
        workunit = job.workunit
        verdict = judge(values, validator.agree, min_quorum=workunit.min_quorum, canonical=workunit.canonical_resultid)
        return self.pipeline.with_credit(self.database.reader(), job, verdict)

    # --- assimilation by a class of the operator's, in the same thread -----------------------------------------------

    def _assimilate(self, workunitid: int) -> None:
        try:
            db = self.database.reader()
            job = jobs.load(db, workunitid)
            if job is None or job.workunit.assimilate_state != AssimilateState.READY:
                return
            app = self.catalog.apps[job.workunit.appid]
            canonical = next((r for r in job.results if r.id == job.workunit.canonical_resultid), None)
            files = self.pipeline.result_files(db, canonical) if canonical else None
            mask = ErrorMask(job.workunit.error_mask)
            if app.assimilator not in self._assimilators:
                self._assimilators[app.assimilator] = find_assimilator(app.assimilator)
            finished = FinishedJob(job.workunit.name, app.name, job.workunit.batch, mask, files)
            self._assimilators[app.assimilator].assimilate(finished)
            self.writer.call(lambda tx: self._assimilated(tx, workunitid))
        except Exception:
            log.exception("assimilating job %d failed; it is tried again later", workunitid)
            self._loop.call_soon_threadsafe(self._loop.call_later, _RETRY, self.to_assimilate, workunitid)

    def _assimilated(self, tx: Transaction, workunitid: int) -> None:
        job = jobs.load(tx.db, workunitid)
        if job is not None and job.workunit.assimilate_state == AssimilateState.READY:
            self.pipeline.follow(tx, job, lifecycle.assimilated(job), int(self.clock()))

    # --- messages of running programs, in the same thread ------------------------------------------------------------

    def _handle_trickles(self) -> None:
        last = 0
        while messages := trickles.pending(self.database.reader(), last, _SLICE):
            last = messages[-1].id
            for message in messages:
                try:
                    self._handle_trickle(message)
                except Exception:
                    log.exception("message %d of host %d is left unhandled", message.id, message.hostid)

    def _handle_trickle(self, message: trickles.Message) -> None:
        if message.variety not in self._handlers:
            self._handlers[message.variety] = trickles.find_handler(message.variety)
        handler = self._handlers[message.variety]
        if handler is None:
            return
        answer = handler.handle(message)

        def handled(tx: Transaction) -> None:
            trickles.set_handled(tx.db, message.id)
            if answer is not None:
                trickles.send_down(tx.db, message.result_name, answer, int(self.clock()))

        self.writer.call(handled)

    def _decide(
        self, tx: Transaction, workunitid: int, seen: tuple[lifecycle.Result, ...], verdict: lifecycle.Verdict
    ) -> None:
        job = jobs.load(tx.db, workunitid)
        if job is None or not job.workunit.need_validate:
            return
        if lifecycle.viable(job) != seen:
            # Another result came in meanwhile; the verdict must be about all of them.
            tx.on_commit(lambda: self.to_validate(workunitid))
            return
        now = int(self.clock())
        self.pipeline.follow(tx, job, lifecycle.apply_verdict(job, verdict, now), now)

    def _later(self, tx: Transaction, workunitid: int) -> None:
        job = jobs.load(tx.db, workunitid)
        if job is not None and job.workunit.need_validate:
            now = int(self.clock())
            after = lifecycle.apply_verdict(job, lifecycle.Verdict(retry=True), now)
            jobs.save(tx.db, job, after, now, outputs=self.pipeline.outputs)
            tx.on_commit(lambda: self.due(after.workunit.transition_time))

    # --- the clock --------------------------------------------------------------------------------------------------

    async def _watch_clock(self) -> None:
        last_sweep = 0.0
        while True:
            try:
                more = await self.writer.run(self._transition_due)
                await self._end_leases()
                if self.clock() - last_sweep > _SWEEP:
                    last_sweep = self.clock()
                    await self.writer.run(lambda tx: self._deleter.sweep(tx, int(self.clock())))
                    await self._purge()
            except Exception:
                log.exception("looking after deadlines failed; it is tried again")
                more = False
            self._alarm.clear()
            pause = 0.0 if more else min(max(self._next_due - self.clock(), 0.0), _LONGEST_SLEEP)
            try:
                await asyncio.wait_for(self._alarm.wait(), pause)
            except TimeoutError:
                pass

    def _transition_due(self, tx: Transaction) -> bool:
        now = int(self.clock())
        numbers = [row[0] for row in tx.db.all(_DUE, now=now, most=_SLICE)]
        for number in numbers:
            job = jobs.load(tx.db, number)
            if job is not None:
                self.pipeline.follow(tx, job, job, now)
        # Whoever calls `due` from now on does so behind this commit.
        self._next_due = min(tx.db.value(_NEXT_DUE) or NEVER, self.submitter.next_lease_end(tx.db))
        return len(numbers) == _SLICE

    async def _purge(self) -> None:
        """Remove what is over for long, in slices."""
        days = self.project.config.jobs.purge_after_days
        before = int(self.clock()) - 86400 * days
        last = 0
        while days:
            last = await self.writer.run(lambda tx, after=last: purge(tx, before, after))  # type: ignore[misc]
            if not last:
                break

    async def _end_leases(self) -> None:
        now = int(self.clock())
        for batch in self.submitter.expired(self.database.reader(), now):
            log.warning("nobody has asked for batch %d for too long: its jobs are cancelled", batch)
            await self.cancel_batch(batch, abandon=True)

    async def cancel_batch(self, batch: int, *, abandon: bool = False) -> int:
        """Cancel what has no outcome yet, in slices; `abandon`: nobody will fetch the outcomes either."""
        last = count = 0
        while numbers := self.submitter.unfinished(self.database.reader(), batch, last, _SLICE):
            last = numbers[-1]
            count += len(numbers)
            await self.writer.run(lambda tx, n=tuple(numbers): self.submitter.cancel(tx, n, int(self.clock())))  # type: ignore[misc]
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
