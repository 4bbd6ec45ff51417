"""Volunteers' computers as the operator sees them, and the one thing he decides about each: whether it gets work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Select, bindparam, case, func, or_, select

from boincserver.database import Session, update_where
from boincserver.errors import BoincServerError
from boincserver.hosts import BLOCKED
from boincserver.protocol.documents import version_text
from boincserver.schema import app as app_table
from boincserver.schema import app_version as version_table
from boincserver.schema import host as host_table
from boincserver.schema import host_app_version as track_table
from boincserver.schema import platform as platform_table
from boincserver.schema import result as result_table
from boincserver.schema import user as user_table
from boincserver.states import Outcome, ServerState, ValidateState

__all__ = ["block", "described", "listed"]

_LATEST: Final = 20
"""Copies of a host that are shown."""
_FAILED: Final = (Outcome.CLIENT_ERROR, Outcome.NO_REPLY, Outcome.VALIDATE_ERROR)
_NAMES: Final = (
    "id", "user_id", "user_name", "domain_name", "os_name", "ncpus", "last_contact", "blocked",
    "in_progress", "succeeded", "failed",
)  # fmt: skip
_HOSTS: Final = (
    select(
        host_table.c.id,
        host_table.c.userid,
        user_table.c.name,
        host_table.c.domain_name,
        host_table.c.os_name,
        host_table.c.p_ncpus,
        host_table.c.rpc_time,
        host_table.c.max_results_day == BLOCKED,
    )
    .join(user_table, user_table.c.id == host_table.c.userid)
    .order_by(host_table.c.id)
)


def _how_many(condition: Any) -> Any:
    return func.sum(case((condition, 1), else_=0))


_COUNTS: Final = (
    select(
        result_table.c.hostid,
        _how_many(result_table.c.server_state == ServerState.IN_PROGRESS),
        _how_many(result_table.c.outcome == Outcome.SUCCESS),
        _how_many(or_(*(result_table.c.outcome == outcome for outcome in _FAILED))),
    )
    .where(result_table.c.hostid > 0)
    .group_by(result_table.c.hostid)
)


def _of_one(statement: Select[Any], column: Any) -> Select[Any]:
    return statement.where(column == bindparam("hostid"))


_HOST: Final = _of_one(_HOSTS, host_table.c.id)
_COUNTS_OF_ONE: Final = _of_one(_COUNTS, result_table.c.hostid)
_MACHINE: Final = (
    "create_time", "os_version", "p_vendor", "p_model", "p_fpops", "m_nbytes", "d_free", "total_credit",
    "expavg_credit",
)  # fmt: skip
_VERSIONS: Final = (
    select(
        app_table.c.name,
        version_table.c.version_num,
        platform_table.c.name,
        version_table.c.plan_class,
        track_table.c.consecutive_valid,
        track_table.c.n_jobs_today,
        track_table.c.max_jobs_per_day,
        track_table.c.turnaround_n,
        track_table.c.turnaround_avg,
    )
    .select_from(track_table)
    .join(version_table, version_table.c.id == track_table.c.app_version_id)
    .join(app_table, app_table.c.id == version_table.c.appid)
    .join(platform_table, platform_table.c.id == version_table.c.platformid)
    .where(track_table.c.host_id == bindparam("hostid"))
    .order_by(app_table.c.name, version_table.c.version_num, platform_table.c.name)
)
_COPIES: Final = (
    select(
        result_table.c.name,
        result_table.c.server_state,
        result_table.c.outcome,
        result_table.c.validate_state,
        result_table.c.exit_status,
        result_table.c.sent_time,
        result_table.c.received_time,
    )
    .where(result_table.c.hostid == bindparam("hostid"))
    .order_by(result_table.c.id.desc())
    .limit(_LATEST)
)


def listed(db: Session) -> list[dict[str, Any]]:
    """Every host and how many copies it has and had, with the fields of `records.HostInfo`."""
    counts = {row[0]: row[1:] for row in db.all(_COUNTS)}
    return [_host(row, counts.get(row[0], (0, 0, 0))) for row in db.all(_HOSTS)]


def _host(row: Any, counts: Any) -> dict[str, Any]:
    *about, blocked = row
    return dict(zip(_NAMES, [*about, bool(blocked), *map(int, counts)], strict=True))


def described(db: Session, number: int) -> Mapping[str, Any]:
    """One host: its machine, its record with each application version, and the copies that it had last.

    Times are Unix times in seconds, `turnaround` seconds from sending to report on the average (None: not known),
    `m_nbytes` and `d_free` bytes, `p_fpops` operations per second of one CPU.
    """
    row = db.first(_HOST, hostid=number)
    machine = db.get(host_table, _MACHINE, id=number)
    if row is None or machine is None:
        raise BoincServerError(f"there is no host {number}; see: boincserver host list DIR")
    counts = db.first(_COUNTS_OF_ONE, hostid=number)
    return {
        **_host(row, counts[1:] if counts else (0, 0, 0)),
        **dict(zip(_MACHINE, machine, strict=True)),
        "versions": [_version(*row) for row in db.all(_VERSIONS, hostid=number)],
        "copies": [_copy(*row) for row in db.all(_COPIES, hostid=number)],
    }


def _version(app: str, number: int, platform: str, plan_class: str, *record: Any) -> Mapping[str, Any]:
    valid, today, per_day, reported, turnaround = record
    return {
        "app": app, "version": version_text(number), "platform": platform, "plan_class": plan_class,
        "consecutive_valid": valid, "jobs_today": today, "jobs_per_day": per_day,
        "turnaround": turnaround if reported else None,
    }  # fmt: skip


def _copy(name: str, state: int, outcome: int, validated: int, *rest: Any) -> Mapping[str, Any]:
    exit_status, sent, received = rest
    return {
        "name": name, "state": ServerState(state).name, "outcome": Outcome(outcome).name,
        "validation": ValidateState(validated).name, "exit_status": exit_status, "sent": sent, "received": received,
    }  # fmt: skip


def block(db: Session, number: int, blocked: bool) -> None:
    """Send this host no more work, or again; what it has it may finish."""
    if db.get(host_table, ("id",), id=number) is None:
        raise BoincServerError(f"there is no host {number}; see: boincserver host list DIR")
    db.run(update_where(host_table, ("max_results_day",), ("id",)), was_id=number, max_results_day=BLOCKED * blocked)
