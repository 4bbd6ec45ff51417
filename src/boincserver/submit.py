"""What a submitter can do: applications, versions, batches, jobs, outcomes. Runs in the writer's thread."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, func, select, update

from boincserver import creation, jobs, lifecycle, outbox, signing
from boincserver import epoch as epochs
from boincserver.assimilator import find_assimilator
from boincserver.catalog import App
from boincserver.database import Session, update_where
from boincserver.downloads import Downloads
from boincserver.errors import BoincServerError, UnknownApp, UnknownBatch
from boincserver.pipeline import Pipeline
from boincserver.plan_classes import find_plan_class
from boincserver.project import Project
from boincserver.protocol import documents
from boincserver.protocol.documents import FileInfo, FileRef
from boincserver.protocol.request import is_name
from boincserver.records import AppVersionInfo, Job
from boincserver.schema import app as app_table
from boincserver.schema import app_version as version_table
from boincserver.schema import batch as batch_table
from boincserver.schema import boincserver_app as our_app_table
from boincserver.schema import boincserver_app_version as our_version_table
from boincserver.schema import boincserver_batch as our_batch_table
from boincserver.schema import boincserver_file_use as use_table
from boincserver.schema import platform as platform_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import NEVER, BatchState
from boincserver.validator import find_validator
from boincserver.writer import Transaction

__all__ = ["StoredAppFile", "Submitter"]

_APP_COLUMNS: Final = (
    "user_friendly_name", "target_nresults", "homogeneous_redundancy", "homogeneous_app_version",
    "beta",
)  # fmt: skip
_OF_BATCH: Final = (
    select(workunit_table.c.id)
    .where(
        workunit_table.c.batch == bindparam("batch"),
        workunit_table.c.id > bindparam("after"),
        workunit_table.c.error_mask == 0,
        workunit_table.c.canonical_resultid == 0,
    )
    .order_by(workunit_table.c.id)
    .limit(bindparam("most"))
)
_NEWEST: Final = select(func.coalesce(func.max(version_table.c.version_num), 99)).where(
    version_table.c.appid == bindparam("appid")
)
_SAME_FILES: Final = (
    select(version_table.c.id, version_table.c.version_num)
    .join(our_version_table, our_version_table.c.app_version_id == version_table.c.id)
    .where(
        our_version_table.c.digest == bindparam("digest"),
        version_table.c.deprecated == 0,
        version_table.c.version_num
        == select(func.max(version_table.c.version_num).label("newest"))
        .where(version_table.c.appid == bindparam("appid"), version_table.c.platformid == bindparam("platformid"))
        .correlate(None)
        .scalar_subquery(),
    )
)
_SET_PLUGINS: Final = (
    update(our_app_table)
    .where(our_app_table.c.appid == bindparam("number"))
    .values(validator=bindparam("new_validator"), assimilator=bindparam("new_assimilator"))
)
_DEPRECATE: Final = (
    update(version_table)
    .where(
        version_table.c.appid == bindparam("number"),
        version_table.c.version_num <= bindparam("last"),
        version_table.c.deprecated == 0,
    )
    .values(deprecated=1)
)
_SET_LEASE: Final = (
    update(batch_table).where(batch_table.c.id == bindparam("batch_id")).values(expire_time=bindparam("expires"))
)
_SET_STATE: Final = (
    update(batch_table).where(batch_table.c.id == bindparam("batch_id")).values(state=bindparam("new_state"))
)
_RENEW_ALL: Final = (
    update(batch_table)
    .where(batch_table.c.expire_time > 0, batch_table.c.expire_time < bindparam("soonest"))
    .values(expire_time=bindparam("soonest"))
)
LEAST_LEASE: Final = 600
"""Seconds that a submitter has, after the server was away, to ask again."""
_RENEW: Final = _SET_LEASE.where(batch_table.c.expire_time > 0)
_LEASE: Final = (
    select(our_batch_table.c.lease, batch_table.c.expire_time, batch_table.c.state)
    .select_from(batch_table.outerjoin(our_batch_table, our_batch_table.c.batchid == batch_table.c.id))
    .where(batch_table.c.id == bindparam("batch_id"))
)
_MORE_JOBS: Final = (
    update(batch_table)
    .where(batch_table.c.id == bindparam("batch_id"))
    .values(njobs=batch_table.c.njobs + bindparam("more"), state=int(BatchState.IN_PROGRESS))
)
_NEXT_END: Final = select(func.min(batch_table.c.expire_time)).where(
    batch_table.c.expire_time > 0, batch_table.c.state <= BatchState.IN_PROGRESS
)
_EXPIRED: Final = select(batch_table.c.id).where(
    batch_table.c.expire_time > 0,
    batch_table.c.expire_time < bindparam("now"),
    batch_table.c.state <= BatchState.IN_PROGRESS,
)


@dataclass(frozen=True, slots=True)
class StoredAppFile:
    """A file of an application version that is in the store already."""

    name: str
    open_name: str
    main_program: bool
    executable: bool
    copy: bool
    gzipped: str = ""
    """The name of its compressed form, if clients are to fetch that."""
    signature: str = ""
    """By the project's key, where that is not here."""


