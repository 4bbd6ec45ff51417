"""What sites that gather BOINC statistics fetch: people, teams and computers with their credit, in files under stats/.

Only who agreed to that is in it; a computer is told to be somebody's only where he shows his computers. Each file is
written beside its place and then put there, so whoever fetches it gets it whole. Rows are read a page at a time, so
memory does not grow with the project.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from sqlalchemy import Select, Table, bindparam, func, select

from boincserver.consent import EXPORT, agreed
from boincserver.database import Session
from boincserver.protocol.text import clean, element
from boincserver.schema import app as app_table
from boincserver.schema import host as host_table
from boincserver.schema import result as result_table
from boincserver.schema import team as team_table
from boincserver.schema import user as user_table
from boincserver.states import ServerState

__all__ = ["FILES", "Exporter"]

FILES: Final = ("tables.xml", "user.gz", "team.gz", "host.gz")
"""What is in the folder; the first one is written last and says when."""

_NEW: Final = ".new-"
_PAGE: Final = 1000
_HEAD: Final = '<?xml version="1.0" encoding="iso-8859-1"?>\n'
_CREDIT: Final = ("total_credit", "expavg_credit", "expavg_time")
_OF_HOST: Final = (
    "p_vendor", "p_model", "os_name", "os_version", "create_time", "rpc_time", "timezone", "p_ncpus", "p_fpops",
    "p_iops", "p_membw", "m_nbytes", "m_cache", "m_swap", "d_total", "d_free", "n_bwup", "n_bwdown", "avg_turnaround",
    "credit_per_cpu_sec", "host_cpid",
)  # fmt: skip


def _page(query: Select[Any], table: Table) -> Select[Any]:
    return query.where(table.c.id > bindparam("after")).order_by(table.c.id).limit(bindparam("most"))


def _columns(table: Table, *names: str) -> list[Any]:
    return [table.c[name] for name in names]


_USER: Final = (
    "id", "name", "create_time", *_CREDIT, "country", "url", "teamid", "has_profile", "cross_project_id", "email_addr",
)  # fmt: skip
_USERS: Final = _page(select(*_columns(user_table, *_USER)).where(agreed(EXPORT)), user_table)
_TEAM: Final = (
    "id", "type", "name", "userid", *_CREDIT, "create_time", "url", "name_html", "description", "country",
)  # fmt: skip
_FOUNDER: Final = (
    select(user_table.c.name).where(user_table.c.id == team_table.c.userid, agreed(EXPORT)).scalar_subquery()
)
_TEAMS: Final = _page(select(*_columns(team_table, *_TEAM), _FOUNDER.label("founder_name")), team_table)
_HOST: Final = ("id", "userid", *_CREDIT, *_OF_HOST)
_HOSTS: Final = _page(
    select(*_columns(host_table, *_HOST), user_table.c.show_hosts)
    .join(user_table, user_table.c.id == host_table.c.userid)
    .where(agreed(EXPORT)),
    host_table,
)
_APPS: Final = select(app_table.c.id, app_table.c.name).where(app_table.c.deprecated == 0).order_by(app_table.c.id)
_COPIES: Final = select(result_table.c.appid, result_table.c.server_state, func.count()).group_by(
    result_table.c.appid, result_table.c.server_state
)
_STATES: Final = {
    ServerState.UNSENT: "results_unsent",
    ServerState.IN_PROGRESS: "results_in_progress",
    ServerState.OVER: "results_over",
}

Row = Mapping[str, Any]


def _user(row: Row) -> str:
    # The same on every project of one person, and yet nobody learns the address from it.
    cpid = hashlib.md5(f"{row['cross_project_id']}{row['email_addr']}".encode()).hexdigest()
    text = _elements(row, "id", "name", "create_time", *_CREDIT) + element("cpid", cpid)
    text += "".join(_elements(row, name) for name in ("country", "url", "teamid") if row[name])
    return text + ("<has_profile/>\n" if row["has_profile"] else "")


def _team(row: Row) -> str:
    text = _elements(row, "id", "type", "name", "userid", *_CREDIT)
    text += element("founder_name", clean(row["founder_name"] or "")) + _elements(row, "create_time")
    return text + "".join(_elements(row, n) for n in ("url", "name_html", "description", "country") if row[n])


def _host(row: Row) -> str:
    shown = ("id", "userid") if row["show_hosts"] else ("id",)
    return _elements(row, *shown, *_CREDIT, *_OF_HOST).replace("p_ncpus>", "ncpus>")


def _elements(row: Row, *names: str) -> str:
    return "".join(
        element(name, f"{row[name]:.6f}" if isinstance(row[name], float) else clean(str(row[name]), 60_000))
        for name in names
    )


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the files: a list of such rows."""

    name: str
    query: Select[Any]
    columns: tuple[str, ...]
    text: Callable[[Row], str]


