"""The page of a run, for whoever has its link: how far it is, when it will be done, what computers are at work on.

The link holds a proof that only the owner's account key makes; so the page needs no login, and nobody else finds it.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from sqlalchemy import bindparam, func, or_, select
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from boincserver.database import Session
from boincserver.records import JobState
from boincserver.schema import batch as batch_table
from boincserver.schema import host as host_table
from boincserver.schema import result as result_table
from boincserver.schema import user as user_table
from boincserver.schema import workunit as workunit_table
from boincserver.service import Service
from boincserver.urls import RUN_PAGE, run_proof
from boincserver.web.page import page

__all__ = ["Standing", "run_routes"]

_LATELY: Final = 600
"""Seconds of which the pace counts."""
_HEARD_OF: Final = 86400
"""Seconds without a word after which a computer is not counted on; those that are idle come once an hour."""
_SHOWN: Final = 50
"""Jobs in the table."""
_EVERY: Final = "10"
"""Seconds after which a browser looks again."""
_PROGRESS: Final = re.compile(r"(\d{1,6}) (0\.\d{1,6}|1\.0{1,6})")

_B, _W, _R = batch_table.c, workunit_table.c, result_table.c
_BATCHES: Final = select(_B.id, _B.user_id, _B.njobs).where(
    or_(_B.name == bindparam("run"), (_B.name >= bindparam("first")) & (_B.name < bindparam("behind")))
)
_COUNTS: Final = select(
    func.count(),
    func.count().filter(or_(_W.canonical_resultid != 0, _W.error_mask != 0)),
    func.count().filter(_W.error_mask != 0),
).where(_W.batch == bindparam("batch"))
_HOME: Final = (
    select(func.count(), func.min(_R.received_time), func.avg(_R.elapsed_time))
    .select_from(workunit_table.join(result_table, _R.id == _W.canonical_resultid))
    .where(_W.batch == bindparam("batch"), _R.received_time >= bindparam("since"))
)
_CORES: Final = select(func.sum(host_table.c.p_ncpus)).where(host_table.c.rpc_time >= bindparam("since"))


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a run is."""

    jobs: int = 0
    over: int = 0
    failed: int = 0
    lately: int = 0
    """Jobs that came home within the last minutes,"""
    span: float = 0.0
    """in so many seconds,"""
    seconds: float = 0.0
    """and how long each of them ran, on the average."""

    def plus(self, other: Standing) -> Standing:
        """Two parts of a run as one."""
        count = self.lately + other.lately
        seconds = (self.lately * self.seconds + other.lately * other.seconds) / count if count else 0.0
        return Standing(
            self.jobs + other.jobs, self.over + other.over, self.failed + other.failed, count,
            max(self.span, other.span), seconds,
        )  # fmt: skip

    def left(self, cores: int) -> float | None:
        """Seconds until all is over: by the pace of the last minutes, else by what was measured and the cores there."""
        waiting = self.jobs - self.over
        if not waiting:
            return 0.0
        if self.lately > 1 and self.span > 0:
            return waiting * self.span / self.lately
        return waiting * self.seconds / cores if self.seconds and cores else None


def run_routes(service: Service) -> list[Route]:
    """The route."""
    return [Route(f"/{RUN_PAGE}", _Page(service).show, methods=["GET"])]


class _Page:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def show(self, request: Request) -> Response:
        """The page, or that there is none: whoever lacks the proof does not learn which runs there are."""
        name, given = request.query_params.get("name", "")[:200], request.query_params.get("auth_str", "")
        project = self._service.project.config.name
        batches = await asyncio.to_thread(self._own, name, given)
        if not batches:
            return page("No such run", "<p>The link is wrong, or the run is gone.</p>\n", project, 404)
        now = int(self._service.clock())
        standing, cores = await asyncio.to_thread(self._standing, batches, now)
        jobs: list[JobState] = []
        for batch in batches:
            jobs += await self._service.news.standing(self._service.database.reader, batch)
        response = page(_title(name), _body(standing, cores, jobs, now), project)
        response.headers["refresh"] = _EVERY
        return response

    def _own(self, name: str, given: str) -> list[int]:
        """The batches of a run whose owner made this proof."""
        db = self._service.database.reader()
        rows = db.all(_BATCHES, run=name, first=f"{name}.", behind=f"{name}/") if name else []
        keys = {owner: db.get(user_table, ("authenticator",), id=owner) for owner in {row[1] for row in rows} if owner}
        mine = {
            owner for owner, row in keys.items()
            if row and hmac.compare_digest(run_proof(row[0], name).encode(), given.encode("utf-8", "replace"))
        }  # fmt: skip
        return [row[0] for row in rows if row[1] in mine]

    def _standing(self, batches: Sequence[int], now: int) -> tuple[Standing, int]:
        db = self._service.database.reader()
        whole = Standing()
        for batch in batches:
            whole = whole.plus(_standing_of(db, batch, now))
        return whole, int(db.value(_CORES, since=now - _HEARD_OF) or 0)


def _standing_of(db: Session, batch: int, now: int) -> Standing:
    jobs, over, failed = db.first(_COUNTS, batch=batch) or (0, 0, 0)
    lately, first, seconds = db.first(_HOME, batch=batch, since=now - _LATELY) or (0, None, None)
    return Standing(jobs, over, failed, lately, float(now - first) if first else 0.0, float(seconds or 0.0))


def _title(name: str) -> str:
    return f"Run {name.rpartition('_')[0] or name}"


def _body(standing: Standing, cores: int, jobs: Sequence[JobState], now: int) -> str:
    failed = f", {standing.failed} of them failed" if standing.failed else ""
    left = standing.left(cores)
    when = (
        "All is over."
        if not standing.jobs - standing.over
        else (
            "Nothing came home yet that would tell when all is done."
            if left is None
            else f"All is done in about {_span(left)}."
        )
    )
    return (
        f'<p><progress max="{max(standing.jobs, 1)}" value="{standing.over}"></progress></p>\n'
        f"<p>{standing.over} of {standing.jobs} workunits are over{failed}.</p>\n<p>{when}</p>\n{_table(jobs, now)}"
    )


def _table(jobs: Sequence[JobState], now: int) -> str:
    out = [job for job in jobs if job.hosts]
    if not out:
        return ""
    rows = "".join(
        f"<tr><td>{escape(job.name)}</td><td>{', '.join(map(str, job.hosts))}</td><td>{_done(job.said)}</td>"
        f"<td>{_span(max(0, job.deadline - now))}</td></tr>\n"
        for job in out[:_SHOWN]
    )
    more = f"<p>and {len(out) - _SHOWN} more</p>\n" if len(out) > _SHOWN else ""
    head = "<tr><th>workunit</th><th>host</th><th>progress</th><th>due in</th></tr>\n"
    return f"<h2>In progress</h2>\n<table>\n{head}{rows}</table>\n{more}"


def _done(said: str) -> str:
    """What the program said last: which of its tasks it is at, and how far."""
    found = _PROGRESS.fullmatch(said)
    return f"task {int(found[1]) + 1}: {float(found[2]):.0%}" if found else ""


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
