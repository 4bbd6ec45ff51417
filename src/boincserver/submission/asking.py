"""Calls that ask how far batches and jobs are."""

from __future__ import annotations

import asyncio
import re
import xml.etree.ElementTree as ET
from typing import Final

from sqlalchemy import bindparam, select

from boincserver.errors import SubmissionRefused
from boincserver.protocol.request import plain_stderr
from boincserver.protocol.submission import children, stderr_element, whole_number
from boincserver.protocol.text import element
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import Outcome, ServerState
from boincserver.submission import batches
from boincserver.submission.caller import Caller
from boincserver.submission.outputs import output_paths

__all__ = ["Asking"]

_SOFTWARE: Final = "boincserver"
_INSTANCES: Final = (
    select(
        result_table.c.id, result_table.c.name, result_table.c.server_state, result_table.c.outcome,
        result_table.c.validate_state, result_table.c.exit_status, result_table.c.hostid,
        result_table.c.report_deadline,
    )
    .where(result_table.c.workunitid == bindparam("wuid"))
    .order_by(result_table.c.id)
)  # fmt: skip


class Asking(Caller):
    """How far is it?"""

    async def call_ping(self, _call: ET.Element) -> str:
        """Is anybody there? Needs no account. The second element tells our server from the official one."""
        return children([("success", 1), ("software", _SOFTWARE)])

    async def call_query_batch(self, call: ET.Element) -> str:
        """A batch with its jobs."""
        batch = self._batch(call, self.who(call))
        with_cpu, with_details = whole_number(call, "get_cpu_time"), whole_number(call, "get_job_details")
        return await asyncio.to_thread(self._query_batch, batch, bool(with_cpu), bool(with_details))

    def _query_batch(self, batch: batches.BatchRow, with_cpu: bool, with_details: bool) -> str:
        db = self._db
        known = batches.details(db, batch.id) if with_details else None
        jobs = []
        for job in batches.jobs_of(db, batch.id):
            told = f"<id>{job.id}</id><name>{job.name}</name>"
            told += f"<canonical_instance_id>{job.canonical_resultid}</canonical_instance_id>"
            if job.canonical_name:
                told += f"<canonical_instance_name>{job.canonical_name}</canonical_instance_name>"
                told += f"<canonical_hostid>{job.canonical_host}</canonical_hostid>"
            if known is not None:
                told += _details(job, known.get(job.id, batches.Details()))
            jobs.append(f"<job>{told}</job>\n")
        return _batch_text(batch, batches.cpu_time(db, batch.id) if with_cpu else None) + "".join(jobs)

    async def call_query_batches(self, call: ET.Element) -> str:
        """Every batch of the account."""
        submitter = self.who(call)
        with_cpu = whole_number(call, "get_cpu_time")

        def tell() -> str:
            db = self._db
            return "".join(
                f"<batch>\n{_batch_text(batch, batches.cpu_time(db, batch.id) if with_cpu else None)}</batch>\n"
                for batch in batches.batches_of(db, submitter.id)
            )

        return await asyncio.to_thread(tell)

    async def call_query_batch2(self, call: ET.Element) -> str:
        """How far the jobs of several batches are."""
        submitter = self.who(call)
        found = [batches.batch_of(self._db, submitter.id, 0, (name.text or "").strip()) for name in call.findall("batch_name")]  # fmt: skip  # noqa: E501

        def tell() -> str:
            db = self._db
            parts = [element("server_time", self._service.clock())]
            for batch in found:
                known = batches.details(db, batch.id)
                jobs = list(batches.jobs_of(db, batch.id))
                parts.append(element("batch_size", len(jobs)))
                for job in jobs:
                    status = batches.job_status(job, known.get(job.id, batches.Details())).upper()
                    words = "UNSENT" if status == "QUEUED" else status
                    parts.append(f"<job>\n{children([('job_name', job.name), ('status', words)])}</job>\n")
            return "".join(parts)

        return await asyncio.to_thread(tell)

    async def call_query_job(self, call: ET.Element) -> str:
        """The copies of a job."""
        number, *_ = self._own_job(self.who(call), id=whole_number(call, "job_id"))
        parts = []
        for row in self._db.all(_INSTANCES, wuid=number):
            state = batches.state_in_words(*row[2:6])
            told = children([("name", row[1]), ("id", row[0]), ("state", state), ("hostid", row[6])])
            told += children([("exit_status", row[5]), ("deadline", row[7])])
            if row[2] == ServerState.OVER:
                told += "".join(f"<outfile>\n{element('size', size)}</outfile>\n" for size in self._sizes(row[0]))
            parts.append(f"<instance>\n{told}</instance>\n")
        return "".join(parts)

    def _sizes(self, result: int) -> list[int]:
        found = output_paths(self._service, result)
        return [path.stat().st_size for path in found if path.is_file()]

    async def call_query_completed_job(self, call: ET.Element) -> str:
        """The copy of a job that was kept, or else one that failed."""
        number, _, canonical, mask = self._own_job(self.who(call), name=(call.findtext("job_name") or "").strip())
        told = element("error_mask", mask)
        chosen = canonical
        if canonical:
            told += element("canonical_resultid", canonical)
        else:
            ended = (Outcome.SUCCESS, Outcome.CLIENT_ERROR, Outcome.VALIDATE_ERROR)
            chosen = max((row[0] for row in self._db.all(_INSTANCES, wuid=number) if row[3] in ended), default=0)
            told += element("error_resultid", chosen) if chosen else ""
        columns = ("exit_status", "elapsed_time", "cpu_time", "stderr_out")
        row = self._db.get(result_table, columns, id=chosen) if chosen else None
        if row is not None:
            told += children(list(zip(columns[:3], row[:3], strict=True))) + stderr_element(plain_stderr(row[3] or ""))
        return f"<completed_job>\n{told}</completed_job>\n"

    async def call_get_templates(self, call: ET.Element) -> str:
        """The template files of an application."""
        submitter = self.who(call)
        name = (call.findtext("app_name") or "").strip()
        if not name:
            number, *_ = self._own_job(submitter, name=(call.findtext("job_name") or "").strip())
            row = self._db.get(workunit_table, ("appid",), id=number)
            found = self._service.catalog.apps.get(row[0]) if row else None
            name = found.name if found else ""
        app = self._app(name, submitter)
        texts = [self._template(f"{app.name}_{kind}") for kind in ("in", "out")]
        if None in texts:
            raise SubmissionRefused("template file missing")
        plain = [re.sub(r"<\?xml[^>]*\?>", "", text or "").strip() for text in texts]
        return f"<templates>\n{plain[0]}\n{plain[1]}\n</templates>\n"


def _batch_text(batch: batches.BatchRow, cpu_time: float | None) -> str:
    pairs: list[tuple[str, object]] = [
        ("id", batch.id), ("create_time", batch.create_time), ("expire_time", int(batch.expire_time)),
        ("est_completion_time", batch.est_completion_time), ("njobs", batch.njobs),
        ("fraction_done", batch.fraction_done), ("nerror_jobs", batch.nerror_jobs), ("state", batch.state),
        ("completion_time", batch.completion_time), ("credit_estimate", batch.credit_estimate),
        ("credit_canonical", batch.credit_canonical), ("name", batch.name), ("app_name", batch.app_name),
    ]  # fmt: skip
    if cpu_time is not None:
        pairs.append(("total_cpu_time", cpu_time))
    return children(pairs)


def _details(job: batches.JobRow, known: batches.Details) -> str:
    pairs: list[tuple[str, object]] = [("error", word) for word in batches.errors_in_words(job.error_mask)]
    if job.error_mask:
        pairs += [("exit_status", status) for status in known.exit_statuses]
    if known.cpu_time is not None:
        pairs.append(("cpu_time", known.cpu_time))
    return children([*pairs, ("status", batches.job_status(job, known))])
