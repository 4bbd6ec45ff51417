"""Looks for what cannot be in a healthy project: every finding is a sentence about one row or file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Select, and_, func, or_, select, text

from boincserver.database import Database
from boincserver.files import FileStore
from boincserver.protocol import documents
from boincserver.schema import boincserver_outbox as outbox
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import (
    NEVER,
    AssimilateState,
    FileDeleteState,
    Outcome,
    ServerState,
    ValidateState,
)

__all__ = ["examine"]

_R: Final = result_table.c
_W: Final = workunit_table.c
_OVER: Final = or_(_W.canonical_resultid != 0, _W.error_mask != 0)
_LIVE: Final = select(_R.id).where(
    _R.workunitid == _W.id, _R.server_state.in_([int(ServerState.UNSENT), int(ServerState.IN_PROGRESS)])
)
_CHECKS: Final[dict[str, Select[Any]]] = {
    "the job is not over, and no copy of it is unsent or in progress": select(_W.name).where(
        ~_OVER, _W.need_validate == 0, _W.transition_time >= NEVER, ~_LIVE.exists()
    ),
    "the job is over, and a copy of it is still to be sent": select(_W.name).where(
        _OVER, select(_R.id).where(_R.workunitid == _W.id, _R.server_state == ServerState.UNSENT).exists()
    ),
    "the job is over, and nobody is to take its outcome": select(_W.name).where(
        _OVER, _W.assimilate_state == AssimilateState.INIT
    ),
    "the job has an outcome to be fetched, and its files may be gone": select(_W.name).where(
        select(outbox.c.seq).where(outbox.c.workunitid == _W.id).exists(),
        _W.file_delete_state != FileDeleteState.INIT,
    ),
    "the canonical result is no valid success": select(_W.name).where(
        _W.canonical_resultid != 0,
        ~select(_R.id)
        .where(
            _R.id == _W.canonical_resultid,
            _R.workunitid == _W.id,
            _R.outcome == Outcome.SUCCESS,
            _R.validate_state == ValidateState.VALID,
        )
        .exists(),
    ),
    "the copy belongs to no job": select(_R.name).where(~select(_W.id).where(_W.id == _R.workunitid).exists()),
    "the copy is in progress on no host": select(_R.name).where(
        _R.server_state == ServerState.IN_PROGRESS, or_(_R.hostid == 0, _R.sent_time == 0, _R.report_deadline == 0)
    ),
    "the copy's deadline comes before anybody looks at its job": select(_R.name)
    .join(workunit_table, _W.id == _R.workunitid)
    .where(_R.server_state == ServerState.IN_PROGRESS, _W.transition_time > _R.report_deadline + 86400),
    "the copy is over without an outcome": select(_R.name).where(
        _R.server_state == ServerState.OVER, _R.outcome == Outcome.INIT
    ),
    "there are more copies than the job allows": select(_W.name).where(
        select(func.count()).where(_R.workunitid == _W.id).scalar_subquery() > _W.max_total_results
    ),
    "the outcome of this number belongs to no job": select(outbox.c.seq).where(
        ~select(_W.id).where(_W.id == outbox.c.workunitid).exists()
    ),
}
_KEPT: Final = (
    select(_R.name, _R.xml_doc_in)
    .join(workunit_table, _W.id == _R.workunitid)
    .where(
        _R.outcome == Outcome.SUCCESS,
        _R.file_delete_state == FileDeleteState.INIT,
        and_(_R.validate_state != ValidateState.INVALID, _R.validate_state != ValidateState.NO_CHECK),
    )
)


def examine(database: Database, uploads: FileStore) -> Iterator[str]:
    """Every finding; a project that is being served may show what is just under way."""
    with database.engine.connect() as connection:
        if database.is_sqlite:
            for (line,) in connection.execute(text("PRAGMA integrity_check(20)")):
                if line != "ok":
                    yield f"the database file is damaged: {line}"
        for finding, query in _CHECKS.items():
            for (name,) in connection.execute(query.limit(100)):
                yield f"{name}: {finding}"
        for name, xml in connection.execute(_KEPT):
            for output in documents.expected_outputs(xml or ""):
                if not output.optional and not uploads.path(output.name).is_file():
                    yield f"{name}: its output {output.name} is missing"
