"""Calls that make batches and jobs."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final

from sqlalchemy import bindparam, func, select

from boincserver.catalog import App
from boincserver.database import update_where
from boincserver.errors import SubmissionRefused
from boincserver.files import Stored
from boincserver.job_check import check_job
from boincserver.protocol.request import is_name
from boincserver.protocol.submission import BatchRequest, JobRequest, parse_batch, whole_number
from boincserver.protocol.text import element
from boincserver.records import Job
from boincserver.schema import batch as batch_table
from boincserver.schema import result as result_table
from boincserver.schema import user_submit
from boincserver.schema import workunit as workunit_table
from boincserver.states import BatchState, ServerState
from boincserver.submission import batches
from boincserver.submission.caller import JOBS_PER_COMMIT, Caller
from boincserver.submission.rights import Submitter
from boincserver.writer import Transaction

__all__ = ["Creating"]

_BATCH_NAME: Final = re.compile(r"[^<>&\x00-\x1f\x7f]{1,200}")
_IN_PROGRESS: Final = (
    select(func.count())
    .select_from(result_table.join(batch_table, batch_table.c.id == result_table.c.batch))
    .where(batch_table.c.user_id == bindparam("owner"), result_table.c.server_state < ServerState.OVER)
)


class Creating(Caller):
    """Batches and jobs are made."""

    async def call_create_batch(self, call: ET.Element) -> str:
        """A batch without jobs."""
        submitter = self.who(call)
        app = self._app((call.findtext("app_name") or "").strip(), submitter)
        name = (call.findtext("batch_name") or "").strip()
        number = await self._create_batch(submitter, app, name, whole_number(call, "expire_time"))
        return element("batch_id", number)

    async def _create_batch(self, submitter: Submitter, app: App, name: str, expire_time: int) -> int:
        now = int(self._service.clock())
        name = name or f"{submitter.name}:{app.name}:{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now))}"
        if not _BATCH_NAME.fullmatch(name):
            raise SubmissionRefused("a batch's name has up to 200 characters and none of < > &")

        def create(tx: Transaction) -> int:
            if tx.db.get(batch_table, ("id",), name=name) is not None:
                raise SubmissionRefused(f"Can't create batch: there is a batch {name}")
            number = tx.db.insert(
                batch_table, create_time=now, name=name, app_id=app.id, user_id=submitter.id,
                state=int(BatchState.INIT), expire_time=max(expire_time, 0),
            )  # fmt: skip
            if expire_time > 0:
                tx.on_commit(lambda: self._service.due(expire_time + 1))
            return number

        return await self._service.writer.run(create)

    async def call_submit_batch(self, call: ET.Element) -> str:
        """Jobs of a new batch, or of one that is there."""
        submitter = self.who(call)
        wanted = await asyncio.to_thread(
            parse_batch, call, self._template, self._service.project.config.submission.max_jobs
        )
        app = self._app(wanted.app_name, submitter)
        jobs = [self._job(request, app.name) for request in wanted.jobs]
        self._check_limit(submitter, sum(job.target_nresults or job.min_quorum for job in jobs))
        if wanted.allocation_priority:
            priority = -int(await self._allocate(submitter, wanted.fpops))
            jobs = [job._replace(priority=max(priority, -(2**31))) for job in jobs]
        await asyncio.to_thread(self._check_jobs, jobs, wanted.batch_id)
        # Not before: a call that is refused leaves nothing behind.
        number = await self._open_batch(submitter, app, wanted)
        await self._create_jobs(number, jobs)
        return element("batch_id", number)

    async def _open_batch(self, submitter: Submitter, app: App, wanted: BatchRequest) -> int:
        if not wanted.batch_id:
            return await self._create_batch(submitter, app, wanted.batch_name, 0)
        batch = batches.batch_of(self._db, submitter.id, wanted.batch_id, "")
        if batch.app_id != app.id:
            raise SubmissionRefused(f"the batch is of another application than {app.name}")
        if batch.state >= BatchState.ABORTED:
            raise SubmissionRefused("batch not in init state: it was aborted or retired")
        return batch.id

    def _check_limit(self, submitter: Submitter, more: int) -> None:
        limit = submitter.max_jobs_in_progress
        if limit and int(self._db.value(_IN_PROGRESS, owner=submitter.id) or 0) + more > limit:
            raise SubmissionRefused(f"limit on jobs in progress exceeded: this account may have {limit}")

    def _job(self, request: JobRequest, prefix: str) -> Job:
        limits = request.limits
        uses = request.template.inputs
        inputs: dict[str, bytes | str] = {}
        for use, file in zip(uses, request.inputs, strict=True):
            if file.mode == "local_staged" and not is_name(file.source):
                raise SubmissionRefused(f"{file.source[:100]!r} cannot name a file")
            inputs[use.open_name] = file.source if file.mode == "local_staged" else file.source.encode()
        specs = request.outputs
        return Job(
            request.name or f"{prefix}_{secrets.token_hex(8)}",
            inputs,
            {spec.open_name: spec.max_nbytes for spec in specs},
            request.command_line,
            min_quorum=int(limits["min_quorum"]),
            target_nresults=int(limits["target_nresults"]),
            max_error_results=int(limits["max_error_results"]),
            max_total_results=int(limits["max_total_results"]),
            max_success_results=int(limits["max_success_results"]),
            delay_bound=int(limits["delay_bound"]),
            rsc_fpops_est=limits["rsc_fpops_est"],
            rsc_fpops_bound=limits["rsc_fpops_bound"],
            rsc_memory_bound=limits["rsc_memory_bound"],
            rsc_disk_bound=limits["rsc_disk_bound"],
            priority=int(limits.get("priority", 0)),
            copy_files=(*(u.open_name for u in uses if u.copy), *(s.open_name for s in specs if s.copy)),
            optional=tuple(spec.open_name for spec in specs if spec.optional),
        )

    def _check_jobs(self, jobs: list[Job], batch: int) -> None:
        """A name of another batch's job is refused; one of this batch is there already, and stays."""
        db = self._db
        files = {content for job in jobs for content in job.inputs.values() if isinstance(content, str)}
        for name in files:
            self._service.submitter.downloads.find(db, name)
        for job in jobs:
            check_job(job)
            row = db.get(workunit_table, ("batch",), name=job.name)
            if row is not None and (row[0] != batch or not batch):
                raise SubmissionRefused(f"create_work failed: there is a job {job.name}")

    async def _create_jobs(self, batch: int, jobs: list[Job]) -> None:
        service = self._service
        service.work_expected()
        for start in range(0, len(jobs), JOBS_PER_COMMIT):
            part = jobs[start : start + JOBS_PER_COMMIT]
            await service.writer.run(lambda tx, part=part: self._create(tx, batch, part))  # type: ignore[misc]

    def _create(self, tx: Transaction, batch: int, jobs: list[Job]) -> None:
        now = int(self._service.clock())
        staged = []
        for job in jobs:
            inputs = {name: self._staged(tx, content, now) for name, content in job.inputs.items()}
            staged.append(job._replace(inputs=inputs))
        self._service.submitter.create_jobs(tx, batch, staged, now)

    def _staged(self, tx: Transaction, content: bytes | str, now: int) -> str:
        """The name of a file; what came with the call is kept under the official name."""
        if isinstance(content, str):
            return content
        md5 = hashlib.md5(content).hexdigest()
        stored = Stored(f"jf_{md5}", len(content), md5)
        downloads = self._service.downloads
        path = Path(downloads.place(stored.name))
        if not path.exists():
            path.write_bytes(content)
            tx.sync.append(path)
        self._service.submitter.downloads.record(tx, [(stored, False)], now)
        return stored.name

    async def _allocate(self, submitter: Submitter, fpops: float) -> float:
        """Move the account's place in time by the work that it asks for: whoever asks for much waits longer."""
        start = max(submitter.logical_start_time, self._service.clock())
        end = start + fpops / batches.project_flops(self._db)
        statement = update_where(user_submit, ("logical_start_time",), ("user_id",))
        await self._service.writer.run(
            lambda tx: tx.db.run(statement, was_user_id=submitter.id, logical_start_time=end)
        )
        return end

    async def call_estimate_batch(self, call: ET.Element) -> str:
        """About how long the volunteers need for these jobs."""
        submitter = self.who(call)
        batch = call.find("batch")
        self._app((batch.findtext("app_name") or "").strip() if batch is not None else "", submitter)
        jobs = [] if batch is None else batch.findall("job")
        fpops = 0.0
        for job in jobs:
            text = (job.findtext("rsc_fpops_est") or "").strip()
            try:
                fpops += float(text)
            except ValueError:
                raise SubmissionRefused("no rsc_fpops_est given for job") from None
        return element("seconds", fpops / batches.project_flops(self._db))
