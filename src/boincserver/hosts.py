"""Which computer is this? BOINC's rules of identity, and what is kept of a host."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any, Final

from sqlalchemy import bindparam, select

from boincserver.accounts import User
from boincserver.database import Session, update_where
from boincserver.protocol.request import HostInfo, SchedulerRequest
from boincserver.schema import host as host_table
from boincserver.schema import user as user_table

__all__ = ["BLOCKED", "Host", "Identified", "identify"]

BLOCKED: Final = -1
"""What `max_results_day` is for a host that the operator has sent no work."""
_COLUMNS: Final = (
    "id", "userid", "rpc_seqno", "rpc_time", "total_credit", "expavg_credit", "host_cpid", "max_results_day",
)  # fmt: skip
_INFO: Final = tuple(item.name for item in fields(HostInfo))
_SAME_MACHINE: Final = (
    select(*(host_table.c[name] for name in _COLUMNS))
    .where(
        host_table.c.userid == bindparam("userid"),
        host_table.c.domain_name == bindparam("domain_name"),
        host_table.c.last_ip_addr == bindparam("last_ip_addr"),
        host_table.c.p_vendor == bindparam("p_vendor"),
        host_table.c.p_model == bindparam("p_model"),
        host_table.c.m_nbytes == bindparam("m_nbytes"),
    )
    .order_by(host_table.c.id.desc())
    .limit(1)
    .with_for_update()
)
_MAX_HOPS: Final = 10


@dataclass(frozen=True, slots=True)
class Host:
    """A host's row, as far as the scheduler wants it."""

    id: int
    userid: int
    rpc_seqno: int
    rpc_time: int
    total_credit: float
    expavg_credit: float
    host_cpid: str
    max_results_day: int = 0

    @property
    def blocked(self) -> bool:
        """True if the operator has it sent no work."""
        return self.max_results_day == BLOCKED


@dataclass(frozen=True, slots=True)
class Identified:
    """The host of a request. `announce`: tell the client its number; `lost`: it no longer has the jobs it was sent;
    `new`: it is one more, since no row was that of the request's computer."""

    host: Host
    announce: bool = False
    lost: bool = False
    new: bool = False


def identify(db: Session, request: SchedulerRequest, user: User, address: str, now: int) -> Identified:
    """Find or make the host's row, and write down what the request says of it.

    The row stays locked until the request is served, so that requests of one host are served one after the other.
    """
    known = _by_number(db, request.hostid)
    if known is not None and known.userid == user.id and request.rpc_seqno >= known.rpc_seqno:
        _write(db, known.id, request, user, address, request.rpc_seqno, now)
        return Identified(known)
    cloned = known is not None and known.userid == user.id
    # Else the first two requests of a host, in two processes, would make two hosts of it.
    db.locked(user_table, ("id",), id=user.id)
    found = None if cloned else _found_again(db, request, user, address)
    # The client starts to count at 0 again whenever it is told a number.
    if found is not None:
        _write(db, found.id, request, user, address, 0, now)
        return Identified(found, announce=True, lost=not request.other_results)
    number = db.insert(
        host_table, create_time=now, userid=user.id, rpc_seqno=0, rpc_time=now, last_ip_addr=address,
        **_columns(request, user),
    )  # fmt: skip
    return Identified(Host(number, user.id, 0, now, 0.0, 0.0, ""), announce=True, new=True)


def _by_number(db: Session, number: int) -> Host | None:
    """The host with this number; a merged one points to its successor."""
    for _ in range(_MAX_HOPS):
        row = db.locked(host_table, _COLUMNS, id=number) if number else None
        if row is None:
            return None
        host = Host(*row)
        if host.userid:
            return host
        number = host.rpc_seqno
    return None


def _found_again(db: Session, request: SchedulerRequest, user: User, address: str) -> Host | None:
    cpid = _project_cpid(request, user)
    row = db.locked(host_table, _COLUMNS, userid=user.id, host_cpid=cpid) if cpid else None
    if row is None and not request.allow_multiple_clients:
        info = request.host
        row = db.first(
            _SAME_MACHINE, userid=user.id, domain_name=info.domain_name, last_ip_addr=address, p_vendor=info.p_vendor,
            p_model=info.p_model, m_nbytes=info.m_nbytes,
        )  # fmt: skip
    return Host(*row) if row else None


def _project_cpid(request: SchedulerRequest, user: User) -> str:
    """The host's identity in this project: its own, made unlinkable with the account's address."""
    own = request.host.host_cpid
    return hashlib.md5((own + user.email_addr).encode()).hexdigest() if own else ""


def _columns(request: SchedulerRequest, user: User) -> dict[str, Any]:
    values = {name: getattr(request.host, name) for name in _INFO}
    values["host_cpid"] = _project_cpid(request, user)
    return values


def _write(db: Session, number: int, request: SchedulerRequest, user: User, address: str, seqno: int, now: int) -> None:
    values = _columns(request, user) | {"rpc_seqno": seqno, "rpc_time": now, "last_ip_addr": address}
    db.run(update_where(host_table, tuple(values), ("id",)), was_id=number, **values)
