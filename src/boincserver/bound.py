"""Jobs whose copies are for one kind of computer, or one application version, where no such computer comes any more.

The first copy that is sent decides for the others. If then every computer of its kind leaves, or only those stay that
may have no second copy, the others would wait for ever. So what has waited for long, and for nobody who was here
lately, is unbound: it goes to whoever comes next, and results that differ are decided by further copies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from typing import Final

from sqlalchemy import bindparam, or_, select

from boincserver.database import Session
from boincserver.homogeneous import hr_class
from boincserver.schema import app as app_table
from boincserver.schema import host as host_table
from boincserver.schema import host_app_version as track_table
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.shard import Shard, in_shard
from boincserver.states import Outcome, ServerState

__all__ = ["bound_to_nobody"]

_BOUND: Final = (
    select(
        workunit_table.c.id,
        workunit_table.c.hr_class,
        app_table.c.homogeneous_redundancy,
        workunit_table.c.app_version_id,
    )
    .select_from(
        result_table.join(workunit_table, workunit_table.c.id == result_table.c.workunitid).join(
            app_table, app_table.c.id == workunit_table.c.appid
        )
    )
    .where(
        result_table.c.server_state == ServerState.UNSENT,
        result_table.c.create_time <= bindparam("made"),
        or_(workunit_table.c.hr_class > 0, workunit_table.c.app_version_id > 0),
        in_shard(workunit_table.c.id),
    )
    .distinct()
)
_HOSTS: Final = select(
    host_table.c.id, host_table.c.userid, host_table.c.os_name, host_table.c.p_vendor, host_table.c.p_model
).where(host_table.c.rpc_time >= bindparam("since"))
_HAD_VERSION: Final = select(track_table.c.host_id).where(track_table.c.app_version_id == bindparam("version"))
_HOLDERS: Final = select(result_table.c.hostid, result_table.c.userid).where(
    result_table.c.workunitid == bindparam("number"),
    or_(result_table.c.server_state == ServerState.IN_PROGRESS, result_table.c.outcome == Outcome.SUCCESS),
)


def bound_to_nobody(db: Session, made: int, since: int, shard: Shard, *, by_user: bool) -> list[int]:
    """Workunits with copies made up to a time, which nobody may take who was here since another time.

    `by_user`: copies of a job go to different users, not only to different hosts.
    """
    rows = db.all(_BOUND, made=made, **shard.parameters)
    if not rows:
        return []
    users = {host: user for host, user, *_ in db.all(_HOSTS, since=since)}
    kinds = {kind: _kinds(db, since, kind) for kind in {row[2] for row in rows if row[1] and row[2]}}
    had = {version: {host for (host,) in db.all(_HAD_VERSION, version=version)} for version in {row[3] for row in rows}}

    def takers(kind: int, how: int, version: int) -> Iterator[int]:
        for host in kinds[how][kind] if kind and how else users:
            if host in users and (not version or host in had[version]):
                yield host

    found = []
    for number, kind, how, version in rows:
        holders = db.all(_HOLDERS, number=number)
        hosts = {host for host, _ in holders}
        owners = {user for _, user in holders} if by_user else set()
        if not any(host not in hosts and users[host] not in owners for host in takers(kind, how, version)):
            found.append(number)
    return found


def _kinds(db: Session, since: int, how: int) -> Mapping[int, Set[int]]:
    """The hosts of each kind that were here since then."""
    found: defaultdict[int, set[int]] = defaultdict(set)
    for host, _, os_name, vendor, model in db.all(_HOSTS, since=since):
        found[hr_class(how, os_name, vendor, model)].add(host)
    return found
