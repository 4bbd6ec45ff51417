"""Files that jobs and application versions use: in the store, and in the tables, which keep them from being deleted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, update

from boincserver.database import Session
from boincserver.errors import BoincServerError
from boincserver.files import FileStore, Stored, fanout
from boincserver.schema import boincserver_file as file_table
from boincserver.writer import Transaction

__all__ = ["Downloads"]

_TOUCH: Final = (
    update(file_table).where(file_table.c.name == bindparam("file_name")).values(create_time=bindparam("since"))
)


@dataclass(frozen=True)
class Downloads:
    """The files that clients download from a project with this URL."""

    store: FileStore
    project_url: str

    def record(self, tx: Transaction, files: Iterable[tuple[Stored, bool]], now: int) -> None:
        """Write down files that were put; `kept`: not to be deleted for a while although nothing uses them."""
        for stored, kept in files:
            since = now if kept else 0
            # The lock keeps the file from being deleted as unused until this transaction has said that it is used.
            if tx.db.locked(file_table, ("name",), name=stored.name) is None:
                tx.db.insert(file_table, name=stored.name, nbytes=stored.nbytes, md5=stored.md5, create_time=since)
            elif kept:
                tx.db.run(_TOUCH, file_name=stored.name, since=since)

    def find(self, db: Session, name: str) -> Stored:
        """A file in the store; BoincServerError if it is not there."""
        row = db.locked(file_table, ("name", "nbytes", "md5"), name=name)
        if row is None or not self.store.path(name).exists():
            raise BoincServerError(f"there is no file {name!r} in the project; put it first")
        return Stored(row[0], int(row[1]), row[2])

    def url(self, name: str) -> str:
        """Where clients download this file."""
        return f"{self.project_url}download/{fanout(name)}/{name}"
