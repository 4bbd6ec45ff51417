"""Deletes what no job needs any more: outputs of results, inputs of workunits.

The tables say READY before anything is deleted and DONE afterwards, so a crash in between deletes again, harmlessly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, delete, select, update

from boincserver.deletion import DeletionLock
from boincserver.files import FileStore
from boincserver.protocol import documents
from boincserver.schema import boincserver_file as file_table
from boincserver.schema import boincserver_file_use as use_table
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import FileDeleteState
from boincserver.uploads import Uploads
from boincserver.writer import Transaction

__all__ = ["FileDeleter"]

_KEPT_AFTER_PUT: Final = 24 * 3600
"""Seconds for which a file stays that no job uses: whoever put it may be about to submit the job."""

_READY_RESULTS: Final = select(result_table.c.id, result_table.c.xml_doc_in).where(
    result_table.c.workunitid == bindparam("wuid"), result_table.c.file_delete_state == FileDeleteState.READY
)
_RESULT_DONE: Final = (
    update(result_table)
    .where(result_table.c.id == bindparam("number"), result_table.c.file_delete_state == FileDeleteState.READY)
    .values(file_delete_state=int(FileDeleteState.DONE))
)
_WORKUNIT_DONE: Final = (
    update(workunit_table)
    .where(workunit_table.c.id == bindparam("number"), workunit_table.c.file_delete_state == FileDeleteState.READY)
    .values(file_delete_state=int(FileDeleteState.DONE))
)
_USED: Final = select(use_table.c.name).where(use_table.c.workunitid == bindparam("wuid"))
_UNUSE: Final = delete(use_table).where(use_table.c.workunitid == bindparam("wuid"))
_IN_USE: Final = select(use_table.c.workunitid).where(use_table.c.name == bindparam("file_name")).limit(1)
_OLD_FILE: Final = delete(file_table).where(
    file_table.c.name == bindparam("file_name"), file_table.c.create_time < bindparam("before")
)
_UNUSED: Final = (
    select(file_table.c.name)
    .where(file_table.c.create_time < bindparam("before"))
    .where(~select(use_table.c.name).where(use_table.c.name == file_table.c.name).exists())
    .limit(bindparam("most"))
)


@dataclass
class FileDeleter:
    """Works in the writer's thread, a handful of jobs in one operation."""

    downloads: FileStore
    uploads: Uploads
    lock: DeletionLock

    def delete(self, tx: Transaction, workunits: Sequence[int], now: int) -> bool:
        """Delete what is READY of these jobs; false, and nothing is deleted, while a backup is being made."""
        if not self._begin(tx):
            return False
        finished: list[int] = []
        for number in workunits:
            for result, xml in tx.db.all(_READY_RESULTS, wuid=number):
                for output in documents.expected_outputs(xml or ""):
                    tx.remove.append(self.uploads.forget(output.name))
                finished.append(result)
            self._inputs(tx, number, now)
        tx.db.many(_RESULT_DONE, [{"number": number} for number in finished])
        return True

    def _begin(self, tx: Transaction) -> bool:
        if not self.lock.enter():
            return False
        # Not before the tables say on disk what is gone: a backup must not see them say otherwise.
        tx.on_commit(self.lock.leave)
        tx.on_rollback(self.lock.leave)
        return True

    def _inputs(self, tx: Transaction, number: int, now: int) -> None:
        if not tx.db.run(_WORKUNIT_DONE, number=number):
            return
        names = [row[0] for row in tx.db.all(_USED, wuid=number)]
        if not names:
            return
        tx.db.run(_UNUSE, wuid=number)
        for name in names:
            self._unless_used(tx, name, now)

    def sweep(self, tx: Transaction, now: int, most: int = 1000) -> int:
        """Delete files that were put and never used."""
        if not self._begin(tx):
            return 0
        names = [row[0] for row in tx.db.all(_UNUSED, before=now - _KEPT_AFTER_PUT, most=most)]
        for name in names:
            self._unless_used(tx, name, now)
        return len(names)

    def _unless_used(self, tx: Transaction, name: str, now: int) -> None:
        if tx.db.first(_IN_USE, file_name=name) is not None:
            return
        if tx.db.locked(file_table, ("name",), name=name) is None or tx.db.first(_IN_USE, file_name=name) is not None:
            return
        if tx.db.run(_OLD_FILE, file_name=name, before=now - _KEPT_AFTER_PUT):
            # While the row is locked, and before it is gone: who makes a job with this file locks the row first.
            self.downloads.path(name).unlink(missing_ok=True)