_KINDS: Final = (
    _Kind("user", _USERS, _USER, _user),
    _Kind("team", _TEAMS, (*_TEAM, "founder_name"), _team),
    _Kind("host", _HOSTS, (*_HOST, "show_hosts"), _host),
)


@dataclass(frozen=True, slots=True)
class Exporter:
    """Writes the files of a project, each time that so many hours have passed; 0: never."""

    folder: Path
    hours: int

    def is_due(self, now: float) -> bool:
        """True if the files are older than that."""
        newest = self.folder / FILES[0]
        return bool(self.hours) and (not newest.exists() or abs(now - newest.stat().st_mtime) >= 3600 * self.hours)

    def write(self, db: Session, now: int) -> None:
        """Write them anew."""
        self.folder.mkdir(exist_ok=True)
        for left_behind in self.folder.glob(f"{_NEW}*"):
            left_behind.unlink()
        written = {kind.name: self._write_list(db, kind) for kind in _KINDS}
        with _put(self.folder / FILES[0]) as file:
            file.write(_tables(db, written, now).encode("ascii", "xmlcharrefreplace"))
        os.utime(self.folder / FILES[0], (now, now))

    def _write_list(self, db: Session, kind: _Kind) -> tuple[int, float]:
        """Returns how many they are, and their credit."""
        count, credit = 0, 0.0
        with _put(self.folder / f"{kind.name}.gz") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
            file.write(f"{_HEAD}<{kind.name}s>\n".encode())
            for row in _rows(db, kind):
                text = f"<{kind.name}>\n{kind.text(row)}</{kind.name}>\n"
                # ASCII is what the heading says, and every other encoding as well.
                file.write(text.encode("ascii", "xmlcharrefreplace"))
                count, credit = count + 1, credit + row["total_credit"]
            file.write(f"</{kind.name}s>\n".encode())
        return count, credit


def _tables(db: Session, written: Mapping[str, tuple[int, float]], now: int) -> str:
    copies = {(app, state): count for app, state, count in db.all(_COPIES)}
    apps = "".join(
        f"<application>\n{element('name', name)}"
        + "".join(element(kind, copies.get((number, int(state)), 0)) for state, kind in _STATES.items())
        + "</application>\n"
        for number, name in db.all(_APPS)
    )
    _, credit = written["user"]
    totals = "".join(element(f"n{name}s_total", count) for name, (count, _) in written.items())
    return (
        f"{_HEAD}<tables>\n{element('update_time', now)}{totals}"
        f"{element('total_credit', f'{credit:.6f}')}<applications>\n{apps}</applications>\n</tables>\n"
    )


def _rows(db: Session, kind: _Kind) -> Iterator[Row]:
    after = 0
    while page := db.all(kind.query, after=after, most=_PAGE):
        for row in page:
            yield dict(zip(kind.columns, row, strict=True))
        after = page[-1][0]


@contextmanager
def _put(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its place when it is whole, and leaves nothing behind when it is not."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_NEW, delete=False) as file:
        try:
            yield file
        except BaseException:
            os.unlink(file.name)  # noqa: PTH108
            raise
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
