"""The server's side of the control interface: an ASGI application on a Unix socket that only the operator can open."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from sqlalchemy import bindparam, case, func, or_, select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from boincserver import computers, errors, gathering, lifecycle
from boincserver.account_calls import AccountCalls
from boincserver.copies import copies
from boincserver.database import Session
from boincserver.errors import BoincServerError
from boincserver.events import Events
from boincserver.framing import Blobs, blob, pack, unpack
from boincserver.job_check import check_job
from boincserver.outbox import waiting
from boincserver.policy import delay_until_next
from boincserver.protocol.documents import version_text
from boincserver.protocol.request import plain_stderr
from boincserver.records import Job
from boincserver.schema import app as app_table
from boincserver.schema import batch as batch_table
from boincserver.schema import boincserver_outbox as outbox_table
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.service import Service
from boincserver.states import ErrorMask, ServerState
from boincserver.submission.control_calls import RightsCalls
from boincserver.submit import StoredAppFile

__all__ = ["make_control_app", "server_version"]

log = Events(__name__)

_JOBS_PER_COMMIT: Final = 250
_LONGEST_WAIT: Final = 60.0
_MOST_BYTES: Final = 32 << 20
"""Of outputs in one answer; a single job's may be larger."""

_OUTCOME_JOB: Final = select(
    workunit_table.c.name, workunit_table.c.error_mask, workunit_table.c.canonical_resultid
).where(workunit_table.c.id == bindparam("wuid"))
_ATTEMPTS: Final = (
    select(
        result_table.c.name,
        result_table.c.hostid,
        result_table.c.userid,
        result_table.c.outcome,
        result_table.c.validate_state,
        result_table.c.exit_status,
        result_table.c.stderr_out,
        result_table.c.elapsed_time,
        result_table.c.cpu_time,
        result_table.c.sent_time,
        result_table.c.received_time,
        result_table.c.id,
    )
    .where(result_table.c.workunitid == bindparam("wuid"), result_table.c.sent_time > 0)
    .order_by(result_table.c.id)
)
_STATES: Final = (
    select(
        workunit_table.c.name,
        workunit_table.c.error_mask,
        workunit_table.c.canonical_resultid,
        result_table.c.server_state,
        result_table.c.hostid,
        result_table.c.report_deadline,
    )
    .join(result_table, result_table.c.workunitid == workunit_table.c.id, isouter=True)
    .where(workunit_table.c.batch == bindparam("batch"))
    .order_by(workunit_table.c.id)
)
_IN_BATCH: Final = workunit_table.c.batch == batch_table.c.id
_BATCHES: Final = (
    select(
        batch_table.c.id,
        batch_table.c.name,
        app_table.c.name,
        batch_table.c.njobs,
        select(func.count())
        .where(_IN_BATCH, or_(workunit_table.c.canonical_resultid > 0, workunit_table.c.error_mask > 0))
        .scalar_subquery(),
        select(func.count()).where(_IN_BATCH, workunit_table.c.error_mask > 0).scalar_subquery(),
        select(func.count()).where(outbox_table.c.batch == batch_table.c.id).scalar_subquery(),
    )
    .join(app_table, app_table.c.id == batch_table.c.app_id)
    .order_by(batch_table.c.id)
)
_BY_STATE: Final = select(result_table.c.server_state, func.count()).group_by(result_table.c.server_state)
_WORKUNITS: Final = select(
    func.count(),
    func.sum(case((workunit_table.c.canonical_resultid > 0, 1), else_=0)),
    func.sum(case((workunit_table.c.error_mask > 0, 1), else_=0)),
    func.sum(case((workunit_table.c.error_mask == ErrorMask.CANCELLED, 1), else_=0)),
)


def server_version() -> str:
    """This program's version."""
    try:
        return version("pymw-grid")
    except PackageNotFoundError:
        return "unknown"


def make_control_app(service: Service) -> Starlette:
    """The control interface of a running project."""
    control = _Control(service)
    calls = {
        name.removeprefix("call_"): method
        for name, method in inspect.getmembers(control, inspect.iscoroutinefunction)
        if name.startswith("call_")
    }

    async def dispatch(request: Request) -> Response:
        call = calls.get(request.path_params["name"])
        if call is None:
            return _failure(BoincServerError(f"there is no call {request.path_params['name']!r}"), 404)
        return await _answer(call, request)

    return Starlette(
        routes=[
            Route("/files", control.put_file, methods=["PUT"]),
            Route("/call/{name}", dispatch, methods=["POST"]),
        ]
    )


