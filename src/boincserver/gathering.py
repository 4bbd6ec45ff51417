"""One run, begun here and over the network: what came in its batches `NAME.PART` moves into the batch `NAME`.

Only what its owner brought: volunteers see the names of runs, and another submitter could slip jobs into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import bindparam, select, update

from boincserver import accounts
from boincserver.database import Session
from boincserver.schema import batch as batch_table
from boincserver.schema import boincserver_outbox as outbox
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import BatchState
from boincserver.writer import Transaction

__all__ = ["claim", "move", "parts"]

_CLAIM: Final = (
    update(batch_table)
    .where(batch_table.c.id == bindparam("batch_id"), batch_table.c.user_id == 0)
    .values(user_id=bindparam("owner"))
)
_PARTS: Final = (
    select(batch_table.c.id)
    .where(
        batch_table.c.name >= bindparam("first"),
        batch_table.c.name < bindparam("behind"),
        batch_table.c.state != BatchState.RETIRED,
        batch_table.c.user_id == bindparam("owner"),
        batch_table.c.user_id != 0,
    )
    .order_by(batch_table.c.id)
)
_MOVES: Final = [
    update(table).where(table.c.batch == bindparam("old")).values(batch=bindparam("new"))
    for table in (workunit_table, result_table, outbox)
]
_EMPTY: Final = (
    update(batch_table).where(batch_table.c.id == bindparam("batch_id")).values(njobs=0, state=int(BatchState.RETIRED))
)
_FILL: Final = (
    update(batch_table)
    .where(batch_table.c.id == bindparam("batch_id"))
    .values(njobs=batch_table.c.njobs + bindparam("more"), state=int(BatchState.IN_PROGRESS))
)


def claim(tx: Transaction, batch: int, key: str) -> None:
    """A batch that is nobody's belongs to the account with this key from now on, if there is one."""
    user = accounts.authenticate(tx.db, key)
    if user is not None:
        tx.db.run(_CLAIM, batch_id=batch, owner=user.id)


def parts(db: Session, batch: int) -> Sequence[int]:
    """The batches of the same owner whose names go on behind a full stop where this one's ends."""
    row = db.get(batch_table, ("name", "user_id"), id=batch)
    if row is None:
        return []
    return [each[0] for each in db.all(_PARTS, first=f"{row[0]}.", behind=f"{row[0]}/", owner=row[1])]


def move(tx: Transaction, old: int, new: int) -> int:
    """Have the jobs of one batch, and what came of them, be those of another; the first one is over then."""
    row = tx.db.get(batch_table, ("njobs", "state"), id=old)
    if row is None or row[1] == BatchState.RETIRED:
        return 0
    for statement in _MOVES:
        tx.db.run(statement, old=old, new=new)
    tx.db.run(_EMPTY, batch_id=old)
    tx.db.run(_FILL, batch_id=new, more=row[0])
    return int(row[0])
