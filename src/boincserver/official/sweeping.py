"""What nobody needs any more: work whose submitter is gone, batches that are over, files that no job uses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, func, select, update

from boincserver import durable
from boincserver.official.batches import Batches
from boincserver.official.ending import end_jobs, unfinished
from boincserver.official.tables import Tables
from boincserver.schema import batch as batch_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import AssimilateState, BatchState, FileDeleteState

__all__ = ["Sweep"]

log = logging.getLogger(__name__)

_EVERY: Final = 60.0
GRACE: Final = 86400.0
"""Seconds for which a shared file is kept that no job uses, and files of a batch whose submitter may come back."""

_STATE: Final = (
    update(batch_table).where(batch_table.c.id == bindparam("batch_id")).values(state=bindparam("new_state"))
)
_NOT_FILED: Final = select(func.count()).where(
    workunit_table.c.batch == bindparam("batch_id"), workunit_table.c.assimilate_state != int(AssimilateState.DONE)
)
_WITH_FILES: Final = select(func.count()).where(
    workunit_table.c.batch == bindparam("batch_id"), workunit_table.c.file_delete_state < int(FileDeleteState.DONE)
)


@dataclass
class Sweep:
    """Done by the assimilator, now and then."""

    tables: Tables
    batches: Batches
    clock: Callable[[], float] = time.time
    _next: float = 0.0

    def now_and_then(self) -> None:
        """A sweep, unless the last one was a moment ago."""
        if time.monotonic() >= self._next:
            self.sweep()
            self._next = time.monotonic() + _EVERY

    def sweep(self) -> None:
        """Look at every batch, then at the files that they share."""
        for batch in sorted(self.batches.known()):
            row = self.tables.reader().get(batch_table, ("state", "expire_time", "name"), id=batch)
            if row is None:
                self.batches.remove(batch)
                continue
            state, expires, name = row
            if 0 < expires < self.clock() and state < BatchState.ABORTED:
                count = end_jobs(self.tables, batch, unfinished(self.tables, batch))
                self._set_state(batch, state := int(BatchState.ABORTED))
                log.warning("batch %s: whoever submitted it is gone; %d jobs ended", name, count)
            if state >= BatchState.ABORTED and not self._count(_NOT_FILED, batch):
                self._set_state(batch, int(BatchState.RETIRED))
                self.batches.remove(batch)
            elif self.batches.unseen(batch) > GRACE and not self._count(_WITH_FILES, batch):
                self.batches.disuse(batch)
        self._delete_files()

    def _delete_files(self) -> None:
        with self.batches.locked():
            used = {name for batch in self.batches.known() for name in self.batches.used(batch)}
            for name, put in self.batches.shared().items():
                if name not in used and put < self.clock() - GRACE:
                    durable.remove([self.tables.settings.downloads.location(name)])
                    self.batches.unshare(name)
                    log.info("%s: deleted, no job uses it", name)

    def _count(self, statement: object, batch: int) -> int:
        return int(self.tables.reader().value(statement, batch_id=batch))  # type: ignore[arg-type]

    def _set_state(self, batch: int, state: int) -> None:
        self.tables.reader().run(_STATE, batch_id=batch, new_state=state)
