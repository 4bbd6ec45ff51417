"""How many jobs are where, for systems that submit: `server_status.php?counts=1`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import func, select

from boincserver.database import Database
from boincserver.protocol.submission import children
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import AssimilateState, FileDeleteState, ServerState

__all__ = ["job_counts"]

_W, _R = workunit_table.c, result_table.c
_COUNTS: Final = {
    "results_ready_to_send": select(func.count()).where(_R.server_state == ServerState.UNSENT),
    "results_in_progress": select(func.count()).where(_R.server_state == ServerState.IN_PROGRESS),
    "results_need_file_delete": select(func.count()).where(_R.file_delete_state == FileDeleteState.READY),
    "wus_need_validate": select(func.count()).where(_W.need_validate == 1),
    "wus_need_assimilate": select(func.count()).where(_W.assimilate_state == AssimilateState.READY),
    "wus_need_file_delete": select(func.count()).where(_W.file_delete_state == FileDeleteState.READY),
}


def job_counts(database: Database) -> str:
    """The document."""
    db = database.reader()
    counts = [(name, db.value(query) or 0) for name, query in _COUNTS.items()]
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<job_counts>\n{children(counts)}</job_counts>\n'
