"""The network side of remote job submission: forms in, XML and files out, with limits on what strangers may cost."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Final

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from boincserver.body import SMALL, Counted, NoRoomError
from boincserver.errors import BoincServerError, SubmissionRefused
from boincserver.events import Events
from boincserver.protocol.submission import error_reply, parse_request, reply
from boincserver.service import Service
from boincserver.submission import rights
from boincserver.submission.calls import SubmissionCalls
from boincserver.submission.form import Form, FormField, read_form
from boincserver.submission.outputs import Outputs
from boincserver.submission.parts import PartCalls
from boincserver.throttle import Throttle

__all__ = ["submission_routes"]

log = Events(__name__)

_AT_ONCE: Final = 4
"""Calls that are answered at the same time; the others wait, so that large ones do not fill the memory."""
_KEY: Final = re.compile(r"<authenticator>\s*([^<\s]*)\s*</authenticator>")
_BUSY: Final = 30.0
_CHUNK: Final = 1 << 18
_XML: Final = "text/xml; charset=utf-8"

Address = Callable[[Request], str]


def submission_routes(service: Service, address: Address) -> list[Route]:
    """The pages of remote submission; `address` tells where a request came from."""
    web = _Web(service, address)
    return [
        Route("/submit_rpc_handler.php", web.submit, methods=["POST"]),
        Route("/job_file.php", web.job_file, methods=["POST"]),
        Route("/get_output.php", web.get_output),
        Route("/get_output2.php", web.get_output2),
    ]


class _Web:
    """The handlers."""

    def __init__(self, service: Service, address: Address) -> None:
        self._service = service
        self._address = address
        self._calls = SubmissionCalls(service)
        self._files = PartCalls(service)
        self._outputs = Outputs(service)
        self._throttle = Throttle()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    # --- calls ------------------------------------------------------------------------------------------------------

    async def submit(self, request: Request) -> Response:
        return await self._answer(request, self._submit)

    async def job_file(self, request: Request) -> Response:
        return await self._answer(request, self._job_file)

    async def _answer(self, request: Request, handle: Callable[[str, Form], Awaitable[str]]) -> Response:
        address, now = self._address(request), self._service.clock()
        if self._throttle.blocked(address, now):
            return PlainTextResponse("too many calls failed; try again in a minute", 429, {"retry-after": "60"})
        body = Counted(request.stream())
        try:
            most = self._service.project.config.submission.max_request_bytes
            form = read_form(request.headers.get("content-type", ""), aiter(body), most)
            return Response(await self._handled(body, form, handle, address, now), media_type=_XML)
        except ClientDisconnect:
            return PlainTextResponse("the request did not arrive", status_code=408)
        except NoRoomError:
            return PlainTextResponse("the server is busy; try again later", 503, {"retry-after": "30"})
        except OSError as error:  # such as a full disk
            log.exception("submitter-call-failed", address=address)
            return PlainTextResponse(f"the server has a problem: {error.strerror}; try again later", status_code=503)
        finally:
            body.let_go()

    async def _handled(
        self, body: Counted, form: Form, handle: Callable[[str, Form], Awaitable[str]], address: str, now: float
    ) -> str:
        text = ""
        try:
            first = await anext(form, None)
            if not isinstance(first, FormField) or first.name != "request":
                raise SubmissionRefused("the form must begin with the field `request`")
            text, body.counting = first.value, False
            if len(text) > SMALL:  # a stranger's is not worth the memory that its elements take
                found = _KEY.search(text)
                rights.submitter(self._service.database.reader(), found.group(1) if found else "")
            async with self._slot():
                return await handle(text, form)
        except BoincServerError as error:
            log.info("submitter-call-refused", address=address, call=_root(text), why=str(error))
            if "authenticator" in str(error):
                self._throttle.failed(address, now)
            return error_reply(_root(text), str(error))

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """A place among those that are answered, for a call that is here: whoever is slow to send one takes none."""
        try:
            async with asyncio.timeout(_BUSY):
                await self._slots.acquire()
        except TimeoutError:
            raise NoRoomError from None
        try:
            yield
        finally:
            self._slots.release()

    async def _submit(self, text: str, _form: Form) -> str:
        call = await asyncio.to_thread(parse_request, text)
        return reply(call.tag, await self._calls.find(call.tag)(call))

    async def _job_file(self, text: str, form: Form) -> str:
        call = await asyncio.to_thread(parse_request, text)
        if call.tag == "query_files":
            return reply(call.tag, await self._files.query_files(call))
        if call.tag == "upload_files":
            return reply(call.tag, await self._files.upload_files(call, form))
        if call.tag == "query_part":
            return reply(call.tag, await self._files.query_part(call))
        if call.tag == "upload_part":
            return reply(call.tag, await self._files.upload_part(call, form))
        raise SubmissionRefused("no such action")

    # --- outputs ----------------------------------------------------------------------------------------------------

    async def get_output(self, request: Request) -> Response:
        return await self._output(request, self._outputs.find)

    async def get_output2(self, request: Request) -> Response:
        return await self._output(request, self._outputs.find2)

    async def _output(
        self, request: Request, find: Callable[[Mapping[str, str]], tuple[str, Path | IO[bytes]]]
    ) -> Response:
        address, now = self._address(request), self._service.clock()
        if self._throttle.blocked(address, now):
            return PlainTextResponse("too many calls failed; try again in a minute", 429, {"retry-after": "60"})
        try:
            name, found = await asyncio.to_thread(find, dict(request.query_params))
        except SubmissionRefused as error:
            if "authenticator" in str(error):
                self._throttle.failed(address, now)
            return PlainTextResponse(f"ERROR: {error}")
        if isinstance(found, Path):
            return FileResponse(found, media_type="application/octet-stream", filename=name)
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(
            _pieces(found), media_type="application/zip", headers=headers, background=BackgroundTask(found.close)
        )


def _root(text: str) -> str | None:
    """The name of a call, as far as it can be told."""
    body = text.lstrip()
    if body.startswith("<?"):
        body = body.partition("?>")[2].lstrip()
    return body[1:].partition(">")[0].strip() if body.startswith("<") else None


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(_CHUNK):
            yield piece
