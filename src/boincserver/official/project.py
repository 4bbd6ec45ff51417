"""An official project's directory with the methods of `control.Control`.

Usable from any number of threads. Whoever calls must be allowed to read config.xml, and to write into the project's
folder and its download hierarchy.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import and_, bindparam, case, func, or_, select, update

from boincserver.errors import ControlError, UnknownBatch
from boincserver.official.batches import Batches
from boincserver.official.creating import Creation
from boincserver.official.ended import Ended
from boincserver.official.results import instances
from boincserver.official.settings import Settings
from boincserver.official.tables import Tables, text
from boincserver.records import Batch, Changes, Copy, HostInfo, Job, JobOutcome, JobState
from boincserver.schema import app_version as version_table
from boincserver.schema import batch as batch_table
from boincserver.schema import host as host_table
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import AssimilateState, BatchState, ErrorMask, Outcome, ServerState, ValidateState

__all__ = ["OfficialProject"]

_AT_ONCE: Final = 2000
_MOST_BYTES: Final = 32 << 20
_POLL: Final = 0.25
_SHARE_OF_LOOKS: Final = 0.1
"""How much of the time may go into asking what changed."""
_HOSTS_FOR: Final = 10.0
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
_CANCEL_COPIES: Final = (
    update(result_table)
    .where(
        result_table.c.workunitid == bindparam("wuid"),
        result_table.c.server_state <= int(ServerState.UNSENT),
    )
    .values(server_state=int(ServerState.OVER), outcome=int(Outcome.DIDNT_NEED))
)
_UNFINISHED: Final = and_(workunit_table.c.error_mask == 0, workunit_table.c.canonical_resultid == 0)
_CANCEL: Final = (
    update(workunit_table)
    .where(workunit_table.c.id == bindparam("wuid"), workunit_table.c.batch == bindparam("batch_id"), _UNFINISHED)
    .values(error_mask=int(ErrorMask.CANCELLED), transition_time=bindparam("now"))
)
_UNFINISHED_OF: Final = select(workunit_table.c.id).where(workunit_table.c.batch == bindparam("batch_id"), _UNFINISHED)
_HURRY: Final = (
    update(workunit_table)
    .where(
        workunit_table.c.id == bindparam("wuid"),
        workunit_table.c.batch == bindparam("batch_id"),
        _UNFINISHED,
        workunit_table.c.target_nresults <= workunit_table.c.min_quorum,
        workunit_table.c.target_nresults < workunit_table.c.max_total_results,
    )
    .values(target_nresults=workunit_table.c.target_nresults + 1, transition_time=bindparam("now"))
)
_RENEW: Final = (
    update(batch_table)
    .where(batch_table.c.id == bindparam("batch_id"), batch_table.c.state <= int(BatchState.IN_PROGRESS))
    .values(expire_time=bindparam("expires"))
)
_HOSTS: Final = select(
    host_table.c.id, host_table.c.userid, host_table.c.p_ncpus, host_table.c.rpc_time
).where(host_table.c.rpc_time > bindparam("since"))  # fmt: skip


def _counted(*conditions: Any) -> Any:
    return func.sum(case((and_(*conditions), 1), else_=0))


_INVALID: Final = result_table.c.validate_state == int(ValidateState.INVALID)
_PER_HOST: Final[Any] = (
    select(
        result_table.c.hostid,
        _counted(result_table.c.server_state == int(ServerState.IN_PROGRESS)),
        _counted(result_table.c.outcome == int(Outcome.SUCCESS), ~_INVALID),
        _counted(
            or_(
                result_table.c.outcome == int(Outcome.CLIENT_ERROR),
                result_table.c.outcome == int(Outcome.NO_REPLY),
                _INVALID,
            )
        ),
    )
    .where(result_table.c.appid == bindparam("app"), result_table.c.hostid > 0)
    .group_by(result_table.c.hostid)
)
_VERSIONS: Final = (
    select(version_table.c.xml_doc)
    .where(version_table.c.appid == bindparam("app"), version_table.c.deprecated == 0)
    .order_by(version_table.c.version_num.desc(), version_table.c.id)
)


@dataclass
class _Run:
    """One batch, as this process follows it."""

    app: int
    lease: float | None
    renewed: float = 0.0
    numbers: dict[str, int] = field(default_factory=dict)  # of outcomes that are here
    last: int = 0
    listed: int = -1  # the state of the folder when it was last listed
    out: dict[str, tuple[int, ...]] = field(default_factory=dict)  # hosts by job, as they were last told
    changes: int = 0
    next_look: float = 0.0


class OfficialProject:
    """A project of the official server software, on the machine where its folder and its database are."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._tables = Tables(settings)
        self._batches = Batches(settings.directory)
        self._creation = Creation(self._tables, self._batches)
        self._runs: dict[int, _Run] = {}
        self._hosts: tuple[float, list[HostInfo]] = (0.0, [])

    @classmethod
    def open(cls, directory: Path) -> Self:
        """The project in this directory."""
        return cls(Settings.read(directory))

    def close(self) -> None:
        """Give the database up."""
        self._tables.close()

    def versions(self, app: str) -> list[str]:
        """The documents of an application's versions that are in use, the newest first; raises UnknownApp."""
        with self._tables.asked():
            number = self._creation.app(app)
            return [text(row[0]) for row in self._tables.reader().all(_VERSIONS, app=number)]

    # --- jobs go out ------------------------------------------------------------------------------------------------

    def create_batch(self, app: str, name: str, *, lease: float | None = None) -> Batch:
        """The batch of this name. With a lease (in seconds) its jobs end when nobody asks for them for so long."""
        now = time.time()
        with self._tables.asked():
            number = self._creation.app(app)
            expires = now + lease if lease else 0.0
            with self._tables.transaction() as db:
                row = db.get(batch_table, ("id", "app_id"), name=name)
                if row is None:
                    values = self._tables.row(
                        "batch", create_time=int(now), name=name, app_id=number, expire_time=expires
                    )
                    row = (db.insert(batch_table, **values), number)
                elif row[1] != number:
                    raise ControlError(f"there is a batch {name!r} of another application")
                else:
                    db.run(_RENEW, batch_id=row[0], expires=expires)
        self._batches.add(row[0])
        self._runs[row[0]] = _Run(number, lease, renewed=now)
        return Batch(row[0], name, app)

    def put_file(self, source: str | os.PathLike[str] | bytes) -> str:
        """Keep a file for jobs to use, unless it is there; returns its name."""
        return self._creation.put(source)

    def create_jobs(self, batch_id: int, jobs: Sequence[Job]) -> int:
        """Create those whose names are new; returns how many."""
        run, created = self._run(batch_id), 0
        with self._tables.asked():
            for start in range(0, len(jobs), _AT_ONCE):
                some = jobs[start : start + _AT_ONCE]
                try:
                    created += self._creation.create(batch_id, run.app, some, int(time.time()))
                except Exception as error:
                    if not self._tables.is_duplicate(error):
                        raise
                    # Another process created some of them in between; now they are seen.
                    created += self._creation.create(batch_id, run.app, some, int(time.time()))
        return created

    def cancel_jobs(self, batch_id: int, names: Sequence[str] | None = None) -> int:
        """End these jobs, or all of the batch, also on hosts; returns how many are affected."""
        count = 0
        with self._tables.asked():
            if names is None:
                ids = [row[0] for row in self._tables.reader().all(_UNFINISHED_OF, batch_id=batch_id)]
            else:
                ids = list(self._tables.reader().ids_of(workunit_table, names).values())
            for start in range(0, len(ids), _AT_ONCE):
                with self._tables.transaction() as db:
                    for number in sorted(ids[start : start + _AT_ONCE]):
                        # The workunit first, as the project's own daemons go about it.
                        if db.run(_CANCEL, wuid=number, batch_id=batch_id, now=int(time.time())):
                            db.run(_CANCEL_COPIES, wuid=number)
                            count += 1
        return count

    def hurry(self, batch_id: int, names: Sequence[str]) -> None:
        """Have one more copy of each of these jobs that hosts are slow with, once."""
        with self._tables.asked():
            ids = self._tables.reader().ids_of(workunit_table, names)
            with self._tables.transaction() as db:
                for number in sorted(ids.values()):
                    db.run(_HURRY, wuid=number, batch_id=batch_id, now=int(time.time()))

    # --- outcomes come in -------------------------------------------------------------------------------------------

    def outcomes(self, batch_id: int, *, after: int = 0, limit: int = 1000, wait: float = 0.0) -> list[JobOutcome]:
        """Outcomes with numbers above `after`, oldest first; waits up to `wait` seconds for the first."""
        run = self._run(batch_id)
        self._renew(batch_id, run)
        until = time.monotonic() + wait
        while True:
            self._number(batch_id, run)
            found = list(self._read(batch_id, run, after, limit))
            left = until - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(_POLL, left))

    def _number(self, batch_id: int, run: _Run) -> None:
        changed = self._batches.changed(batch_id)
        if changed == run.listed:
            return
        run.listed = changed
        for name in sorted(set(self._batches.outcomes(batch_id)) - run.numbers.keys()):
            run.last += 1
            run.numbers[name] = run.last

    def _read(self, batch_id: int, run: _Run, after: int, limit: int) -> Iterator[JobOutcome]:
        size = 0
        for name, seq in list(run.numbers.items()):
            if seq <= after:
                continue
            data = self._batches.outcome(batch_id, name)
            if data is None:  # another process has it
                del run.numbers[name]
                continue
            size += len(data)
            yield Ended.unpacked(data).outcome(seq)
            limit -= 1
            if not limit or size > _MOST_BYTES:
                return

    def acknowledge(self, batch_id: int, upto_seq: int) -> None:
        """The outcomes up to this number are kept elsewhere."""
        run = self._run(batch_id)
        names = [name for name, seq in run.numbers.items() if seq <= upto_seq]
        self._batches.forget(batch_id, names)
        for name in names:
            del run.numbers[name]

    def _renew(self, batch_id: int, run: _Run) -> None:
        """Whoever submitted is still there."""
        now = time.time()
        if now < run.renewed + (run.lease or 3600.0) / 4:
            return
        run.renewed = now
        self._batches.seen(batch_id)
        if run.lease:
            with self._tables.asked():
                self._tables.reader().run(_RENEW, batch_id=batch_id, expires=now + run.lease)

    # --- telling ----------------------------------------------------------------------------------------------------

    def job_states(self, batch_id: int) -> list[JobState]:
        """Whether each job of the batch is over, which it is when its outcome was filed."""
        with self._tables.asked():
            rows = self._tables.reader().all(_STATES, batch_id=batch_id)
        return [JobState(name, "over" if state == AssimilateState.DONE else "in progress") for name, state in rows]

    def changes(self, batch_id: int, epoch: str = "", after: int = 0) -> Changes:
        """Which jobs went to other hosts than at the last time; a large batch is looked at less often."""
        run = self._run(batch_id)
        began = time.monotonic()
        jobs: list[JobState] = []
        if began >= run.next_look:
            with self._tables.asked():
                rows = self._tables.reader().all(_OUT, batch_id=batch_id)
            out: dict[str, JobState] = {}
            for name, host, deadline in rows:
                hosts = (*out[name].hosts, host) if name in out else (host,)
                out[name] = JobState(name, "in progress", hosts, deadline)
            jobs = [state for name, state in out.items() if run.out.get(name) != state.hosts]
            run.out = {name: state.hosts for name, state in out.items()}
            now = time.monotonic()
            run.next_look = now + (now - began) / _SHARE_OF_LOOKS
        run.changes = max(run.changes, after) + len(jobs)
        return Changes(epoch or "here", run.changes, tuple(jobs))

    def copies(self, batch_id: int, name: str) -> list[Copy]:
        """Every copy of one job, with the outputs that are kept."""
        data = self._batches.outcome(batch_id, name)
        if data is not None:
            return [one.copy for one in Ended.unpacked(data).instances]
        with self._tables.asked():
            db = self._tables.reader()
            row = db.get(workunit_table, ("id",), name=name, batch=batch_id)
            found = instances(db, self.settings, row[0], with_outputs=None) if row else []
        return [one.copy for one in found]

    def hosts(self) -> list[HostInfo]:
        """The volunteers' computers that were seen lately, and what they did for the applications of these batches."""
        if time.monotonic() >= self._hosts[0]:
            with self._tables.asked():
                db = self._tables.reader()
                counts: dict[int, tuple[int, int, int]] = {}
                for app in {run.app for run in self._runs.values()}:
                    for host, *numbers in db.all(_PER_HOST, app=app):
                        known = counts.get(host, (0, 0, 0))
                        counts[host] = (
                            known[0] + int(numbers[0]),
                            known[1] + int(numbers[1]),
                            known[2] + int(numbers[2]),
                        )
                rows = db.all(_HOSTS, since=int(time.time()) - _ACTIVE)
            listed = [
                HostInfo(number, user, "", "", "", max(1, ncpus), contact, *counts.get(number, (0, 0, 0)))
                for number, user, ncpus, contact in rows
            ]
            self._hosts = (time.monotonic() + _HOSTS_FOR, listed)
        return self._hosts[1]

    def _run(self, batch_id: int) -> _Run:
        try:
            return self._runs[batch_id]
        except KeyError:
            raise UnknownBatch(f"there is no batch {batch_id}") from None