async def _answer(call: Callable[..., Awaitable[Any]], request: Request) -> Response:
    try:
        document, data = unpack(await request.body())
        answer = await call(data, **document)
    except (BoincServerError, TypeError, ValueError, KeyError) as error:
        return _failure(error, 400)
    body = answer if isinstance(answer, bytes) else pack({"value": answer})
    return Response(body, media_type="application/octet-stream")


def _failure(error: Exception, status: int) -> Response:
    known = isinstance(error, BoincServerError) and type(error).__name__ in errors.__all__
    document = {"error": type(error).__name__ if known else "ControlError", "message": str(error) or repr(error)}
    return Response(json.dumps(document), status_code=status, media_type="application/json")


class _Control(AccountCalls, RightsCalls):
    """The calls; their parameters are those of `control.Control`."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.submitter = service.submitter
        self.writer = service.writer

    @property
    def now(self) -> int:
        return int(self.service.clock())

    @property
    def reader(self) -> Session:
        return self.service.database.reader()

    async def put_file(self, request: Request) -> Response:
        suffix = request.query_params.get("suffix", "")
        try:
            with self.service.downloads.incoming(suffix) as incoming:
                async for chunk in request.stream():
                    incoming.write(chunk)
                stored = await asyncio.to_thread(incoming.finish)
            await self.writer.run(lambda tx: self.submitter.downloads.record(tx, [(stored, True)], self.now))
        except (ValueError, OSError) as error:
            return _failure(BoincServerError(str(error)), 400)
        return Response(pack({"value": stored.name}))

    async def call_has_file(self, _data: memoryview, name: str) -> bool:
        if not self.service.downloads.path(name).exists():
            return False
        try:
            stored = self.submitter.downloads.find(self.reader, name)
        except BoincServerError:
            return False
        await self.writer.run(lambda tx: self.submitter.downloads.record(tx, [(stored, True)], self.now))
        return True

    async def call_info(self, _data: memoryview) -> Mapping[str, Any]:
        config = self.service.project.config
        return {
            "name": config.name,
            "url": config.url,
            "server_version": server_version(),
            "apps": sorted(app.name for app in self.service.catalog.apps.values()),
            "directory": str(self.service.project.directory),
            "one_result_per_user": config.jobs.one_result_per_user,
        }

    async def call_ensure_app(
        self, _data: memoryview, name: str, validator: str, assimilator: str, **columns: Any
    ) -> None:
        await self.writer.run(lambda tx: self.submitter.ensure_app(tx, name, validator, assimilator, columns, self.now))

    async def call_ensure_app_version(
        self,
        _data: memoryview,
        app: str,
        platform: str,
        version_num: int | None,
        files: list[dict[str, Any]],
        api_version: str,
        plan_class: str,
        beta: bool = False,
    ) -> Mapping[str, Any]:
        stored = [StoredAppFile(**file) for file in files]
        version = await self.writer.run(
            lambda tx: self.submitter.ensure_app_version(
                tx, app, platform, version_num, stored, api_version, plan_class, beta, self.now
            )
        )
        if version.created:
            log.info("version-added", app=app, platform=platform, version=version.version_num)
        return asdict(version)

    # --- batches ----------------------------------------------------------------------------------------------------

    async def call_create_batch(self, _data: memoryview, app: str, name: str, lease: float | None) -> Mapping[str, Any]:
        there = self.reader.get(batch_table, ("id",), name=name)
        number = await self.writer.run(lambda tx: self.submitter.create_batch(tx, app, name, lease, self.now))
        self.service.work_expected()
        if there is None:
            log.info("batch-opened", batch=number, name=name, app=app)
        return {"id": number, "name": name, "app": app}

    async def call_gather_batch(self, _data: memoryview, batch_id: int, key: str) -> int:
        await self._seen(batch_id)
        await self.writer.run(lambda tx: gathering.claim(tx, batch_id, key))
        moved = 0
        for part in gathering.parts(self.reader, batch_id):
            moved += await self.writer.run(lambda tx, part=part: gathering.move(tx, part, batch_id))  # type: ignore[misc]
        return moved

    async def call_renew(self, _data: memoryview, batch_id: int) -> None:
        self.submitter.batch_app(self.reader, batch_id)
        await self._seen(batch_id)

    async def _seen(self, batch_id: int) -> None:
        """The submitter is there: its lease begins anew, and hosts are to come back soon."""
        self.service.work_expected()
        lease, until = self.submitter.lease(self.reader, batch_id)
        # Not with every call: a lease that has most of its time left can wait.
        if lease and until < self.now + 0.8 * lease:
            await self.writer.run(lambda tx: self.submitter.renew(tx, batch_id, lease, self.now))

    async def call_create_jobs(self, data: memoryview, batch_id: int, jobs: list[Any]) -> int:
        wanted = list(_jobs(jobs, data))
        for job in wanted:
            check_job(job)
        await self._seen(batch_id)
        created = 0
        for start in range(0, len(wanted), _JOBS_PER_COMMIT):
            part = wanted[start : start + _JOBS_PER_COMMIT]
            created += await self.writer.run(
                lambda tx, part=part: self.submitter.create_jobs(tx, batch_id, part, self.now)  # type: ignore[misc]
            )
        return created

    async def call_outcomes(self, _data: memoryview, batch_id: int, after: int, limit: int, wait: float) -> bytes:
        await self._seen(batch_id)
        if wait > 0:
            await self.service.wait_for_outcome(
                batch_id, lambda: bool(waiting(self.reader, batch_id, after, 1)), min(wait, _LONGEST_WAIT)
            )
        return await asyncio.to_thread(self._outcomes, batch_id, after, min(limit, 10_000))

    def _outcomes(self, batch_id: int, after: int, limit: int) -> bytes:
        blobs = Blobs()
        listed = []
        for seq, number in waiting(self.reader, batch_id, after, limit):
            listed.append(self._outcome(seq, number, blobs))
            if blobs.size > _MOST_BYTES:
                break  # the rest with the next call
        return pack({"value": listed}, blobs)

    def _outcome(self, seq: int, number: int, blobs: Blobs) -> Mapping[str, Any]:
        row = self.reader.first(_OUTCOME_JOB, wuid=number)
        if row is None:
            raise BoincServerError(f"outcome {seq} has no job {number}; run: boincserver doctor")
        name, mask, canonical = row
        attempts = self.reader.all(_ATTEMPTS, wuid=number)
        outputs = {}
        for attempt in attempts:
            if attempt[11] == canonical:
                result = lifecycle.Result(canonical, attempt[0])
                files = self.service.pipeline.result_files(self.reader, result)
                outputs = {open_name: blobs.add(path.read_bytes()) for open_name, path in files.paths.items()}
        return {
            "seq": seq,
            "name": name,
            "error_mask": mask,
            "outputs": outputs,
            "attempts": [(*attempt[:6], plain_stderr(attempt[6] or ""), *attempt[7:11]) for attempt in attempts],
        }

    async def call_acknowledge(self, _data: memoryview, batch_id: int, upto_seq: int) -> None:
        await self._seen(batch_id)
        await self.service.acknowledge(batch_id, upto_seq)

    async def call_cancel_jobs(self, _data: memoryview, batch_id: int, names: list[str] | None) -> int:
        await self._seen(batch_id)
        log.info("cancelling", batch=batch_id, jobs="all" if names is None else len(names))
        if names is None:
            return await self.service.cancel_batch(batch_id)
        numbers = []
        for name in names:
            row = self.reader.get(workunit_table, ("id", "batch"), name=name)
            if row is not None and row[1] == batch_id:
                numbers.append(row[0])
        return await self.service.cancel_jobs(numbers)

    async def call_hurry(self, _data: memoryview, batch_id: int, names: list[str]) -> None:
        await self._seen(batch_id)
        rows = [self.reader.get(workunit_table, ("id", "batch"), name=name) for name in names]
        numbers = [row[0] for row in rows if row is not None and row[1] == batch_id]
        await self.writer.run(lambda tx: self.submitter.hurry(tx, numbers, self.now))

    async def call_job_states(self, _data: memoryview, batch_id: int) -> list[Any]:
        await self._seen(batch_id)
        return await asyncio.to_thread(self._job_states, batch_id)

    def _job_states(self, batch_id: int) -> list[Any]:
        states: dict[str, list[Any]] = {}
        for name, mask, canonical, server_state, hostid, deadline in self.reader.all(_STATES, batch=batch_id):
            state = states.setdefault(name, [name, "over" if mask or canonical else "unsent", [], 0])
            if state[1] != "over" and server_state == ServerState.IN_PROGRESS:
                state[1] = "in progress"
                state[2].append(hostid)
                state[3] = max(state[3], deadline)
        return list(states.values())

    async def call_changes(self, _data: memoryview, batch_id: int, epoch: str, after: int) -> Mapping[str, Any]:
        await self._seen(batch_id)
        changes = await self.service.news.changes(self.reader_of_thread, batch_id, epoch, after)
        jobs = [(job.name, job.state, job.hosts, job.deadline, job.said) for job in changes.jobs]
        return {"epoch": changes.epoch, "seq": changes.seq, "jobs": jobs}

    async def call_copies(self, _data: memoryview, batch_id: int, name: str) -> bytes:
        await self._seen(batch_id)
        return await asyncio.to_thread(lambda: copies(self.reader, self.service.pipeline, batch_id, name))

    # --- for the operator -------------------------------------------------------------------------------------------

    async def call_status(self, _data: memoryview) -> Mapping[str, Any]:
        counts = await asyncio.to_thread(status, self.service.project.config.name, self.reader_of_thread)
        writer = self.writer
        return {
            **counts,
            "queues": self.service.backlog,
            "operations_per_commit": writer.operations / max(writer.commits, 1),
            "next_rpc_delay": delay_until_next(
                self.service.quiet(self.service.clock()), self.service.scheduler.crowd.delay
            ),
        }

    async def call_host(self, _data: memoryview, number: int) -> Mapping[str, Any]:
        return await asyncio.to_thread(lambda: computers.described(self.service.database.reader(), number))

    async def call_block_host(self, _data: memoryview, number: int, blocked: bool) -> None:
        await self.writer.run(lambda tx: computers.block(tx.db, number, blocked))
        log.info("host-blocked" if blocked else "host-unblocked", host=number)

    async def call_health(self, _data: memoryview) -> Mapping[str, Any]:
        return self.service.health

    async def call_apps(self, _data: memoryview) -> list[Any]:
        catalog = self.service.catalog
        listed = []
        for app in sorted(catalog.apps.values(), key=lambda app: app.name):
            about = {"name": app.name, "validator": app.validator, "assimilator": app.assimilator}
            versions = [(v.platform, version_text(v.version_num)) for v in catalog.versions_of(app.id)]
            listed += [
                {**about, "platform": platform, "version": number} for platform, number in versions or [("", "")]
            ]
        return listed

    async def call_deprecate(self, _data: memoryview, app: str, version_num: int) -> int:
        log.info("version-deprecated", app=app, version=version_num)
        return await self.writer.run(lambda tx: self.submitter.deprecate(tx, app, version_num))

    async def call_batches(self, _data: memoryview) -> list[Any]:
        names = ("id", "name", "app", "jobs", "over", "failed", "to_fetch")
        rows = await asyncio.to_thread(lambda: self.service.database.reader().all(_BATCHES))
        return [dict(zip(names, (value or 0 for value in row), strict=True)) for row in rows]

    def reader_of_thread(self) -> Session:
        return self.service.database.reader()


def status(name: str, reader: Callable[[], Session]) -> Mapping[str, Any]:
    """Counts and hosts, as `boincserver status` shows them."""
    db = reader()
    by_state = {int(state): count for state, count in db.all(_BY_STATE)}
    total, done, failed, cancelled = db.first(_WORKUNITS) or (0, 0, 0, 0)
    return {
        "name": name,
        "jobs": {"total": total, "done": int(done or 0), "failed": int(failed or 0), "cancelled": int(cancelled or 0)},
        "copies": {
            "unsent": by_state.get(ServerState.UNSENT, 0),
            "in_progress": by_state.get(ServerState.IN_PROGRESS, 0),
            "over": by_state.get(ServerState.OVER, 0),
        },
        "hosts": computers.listed(db),
    }


def _jobs(described: list[Any], data: memoryview) -> Iterator[Job]:
    """The jobs that `control` described."""
    for common, alike in described:
        for name, inputs in alike:
            yield Job(
                name,
                {
                    open_name: content if isinstance(content, str) else blob(data, content)
                    for open_name, content in inputs.items()
                },
                *common,
            )
