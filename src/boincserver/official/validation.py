"""Validation in an official project: results of its applications are compared, and the outcome written down.

Found are the workunits whose `need_validate` the project's transitioner has set; what is decided here is what the
official validator would decide, except for what counts as equal, and for how credit is reckoned.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import bindparam, select, update

from boincserver import credit, jobs, lifecycle
from boincserver.config import CreditConfig
from boincserver.database import Session
from boincserver.errors import Conflict, InvalidResult
from boincserver.lifecycle import Job, Verdict
from boincserver.official.results import files_of
from boincserver.official.tables import Tables
from boincserver.schema import app as app_table
from boincserver.schema import host as host_table
from boincserver.schema import host_app_version as track_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import NEVER, AssimilateState, Outcome, ServerState, ValidateState
from boincserver.validator import Validator, judge

__all__ = ["Validation"]

log = logging.getLogger(__name__)

_AT_ONCE: Final = 500
_TO_DO: Final = (
    select(workunit_table.c.id)
    .where(
        workunit_table.c.appid == bindparam("app"),
        workunit_table.c.need_validate == 1,
        workunit_table.c.id > bindparam("beyond"),
    )
    .order_by(workunit_table.c.id)
    .limit(_AT_ONCE)
)
_OF_HOST: Final = (track_table.c.host_id == bindparam("host"), track_table.c.app_version_id == bindparam("version"))
_GOOD: Final = (
    update(track_table)
    .where(*_OF_HOST)
    .values(
        max_jobs_per_day=track_table.c.max_jobs_per_day + 1,
        consecutive_valid=track_table.c.consecutive_valid + bindparam("proven"),
    )
)
_BAD: Final = update(track_table).where(*_OF_HOST).values(consecutive_valid=0)


@dataclass
class Validation:
    """One pass after the other over the jobs of these applications."""

    tables: Tables
    apps: Sequence[str]
    validator: Validator[Any]
    credit: CreditConfig = field(default_factory=lambda: CreditConfig(kind="estimate"))

    def one_pass(self, stops: Callable[[], bool] = lambda: False) -> int:
        """Judge what is to be judged now; returns how many workunits were."""
        done = 0
        for name in self.apps:
            with self.tables.asked():
                row = self.tables.reader().get(app_table, ("id", "target_nresults"), name=name)
                if row is None:
                    log.error("there is no application %s yet", name)
                    continue
                beyond = 0
                while found := self.tables.reader().all(_TO_DO, app=row[0], beyond=beyond):
                    for (number,) in found:
                        if stops():
                            return done
                        done += self._validate(number, adaptive=row[1] > 1)
                    beyond = found[-1][0]
        return done

    def _validate(self, number: int, *, adaptive: bool) -> bool:
        db = self.tables.reader()
        before = jobs.read(db, number, outbox=False)
        if before is None or not before.workunit.need_validate:
            return False
        now = int(time.time())
        after = _decided(before, self._verdict(db, before), now)
        try:
            with self.tables.transaction() as db:
                # Comparing took its time; what came meanwhile is for the next look.
                if jobs.load(db, number, outbox=False) != before:
                    return False
                jobs.save(db, before, after, now, outputs=None)
                self._record(db, before, after, now, adaptive=adaptive)
        except Conflict:
            return False
        log.info("%s: %s", before.workunit.name, _in_words(after))
        return True

    def _verdict(self, db: Session, job: Job) -> Verdict:
        workunit = job.workunit
        try:
            values = {result.id: self._loaded(db, result.id) for result in lifecycle.viable(job)}
            verdict = judge(
                values, self.validator.agree, min_quorum=workunit.min_quorum, canonical=workunit.canonical_resultid
            )
        except Exception as error:
            # A file system may be away, a function of a user's may fail.
            if self.tables.is_away(error):
                raise
            log.warning("%s cannot be validated now, and will be tried again: %s", workunit.name, error)
            return Verdict(retry=True)
        if workunit.canonical_resultid:
            return replace(verdict, credit=dict.fromkeys(verdict.valid, workunit.canonical_credit))
        claims = {}
        for result in lifecycle.viable(job):
            row = db.get(host_table, ("p_fpops",), id=result.hostid) if self.credit.kind == "runtime" else None
            claims[result.id] = credit.amount(self.credit, workunit, result, row[0] if row else 0.0)
        return replace(verdict, credit=credit.earned(verdict, claims))

    def _loaded(self, db: Session, result: int) -> Any:
        try:
            return self.validator.load(files_of(db, self.tables.settings, result))
        except InvalidResult as error:
            log.info("%s", error)
            return error

    def _record(self, db: Session, before: Job, after: Job, now: int, *, adaptive: bool) -> None:
        """What the verdict says of the hosts: trust, quota, credit."""
        alone = adaptive and after.workunit.target_nresults == 1
        grants = []
        for was, result in zip(before.results, after.results, strict=True):
            if was.validate_state == result.validate_state or not result.hostid:
                continue
            key = {"host": result.hostid, "version": result.app_version_id}
            if result.validate_state == ValidateState.VALID:
                db.run(_GOOD, proven=int(not alone), **key)
            elif result.validate_state == ValidateState.INVALID:
                db.run(_BAD, **key)
            if result.granted_credit > was.granted_credit:
                amount = result.granted_credit - was.granted_credit
                grants.append(credit.Grant(result.hostid, result.userid, amount, result.sent_time))
        credit.grant(db, grants, now, teams=True)


def _decided(before: Job, verdict: Verdict, now: int) -> Job:
    """The job with the verdict in it, and when the transitioner is to look at it again."""
    after = lifecycle.apply_verdict(before, verdict, now)
    was, workunit = before.workunit, after.workunit
    if verdict.retry:
        return after.with_workunit(transition_time=min(was.transition_time, workunit.transition_time))
    if workunit.canonical_resultid and not was.canonical_resultid:
        # The assimilator comes first, and wakes the transitioner when it has what it wants.
        unsent = (ServerState.INACTIVE, ServerState.UNSENT)
        results = tuple(
            result._replace(server_state=ServerState.OVER, outcome=Outcome.DIDNT_NEED)
            if result.server_state in unsent
            else result
            for result in after.results
        )
        return after.with_results(results).with_workunit(assimilate_state=AssimilateState.READY, transition_time=NEVER)
    return after.with_workunit(transition_time=now)


def _in_words(job: Job) -> str:
    states = {result.name: ValidateState(result.validate_state).name.lower() for result in job.results}
    told = ", ".join(f"{name} {state}" for name, state in states.items())
    return f"{'canonical result found' if job.workunit.canonical_resultid else 'no quorum yet'} ({told})"