@dataclass
class Submitter:
    """The project as a submitter sees it."""

    project: Project
    pipeline: Pipeline
    downloads: Downloads

    # --- applications -----------------------------------------------------------------------------------------------

    def ensure_app(
        self, tx: Transaction, name: str, validator: str, assimilator: str, columns: Mapping[str, Any], now: int
    ) -> None:
        """Have an application of this name with these plug-ins; `columns` are further ones of the application's row."""
        find_validator(validator)
        find_assimilator(assimilator)
        if not is_name(name):
            raise BoincServerError(f"{name!r} cannot name an application: letters, digits and _ . + = - only")
        values = {column: columns[column] for column in _APP_COLUMNS if column in columns}
        values["user_friendly_name"] = values.get("user_friendly_name") or name
        row = tx.db.get(app_table, ("id",), name=name)
        if row is None:
            number = tx.db.insert(app_table, create_time=now, name=name, **values)
        else:
            number = row[0]
            tx.db.run(update_where(app_table, tuple(values), ("id",)), was_id=number, **values)
        if not tx.db.run(_SET_PLUGINS, number=number, new_validator=validator, new_assimilator=assimilator):
            tx.db.insert(our_app_table, appid=number, validator=validator, assimilator=assimilator)
        self._reload(tx)

    def ensure_app_version(
        self,
        tx: Transaction,
        app_name: str,
        platform: str,
        version_num: int | None,
        files: Sequence[StoredAppFile],
        api_version: str,
        plan_class: str,
        beta: bool,
        now: int,
    ) -> AppVersionInfo:
        """Have a version with exactly these files: the one that is there, or the next number."""
        app = self.app(app_name)
        find_plan_class(plan_class)
        if sum(file.main_program for file in files) != 1:
            raise BoincServerError("an application version has exactly one main program")
        platformid = self._platform(tx.db, platform, now)
        digest = _version_digest(app.id, platform, plan_class, api_version, files)
        known = tx.db.first(_SAME_FILES, digest=digest, appid=app.id, platformid=platformid)
        if known is not None and version_num in (None, known[1]):
            tx.db.run(update_where(version_table, ("beta",), ("id",)), was_id=known[0], beta=int(beta))
            self._reload(tx)
            return AppVersionInfo(known[0], app_name, platform, known[1], created=False)
        number = version_num or max(int(tx.db.value(_NEWEST, appid=app.id)), epochs.current(tx.db).last_version) + 1
        if tx.db.get(
            version_table, ("id",), appid=app.id, platformid=platformid, version_num=number, plan_class=plan_class
        ):
            raise BoincServerError(f"{app_name} {number} for {platform} exists with other files; versions never change")
        document = documents.app_version_document(
            app_name, number, platform, plan_class, api_version, self._signed(tx.db, files),
            [FileRef(file.name, file.open_name, file.main_program, file.copy) for file in files],
        )  # fmt: skip
        identifier = tx.db.insert(
            version_table, create_time=now, appid=app.id, version_num=number, platformid=platformid, xml_doc=document,
            plan_class=plan_class, beta=int(beta),
        )  # fmt: skip
        tx.db.insert(our_version_table, app_version_id=identifier, digest=digest)
        # Version files belong to no workunit; workunit 0 keeps them from being swept.
        for name in {name for file in files for name in (file.name, file.gzipped) if name}:
            if tx.db.get(use_table, ("name",), workunitid=0, name=name) is None:
                tx.db.insert(use_table, workunitid=0, name=name)
        self._reload(tx)
        return AppVersionInfo(identifier, app_name, platform, number, created=True)

    def deprecate(self, tx: Transaction, app_name: str, version_num: int) -> int:
        """Send no more of an application's versions up to this number; returns how many they are."""
        count = tx.db.run(_DEPRECATE, number=self.app(app_name).id, last=version_num)
        self._reload(tx)
        return count

    def _signed(self, db: Session, files: Sequence[StoredAppFile]) -> list[FileInfo]:
        infos = []
        for file in files:
            stored = self.downloads.find(db, file.name)
            signature = file.signature or signing.sign_md5(stored.md5, self.project.private_key())
            if not signing.verify_md5(stored.md5, signature, self.project.public_key):
                raise BoincServerError(
                    f"the signature of {file.open_name} is not one of this file by the project's key; sign it again"
                )
            gzipped = self.downloads.url(self.downloads.find(db, file.gzipped).name) if file.gzipped else ""
            url = self.downloads.url(stored.name)
            infos.append(
                FileInfo(stored.name, url, stored.md5, stored.nbytes, signature, file.executable, gzipped_url=gzipped)
            )
        return infos

    def _platform(self, db: Session, name: str, now: int) -> int:
        row = db.get(platform_table, ("id",), name=name)
        return int(row[0]) if row else db.insert(platform_table, create_time=now, name=name, user_friendly_name=name)

    def _reload(self, tx: Transaction) -> None:
        # Read within the transaction, shown once it is durable.
        catalog = type(self.pipeline.catalog)()
        catalog.load(tx.db)
        tx.on_commit(lambda: vars(self.pipeline.catalog).update(vars(catalog)))
        tx.on_commit(self.pipeline.followers.catalog_changed)

    def app(self, name: str) -> App:
        """The application of that name; raises UnknownApp."""
        app = self.pipeline.catalog.app(name)
        if app is None:
            known = ", ".join(sorted(app.name for app in self.pipeline.catalog.apps.values())) or "none"
            raise UnknownApp(f"there is no application {name!r}; there are: {known}")
        return app

    # --- batches and jobs -------------------------------------------------------------------------------------------

    def create_batch(self, tx: Transaction, app_name: str, name: str, lease: float | None, now: int) -> int:
        """The batch of this name, new or old; `lease` is for how many seconds it lives unless renewed."""
        app = self.app(app_name)
        expires = now + lease if lease else 0
        row = tx.db.get(batch_table, ("id", "app_id", "state"), name=name)
        if row is not None:
            if row[1] != app.id:
                raise BoincServerError(f"there is a batch {name!r} of another application")
            number = int(row[0])
            tx.db.run(_SET_LEASE, batch_id=number, expires=expires)
            if not lease and row[2] >= BatchState.ABORTED:  # who has it for ever may begin anew
                tx.db.run(_SET_STATE, batch_id=number, new_state=int(BatchState.IN_PROGRESS))
            tx.db.run(update_where(our_batch_table, ("lease",), ("batchid",)), was_batchid=number, lease=lease or 0)
        else:
            number = tx.db.insert(
                batch_table, create_time=now, name=name, app_id=app.id, state=int(BatchState.INIT), expire_time=expires
            )
            tx.db.insert(our_batch_table, batchid=number, lease=lease or 0)
        if expires:
            tx.on_commit(lambda: self.pipeline.followers.due(math.ceil(expires) + 1))
        return number

    def renew_all(self, tx: Transaction, now: int) -> None:
        """At the server's start: nobody could ask while it was away, so every lease begins anew."""
        tx.db.run(_RENEW_ALL, soonest=now + LEAST_LEASE)

    def renew(self, tx: Transaction, batch: int, lease: float, now: int) -> None:
        """Whoever submitted the batch is still there."""
        tx.db.run(_RENEW, batch_id=batch, expires=now + lease)
        tx.on_commit(lambda: self.pipeline.followers.due(math.ceil(now + lease) + 1))

    def lease(self, db: Session, batch: int) -> tuple[float, float]:
        """How long a batch lives without its submitter, and until when; both 0 for ever. Raises UnknownBatch."""
        row = db.first(_LEASE, batch_id=batch)
        if row is None:
            raise UnknownBatch(f"there is no batch {batch}")
        if row[2] >= BatchState.ABORTED:
            raise UnknownBatch(f"batch {batch} was given up: nobody asked for it in time, or it was cancelled")
        return row[0] or 0.0, row[1]

    def next_lease_end(self, db: Session) -> float:
        """When the next batch is to be ended, unless its submitter asks for it."""
        end: float | None = db.value(_NEXT_END)
        return NEVER if end is None else end + 1

    def expired(self, db: Session, now: int) -> list[int]:
        """Batches whose submitter has not been seen for too long."""
        return [row[0] for row in db.all(_EXPIRED, now=now)]

    def batch_app(self, db: Session, batch: int) -> App:
        """The application of a batch; raises UnknownBatch."""
        row = db.get(batch_table, ("app_id",), id=batch)
        app = self.pipeline.catalog.apps.get(row[0]) if row else None
        if app is None:
            raise UnknownBatch(f"there is no batch {batch}")
        return app

    def create_jobs(self, tx: Transaction, batch: int, wanted: Sequence[Job], now: int) -> int:
        """Create those of these jobs whose names are new; returns how many."""
        usual = self.batch_app(tx.db, batch).id
        apps = {name: self.app(name).id if name else usual for name in {job.app for job in wanted}}
        first_copy = epochs.current(tx.db).first_copy
        entries = creation.create(tx, wanted, batch, apps, first_copy, self.pipeline.outputs, self.downloads, now)
        created = len({entry.workunitid for entry in entries})
        if created:
            tx.db.run(_MORE_JOBS, batch_id=batch, more=created)
            tx.on_commit(lambda: self.pipeline.followers.copies(entries))
        return created

    def cancel(self, tx: Transaction, workunits: Iterable[int], now: int) -> int:
        """End these jobs; hosts that work on them are told at their next request. Returns how many were not over."""
        count = 0
        for number in workunits:
            job = jobs.load(tx.db, number)
            if job is not None and (cancelled := lifecycle.cancel(job)) is not job:
                self.pipeline.follow(tx, job, cancelled, now)
                count += 1
        return count

    def hurry(self, tx: Transaction, workunits: Iterable[int], now: int) -> None:
        """Have one more copy of each of these jobs, for the first reliable host that comes."""
        for number in workunits:
            job = jobs.load(tx.db, number)
            if job is not None:
                self.pipeline.follow(tx, job, lifecycle.spare(job), now)

    def unbind(self, tx: Transaction, workunits: Iterable[int], now: int) -> None:
        """Let copies of these jobs go to computers of any kind."""
        for number in workunits:
            job = jobs.load(tx.db, number)
            if job is not None:
                self.pipeline.follow(tx, job, lifecycle.unbind(job), now)

    def unfinished(self, db: Session, batch: int, after: int, most: int) -> list[int]:
        """Workunits of a batch that have no outcome yet."""
        return [row[0] for row in db.all(_OF_BATCH, batch=batch, after=after, most=most)]

    def retire(self, tx: Transaction, batch: int) -> None:
        """Nobody will ask for this batch again."""
        tx.db.run(_SET_STATE, batch_id=batch, new_state=int(BatchState.RETIRED))

    def acknowledged(self, db: Session, batch: int, upto: int, most: int) -> list[int]:
        """Workunits of a batch whose outcomes have numbers up to this one."""
        return outbox.acknowledged(db, batch, upto, most)

    def acknowledge(self, tx: Transaction, workunits: Iterable[int], now: int) -> None:
        """The submitter has these outcomes: forget them, and let their files go."""
        for number in workunits:
            outbox.forget(tx.db, number)
            job = jobs.load(tx.db, number)
            if job is not None:
                # As it was loaded it is not held any more; the difference to write is what follows from that.
                self.pipeline.follow(tx, job, lifecycle.released(job), now)


def _version_digest(
    appid: int, platform: str, plan_class: str, api_version: str, files: Sequence[StoredAppFile]
) -> str:
    described = sorted(
        (f.open_name, f.name, f.main_program, f.executable, f.copy) + ((f.gzipped,) if f.gzipped else ()) for f in files
    )
    return hashlib.sha256(repr((appid, platform, plan_class, api_version, described)).encode()).hexdigest()
