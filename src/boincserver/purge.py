"""Purge: rows of jobs that are over, fetched and deleted leave the tables after a while."""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, delete, select

from boincserver.schema import boincserver_file_use as use_table
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import NEVER, AssimilateState, FileDeleteState, ServerState
from boincserver.writer import Transaction

__all__ = ["purge"]

# Found through the age of ids, not through a scan: jobs are purged in the order in which they were created, and one
# that is not ready yet is passed over until the next round.
_CANDIDATES: Final = (
    select(workunit_table.c.id)
    .where(
        workunit_table.c.id > bindparam("after"),
        workunit_table.c.assimilate_state == AssimilateState.DONE,
        workunit_table.c.file_delete_state == FileDeleteState.DONE,
        workunit_table.c.transition_time == NEVER,
        workunit_table.c.create_time < bindparam("before"),
        ~select(result_table.c.id)
        .where(
            result_table.c.workunitid == workunit_table.c.id,
            (result_table.c.server_state != ServerState.OVER)
            | (result_table.c.file_delete_state != FileDeleteState.DONE)
            | (result_table.c.received_time >= bindparam("before")),
        )
        .exists(),
    )
    .order_by(workunit_table.c.id)
    .limit(bindparam("most"))
)
_RESULTS: Final = delete(result_table).where(result_table.c.workunitid == bindparam("number"))
_USES: Final = delete(use_table).where(use_table.c.workunitid == bindparam("number"))
_WORKUNIT: Final = delete(workunit_table).where(workunit_table.c.id == bindparam("number"))


def purge(tx: Transaction, before: int, after: int, most: int = 200) -> int:
    """Remove jobs created and reported before this time; returns the last id looked at, 0 when there are no more."""
    numbers = [row[0] for row in tx.db.all(_CANDIDATES, before=before, after=after, most=most)]
    for number in numbers:
        tx.db.run(_RESULTS, number=number)
        tx.db.run(_USES, number=number)
        tx.db.run(_WORKUNIT, number=number)
    return numbers[-1] if len(numbers) == most else 0
