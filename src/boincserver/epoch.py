"""What must never be given twice, although a restored database has forgotten that it was given.

Clients and submitters remember what a project told them after a backup was made: names of copies and of their output
files, numbers of hosts, accounts, batches and outcomes, versions of applications. A restored project begins a new
epoch: names and numbers go on beyond anything that can have been given, also when one backup is restored twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, Table, bindparam, func, select, text, update

from boincserver.database import Session
from boincserver.jobs import Outputs
from boincserver.schema import app_version, metadata, result, token, workunit
from boincserver.schema import boincserver_meta as meta
from boincserver.states import Outcome, ServerState

__all__ = ["Epoch", "begin", "current"]

_GAP: Final = 1_000_000
_SINCE: Final = 1_735_689_600  # 1 January 2025
_PER_MINUTE: Final = 100
_MANY: Final = 1000

_READ: Final = select(meta.c.name, meta.c.value)
_LIVE: Final = (
    select(
        workunit.c.id, workunit.c.name, workunit.c.result_template_file, workunit.c.appid, workunit.c.batch,
        result.c.id, result.c.server_state,
    )
    .join(result, result.c.workunitid == workunit.c.id)
    .where(workunit.c.canonical_resultid == 0, workunit.c.error_mask == 0)
    .order_by(workunit.c.id, result.c.id)
)  # fmt: skip
_RENAME: Final = (
    update(result).where(result.c.id == bindparam("number")).values(name=bindparam("new"), xml_doc_in=bindparam("xml"))
)
_MORE_TRIES: Final = (
    update(workunit)
    .where(workunit.c.id == bindparam("number"))
    .values(
        max_error_results=workunit.c.max_error_results + bindparam("lost"),
        max_total_results=workunit.c.max_total_results + bindparam("more"),
    )
)


@dataclass(frozen=True, slots=True)
class Epoch:
    """Where names and numbers begin: 0 in a project that was never restored."""

    first_copy: int = 0
    last_id: int = 0
    last_version: int = 0


def current(db: Session) -> Epoch:
    """The present epoch."""
    found: dict[str, str] = dict(db.all(_READ))
    return Epoch(*(int(found.get(name, 0)) for name in ("first_copy", "last_id", "last_version")))


def begin(connection: Connection, outputs: Outputs, now: int) -> Epoch:
    """Begin a new epoch in a database that has just been restored."""
    last_id = 0
    for table in metadata.tables.values():
        column = table.autoincrement_column
        if column is not None:
            last_id = max(last_id, connection.scalar(select(func.max(column))) or 0)
    # The second bound grows with time: two restored copies of one backup go different ways.
    last_id = max(last_id + _GAP, (now - _SINCE) // 60 * _PER_MINUTE)
    for table in metadata.tables.values():
        if table.autoincrement_column is not None:
            _continue_above(connection, table, last_id)
    newest = connection.scalar(select(func.max(app_version.c.version_num))) or 0
    epoch = Epoch(first_copy=now, last_id=last_id, last_version=(newest // 100 + 2) * 100 - 1)
    for name in ("first_copy", "last_id", "last_version"):
        connection.execute(meta.delete().where(meta.c.name == name))
        connection.execute(meta.insert().values(name=name, value=str(getattr(epoch, name))))
    _rename_copies(connection, outputs, now)
    # A link to a new password may have been used up since the backup was made.
    connection.execute(token.delete())
    return epoch


def _continue_above(connection: Connection, table: Table, last: int) -> None:
    if connection.dialect.name == "sqlite":
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
        connection.execute(
            text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), {"name": table.name, "last": last}
        )
    else:
        connection.execute(text(f"ALTER TABLE `{table.name}` AUTO_INCREMENT = {last + 1:d}"))


def _rename_copies(connection: Connection, outputs: Outputs, now: int) -> None:
    """Give copies that may have been sent since the backup other names, and jobs one try more for each lost one."""
    renamed: list[dict[str, Any]] = []
    limits: list[dict[str, Any]] = []
    markers: list[dict[str, Any]] = []
    # Read to its end first: what is changed below is what is being read.
    for copies in list(_by_workunit(connection.execute(_LIVE))):
        number, name, template, appid, batch = copies[0][:5]
        unsent = [copy[5] for copy in copies if copy[6] == ServerState.UNSENT]
        out = sum(copy[6] == ServerState.IN_PROGRESS for copy in copies)
        for n, copy in enumerate(unsent):
            new = f"{name}_{now + n}"
            renamed.append({"number": copy, "new": new, "xml": outputs.document(template, new)})
        if not unsent:
            # Copies are numbered from the highest one: this one, which nobody needs, carries that into the epoch.
            markers.append(
                {
                    "create_time": now, "workunitid": number, "name": f"{name}_{now}", "appid": appid, "batch": batch,
                    "server_state": int(ServerState.OVER), "outcome": int(Outcome.DIDNT_NEED), "xml_doc_in": "",
                }
            )  # fmt: skip
        limits.append({"number": number, "lost": out, "more": out + (not unsent)})
    for statement, rows in ((_RENAME, renamed), (result.insert(), markers), (_MORE_TRIES, limits)):
        for start in range(0, len(rows), _MANY):
            connection.execute(statement, rows[start : start + _MANY])


def _by_workunit(rows: Iterable[Any]) -> Iterator[list[Any]]:
    for _, group in groupby(rows, key=lambda row: row[0]):
        yield list(group)
