"""Output files on their way in: authorised by the database, resumable, written as they come.

A file's name holds a keyed digest of its copy's name (`Outputs.prefix`), so nobody can guess the name of another's
output, and the table says whether the copy is out and how large its file may be.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sqlalchemy import bindparam, select

from boincserver.database import Database
from boincserver.events import Events
from boincserver.files import FileStore, digest_file
from boincserver.jobs import Outputs
from boincserver.protocol import documents, upload
from boincserver.protocol.upload import UploadHeader
from boincserver.schema import result as result_table
from boincserver.states import FileDeleteState, Outcome, ServerState

__all__ = ["Arrived", "Uploads"]

log = Events(__name__)

_LOOK_UP: Final = select(
    result_table.c.server_state, result_table.c.outcome, result_table.c.xml_doc_in, result_table.c.file_delete_state
).where(result_table.c.name == bindparam("result_name"))
_REMEMBERED: Final = 100_000
_MOST_UNWANTED: Final = 64 << 20
"""Bytes of a refused upload that are read all the same."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A complete file: its size and digest as this server saw them."""

    nbytes: int
    md5: str
    stamp: tuple[int, int, int] = (0, 0, 0)
    """Of the file as it was then: another process may have written it anew."""


class _RefusedError(Exception):
    """Nothing will ever make this request one to be served."""

    def __init__(self, why: str, name: str = "", nbytes: int = 0) -> None:
        super().__init__(why)
        self.name = name
        self.nbytes = nbytes
        """Of the file that is, or would have been, on its way."""


