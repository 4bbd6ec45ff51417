"""The built-in assimilator: outcomes of a batch wait under a growing number until whoever submitted it has them.

A job of no batch has nobody who would fetch anything; its outputs are let go at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import bindparam, delete, select

from boincserver.database import Session
from boincserver.lifecycle import Job
from boincserver.schema import boincserver_outbox as outbox

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
_FORGET: Final = delete(outbox).where(outbox.c.workunitid == bindparam("wuid"))


def deliver(db: Session, job: Job) -> bool:
    """Put a settled job's outcome into the outbox; true if somebody is to fetch it."""
    workunit = job.workunit
    if not workunit.batch:
        return False
    db.insert(outbox, workunitid=workunit.id, batch=workunit.batch)
    return True


def waiting(db: Session, batch: int, after: int, limit: int) -> Sequence[tuple[int, int]]:
    """Sequence numbers and workunits of outcomes behind `after`, oldest first."""
    return [(row[0], row[1]) for row in db.all(_WAITING, batch=batch, after=after, most=limit)]


def acknowledged(db: Session, batch: int, upto: int, limit: int) -> list[int]:
    """Workunits whose outcome has a number up to this one."""
    return [row[0] for row in db.all(_ACKNOWLEDGED, batch=batch, upto=upto, most=limit)]


def forget(db: Session, workunitid: int) -> None:
    """The outcome has been fetched."""
    db.run(_FORGET, wuid=workunitid)
