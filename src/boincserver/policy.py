"""Scheduling decisions as pure functions: what a host wishes, what it may take, when it is to come again."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from boincserver.catalog import App
from boincserver.config import JobsConfig
from boincserver.feeder import Entry
from boincserver.homogeneous import hr_class
from boincserver.lifecycle import Job
from boincserver.protocol.request import HostInfo, SchedulerRequest
from boincserver.states import Outcome, ServerState
from boincserver.track import Track

__all__ = ["Permission", "Wish", "delay_until_next", "fits", "homogeneous", "may_rescue", "may_take"]

_STEP: Final = 5
"""Clients look at their clocks every 5 seconds, so no other delay makes a difference."""
_ACTIVE: Final = 600
"""Seconds after the last sign of work during which hosts come back at once."""
_IDLE: Final = 300
"""Seconds between two contacts at least where nothing is to be done."""
_TO_DO_AGAIN: Final = frozenset({Outcome.CLIENT_ERROR, Outcome.NO_REPLY, Outcome.VALIDATE_ERROR})
_LONGEST: Final = 3600


@dataclass(frozen=True, slots=True)
class Wish:
    """How much more work a host wants: seconds over all CPUs, and jobs for CPUs that stand idle."""

    seconds: float
    instances: float
    room: int
    speed: float
    """Operations per second that a job gets on this host, its times of absence taken off."""

    @staticmethod
    def of(request: SchedulerRequest, room: int) -> Wish:
        """What a request asks for."""
        host = request.host
        available = min(max(host.on_frac * host.active_frac, 0.01), 1.0)
        return Wish(request.cpu_req_secs, request.cpu_req_instances, room, host.p_fpops * available)

    @property
    def open(self) -> bool:
        """True while one more job is wanted."""
        return self.room > 0 and (self.seconds > 0 or self.instances > 0)

    def duration(self, fpops: float, processors: float = 1.0) -> float:
        """Seconds that so many operations take on so many processors."""
        return fpops / (self.speed * processors)

    def less(self, fpops: float, processors: float = 1.0) -> Wish:
        """The wish after one job of so many operations; its seconds are those of all processors together."""
        return replace(
            self,
            seconds=self.seconds - self.duration(fpops),
            instances=self.instances - processors,
            room=self.room - 1,
        )


def fits(entry: Entry, request: SchedulerRequest, wish: Wish, processors: float = 1.0) -> bool:
    """True if the host can do the job at all: memory, disk, and time until the deadline."""
    host, preferences = request.host, request.preferences
    percent = max(preferences.get("ram_max_used_busy_pct", 100), preferences.get("ram_max_used_idle_pct", 100))
    memory = host.m_nbytes * (percent or 100) / 100
    if host.m_nbytes and entry.rsc_memory_bound > memory:
        return False
    if host.d_free and entry.rsc_disk_bound > (host.d_boinc_max or host.d_free):
        return False
    return wish.duration(entry.rsc_fpops_est, processors) + request.estimated_delay < entry.delay_bound


class Permission(Enum):
    """Whether a host may have a copy of a job."""

    YES = "yes"
    LATER = "later"  # it failed here, or the host is slow: others may try first
    NEVER = "never"  # another copy that counts is with this user or host


def homogeneous(job: Job, app: App, host: HostInfo) -> tuple[bool, int]:
    """Whether the host is of the kind that the job's copies go to, and the number of that kind."""
    if not app.homogeneous_redundancy:
        return True, 0
    kind = hr_class(app.homogeneous_redundancy, host.os_name, host.p_vendor, host.p_model)
    return kind != 0 and job.workunit.hr_class in (0, kind), kind


def may_take(job: Job, userid: int, hostid: int, now: int, rules: JobsConfig, *, reliable: bool = True) -> Permission:
    """Copies that are to be compared go to different users (or hosts); one that failed goes to another host first.

    What had to be done again is kept for reliable hosts for a while, since somebody has waited for it already.
    """
    permission = Permission.YES
    failed = [r.received_time or r.report_deadline for r in job.results if r.outcome in _TO_DO_AGAIN]
    if failed and not reliable and now < max(failed) + rules.keep_for_reliable:
        permission = Permission.LATER
    for result in job.results:
        if result.server_state == ServerState.UNSENT or result.outcome == Outcome.DIDNT_NEED:
            continue
        same_host = result.hostid == hostid
        if result.server_state == ServerState.IN_PROGRESS or result.outcome == Outcome.SUCCESS:
            if same_host or (rules.one_result_per_user and result.userid == userid):
                return Permission.NEVER
        elif same_host and now < (result.received_time or result.report_deadline) + rules.retry_elsewhere:
            permission = Permission.LATER
    return permission


def may_rescue(job: Job, track: Track, expected: float, now: int, rules: JobsConfig) -> bool:
    """Whether a host is one to send a copy of what others are late with: it fails at nothing, and is quick.

    Quick is who would be back by now, had he got the job when the slow one did: by his record, or for want of one by
    the seconds that he is `expected` to take. As time goes by that is anybody: rather a slow host than none.
    """
    if track.failed_lately(rules):
        return False
    since = min((r.sent_time for r in job.results if r.server_state == ServerState.IN_PROGRESS), default=now)
    return max(expected, track.turnaround or 0.0) <= now - since


def delay_until_next(quiet: float, crowd: float = 0.0) -> float:
    """Seconds after which a host is to come again: at once while there is work, ever later as the quiet goes on.

    `crowd` is what so many hosts make necessary, whatever there is to do.
    """
    idle = _STEP if quiet < _ACTIVE else min(_LONGEST, max(_IDLE, quiet / 10))
    return float(_STEP * math.ceil(max(idle, crowd) / _STEP))
