"""An official project's directory with the methods of `control.Control`.

Usable from any number of threads. Whoever calls must be allowed to read config.xml, and to write into the project's
folder and its download hierarchy.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from sqlalchemy import bindparam, select, update

from boincserver.errors import ControlError, UnknownBatch
from boincserver.official import watching
from boincserver.official.batches import Batches
from boincserver.official.collecting import Collection
from boincserver.official.creating import Creation
from boincserver.official.ending import UNFINISHED, end_jobs, unfinished
from boincserver.official.settings import Settings
from boincserver.official.tables import Tables, text
from boincserver.records import Batch, Changes, Copy, HostInfo, Job, JobOutcome, JobState
from boincserver.schema import app as app_table
from boincserver.schema import app_version as version_table
from boincserver.schema import batch as batch_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import BatchState

__all__ = ["OfficialProject"]

_AT_ONCE: Final = 2000
_HOSTS_FOR: Final = 10.0
_SEEN_EVERY: Final = 900.0

_HURRY: Final = (
    update(workunit_table)
    .where(
        workunit_table.c.id == bindparam("wuid"),
        workunit_table.c.batch == bindparam("batch_id"),
        UNFINISHED,
        workunit_table.c.target_nresults <= workunit_table.c.min_quorum,
        workunit_table.c.target_nresults < workunit_table.c.max_total_results,
    )
    .values(target_nresults=workunit_table.c.target_nresults + 1, transition_time=bindparam("now"))
)
_RENEW: Final = (
    update(batch_table)
    .where(batch_table.c.id == bindparam("batch_id"), batch_table.c.state <= int(BatchState.COMPLETE))
    .values(expire_time=bindparam("expires"))
)
_ALIVE: Final = (
    select(batch_table.c.id, batch_table.c.app_id)
    .where(batch_table.c.name == bindparam("batch_name"), batch_table.c.state <= int(BatchState.COMPLETE))
    .order_by(batch_table.c.id)
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
    seen: float
    collection: Collection
    watch: watching.Watch


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

    def replicates(self, app: str) -> bool:
        """Whether jobs of an application of this name can be run here, by several hosts until one is proven."""
        with self._tables.asked():
            row = self._tables.reader().get(app_table, ("id", "target_nresults"), name=app)
            return row is not None and row[1] > 1 and bool(self._tables.reader().all(_VERSIONS, app=row[0]))

    # --- jobs go out ------------------------------------------------------------------------------------------------

    def create_batch(self, app: str, name: str, *, lease: float | None = None) -> Batch:
        """The batch of this name. With a lease (in seconds) its jobs end when nobody asks for them for so long."""
        now = time.time()
        with self._tables.asked():
            number = self._creation.app(app)
            expires = now + lease if lease else 0.0
            with self._tables.transaction() as db:
                row = db.first(_ALIVE, batch_name=name)
                if row is None:
                    values = {"create_time": int(now), "name": name, "app_id": number, "expire_time": expires}
                    row = (self._tables.insert(db, "batch", [values]), number)
                elif row[1] != number:
                    raise ControlError(f"there is a batch {name!r} of another application")
                else:
                    db.run(_RENEW, batch_id=row[0], expires=expires)
        self._batches.add(row[0])
        batch = int(row[0])
        self._runs[batch] = _Run(
            number, lease, now, Collection(self._batches, batch), watching.Watch(self._batches, batch)
        )
        return Batch(batch, name, app)

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
        with self._tables.asked():
            if names is None:
                ids = unfinished(self._tables, batch_id)
            else:
                ids = list(self._tables.reader().ids_of(workunit_table, names).values())
            return end_jobs(self._tables, batch_id, ids)

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
        return run.collection.outcomes(after, limit, wait)

    def acknowledge(self, batch_id: int, upto_seq: int) -> None:
        """The outcomes up to this number are kept elsewhere."""
        self._run(batch_id).collection.acknowledge(upto_seq)

    def _renew(self, batch_id: int, run: _Run) -> None:
        """Whoever submitted is still there."""
        now = time.time()
        if now < run.seen + min(run.lease or _SEEN_EVERY, _SEEN_EVERY) / 4:
            return
        run.seen = now
        with self._tables.asked():
            expires = now + run.lease if run.lease else 0.0
            if not self._tables.reader().run(_RENEW, batch_id=batch_id, expires=expires):
                raise UnknownBatch(f"batch {batch_id} was given up: nobody asked for it in time, or it was retired")
        self._batches.seen(batch_id)

    # --- telling ----------------------------------------------------------------------------------------------------

    def job_states(self, batch_id: int) -> list[JobState]:
        """Whether each job of the batch is over, which it is when its outcome was filed."""
        with self._tables.asked():
            return watching.job_states(self._tables, batch_id)

    def changes(self, batch_id: int, epoch: str = "", after: int = 0) -> Changes:
        """Which jobs went to other hosts than at the last time, or said something new."""
        with self._tables.asked():
            return self._run(batch_id).watch.changes(self._tables, epoch, after)

    def copies(self, batch_id: int, name: str) -> list[Copy]:
        """Every copy of one job, with the outputs that are kept."""
        with self._tables.asked():
            return watching.copies(self._tables, self._batches, batch_id, name)

    def hosts(self) -> list[HostInfo]:
        """The volunteers' computers that were seen lately, as they were some seconds ago."""
        began = time.monotonic()
        if began >= self._hosts[0]:
            with self._tables.asked():
                found = watching.hosts(self._tables, {run.app for run in self._runs.values()})
            now = time.monotonic()
            self._hosts = (now + _HOSTS_FOR + 10 * (now - began), found)
        return self._hosts[1]

    def _run(self, batch_id: int) -> _Run:
        try:
            return self._runs[batch_id]
        except KeyError:
            raise UnknownBatch(f"there is no batch {batch_id}") from None
