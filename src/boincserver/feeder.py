"""Unsent copies in memory, in the order in which they are to be sent, so that no request looks for work in the tables.

The tables stay the truth: a copy is taken by a compare-and-swap in the database, and what does not fit in memory is
read when the feeder runs low.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from sqlalchemy import bindparam, func, select

from boincserver.database import Row, Session
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.shard import Shard, in_shard
from boincserver.states import ServerState

__all__ = ["Entry", "Feeder"]

_AT_A_TIME: Final = 100
_TURN: Final = 10
"""Seconds in which nobody took anything, after which all in memory makes room for what is in the tables alone."""
_HELP: Final = 50
"""Copies of other processes' that are read at a time."""

_TOP_PRIORITY: Final = select(func.max(result_table.c.priority)).where(
    result_table.c.server_state == ServerState.UNSENT, result_table.c.priority < bindparam("below")
)
# One priority at a time: the index then gives the oldest first, and nothing has to be sorted.
_READ: Final = (
    select(
        result_table.c.id,
        result_table.c.name,
        result_table.c.workunitid,
        result_table.c.appid,
        result_table.c.priority,
        workunit_table.c.rsc_fpops_est,
        workunit_table.c.rsc_memory_bound,
        workunit_table.c.rsc_disk_bound,
        workunit_table.c.delay_bound,
    )
    .join(workunit_table, workunit_table.c.id == result_table.c.workunitid)
    .where(
        result_table.c.server_state == ServerState.UNSENT,
        result_table.c.priority == bindparam("level"),
        result_table.c.id > bindparam("after"),
        in_shard(result_table.c.id),
    )
    .order_by(result_table.c.id)
    .limit(bindparam("most"))
)


@dataclass(slots=True)
class Entry:
    """An unsent copy, as much of it as scheduling wants to know."""

    id: int
    name: str
    workunitid: int
    appid: int
    priority: int
    rsc_fpops_est: float
    rsc_memory_bound: float
    rsc_disk_bound: float
    delay_bound: int
    refused: set[int] = field(default_factory=set)
    """Users (or hosts) known to hold another copy of the same job."""


class Feeder:
    """Used by the writer's thread alone."""

    def __init__(self, size: int, shard: Shard | None = None) -> None:
        self._size = size
        self._shard = shard or Shard()
        self._entries: dict[int, Entry] = {}
        self._queues: dict[int, dict[int, OrderedDict[int, Entry]]] = {}  # application, priority, id
        self._more_in_tables = True
        self._passed: dict[int, int] = {}
        """For each priority up to which copy nobody wanted what was in memory; what follows has its turn."""
        self._looked = 0
        self._taken = False

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def complete(self) -> bool:
        """True if every unsent copy is in memory."""
        return not self._more_in_tables

    def add(self, entries: Iterable[Entry]) -> None:
        """New copies, committed just now."""
        for entry in entries:
            if entry.id in self._entries or not self._shard.owns(entry.id):
                continue
            if len(self._entries) >= self._size:
                self._more_in_tables = True
                return
            # What is in the tables alone comes before what is new, unless this is more urgent.
            if self._more_in_tables and entry.priority <= self._lowest_priority():
                continue
            self._insert(entry)

    def take(self, entry: Entry) -> None:
        """This copy is being sent."""
        self._taken = True
        self.drop(entry.id)

    def drop(self, number: int) -> None:
        """Forget a copy."""
        entry = self._entries.pop(number, None)
        if entry is None:
            return
        queue = self._queues[entry.appid][entry.priority]
        del queue[number]
        if not queue:
            del self._queues[entry.appid][entry.priority]

    def put_back(self, entry: Entry) -> None:
        """A copy was not sent after all, and comes first again; of several the one taken last is put back first."""
        self._insert(entry).move_to_end(entry.id, last=False)

    def postpone(self, entry: Entry) -> None:
        """All others of the same urgency come before this copy."""
        self._insert(entry).move_to_end(entry.id)

    def look_again(self) -> None:
        """There may be more in the tables than in memory: another process made copies."""
        self._more_in_tables = True

    def refill(self, db: Session) -> None:
        """Read from the tables if less than half of what fits is left and there may be more."""
        if self._more_in_tables and len(self._entries) <= self._size // 2:
            if self._taken:
                self._passed.clear()  # what was passed is the oldest, and somebody else may want it by now
            rows = self._read(db, self._shard, self._size, self._passed)
            if len(rows) < self._size and self._passed:
                self._keep(rows)
                self._passed.clear()
                rows = self._read(db, self._shard, self._size, self._passed)
            self._more_in_tables = len(rows) >= self._size
            self._keep(rows)
        if not self._entries and self._shard.count > 1:
            # With nothing of its own a process helps out the others. Should two take the same copy, the first gets it.
            self._keep(self._read(db, Shard(), _HELP, {}))

    def turn(self, now: int) -> None:
        """A host could have nothing of this. If for a while nobody could, let what is in the tables come forward."""
        if self._taken or not self._looked:
            self._taken, self._looked = False, now
        if not self._more_in_tables or abs(now - self._looked) < _TURN:
            return
        self._looked = now
        for queues in self._queues.values():
            for priority, queue in queues.items():
                self._passed[priority] = max(self._passed.get(priority, 0), *queue)
        self._entries.clear()
        self._queues.clear()

    def _read(self, db: Session, shard: Shard, most: int, passed: Mapping[int, int]) -> list[Row]:
        rows: list[Row] = []
        below = 2**31  # more than any
        while len(rows) < most and (level := db.value(_TOP_PRIORITY, below=below)) is not None:
            after = passed.get(level, 0)
            rows += db.all(_READ, level=level, after=after, most=most - len(rows), **shard.parameters)
            below = level
        return rows

    def _keep(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row[0] not in self._entries:
                self._insert(Entry(*row))

    def _insert(self, entry: Entry) -> OrderedDict[int, Entry]:
        """The queue in which it is now, as the last if it was not there."""
        self._entries[entry.id] = entry
        queue = self._queues.setdefault(entry.appid, {}).setdefault(entry.priority, OrderedDict())
        queue[entry.id] = entry
        return queue

    def candidates(self, apps: Iterable[int]) -> Iterator[Entry]:
        """The copies of these applications, most urgent first and then oldest first."""
        queues = [(priority, queue) for app in apps for priority, queue in self._queues.get(app, {}).items()]
        for _, queue in sorted(queues, key=lambda item: -item[0]):
            passed = 0
            # A slice of a queue at a time, since whoever iterates takes from it.
            while some := list(islice(queue.values(), passed, passed + _AT_A_TIME)):
                yield from some
                passed += sum(entry.id in queue for entry in some)

    def _lowest_priority(self) -> int:
        return min((priority for queues in self._queues.values() for priority in queues), default=-(2**31))
