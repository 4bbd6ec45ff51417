"""The wall clock does what it likes: somebody sets it, a laptop sleeps, a virtual machine is restored.

A clock that went forward ends what seems to be late, which costs copies and no results: a late report still counts. Two
things it would do cannot be made good by themselves. A submitter cannot ask while the computer sleeps, so leases begin
anew. And what was sent while the clock was ahead has a deadline that, by the clock as it is now, is far away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import bindparam, select, update

from boincserver.database import Session
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.shard import Shard, in_shard
from boincserver.states import ServerState

__all__ = ["JumpWatch", "recall_from_future"]

SLACK: Final = 60
"""Seconds by which clocks may differ, or a busy machine look at them late, without anything being wrong."""

_FROM_FUTURE: Final = (
    select(result_table.c.id, result_table.c.workunitid, workunit_table.c.delay_bound)
    .join(workunit_table, workunit_table.c.id == result_table.c.workunitid)
    .where(
        result_table.c.server_state == ServerState.IN_PROGRESS,
        result_table.c.sent_time > bindparam("latest"),
        in_shard(result_table.c.workunitid),
    )
)
_SENT_NOW: Final = (
    update(result_table)
    .where(result_table.c.id == bindparam("number"), result_table.c.server_state == ServerState.IN_PROGRESS)
    .values(sent_time=bindparam("now"), report_deadline=bindparam("deadline"))
)
_DUE_SOONER: Final = (
    update(workunit_table)
    .where(workunit_table.c.id == bindparam("number"), workunit_table.c.transition_time > bindparam("at"))
    .values(transition_time=bindparam("at"))
)


class JumpWatch:
    """Sees by a clock that nobody can set whether the wall clock jumped."""

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._steady = steady
        self._difference = clock() - steady()

    def look(self) -> tuple[float, float]:
        """The time, and by how many seconds the wall clock jumped since the last call; 0 for what may be chance."""
        now = self._clock()
        difference = now - self._steady()
        jump, self._difference = difference - self._difference, difference
        return now, jump if abs(jump) > SLACK else 0.0


def recall_from_future(db: Session, now: int, shard: Shard) -> int:
    """Copies that were sent at a time that is still to come count as sent now; returns how many they are."""
    rows = db.all(_FROM_FUTURE, latest=now + SLACK, **shard.parameters)
    for number, workunitid, delay_bound in rows:
        db.run(_SENT_NOW, number=number, now=now, deadline=now + delay_bound)
        db.run(_DUE_SOONER, number=workunitid, at=now + delay_bound)
    return len(rows)
