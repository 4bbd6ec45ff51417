"""Purge: rows of jobs that are over, fetched and deleted leave the tables after a while."""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, delete, func, select

from boincserver.schema import boincserver_file_use as use_table
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.shard import Shard, in_shard
from boincserver.states import NEVER, AssimilateState, FileDeleteState, ServerState
from boincserver.writer import Transaction

__all__ = ["purge"]

_NEXT: Final = select(func.min(workunit_table.c.id)).where(workunit_table.c.id > bindparam("after"))
_OLDEST: Final = select(func.min(workunit_table.c.create_time)).where(
    workunit_table.c.id >= bindparam("first"), workunit_table.c.id < bindparam("end")
)
# Found window by window through the numbers, which grow with the time of creation, so that no look is a long one.
_CANDIDATES: Final = select(workunit_table.c.id).where(
    workunit_table.c.id >= bindparam("first"),
    workunit_table.c.id < bindparam("end"),
    in_shard(workunit_table.c.id),
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
_RESULTS: Final = delete(result_table).where(result_table.c.workunitid == bindparam("number"))
_USES: Final = delete(use_table).where(use_table.c.workunitid == bindparam("number"))
_WORKUNIT: Final = delete(workunit_table).where(workunit_table.c.id == bindparam("number"))


def purge(tx: Transaction, before: int, after: int, shard: Shard, window: int = 300) -> int:
    """Remove jobs created and reported before this time; returns the last id looked at, 0 when there are no more."""
    first = tx.db.value(_NEXT, after=after)
    if first is None:
        return 0
    end = first + window
    if tx.db.value(_OLDEST, first=first, end=end) >= before:
        return 0
    for (number,) in tx.db.all(_CANDIDATES, first=first, end=end, before=before, **shard.parameters):
        tx.db.run(_RESULTS, number=number)
        tx.db.run(_USES, number=number)
        tx.db.run(_WORKUNIT, number=number)
    return int(end) - 1
