"""Input files of submitters: `job_file.php`. Files are immutable, and what is there is not sent again."""

from __future__ import annotations

import asyncio
import re
import xml.etree.ElementTree as ET
from typing import Final

from boincserver.errors import BoincServerError, SubmissionRefused
from boincserver.files import Incoming, Stored, digest_file
from boincserver.protocol.request import is_name
from boincserver.protocol.submission import whole_number
from boincserver.submission.batches import batch_of
from boincserver.submission.caller import Caller
from boincserver.submission.form import FileData, FileEnd, FileStart, Form
from boincserver.writer import Transaction

__all__ = ["BY_MD5", "FileCalls"]

BY_MD5: Final = re.compile(r"jf_([0-9a-f]{32})")
_BY_SHA256: Final = re.compile(r"[0-9a-f]{40}([._-].*)?")
_LONGEST_NAME: Final = 200
_MOST_FILES: Final = 10_000
KEPT_WITHOUT_JOBS: Final = 86400
"""Seconds for which a file that no job uses stays at least; see `file_deleter`."""


class FileCalls(Caller):
    """What is here, and what is to be here."""

    async def query_files(self, call: ET.Element) -> str:
        """Which of these files are absent, by their places in the question; those that are here stay for a while."""
        submitter = self.who(call)
        self._check_batch(call, submitter.id)
        names = self._names(call)

        def look(tx: Transaction) -> list[int]:
            absent = []
            for number, name in enumerate(names):
                try:
                    stored = self._service.submitter.downloads.find(tx.db, name)
                except BoincServerError:
                    absent.append(number)
                else:
                    self._keep(tx, stored, call)
            return absent

        absent = await self._service.writer.run(look)
        return f"<absent_files>\n{''.join(f'<file>{number}</file>' for number in absent)}\n</absent_files>\n"

    async def upload_files(self, call: ET.Element, form: Form) -> str:
        """Keep the files that come with the call, in the order of their names."""
        submitter = self.who(call)
        self._check_batch(call, submitter.id)
        names = self._names(call)
        stored: list[Stored] = []
        async for part in form:
            if not isinstance(part, FileStart):
                raise SubmissionRefused(f"unexpected field after the request: {getattr(part, 'name', '')!r}")
            if len(stored) == len(names):
                raise SubmissionRefused(f"there are more files than the {len(names)} names in the request")
            stored.append(await self._receive(names[len(stored)], form))
        if len(stored) != len(names):
            raise SubmissionRefused(f"# of uploaded files ({len(stored)}) doesn't agree with request ({len(names)})")

        def keep(tx: Transaction) -> None:
            for each in stored:
                self._keep(tx, each, call)

        await self._service.writer.run(keep)
        return "<success/>\n"

    async def _receive(self, name: str, form: Form) -> Stored:
        most = self._service.project.config.submission.max_file_bytes
        with self._service.downloads.incoming() as incoming:
            async for part in form:
                if isinstance(part, FileEnd):
                    return await asyncio.to_thread(self._finish, name, incoming)
                if isinstance(part, FileData):
                    incoming.write(part.data)
                    if incoming.size > most:
                        raise SubmissionRefused(f"{name} is larger than the {most} bytes that a file may have here")
        raise SubmissionRefused("the form is not complete")

    def _finish(self, name: str, incoming: Incoming) -> Stored:
        path = self._service.downloads.path(name)
        named = BY_MD5.fullmatch(name)
        if named is not None and named[1] != incoming.md5:
            raise SubmissionRefused(f"{name} is no file with this content: its MD5 is {incoming.md5}")
        if path.exists() and digest_file(path, "md5") != incoming.md5:
            raise SubmissionRefused(f"file immutability violation for {name}: it is there with other content")
        return incoming.finish(name)

    def _names(self, call: ET.Element) -> list[str]:
        names = [(element.text or "").strip() for element in call.findall("phys_name")]
        if len(names) > _MOST_FILES:
            raise SubmissionRefused(f"more than {_MOST_FILES} files; ask in several calls")
        for name in names:
            # The names that the server gives by content are not for others to take.
            if not is_name(name) or len(name) > _LONGEST_NAME or name.startswith(".") or _BY_SHA256.fullmatch(name):
                raise SubmissionRefused(f"bad filename {name[:100]!r}; jf_ and the MD5 of the content is a good one")
        if len(set(names)) != len(names):
            raise SubmissionRefused("a file is named twice")
        return names

    def _check_batch(self, call: ET.Element, owner: int) -> None:
        number = whole_number(call, "batch_id")
        if number:
            batch_of(self._db, owner, number, "")

    def _keep(self, tx: Transaction, stored: Stored, call: ET.Element) -> None:
        now = int(self._service.clock())
        until = min(whole_number(call, "delete_time"), now + 366 * 86400)
        self._service.submitter.downloads.record(tx, [(stored, True)], max(now, until - KEPT_WITHOUT_JOBS))
