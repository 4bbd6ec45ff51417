"""Calls that the official interface lacks: what changes while jobs are out, which computers are there, what is late.

Whoever uses them has to do without where the server does not know them; it says "no such action" then.
"""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from typing import Final

from boincserver.control_app import status
from boincserver.protocol.submission import children, whole_number, xml_text
from boincserver.protocol.text import element
from boincserver.submission.caller import Caller

__all__ = ["Watching"]

MOST_HURRIED: Final = 200
"""Jobs in one call: what is late at the end of a run, and one commit."""
_OF_HOST: Final = ("id", "user_id", "ncpus", "last_contact", "in_progress", "succeeded", "failed")
"""What a submitter may know of a volunteer's computer: no names."""


class Watching(Caller):
    """What happens meanwhile."""

    async def call_query_changes(self, call: ET.Element) -> str:
        """Jobs of a batch that went to hosts or came back since a number of an epoch, and what their programs say."""
        batch = self._batch(call, self.who(call))
        epoch, after = (call.findtext("epoch") or "").strip(), whole_number(call, "after")
        changes = await self._service.news.changes(self._service.database.reader, batch.id, epoch, after)
        parts = [children([("epoch", changes.epoch), ("seq", changes.seq)])]
        for job in changes.jobs:
            told = children([("name", job.name), ("state", job.state), ("deadline", job.deadline)])
            said = element("said", xml_text(job.said)) if job.said else ""
            parts.append(f"<job>{told}{said}{children([('hostid', host) for host in job.hosts])}</job>\n")
        return "".join(parts)

    async def call_hurry_jobs(self, call: ET.Element) -> str:
        """One more copy of each of these jobs, for a computer that is quick and fails at nothing."""
        submitter, service = self.who(call), self._service
        numbers = [self._own_job(submitter, name=(name.text or "").strip())[0] for name in call.findall("job_name")]
        await service.writer.run(lambda tx: service.submitter.hurry(tx, numbers[:MOST_HURRIED], int(service.clock())))
        return element("success", 1)

    async def call_query_hosts(self, call: ET.Element) -> str:
        """The computers of the project, and whether the copies of a job go to different users."""
        self.who(call)
        hosts = (await asyncio.to_thread(status, "", self._service.database.reader))["hosts"]
        by_user = int(self._service.project.config.jobs.one_result_per_user)
        listed = "".join(f"<host>{children([(name, host[name]) for name in _OF_HOST])}</host>\n" for host in hosts)
        return element("one_result_per_user", by_user) + listed