class Uploads:
    """The upload side of a project."""

    def __init__(self, store: FileStore, outputs: Outputs, database: Database) -> None:
        self.store = store
        self._outputs = outputs
        self._database = database
        self._arrived: OrderedDict[str, Arrived] = OrderedDict()
        self._writing: dict[str, object] = {}

    async def handle(self, body: AsyncIterator[bytes], address: str = "") -> bytes:
        """Serve one request of a client's; the reply is always one that it understands."""
        try:
            return await self._handle(body)
        except _RefusedError as refusal:
            log.info("upload-refused", file=refusal.name, why=str(refusal), address=address)
            if refusal.nbytes <= _MOST_UNWANTED:
                await _read_away(body)
            return upload.format_reply(upload.PERMANENT, str(refusal))

    async def _handle(self, body: AsyncIterator[bytes]) -> bytes:
        head = b""
        async for chunk in body:
            head += chunk
            parsed = upload.parse_header(head)
            if parsed is not None:
                break
        else:
            raise _RefusedError("malformed request")
        request, start = parsed
        if request is None:
            raise _RefusedError("malformed request")
        expected = self._expected(request.name)
        if expected is None:
            raise _RefusedError(f"no file {request.name} is expected", request.name, getattr(request, "nbytes", 0))
        if isinstance(request, upload.SizeQuery):
            return upload.format_reply(0, file_size=self._size(request.name))
        if request.nbytes > expected.max_nbytes:
            raise _RefusedError(
                f"{request.name} is larger than {expected.max_nbytes} bytes", request.name, request.nbytes
            )
        return await self._receive(request, head[start:], body)

    def _expected(self, name: str) -> documents.ExpectedOutput | None:
        """The output that this name stands for, if its copy is out or was given up too early."""
        result_name = self._outputs.result_of(name)
        if result_name is None:
            return None
        row = self._database.reader().first(_LOOK_UP, result_name=result_name)
        if row is None:
            return None
        late = row[0] == ServerState.OVER and row[1] in (Outcome.NO_REPLY, Outcome.CLIENT_DETACHED)
        if row[0] != ServerState.IN_PROGRESS and not late:
            return None
        if row[3] != FileDeleteState.INIT:
            return None  # it would stay for ever: what was here of this copy is deleted, and nobody wants more
        return next((output for output in documents.expected_outputs(row[2] or "") if output.name == name), None)

    def _size(self, name: str) -> int:
        try:
            return os.stat(self.store.location(name)).st_size  # noqa: PTH116
        except FileNotFoundError:
            return 0

    async def _receive(self, header: UploadHeader, first: bytes, body: AsyncIterator[bytes]) -> bytes:
        if header.offset:
            if header.offset > self._size(header.name):
                return upload.format_reply(upload.TRANSIENT, "the file on the server is shorter than the offset")
            log.info("upload-goes-on", file=header.name, at=header.offset)
        self._arrived.pop(header.name, None)
        token = self._writing[header.name] = object()
        try:
            arrived = await self._write(header, first, body, token)
        except OSError as error:  # such as a full disk: what is here stays, the client comes again
            log.warning("upload-not-written", file=header.name, error=error)
            return upload.format_reply(upload.TRANSIENT, f"cannot write: {error.strerror}")
        finally:
            if self._writing.get(header.name) is token:
                del self._writing[header.name]
        if arrived is None:
            return upload.format_reply(upload.TRANSIENT, "the file did not come to its end")
        if header.md5 and arrived.md5 != header.md5:
            self.store.path(header.name).unlink(missing_ok=True)
            return upload.format_reply(upload.TRANSIENT, "the file arrived damaged")
        self._remember(header.name, replace(arrived, stamp=_stamp(os.stat(self.store.location(header.name)))))  # noqa: PTH116
        return upload.format_reply(0)

    async def _write(
        self, header: UploadHeader, chunk: bytes, body: AsyncIterator[bytes], token: object
    ) -> Arrived | None:
        """Write the file from its offset on; None if the request ends before the file does."""
        location = self.store.place(header.name)
        md5, size = hashlib.md5(), header.offset
        with _opened(location, header.offset) as descriptor:
            while True:
                chunk = chunk[: header.nbytes - size]
                size += _write_all(descriptor, chunk)
                md5.update(chunk)
                if size >= header.nbytes:
                    break
                following = await anext(body, None)
                # A client that lost its connection comes again while the old request may still linger here.
                if following is None or self._writing.get(header.name) is not token:
                    return None
                chunk = following
        if header.offset:
            return Arrived(size, await asyncio.to_thread(digest_file, Path(location), "md5"))
        return Arrived(size, md5.hexdigest())

    def _remember(self, name: str, arrived: Arrived) -> None:
        self._arrived[name] = arrived
        if len(self._arrived) > _REMEMBERED:
            self._arrived.popitem(last=False)

    def arrived(self, name: str) -> Arrived | None:
        """Size and digest of a file that is here; reads the file unless this process received it."""
        if name in self._writing:
            return None  # it may become longer yet
        if (found := self._known(name)) is not None:
            return found
        path = self.store.path(name)
        try:
            stamp = _stamp(path.stat())
            found = Arrived(stamp[1], digest_file(path, "md5"), stamp)
        except (FileNotFoundError, IsADirectoryError):
            return None
        self._remember(name, found)
        return found

    def knows(self, name: str) -> bool:
        """True if `arrived` need not read the file."""
        return self._known(name) is not None

    def _known(self, name: str) -> Arrived | None:
        found = self._arrived.get(name)
        try:
            if found is not None and _stamp(os.stat(self.store.location(name))) == found.stamp:  # noqa: PTH116
                return found
        except FileNotFoundError:
            pass
        return None

    def is_ours(self, name: str) -> bool:
        """True for a name that this project gave."""
        return self._outputs.result_of(name) is not None

    def forget(self, name: str) -> str:
        """The file is not needed any more; returns what is to be deleted."""
        self._arrived.pop(name, None)
        return self.store.location(name)


async def _read_away(body: AsyncIterator[bytes]) -> None:
    """Take what is still coming: a proxy that cannot get rid of it tells its client of a fault that passes."""
    size = 0
    async for chunk in body:
        size += len(chunk)
        if size > _MOST_UNWANTED:
            return


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_size, status.st_ino


@contextmanager
def _opened(location: str, offset: int) -> Iterator[int]:
    """A descriptor to write from this offset on; what was behind it is gone."""
    descriptor = os.open(location, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (0 if offset else os.O_TRUNC), 0o644)
    try:
        if offset:
            os.ftruncate(descriptor, offset)
            os.lseek(descriptor, offset, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(data)
