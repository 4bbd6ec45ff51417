"""What follows a commit and takes its time: comparing files, operators' assimilators, messages of running programs.

All of it runs in one thread of its own, one job after the other; what it decides goes back through the writer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from boincserver import jobs, lifecycle, plugins, trickles
from boincserver.assimilator import Assimilator, FinishedJob, find_assimilator
from boincserver.database import Database
from boincserver.errors import InvalidResult
from boincserver.events import Events
from boincserver.pipeline import Pipeline
from boincserver.shard import Shard
from boincserver.states import AssimilateState, ErrorMask
from boincserver.validator import judge
from boincserver.writer import Transaction, Writer

__all__ = ["FollowUp"]

log = Events(__name__)

_SLICE: Final = 100


class FollowUp:
    """The thread and what it does. `due`: a job is to be looked at then; `retry`: its assimilator failed."""

    def __init__(
        self,
        database: Database,
        pipeline: Pipeline,
        writer: Writer,
        shard: Shard,
        clock: Callable[[], float],
        due: Callable[[int], object],
        retry: Callable[[int], object],
    ) -> None:
        self._database = database
        self._pipeline = pipeline
        self._writer = writer
        self._shard = shard
        self._clock = clock
        self._due = due
        self._retry = retry
        self._thread = ThreadPoolExecutor(1, "boincserver-follow-up")
        self._queued: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._at: tuple[str, int, float] | None = None
        self._assimilators: dict[str, Assimilator] = {}
        self._handlers: dict[str, trickles.Handler | None] = {}

    @property
    def doing(self) -> tuple[str, int, float] | None:
        """What it is at, on which workunit, and for how many seconds."""
        at = self._at
        return None if at is None else (at[0], at[1], time.monotonic() - at[2])

    @property
    def backlog(self) -> int:
        """How much waits."""
        return len(self._queued)

    def close(self) -> None:
        """End what is under way; the rest is found in the tables by the next start."""
        self._thread.shutdown(cancel_futures=True)
        plugins.close([*self._assimilators.values(), *self._handlers.values()])

    def validate(self, workunitid: int) -> None:
        """Have the files of this job compared."""
        self._queue("validate", self._validate, workunitid)

    def assimilate(self, workunitid: int) -> None:
        """Have this job's outcome taken."""
        self._queue("assimilate", self._assimilate, workunitid)

    def handle_trickles(self) -> None:
        """Have the messages handled that wait for it."""
        self._queue("trickles", self._handle_trickles, 0)

    def _queue(self, what: str, work: Callable[[int], None], number: int) -> None:
        with self._lock:
            if (what, number) in self._queued:
                return
            self._queued.add((what, number))

        def run() -> None:
            # Forgotten first: what happens from now on asks again.
            with self._lock:
                self._queued.discard((what, number))
            self._at = what, number, time.monotonic()
            try:
                work(number)
            finally:
                self._at = None

        try:
            self._thread.submit(run)
        except RuntimeError:
            log.debug("left-to-the-next-start", what=what, workunit=number)

    # --- validation ---------------------------------------------------------------------------------------------------

    def _validate(self, workunitid: int) -> None:
        try:
            job = jobs.read(self._database.reader(), workunitid)
            if job is None or not job.workunit.need_validate:
                return
            verdict = self._verdict(job)
            seen = lifecycle.viable(job)
        except Exception:
            log.exception("validation-failed", workunit=workunitid, then="it is tried again later")
            self._writer.post(lambda tx: self._later(tx, workunitid))
            return
        # Not waited for: the verdicts on many jobs share a commit.
        self._writer.post(
            lambda tx: self._decide(tx, workunitid, seen, verdict),
            lambda: self._writer.post(lambda tx: self._later(tx, workunitid)),
        )

    def _verdict(self, job: lifecycle.Job) -> lifecycle.Verdict:
        db = self._database.reader()
        validator = self._pipeline.validator(job.workunit.appid)
        values: dict[int, Any] = {}
        for result in lifecycle.viable(job):
            try:
                values[result.id] = validator.load(self._pipeline.result_files(db, result))
            except InvalidResult as error:
                values[result.id] = error
        workunit = job.workunit
        verdict = judge(values, validator.agree, min_quorum=workunit.min_quorum, canonical=workunit.canonical_resultid)
        return self._pipeline.with_credit(db, job, verdict)

    def _decide(
        self, tx: Transaction, workunitid: int, seen: tuple[lifecycle.Result, ...], verdict: lifecycle.Verdict
    ) -> None:
        job = jobs.load(tx.db, workunitid)
        if job is None or not job.workunit.need_validate:
            return
        if lifecycle.viable(job) != seen:
            # Another result came in meanwhile; the verdict must be about all of them.
            tx.on_commit(lambda: self.validate(workunitid))
            return
        now = int(self._clock())
        self._pipeline.follow(tx, job, lifecycle.apply_verdict(job, verdict, now), now)

    def _later(self, tx: Transaction, workunitid: int) -> None:
        job = jobs.load(tx.db, workunitid)
        if job is not None and job.workunit.need_validate:
            now = int(self._clock())
            after = lifecycle.apply_verdict(job, lifecycle.Verdict(retry=True), now)
            jobs.save(tx.db, job, after, now, outputs=self._pipeline.outputs)
            tx.on_commit(lambda: self._due(after.workunit.transition_time))

    # --- assimilation by a class of the operator's --------------------------------------------------------------------

    def _assimilate(self, workunitid: int) -> None:
        try:
            db = self._database.reader()
            job = jobs.read(db, workunitid)
            if job is None or job.workunit.assimilate_state != AssimilateState.READY:
                return
            app = self._pipeline.catalog.apps[job.workunit.appid]
            canonical = next((r for r in job.results if r.id == job.workunit.canonical_resultid), None)
            files = self._pipeline.result_files(db, canonical) if canonical else None
            mask = ErrorMask(job.workunit.error_mask)
            if app.assimilator not in self._assimilators:
                self._assimilators[app.assimilator] = find_assimilator(app.assimilator)
            finished = FinishedJob(job.workunit.name, app.name, job.workunit.batch, mask, files)
            self._assimilators[app.assimilator].assimilate(finished)
            self._writer.call(lambda tx: self._assimilated(tx, workunitid))
        except Exception:
            log.exception("assimilation-failed", workunit=workunitid, then="it is tried again later")
            self._retry(workunitid)

    def _assimilated(self, tx: Transaction, workunitid: int) -> None:
        job = jobs.load(tx.db, workunitid)
        if job is not None and job.workunit.assimilate_state == AssimilateState.READY:
            self._pipeline.follow(tx, job, lifecycle.assimilated(job), int(self._clock()))

    # --- messages of running programs ---------------------------------------------------------------------------------

    def _handle_trickles(self, _number: int) -> None:
        last = 0
        while messages := trickles.pending(self._database.reader(), last, _SLICE):
            last = messages[-1].id
            for message in messages:
                try:
                    if self._shard.owns(message.id):
                        self._handle_trickle(message)
                except Exception:
                    log.exception("trickle-not-handled", message=message.id, host=message.hostid)

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
                trickles.send_down(tx.db, message.result_name, answer, int(self._clock()))

        self._writer.call(handled)
