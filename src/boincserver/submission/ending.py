"""Calls that end batches and jobs, or say when."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from boincserver.database import update_where
from boincserver.protocol.submission import whole_number
from boincserver.protocol.text import element
from boincserver.schema import batch as batch_table
from boincserver.states import BatchState
from boincserver.submission.caller import Caller

__all__ = ["Ending"]


class Ending(Caller):
    """Batches and jobs end."""

    async def call_abort_batch(self, call: ET.Element) -> str:
        """End what is not over, on hosts too."""
        batch = self._batch(call, self.who(call))
        await self._service.cancel_batch(batch.id)
        await self._set(batch.id, "state", int(BatchState.ABORTED))
        return element("success", 1)

    async def call_retire_batch(self, call: ET.Element) -> str:
        """Nobody will ask for the batch again: its files may go."""
        batch = self._batch(call, self.who(call))
        await self._service.cancel_batch(batch.id, abandon=True)
        return element("success", 1)

    async def call_abort_jobs(self, call: ET.Element) -> str:
        """End these jobs, on hosts too."""
        submitter = self.who(call)
        names = [(name.text or "").strip() for name in call.findall("job_name")]
        numbers = [self._own_job(submitter, name=name)[0] for name in names]
        await self._service.cancel_jobs(numbers)
        return "".join(element("aborted", name) for name in names) + element("success", 1)

    async def call_set_expire_time(self, call: ET.Element) -> str:
        """When the batch is to be ended; 0: never."""
        batch = self._batch(call, self.who(call))
        expire_time = max(whole_number(call, "expire_time"), 0)
        await self._set(batch.id, "expire_time", expire_time)
        self._service.work_expected()
        if expire_time:
            self._service.due(expire_time + 1)
        return element("success", 1)

    async def _set(self, batch: int, column: str, value: int) -> None:
        statement = update_where(batch_table, (column,), ("id",))
        await self._service.writer.run(lambda tx: tx.db.run(statement, was_id=batch, **{column: value}))
