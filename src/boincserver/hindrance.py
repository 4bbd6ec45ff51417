"""Why copies wait although computers come: each reason is a sentence, with what to do about it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Set
from typing import Any, Final

from sqlalchemy import and_, bindparam, case, func, or_, select

from boincserver.bound import bound_to_nobody
from boincserver.config import JobsConfig
from boincserver.database import Session
from boincserver.schema import app as app_table
from boincserver.schema import app_version as version_table
from boincserver.schema import host as host_table
from boincserver.schema import host_app_version as track_table
from boincserver.schema import platform as platform_table
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.shard import Shard
from boincserver.states import Outcome, ServerState

__all__ = ["hindrances"]

_H: Final = host_table.c
_R: Final = result_table.c
_W: Final = workunit_table.c
_LATELY: Final = 7 * 86400
"""Seconds after which a computer that did not come counts as gone, where the settings wait for ever."""
_LOOKED_AT: Final = 10_000
"""Results that are looked at to see who holds copies; more would say the same."""

_UNSENT: Final = select(_R.appid, func.count()).where(_R.server_state == ServerState.UNSENT).group_by(_R.appid)
_APPS: Final = select(app_table.c.id, app_table.c.name, app_table.c.deprecated)
_PLATFORMS: Final = (
    select(version_table.c.appid, platform_table.c.name)
    .join(platform_table, platform_table.c.id == version_table.c.platformid)
    .where(version_table.c.deprecated == 0)
    .distinct()
)
_SPACE: Final = case((_H.d_boinc_max > 0, _H.d_boinc_max), else_=_H.d_free)
_BEST: Final = select(
    func.count(),
    func.max(_H.m_nbytes),
    func.min(_H.m_nbytes),
    func.max(_SPACE),
    func.min(_H.d_free),
    func.max(_H.p_fpops * _H.p_ncpus),
).where(_H.rpc_time >= bindparam("since"))
_SERVED: Final = (
    select(version_table.c.appid)
    .join(track_table, track_table.c.app_version_id == version_table.c.id)
    .join(host_table, _H.id == track_table.c.host_id)
    .where(_H.rpc_time >= bindparam("since"))
    .distinct()
)
_OWNERS: Final = select(_H.id, _H.userid).where(_H.rpc_time >= bindparam("since"))


def _too_much(condition: Any) -> Any:
    return (
        select(_R.appid, func.count(), func.min(_W.rsc_memory_bound), func.min(_W.rsc_disk_bound))
        .join(workunit_table, _W.id == _R.workunitid)
        .where(_R.server_state == ServerState.UNSENT, condition)
        .group_by(_R.appid)
    )


_TOO_LARGE: Final = _too_much(_W.rsc_memory_bound > bindparam("most"))
_TOO_WIDE: Final = _too_much(_W.rsc_disk_bound > bindparam("most"))
_TOO_LONG: Final = _too_much(_W.rsc_fpops_est >= _W.delay_bound * bindparam("most"))

_waits: Final = result_table.alias("waits")
_HELD: Final = (
    select(_R.workunitid, _R.appid, _R.hostid, _R.userid)
    .select_from(_waits.join(result_table, _R.workunitid == _waits.c.workunitid))
    .where(
        _waits.c.server_state == ServerState.UNSENT,
        or_(
            _R.server_state == ServerState.IN_PROGRESS,
            and_(_R.server_state == ServerState.OVER, _R.outcome == Outcome.SUCCESS),
        ),
    )
    .distinct()
    .limit(_LOOKED_AT)
)


def hindrances(db: Session, rules: JobsConfig, now: float) -> list[str]:
    """Every reason for which copies wait that no computer seen lately will end."""
    waiting: dict[int, int] = dict(db.all(_UNSENT))
    return list(_Look(db, rules, waiting, int(now)).sentences()) if waiting else []


class _Look:
    """One look at the tables. `waiting` is how many copies of each application are unsent."""

    def __init__(self, db: Session, rules: JobsConfig, waiting: Mapping[int, int], now: int) -> None:
        self._db = db
        self._rules = rules
        self._waiting = waiting
        self._now = now
        self._since = now - (rules.gone_after_days * 86400 or _LATELY)
        self._apps: dict[int, str] = {number: name for number, name, deprecated in db.all(_APPS) if not deprecated}
        self._platforms: defaultdict[int, list[str]] = defaultdict(list)
        for number, platform in db.all(_PLATFORMS):
            self._platforms[number].append(platform)

    def sentences(self) -> Iterator[str]:
        served = self._apps.keys() & self._platforms.keys()
        for number in self._waiting.keys() - served:
            why = "which has no version: boincserver app add" if number in self._apps else "which is served no more"
            yield f"{self._copies(number)}, {why}"
        served &= self._waiting.keys()
        if not served:
            return
        count, *best = self._db.first(_BEST, since=self._since) or (0,)
        if not count:
            total = sum(self._waiting[number] for number in served)
            yield f"{_wait(total, 'copy', 'copies')}, and no computer has come for {self._days} days"
            return
        yield from self._for_others(served)
        yield from self._too_big(*best)
        yield from self._for_other_users()
        yield from self._bound()

    @property
    def _days(self) -> int:
        return (self._now - self._since) // 86400

    def _copies(self, app: int, count: int | None = None) -> str:
        count = self._waiting[app] if count is None else count
        return f"{_wait(count, 'copy', 'copies')} for application {self._apps.get(app, app)}"

    def _for_others(self, apps: Set[int]) -> Iterator[str]:
        had = {number for (number,) in self._db.all(_SERVED, since=self._since)}
        for app in apps - had:
            listed = ", ".join(sorted(self._platforms[app]))
            yield f"{self._copies(app)}, whose versions ({listed}) no computer seen lately has ever been sent"

    def _too_big(
        self, memory: float, least_memory: float, space: float, least_space: float, speed: float
    ) -> Iterator[str]:
        # A computer that does not say what it has is sent everything.
        for app, count, least, _ in self._db.all(_TOO_LARGE, most=memory) if least_memory else ():
            yield (
                f"{self._copies(app, count)} that need {least / 1e9:.1f} GB of memory or more; the largest computer "
                f"has {memory / 1e9:.1f}: create such jobs with a lower rsc_memory_bound"
            )
        for app, count, _, least in self._db.all(_TOO_WIDE, most=space) if least_space else ():
            yield (
                f"{self._copies(app, count)} that need {least / 1e9:.1f} GB of disk or more; no computer gives more "
                f"than {space / 1e9:.1f}: create such jobs with a lower rsc_disk_bound"
            )
        for app, count, *_ in self._db.all(_TOO_LONG, most=speed) if speed else ():
            yield (
                f"{self._copies(app, count)} that no computer ends by the deadline: create such jobs with a longer "
                "delay_bound or a lower rsc_fpops_est"
            )

    def _for_other_users(self) -> Iterator[str]:
        """Jobs of which everybody who was here lately has a copy already."""
        by_user = self._rules.one_result_per_user
        here = {user if by_user else host for host, user in self._db.all(_OWNERS, since=self._since)}
        holders: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        for workunit, app, host, user in self._db.all(_HELD):
            holders[app, workunit].add(user if by_user else host)
        stuck = Counter(app for (app, _), takers in holders.items() if here <= takers)
        for app, count in stuck.items():
            yield f"{_wait(count, 'job', 'jobs')} of application {self._apps.get(app, app)} for another " + (
                "user than those seen lately; one_result_per_user = false lets one user's computers suffice"
                if by_user
                else "computer than those seen lately"
            )

    def _bound(self) -> Iterator[str]:
        count = len(
            bound_to_nobody(
                self._db, self._now, self._since, Shard(), by_user=self._rules.one_result_per_user
            )
        )  # fmt: skip
        if count:
            days = self._rules.gone_after_days
            end = f"after {days} days they are for everybody" if days else "gone_after_days = 0 keeps them waiting"
            yield f"{_wait(count, 'job', 'jobs')} for the kind of computer that began them, and no other came; {end}"


def _wait(count: int, one: str, many: str) -> str:
    return f"1 {one} waits" if count == 1 else f"{count} {many} wait"
