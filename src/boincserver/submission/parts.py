"""Large files in parts, which the official interface lacks: what arrived before a connection broke is not sent again.

    query_part: phys_name                     ─▶ how many bytes of it are here
    upload_part: phys_name, nbytes, offset    ─▶ the same after this part; with the last one the file is kept

A file is named by its content, so parts that do not belong together never become one.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from boincserver import durable
from boincserver.errors import BoincServerError, SubmissionRefused
from boincserver.files import Stored, digest_file
from boincserver.protocol.submission import whole_number
from boincserver.protocol.text import element
from boincserver.submission.files import BY_MD5, FileCalls
from boincserver.submission.form import FileData, FileEnd, FileStart, Form
from boincserver.submission.rights import Submitter

__all__ = ["PartCalls"]

_MOST: Final = 20
"""Files of one account that are not complete."""
_KEPT: Final = 86400.0
"""Seconds after which one that does not grow is given up."""


class PartCalls(FileCalls):
    """Files that come in parts."""

    async def query_part(self, call: ET.Element) -> str:
        """How many bytes of a file are here."""
        submitter = self.who(call)
        name = self._content_name(call)
        stored = self._there(name)
        if stored is not None:
            return element("size", stored.nbytes)
        path = self._path(submitter, name)
        return element("size", path.stat().st_size if path.exists() else 0)

    async def upload_part(self, call: ET.Element, form: Form) -> str:
        """Keep the next bytes of a file; the answer says how many are here, whether they were the next or not."""
        submitter = self.who(call)
        self._check_batch(call, submitter.id)
        name = self._content_name(call)
        total, offset = whole_number(call, "nbytes"), whole_number(call, "offset")
        most = self._service.project.config.submission.max_file_bytes
        if not 0 < total <= most:
            raise SubmissionRefused(f"{name} is larger than the {most} bytes that a file may have here")
        stored = self._there(name)
        if stored is None:
            with self._part(submitter, name) as file:
                if file.tell() != offset:
                    return element("size", file.tell())
                await self._append(file, form, total - offset)
                if file.tell() < total:
                    return element("size", file.tell())
                stored = await asyncio.to_thread(self._complete, Path(file.name), name)
        found = stored
        await self._service.writer.run(lambda tx: self._keep(tx, found, call))
        return element("size", found.nbytes)

    async def _append(self, file: IO[bytes], form: Form, most: int) -> None:
        """The file of the form; what came of it stays, even where the rest does not."""
        if not isinstance(await anext(form, None), FileStart):
            raise SubmissionRefused("a part comes as one file behind the request")
        async for part in form:
            if isinstance(part, FileEnd):
                return
            if isinstance(part, FileData):
                most -= len(part.data)
                if most < 0:
                    raise SubmissionRefused("the parts are longer than the file that they are of")
                file.write(part.data)
        raise SubmissionRefused("the form is not complete")

    def _complete(self, part: Path, name: str) -> Stored:
        """The file, if it has the content of its name; else all of it has to come anew."""
        md5 = digest_file(part, "md5")
        if name != f"jf_{md5}":
            part.unlink()
            raise SubmissionRefused(f"{name} is no file with this content: its MD5 is {md5}")
        stored = Stored(name, part.stat().st_size, md5)
        path = Path(self._service.downloads.place(name))
        part.chmod(0o644)
        part.replace(path)
        durable.sync([path])
        return stored

    @contextmanager
    def _part(self, submitter: Submitter, name: str) -> Iterator[IO[bytes]]:
        """The file as far as it came, at its end; for one call at a time."""
        path = self._path(submitter, name)
        others = self._others(submitter, path)
        if len(others) >= _MOST:
            raise SubmissionRefused(f"{len(others)} files of this account are not complete; complete one of them first")
        with path.open("ab", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SubmissionRefused(f"{name} is being sent by another connection") from None
            file.seek(0, os.SEEK_END)
            yield file

    def _others(self, submitter: Submitter, path: Path) -> list[Path]:
        """Those of the account that are not complete; old ones are given up."""
        found = []
        for other in path.parent.glob(f".incoming-part-{submitter.id}-*"):
            if other.stat().st_mtime < time.time() - _KEPT:
                other.unlink(missing_ok=True)
            elif other != path:
                found.append(other)
        return found

    def _path(self, submitter: Submitter, name: str) -> Path:
        return Path(self._service.downloads.folder) / f".incoming-part-{submitter.id}-{name}"

    def _content_name(self, call: ET.Element) -> str:
        names = self._names(call)
        if len(names) != 1 or not BY_MD5.fullmatch(names[0]):
            raise SubmissionRefused("a file that comes in parts is called jf_ and the MD5 of its content")
        return names[0]

    def _there(self, name: str) -> Stored | None:
        try:
            return self._service.submitter.downloads.find(self._db, name)
        except BoincServerError:
            return None
