"""Jobs of an official project are ended before their time, as its own tool `cancel_jobs` does it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from sqlalchemy import and_, bindparam, select, update

from boincserver.official.tables import Tables
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import ErrorMask, Outcome, ServerState

__all__ = ["UNFINISHED", "end_jobs", "unfinished"]

_AT_ONCE: Final = 1000

UNFINISHED: Final = and_(workunit_table.c.error_mask == 0, workunit_table.c.canonical_resultid == 0)
"""What has an outcome already keeps it."""
_UNFINISHED_OF: Final = select(workunit_table.c.id).where(workunit_table.c.batch == bindparam("batch_id"), UNFINISHED)
_END: Final = (
    update(workunit_table)
    .where(workunit_table.c.id == bindparam("wuid"), workunit_table.c.batch == bindparam("batch_id"), UNFINISHED)
    .values(error_mask=int(ErrorMask.CANCELLED), transition_time=bindparam("now"))
)
_END_COPIES: Final = (
    update(result_table)
    .where(
        result_table.c.workunitid == bindparam("wuid"),
        result_table.c.server_state <= int(ServerState.UNSENT),
    )
    .values(server_state=int(ServerState.OVER), outcome=int(Outcome.DIDNT_NEED))
)


def unfinished(tables: Tables, batch: int) -> list[int]:
    """The workunits of a batch that have no outcome yet."""
    return [row[0] for row in tables.reader().all(_UNFINISHED_OF, batch_id=batch)]


def end_jobs(tables: Tables, batch: int, workunits: Sequence[int]) -> int:
    """End those of these that are of the batch; hosts that work on them are told at their next contact."""
    count = 0
    ordered = sorted(workunits)
    for start in range(0, len(ordered), _AT_ONCE):
        with tables.transaction() as db:
            for number in ordered[start : start + _AT_ONCE]:
                # The workunit first, as all others go about it: nobody locks rows crosswise.
                if db.run(_END, wuid=number, batch_id=batch, now=int(time.time())):
                    db.run(_END_COPIES, wuid=number)
                    count += 1
    return count
