"""Jobs in the database: load one with its results, write down what an event changed.

Every change is a compare-and-swap: a row is updated only if its state columns are still those that were read.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Table, bindparam, select

from boincserver import durable
from boincserver.database import Session, update_where
from boincserver.errors import Conflict
from boincserver.lifecycle import Job, Result, Workunit
from boincserver.protocol import documents
from boincserver.schema import boincserver_outbox as outbox_table
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import Outcome, ServerState

__all__ = ["Outputs", "load", "load_of_result", "new_result", "read", "save"]

_WORKUNIT: Final = Workunit._fields
_RESULT: Final = Result._fields
_WORKUNIT_GUARD: Final = [
    (name, _WORKUNIT.index(name))
    for name in (
        "id", "need_validate", "canonical_resultid", "error_mask", "assimilate_state", "file_delete_state",
    )
]  # fmt: skip
_RESULT_GUARD: Final = [
    (name, _RESULT.index(name)) for name in ("id", "server_state", "outcome", "validate_state", "file_delete_state")
]

_WORKUNITS: Final = select(*(workunit_table.c[name] for name in _WORKUNIT))
_READ_WORKUNIT: Final = _WORKUNITS.where(workunit_table.c.id == bindparam("wuid"))
_LOAD_WORKUNIT: Final = _READ_WORKUNIT.with_for_update()
_WORKUNIT_OF: Final = select(result_table.c.workunitid).where(result_table.c.name == bindparam("result_name"))
_LOAD_WORKUNIT_OF: Final = _WORKUNITS.where(workunit_table.c.id == _WORKUNIT_OF.scalar_subquery()).with_for_update()
_LOAD_RESULTS: Final = (
    select(*(result_table.c[name] for name in _RESULT))
    .where(result_table.c.workunitid == bindparam("wuid"))
    .order_by(result_table.c.id)
)
_IS_HELD: Final = select(outbox_table.c.seq).where(outbox_table.c.workunitid == bindparam("wuid"))


def load(db: Session, workunitid: int, *, outbox: bool = True) -> Job | None:
    """The job with this workunit id, to change it: it stays as it is until the transaction ends.

    The lock on the workunit stands for the whole job. Two processes that each took a result's report would else both
    miss that it was the other's that completes the quorum. Without an `outbox`, a table that official projects lack,
    no job is held.
    """
    row = db.first(_LOAD_WORKUNIT, wuid=workunitid)
    return None if row is None else _with_results(db, Workunit(*row), outbox=outbox)


def read(db: Session, workunitid: int, *, outbox: bool = True) -> Job | None:
    """The job with this workunit id, as it was last committed."""
    row = db.first(_READ_WORKUNIT, wuid=workunitid)
    return None if row is None else _with_results(db, Workunit(*row), outbox=outbox)


def load_of_result(db: Session, name: str) -> Job | None:
    """The job to which the result of this name belongs, to change it."""
    row = db.first(_LOAD_WORKUNIT_OF, result_name=name)
    return None if row is None else _with_results(db, Workunit(*row), outbox=True)


def _with_results(db: Session, workunit: Workunit, *, outbox: bool) -> Job:
    results = tuple(Result(*values) for values in db.all(_LOAD_RESULTS, wuid=workunit.id))
    # Only what was assimilated can be held.
    held = outbox and workunit.assimilate_state == 2 and db.first(_IS_HELD, wuid=workunit.id) is not None
    return Job(workunit, results, held)


@dataclass(frozen=True)
class Outputs:
    """What outputs copies of jobs are to make: templates on disk, physical names that nobody can guess."""

    folder: Path
    upload_url: str
    secret: bytes

    def add(self, text: str) -> str:
        """Keep a template; returns its name."""
        name = f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.xml"
        path = self.folder / name
        if not path.exists():
            durable.write_new(path, text.encode())
            durable.sync([path])
        return name

    def document(self, template: str, result_name: str) -> str:
        """The outputs of one copy, for the client."""
        text = _for_copies(self.folder, template, self.upload_url) if template else "<result>\n</result>\n"
        return documents.result_document(text, self.prefix(result_name))

    def prefix(self, result_name: str) -> str:
        """How the names of a copy's output files begin."""
        token = hmac.digest(self.secret, result_name.encode(), "sha256").hex()[:24]
        return f"{result_name}_r{token}"

    def result_of(self, file_name: str) -> str | None:
        """The copy whose output has this name; None for a name that this project never gave."""
        prefix, _, number = file_name.rpartition("_")
        result_name, _, _ = prefix.rpartition("_r")
        if not number.isdecimal() or not result_name:
            return None
        return result_name if hmac.compare_digest(self.prefix(result_name), prefix) else None


@lru_cache(maxsize=256)
def _for_copies(folder: Path, template: str, upload_url: str) -> str:
    return documents.template_for_copies((folder / template).read_text("utf-8"), upload_url)


def save(
    db: Session,
    before: Job,
    after: Job,
    now: int,
    *,
    outputs: Outputs | None,
    extra: Mapping[str, Mapping[str, Any]] | None = None,
) -> Job:
    """Write down what differs; `extra` are further columns of results by name. Returns the job with all its ids.

    New results need `outputs`; an official project's are made by its own transitioner.
    """
    old = {result.name: result for result in before.results}
    results = []
    for result in after.results:
        more = extra.get(result.name, {}) if extra else {}
        was = old.get(result.name)
        if was is None:
            assert outputs is not None
            results.append(_insert_result(db, after.workunit, result, now, outputs))
            continue
        if was != result or more:
            _update(db, result_table, was, result, _RESULT_GUARD, more)
        results.append(result)
    if before.workunit != after.workunit:
        _update(db, workunit_table, before.workunit, after.workunit, _WORKUNIT_GUARD, {})
    return after._replace(results=tuple(results))


def _insert_result(db: Session, workunit: Workunit, result: Result, now: int, outputs: Outputs) -> Result:
    document = outputs.document(workunit.result_template_file, result.name)
    row = new_result(result.name, workunit.id, workunit.appid, workunit.batch, result.priority, document, now)
    # Created and settled by one event: a copy that is not needed any more.
    row.update(server_state=int(result.server_state), outcome=int(result.outcome))
    return result._replace(id=db.insert(result_table, **row))


def new_result(
    name: str, workunitid: int, appid: int, batch: int, priority: int, document: str, now: int
) -> dict[str, Any]:
    """The columns of a new copy."""
    return {
        "create_time": now,
        "workunitid": workunitid,
        "server_state": int(ServerState.UNSENT),
        "outcome": int(Outcome.INIT),
        "name": name,
        "xml_doc_in": document,
        "batch": batch,
        "appid": appid,
        "priority": priority,
    }


def _update(
    db: Session,
    table: Table,
    was: Workunit | Result,
    now: Workunit | Result,
    guard: Sequence[tuple[str, int]],
    more: Mapping[str, Any],
) -> None:
    """Write what differs, if the columns in `guard` (names and their places in a record) are still as they were."""
    changes: dict[str, Any] = {
        name: value for name, value, old in zip(was._fields, now, was, strict=True) if value != old
    }
    changes.update(more)
    values = {f"was_{name}": was[place] for name, place in guard}
    values.update(changes)
    # Numbers as the driver knows them, not enums.
    plain = {name: int(value) if isinstance(value, int) else value for name, value in values.items()}
    guards = tuple([name for name, _ in guard])
    if db.run(update_where(table, tuple(changes), guards), **plain) != 1:
        raise Conflict(f"{table.name} {was.name} changed meanwhile")
