"""How far running programs say to be: messages of the variety `boincserver.progress`, taken out of the official table.

The scheduler puts them there, and nobody else would ever remove them.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, delete, select

from boincserver.database import Session
from boincserver.official.batches import Batches
from boincserver.official.tables import Tables, text
from boincserver.protocol.text import clean, fields
from boincserver.schema import msg_from_host as message_table
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table

__all__ = ["take_progress"]

_VARIETY: Final = "boincserver.progress"
_AT_ONCE: Final = 1000
_LONGEST: Final = 200
_WAITING: Final = (
    select(message_table.c.id, message_table.c.hostid, message_table.c.xml)
    .where(message_table.c.handled == 0, message_table.c.variety == _VARIETY)
    .order_by(message_table.c.id)
    .limit(_AT_ONCE)
)
_TAKEN: Final = delete(message_table).where(message_table.c.id == bindparam("number"))
_JOB_OF: Final = (
    select(workunit_table.c.name, workunit_table.c.batch)
    .join(result_table, result_table.c.workunitid == workunit_table.c.id)
    .where(result_table.c.name == bindparam("result_name"), result_table.c.hostid == bindparam("host"))
)


def take_progress(tables: Tables, batches: Batches) -> int:
    """Keep the newest message of each job; returns how many messages there were."""
    db = tables.reader()
    waiting = db.all(_WAITING)
    known = batches.known()
    for _, host, xml in waiting:
        _take(db, batches, known, host, text(xml))
    if waiting:
        with tables.transaction() as writer:
            writer.many(_TAKEN, [{"number": row[0]} for row in waiting])
    return len(waiting)


def _take(db: Session, batches: Batches, known: set[int], host: int, message: str) -> None:
    head, _, said = message.partition("</time>\n")
    # Only what comes from the host that has the copy: anybody can name any result.
    row = db.first(_JOB_OF, result_name=fields(head).get("result_name", ""), host=host)
    if row is not None and row[1] in known:
        batches.say(row[1], row[0], clean(said)[:_LONGEST])
