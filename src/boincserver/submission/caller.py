"""Who asks, and for what of his own: the beginning of every call."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Final

from boincserver.catalog import App
from boincserver.database import Session
from boincserver.errors import SubmissionRefused, UnknownApp
from boincserver.protocol.submission import whole_number
from boincserver.schema import workunit as workunit_table
from boincserver.service import Service
from boincserver.submission import batches, rights
from boincserver.submission.rights import Submitter

__all__ = ["JOBS_PER_COMMIT", "Caller"]

JOBS_PER_COMMIT: Final = 250


class Caller:
    """What all calls need."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @property
    def _db(self) -> Session:
        return self._service.database.reader()

    def who(self, call: ET.Element) -> Submitter:
        """The account that asks; SubmissionRefused if it may not."""
        return rights.submitter(self._db, (call.findtext("authenticator") or "").strip())

    def _app(self, name: str, submitter: Submitter) -> App:
        try:
            app = self._service.submitter.app(name)
        except UnknownApp:
            raise SubmissionRefused(f"no app named {name[:100]} was found") from None
        submitter.check(self._db, app)
        return app

    def _batch(self, call: ET.Element, submitter: Submitter) -> batches.BatchRow:
        name = (call.findtext("batch_name") or "").strip()
        return batches.batch_of(self._db, submitter.id, whole_number(call, "batch_id"), name)

    def _own_job(self, submitter: Submitter, **equal: object) -> tuple[int, int, int, int]:
        """A job of a batch of the account's: its number, its batch, its canonical result and its errors."""
        row = self._db.get(workunit_table, ("id", "batch", "canonical_resultid", "error_mask"), **equal)
        if row is None:
            raise SubmissionRefused("no such job")
        batches.batch_of(self._db, submitter.id, row[1], "")
        return row[0], row[1], row[2], row[3]

    def _template(self, name: str) -> str | None:
        path = self._service.project.directory / "templates" / name
        return path.read_text("utf-8") if path.is_file() else None
