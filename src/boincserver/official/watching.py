"""What becomes of the jobs of an official project, and who its hosts are: read from its tables."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import and_, bindparam, case, func, or_, select

from boincserver.official.batches import Batches
from boincserver.official.ended import Ended
from boincserver.official.results import instances
from boincserver.official.tables import Tables
from boincserver.records import Changes, Copy, HostInfo, JobState
from boincserver.schema import host as host_table
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import AssimilateState, Outcome, ServerState, ValidateState

__all__ = ["Watch", "copies", "hosts", "job_states"]

_SHARE_OF_LOOKS: Final = 0.1
"""How much of the time may go into asking what changed."""
_ACTIVE: Final = 30 * 86400
"""Seconds without a contact after which a host is not counted any more."""

_STATES: Final = select(workunit_table.c.name, workunit_table.c.assimilate_state).where(
    workunit_table.c.batch == bindparam("batch_id")
)
_OUT: Final = (
    select(workunit_table.c.name, result_table.c.hostid, result_table.c.report_deadline)
    .join(workunit_table, workunit_table.c.id == result_table.c.workunitid)
    .where(result_table.c.batch == bindparam("batch_id"), result_table.c.server_state == int(ServerState.IN_PROGRESS))
    .order_by(result_table.c.id)
)
_HOSTS: Final = select(host_table.c.id, host_table.c.userid, host_table.c.p_ncpus, host_table.c.rpc_time).where(
    host_table.c.rpc_time > bindparam("since")
)


def _counted(*conditions: Any) -> Any:
    return func.sum(case((and_(*conditions), 1), else_=0))


_INVALID: Final = result_table.c.validate_state == int(ValidateState.INVALID)
_FAILED: Final = or_(
    result_table.c.outcome == int(Outcome.CLIENT_ERROR), result_table.c.outcome == int(Outcome.NO_REPLY), _INVALID
)
_PER_HOST: Final[Any] = (
    select(
        result_table.c.hostid,
        _counted(result_table.c.server_state == int(ServerState.IN_PROGRESS)),
        _counted(result_table.c.outcome == int(Outcome.SUCCESS), ~_INVALID),
        _counted(_FAILED),
    )
    .where(result_table.c.appid == bindparam("app"), result_table.c.hostid > 0)
    .group_by(result_table.c.hostid)
)


@dataclass
class Watch:
    """Of one batch: what is told once is not told again. A large batch is looked at less often."""

    batches: Batches
    batch: int
    _told: dict[str, JobState] = field(default_factory=dict)
    _changes: int = 0
    _next: float = 0.0

    def changes(self, tables: Tables, epoch: str, after: int) -> Changes:
        """Which jobs went to other hosts than at the last time, or said something new."""
        began = time.monotonic()
        jobs: list[JobState] = []
        if began >= self._next:
            out = self._out(tables)
            jobs = [state for name, state in out.items() if self._told.get(name) != state]
            self._told = out
            now = time.monotonic()
            self._next = now + (now - began) / _SHARE_OF_LOOKS
        self._changes = max(self._changes, after) + len(jobs)
        return Changes(epoch or "here", self._changes, tuple(jobs))

    def _out(self, tables: Tables) -> dict[str, JobState]:
        said = self.batches.said(self.batch)
        out: dict[str, JobState] = {}
        for name, host, deadline in tables.reader().all(_OUT, batch_id=self.batch):
            hosts = (*out[name].hosts, host) if name in out else (host,)
            out[name] = JobState(name, "in progress", hosts, deadline, said.get(name, ""))
        return out


def job_states(tables: Tables, batch: int) -> list[JobState]:
    """Whether each job of the batch is over, which it is when its outcome was filed."""
    rows = tables.reader().all(_STATES, batch_id=batch)
    return [JobState(name, "over" if state == AssimilateState.DONE else "in progress") for name, state in rows]


def copies(tables: Tables, batches: Batches, batch: int, name: str) -> list[Copy]:
    """Every copy of one job, with the outputs that are kept."""
    data = batches.outcome(batch, name)
    if data is not None:
        return [one.copy for one in Ended.unpacked(data).instances]
    db = tables.reader()
    row = db.get(workunit_table, ("id",), name=name, batch=batch)
    found = instances(db, tables.settings, row[0], with_outputs=None) if row else []
    return [one.copy for one in found]


def hosts(tables: Tables, apps: Iterable[int]) -> list[HostInfo]:
    """The volunteers' computers that were seen lately, and what they did for these applications."""
    db = tables.reader()
    counts: dict[int, tuple[int, int, int]] = {}
    for app in apps:
        for host, running, succeeded, failed in db.all(_PER_HOST, app=app):
            known = counts.get(host, (0, 0, 0))
            counts[host] = (known[0] + int(running), known[1] + int(succeeded), known[2] + int(failed))
    return [
        HostInfo(number, user, "", "", "", max(1, ncpus), contact, *counts.get(number, (0, 0, 0)))
        for number, user, ncpus, contact in db.all(_HOSTS, since=int(time.time()) - _ACTIVE)
    ]
