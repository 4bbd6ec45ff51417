"""Credit: how much a valid result earns, and the averages that let old work fade.

One unit of credit is a two-hundredth of a day's work of a machine of 10⁹ operations per second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Select, Table, bindparam, func, select

from boincserver.config import CreditConfig
from boincserver.database import Session, update_where
from boincserver.lifecycle import Result, Verdict, Workunit
from boincserver.schema import host as host_table
from boincserver.schema import team as team_table
from boincserver.schema import user as user_table

__all__ = ["Account", "Grant", "amount", "earned", "fade", "grant"]

_PER_OPERATION: Final = 200 / 86400e9
_HALF_LIFE: Final = 7 * 86400.0
_DAY: Final = 86400.0
_PAGE: Final = 500


def amount(rules: CreditConfig, workunit: Workunit, result: Result, speed: float) -> float:
    """What a valid result earns; `speed` is the host's operations per second."""
    if rules.kind == "none":
        return 0.0
    if rules.kind == "fixed":
        return rules.per_job
    operations = workunit.rsc_fpops_est if rules.kind == "estimate" else result.elapsed_time * speed
    # Who reports a longer time gains nothing beyond what the job may take at most.
    return min(operations, workunit.rsc_fpops_bound) * _PER_OPERATION


def earned(verdict: Verdict, granted: Mapping[int, float]) -> Mapping[int, float]:
    """What each valid result is granted: under redundancy all get what the smallest claim says."""
    claims = [granted[number] for number in verdict.valid if number in granted]
    return dict.fromkeys(verdict.valid, min(claims, default=0.0))


@dataclass(frozen=True, slots=True)
class Account:
    """Who has credit: a host or a user."""

    total_credit: float
    expavg_credit: float
    expavg_time: float

    def plus(self, credit: float, now: float, since: float) -> Account:
        """After more credit; `since` is when the work for it began, which the very first credit is spread over."""
        average = recent_average(self.expavg_credit, self.expavg_time, credit, now, since)
        return Account(self.total_credit + credit, average, now)


def recent_average(average: float, updated: float, credit: float, now: float, since: float) -> float:
    """Credit per day, with a half-life of a week."""
    if not updated:
        return credit / max((now - since) / _DAY, 1 / 24)
    passed = max(now - updated, 0.0)
    weight = math.exp(-passed * math.log(2) / _HALF_LIFE)
    if 1 - weight < 1e-6:
        # So soon after the last credit that the division below would lose all precision.
        return average * weight + math.log(2) * credit * _DAY / _HALF_LIFE
    return average * weight + (1 - weight) * credit / (passed / _DAY)


@dataclass(frozen=True, slots=True)
class Grant:
    """Credit for one result; `since` is when it was sent."""

    hostid: int
    userid: int
    amount: float
    since: int


def grant(db: Session, grants: Iterable[Grant], now: float, *, teams: bool = False) -> None:
    """Add credit to hosts and their users, to each once and in order, so that processes do not lock rows crosswise.

    With `teams` those of the users get it too.
    """
    sums: dict[tuple[int, int], tuple[float, int]] = {}
    for one in grants:
        keys = [(0, one.hostid), (1, one.userid)]
        if teams and (row := db.get(user_table, ("teamid",), id=one.userid)) and row[0]:
            keys.append((2, row[0]))
        for key in keys:
            total, since = sums.get(key, (0.0, one.since))
            sums[key] = total + one.amount, min(since, one.since)
    for (kind, number), (total, since) in sorted(sums.items()):
        _add(db, (host_table, user_table, team_table)[kind], number, total, now, since)


def fade(db: Session, table: Table, after: int, now: float) -> int:
    """Let recent averages fade of those who had no credit for a day; returns the last id looked at, 0 at the end."""
    last: int = db.value(_page(table), after=after) or 0
    for number, average, updated in db.all(_idle(table), after=after, last=last, before=now - _DAY):
        db.run(
            update_where(table, ("expavg_credit", "expavg_time"), ("id", "expavg_time")),
            was_id=number,
            was_expavg_time=updated,
            expavg_credit=recent_average(average, updated, 0.0, now, now),
            expavg_time=now,
        )
    return last


@lru_cache(maxsize=4)
def _page(table: Table) -> Select[Any]:
    ids = select(table.c.id).where(table.c.id > bindparam("after")).order_by(table.c.id).limit(_PAGE).subquery()
    return select(func.max(ids.c.id))


@lru_cache(maxsize=4)
def _idle(table: Table) -> Select[Any]:
    return select(table.c.id, table.c.expavg_credit, table.c.expavg_time).where(
        table.c.id > bindparam("after"),
        table.c.id <= bindparam("last"),
        table.c.expavg_credit > 0,
        table.c.expavg_time < bindparam("before"),
    )


_COLUMNS: Final = ("total_credit", "expavg_credit", "expavg_time")


def _add(db: Session, table: Table, number: int, credit: float, now: float, since: float) -> None:
    row = db.locked(table, _COLUMNS, id=number)
    if row is None:
        return
    account = Account(*row).plus(credit, now, since)
    db.run(
        update_where(table, _COLUMNS, ("id",)),
        was_id=number,
        total_credit=account.total_credit,
        expavg_credit=account.expavg_credit,
        expavg_time=account.expavg_time,
    )
