"""What sites that watch projects ask for: `server_status.php?xml=1`.

Anybody may ask, so it is counted once a minute at most, however many do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from sqlalchemy import Select, Table, bindparam, distinct, func, select

from boincserver.database import Database, Session
from boincserver.protocol.submission import children
from boincserver.protocol.text import element
from boincserver.schema import app as app_table
from boincserver.schema import host as host_table
from boincserver.schema import result as result_table
from boincserver.schema import user as user_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import AssimilateState, FileDeleteState, Outcome, ServerState

__all__ = ["PublicStatus"]

FRESH: Final = 60.0
"""Seconds for which a count is good enough."""
_RECENT: Final = 1000
"""Run times are those of so many copies, the newest ones."""
_DAY: Final = 86400
_COBBLESTONES_PER_GFLOPS: Final = 200.0
"""Credit of a day at a billion operations a second, by BOINC's definition."""

_R, _W = result_table.c, workunit_table.c
_COUNTS: Final = {
    "results_ready_to_send": select(func.count()).where(_R.server_state == ServerState.UNSENT),
    "results_in_progress": select(func.count()).where(_R.server_state == ServerState.IN_PROGRESS),
    "workunits_waiting_for_validation": select(func.count()).where(_W.need_validate == 1),
    "workunits_waiting_for_assimilation": select(func.count()).where(_W.assimilate_state == AssimilateState.READY),
    "workunits_waiting_for_deletion": select(func.count()).where(_W.file_delete_state == FileDeleteState.READY),
    "results_waiting_for_deletion": select(func.count()).where(_R.file_delete_state == FileDeleteState.READY),
}
_BACKLOG: Final = select(func.min(_W.transition_time)).where(_W.transition_time < bindparam("now"))
_APPS: Final = select(app_table.c.id, app_table.c.name).where(app_table.c.deprecated == 0).order_by(app_table.c.id)
_COPIES: Final = {
    name: select(_R.appid, func.count()).where(_R.server_state == state).group_by(_R.appid)
    for name, state in (("unsent", ServerState.UNSENT), ("in_progress", ServerState.IN_PROGRESS))
}
_NEWEST: Final = select(func.max(_R.id))
_TIME: Final = _R.elapsed_time
_TIMES: Final = (
    select(_R.appid, func.avg(_TIME), func.min(_TIME), func.max(_TIME), func.count(distinct(_R.userid)))
    .where(_R.id > bindparam("after"), _R.server_state == ServerState.OVER, _R.outcome == Outcome.SUCCESS)
    .group_by(_R.appid)
)
_SPEED: Final = select(func.sum(user_table.c.expavg_credit))


def _people(table: Table) -> dict[str, Select[int]]:
    row = table.c
    return {
        "with_recent_credit": select(func.count()).where(row.expavg_credit > 0.1),
        "with_credit": select(func.count()).where(row.total_credit > 0.0),
        "registered_in_past_24_hours": select(func.count()).where(row.create_time > bindparam("yesterday")),
    }


_PEOPLE: Final = {"users": _people(user_table), "hosts": _people(host_table)}


class PublicStatus:
    """The document, counted anew when the last one is a minute old."""

    def __init__(self, database: Database, clock: Callable[[], float], host: str) -> None:
        self._database = database
        self._clock = clock
        self._host = host
        self._lock = threading.Lock()
        self._made = 0.0
        self._document = ""

    def document(self) -> str:
        """The newest one; whoever comes while it is counted waits for that."""
        with self._lock:
            now = self._clock()
            if not self._document or not 0 <= now - self._made < FRESH:
                self._document, self._made = _document(self._database.reader(), self._host, int(now)), now
            return self._document


def _document(db: Session, host: str, now: int) -> str:
    daemon = children([("host", host), ("command", "boincserver"), ("status", "running")])
    counts: list[tuple[str, object]] = [(name, db.value(query) or 0) for name, query in _COUNTS.items()]
    since = db.value(_BACKLOG, now=now)
    counts.append(("transitioner_backlog_hours", f"{(now - since) / 3600 if since else 0:.6f}"))
    for kind, queries in _PEOPLE.items():
        for name, query in queries.items():
            given = {"yesterday": now - _DAY} if "registered" in name else {}
            counts.append((f"{kind}_{name}", db.value(query, **given) or 0))
    speed = (db.value(_SPEED) or 0.0) / _COBBLESTONES_PER_GFLOPS
    counts.append(("current_floating_point_speed", f"{speed:.6f}"))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<server_status>\n'
        f"<update_time>{now}</update_time>\n"
        f"<daemon_status>\n<daemon>\n{daemon}</daemon>\n</daemon_status>\n"
        f"<database_file_states>\n{children(counts)}<tasks_by_app>\n{_apps(db)}</tasks_by_app>\n"
        "</database_file_states>\n</server_status>\n"
    )


def _apps(db: Session) -> str:
    copies = {name: {row[0]: row[1] for row in db.all(query)} for name, query in _COPIES.items()}
    times = {row[0]: row[1:] for row in db.all(_TIMES, after=(db.value(_NEWEST) or 0) - _RECENT)}
    text = ""
    for number, name in db.all(_APPS):
        *seconds, users = times.get(number, (0.0, 0.0, 0.0, 0))
        average, least, most = (each / 3600 for each in seconds)
        text += "<app>\n" + element("id", number) + element("name", name)
        text += "".join(element(kind, found.get(number, 0)) for kind, found in copies.items())
        text += f"<avg_runtime>{average:.6f}</avg_runtime>\n<min_runtime>{least:.6f}</min_runtime>\n"
        text += f"<max_runtime>{most:.6f}</max_runtime>\n<users>{users}</users>\n</app>\n"
    return text
