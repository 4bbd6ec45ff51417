"""What may go wrong around a project: the disk, the clock, secrets, work that does not get on. Each a sentence.

`doctor` looks for what cannot be in the tables; here is looked for what an operator would want to be told in time.
"""

from __future__ import annotations

import ctypes
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import bindparam, func, select, text

from boincserver import logfile, logline
from boincserver.database import Session
from boincserver.project import Project
from boincserver.schema import host as host_table
from boincserver.schema import msg_from_host
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import NEVER, AssimilateState, FileDeleteState, ServerState

__all__ = ["Finding", "backlog", "backups", "clock", "disk", "errors", "is_synchronised", "progress", "secrets"]

_DAY: Final = 86400
_LEAST_BYTES: Final = 1 << 30
_LEAST_PART: Final = 0.05
_SLACK: Final = 60
"""Seconds by which clocks may differ."""
_LATE: Final = 600
"""Seconds after which something that is done at once, when all is well, does not get on."""
_MANY: Final = 1000
_R, _W = result_table.c, workunit_table.c

_NEWEST_CONTACT: Final = select(host_table.c.id, host_table.c.rpc_time).order_by(host_table.c.rpc_time.desc()).limit(1)
_OVERDUE: Final = select(func.count(), func.min(_W.transition_time)).where(
    _W.transition_time < bindparam("before"), _W.transition_time < NEVER
)
_UNSENT: Final = select(func.count(), func.min(_R.create_time)).where(_R.server_state == ServerState.UNSENT)
_WAITING: Final = {
    "wait for their results to be compared": select(func.count()).where(_W.need_validate == 1),
    "wait for their assimilator": select(func.count()).where(_W.assimilate_state == AssimilateState.READY),
    "wait for their files to be deleted": select(func.count()).where(_W.file_delete_state == FileDeleteState.READY),
}
_MESSAGES: Final = select(func.count()).where(msg_from_host.c.handled == 0)
_THEIR_TIME: Final = text("SELECT UNIX_TIMESTAMP()")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, or, if it is not grave, worth a look."""

    text: str
    grave: bool = True


def disk(folder: Path, space: os.statvfs_result) -> Iterator[Finding]:
    """Room for uploads, the database and the log; `space` is what the system says of the folder."""
    free, whole = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
    if free < _LEAST_BYTES or free < _LEAST_PART * whole:
        part = f"{free / whole:.0%}" if whole else "nothing"
        yield Finding(
            f"{folder}: {free / 1e9:.1f} GB of the disk are free ({part}); uploads are refused when it is full"
        )
    if space.f_files and space.f_favail < _LEAST_PART * space.f_files:
        yield Finding(f"{folder}: {space.f_favail} files can still be made on this disk; each output is one")


def secrets(project: Project) -> Iterator[Finding]:
    """Who can read what nobody should."""
    keys = project.directory / "keys"
    for path in (keys, *sorted(keys.glob("*"))):
        public = (path.is_dir() and path != keys) or path.name == "code_sign_public"
        if not public and stat.S_IMODE(path.stat().st_mode) & 0o077:
            mode = "700" if path.is_dir() else "600"
            yield Finding(f"{path}: others may read it; say: chmod {mode} {path}")
    tables = project.directory / "database.sqlite3"
    if not project.config.database and tables.exists() and stat.S_IMODE(tables.stat().st_mode) & 0o077:
        yield Finding(f"{tables}: others may read volunteers' addresses and keys; say: chmod 600 {tables}*")
    settings = project.directory / "project.toml"
    if urlsplit(project.config.database).password and stat.S_IMODE(settings.stat().st_mode) & 0o077:
        yield Finding(f"{settings}: others may read it, with the database's password; say: chmod 600 {settings}")
    if (keys / "code_sign_private").exists() and project.config.url.startswith("https:"):
        yield Finding(
            f"{keys / 'code_sign_private'}: whoever gets at it runs programs on every volunteer's computer; keep it on "
            "another machine (boincserver app sign)",
            grave=False,
        )


def clock(db: Session, now: float, *, synchronised: bool) -> Iterator[Finding]:
    """Deadlines are by the clock."""
    latest = db.first(_NEWEST_CONTACT)
    if latest is not None and latest[1] > now + _SLACK:
        ahead = (latest[1] - now) / 60
        yield Finding(f"the clock is wrong, or was: host {latest[0]} came {ahead:.0f} minutes from now")
    if not db.is_sqlite:
        difference = int(db.value(_THEIR_TIME)) - time.time()
        if abs(difference) > _SLACK:
            yield Finding(f"the clock of the database's machine differs by {difference:.0f} seconds")
    if not synchronised:
        yield Finding("nothing keeps this machine's clock right; install chrony or systemd-timesyncd", grave=False)


def is_synchronised() -> bool:
    """Whether the kernel says that something keeps its clock right; True where it cannot be asked."""
    try:
        # With nothing to set, adjtimex tells the state of the clock; 5 is TIME_ERROR.
        return bool(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) != 5)
    except (OSError, AttributeError):
        return True


def progress(health: Mapping[str, Any] | None, db: Session, now: float) -> Iterator[Finding]:
    """Whether a server runs, and everything in it; `health` is what it says of itself, if it answers."""
    if health is None:
        yield Finding("no server runs this project", grave=False)
        return
    count, earliest = db.first(_OVERDUE, before=int(now) - _LATE) or (0, 0)
    if count:
        yield Finding(f"{count} jobs were to be looked at {(now - earliest) / 60:.0f} minutes ago, and nobody did")
    if health["looked"] > _LATE:
        yield Finding(f"nobody has looked for deadlines for {health['looked'] / 60:.0f} minutes: restart the server")
    if health["waiting"] > _LATE / 10:
        yield Finding(f"the database has taken no change for {health['waiting']:.0f} seconds")
    what, number, seconds = health["doing"] or ("", 0, 0.0)
    if seconds > _LATE:
        yield Finding(f"to {what} workunit {number} takes {seconds / 60:.0f} minutes so far; all others wait behind it")


def backlog(db: Session, now: float) -> Iterator[Finding]:
    """What piles up."""
    for what, query in _WAITING.items():
        count = int(db.value(query))
        if count > _MANY:
            yield Finding(f"{count} jobs {what}", grave=False)
    messages = int(db.value(_MESSAGES))
    if messages > _MANY:
        yield Finding(
            f"{messages} messages of running programs have not been handled: is their class installed?", grave=False
        )
    unsent, since = db.first(_UNSENT) or (0, None)
    latest = db.first(_NEWEST_CONTACT)
    if unsent and since < now - _DAY and (latest is None or latest[1] < now - _DAY):
        yield Finding(f"{unsent} copies wait for a day or longer, and no host came", grave=False)


def errors(directory: Path, now: float) -> Iterator[Finding]:
    """What the log says of the last day."""
    recent = (
        line for line in logline.read(logfile.lines(logfile.path_of(directory))) if line and line.level == "error"
    )
    counted = Counter(line.event for line in recent if line.time > now - _DAY)
    if counted:
        told = ", ".join(f"{event} ({count})" for event, count in counted.most_common(5))
        yield Finding(f"errors of the last day: {told}; see: boincserver log {directory} --level error", grave=False)


def backups(project: Project, now: float) -> Iterator[Finding]:
    """Whether there is one of the last week, where they go unless they are put elsewhere."""
    times = [path.stat().st_mtime for path in (project.directory / "backups").glob("*.tar.gz")]
    made = (project.directory / "keys" / "code_sign_public").stat().st_mtime
    if max([made, *times]) < now - 7 * _DAY:
        yield Finding(f"{project.directory / 'backups'} holds no backup of the last week", grave=False)
