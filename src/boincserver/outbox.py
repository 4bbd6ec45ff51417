"""The built-in assimilator: outcomes of a batch wait under a growing number until whoever submitted it has them.

A job of no batch has nobody who would fetch anything; its outputs are let go at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import bindparam, delete, func, select, update

from boincserver.database import Session, update_where
from boincserver.lifecycle import Job
from boincserver.schema import boincserver_meta as meta
from boincserver.schema import boincserver_outbox as outbox
from boincserver.writer import Transaction

__all__ = ["acknowledged", "deliver", "forget", "waiting"]

_WAITING: Final = (
    select(outbox.c.seq, outbox.c.workunitid)
    .where(outbox.c.batch == bindparam("batch"), outbox.c.seq > bindparam("after"))
    .order_by(outbox.c.seq)
    .limit(bindparam("most"))
)
_ACKNOWLEDGED: Final = (
    select(outbox.c.workunitid)
    .where(outbox.c.batch == bindparam("batch"), outbox.c.seq <= bindparam("upto"))
    .order_by(outbox.c.seq)
    .limit(bindparam("most"))
)
_COUNTER: Final = "outbox_last"
_LAST: Final = select(func.max(outbox.c.seq))
_NUMBER: Final = update(outbox).where(outbox.c.workunitid == bindparam("wuid")).values(seq=bindparam("number"))
_FORGET: Final = delete(outbox).where(outbox.c.workunitid == bindparam("wuid"))


def deliver(tx: Transaction, job: Job) -> bool:
    """Put a settled job's outcome into the outbox; true if somebody is to fetch it."""
    workunit = job.workunit
    if not workunit.batch:
        return False
    if tx.db.is_sqlite:
        tx.db.insert(outbox, workunitid=workunit.id, batch=workunit.batch)
        return True
    # Whoever collects goes by growing numbers. Two processes that number as they go may commit in the other order, and
    # the smaller number would never be seen; so numbers are given last, under a lock that is held until the commit.
    tx.db.insert(outbox, seq=-workunit.id, workunitid=workunit.id, batch=workunit.batch)
    unnumbered: list[int] = tx.notes.setdefault("outbox", [])
    unnumbered.append(workunit.id)
    tx.on_rollback(lambda: unnumbered.remove(workunit.id))
    tx.at_end("~outbox", lambda db: _give_numbers(db, unnumbered))  # the last of all, to hold the lock briefly
    return True


def _give_numbers(db: Session, workunits: Sequence[int]) -> None:
    row = db.locked(meta, ("value",), name=_COUNTER)
    if row is None:
        db.insert(meta, name=_COUNTER, value=str(max(db.value(_LAST) or 0, 0)))
        row = db.locked(meta, ("value",), name=_COUNTER)
        assert row is not None
    last = int(row[0])
    db.many(_NUMBER, [{"number": last + n, "wuid": wuid} for n, wuid in enumerate(workunits, start=1)])
    db.run(update_where(meta, ("value",), ("name",)), was_name=_COUNTER, value=str(last + len(workunits)))


def waiting(db: Session, batch: int, after: int, limit: int) -> Sequence[tuple[int, int]]:
    """Sequence numbers and workunits of outcomes behind `after`, oldest first."""
    return [(row[0], row[1]) for row in db.all(_WAITING, batch=batch, after=after, most=limit)]


def acknowledged(db: Session, batch: int, upto: int, limit: int) -> list[int]:
    """Workunits whose outcome has a number up to this one."""
    return [row[0] for row in db.all(_ACKNOWLEDGED, batch=batch, upto=upto, most=limit)]


def forget(db: Session, workunitid: int) -> None:
    """The outcome has been fetched."""
    db.run(_FORGET, wuid=workunitid)
