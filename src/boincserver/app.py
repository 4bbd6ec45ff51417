"""The ASGI application that volunteers' clients talk to."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from boincserver import accounts, stats, urls
from boincserver.account_web import account_routes
from boincserver.body import SMALL, TooLargeError, read
from boincserver.events import Events
from boincserver.protocol import account as account_protocol
from boincserver.protocol import upload
from boincserver.protocol.reply import Message, SchedulerReply, format_reply
from boincserver.protocol.request import SchedulerRequest, is_name, parse_request
from boincserver.public_status import PublicStatus
from boincserver.service import Service
from boincserver.submission.counts import job_counts
from boincserver.submission.web import submission_routes
from boincserver.web.runs import run_routes

__all__ = ["is_transfer", "make_app"]

log = Events(__name__)

_MAX_REQUEST: Final = 16 << 20
"""Bytes of a scheduler request; a client with thousands of jobs to report stays far below."""
_KEY: Final = re.compile(rb"<authenticator>\s*([^<\s]*)\s*</authenticator>")
_XML: Final = "text/xml; charset=utf-8"
_TEXT: Final = "text/plain; charset=utf-8"


def make_app(service: Service) -> ASGIApp:
    """The application of a running project, at the path of its URL."""
    web = _Web(service)
    prefix = urls.path_of(service.project.config.url)
    routes = [
        Route("/", web.master_page),
        *account_routes(service, web.address),
        Route("/scheduler", _wrong_method),
        Route("/file_upload_handler", _wrong_method),
        Route("/download/{folder}/{name}", web.download),
        Route("/server_status.php", web.server_status),
        Route("/stats/{name}", web.statistics),
        *run_routes(service),
        *submission_routes(service, web.address),
    ]
    rest = Starlette(routes=[Mount(prefix, routes=routes)] if prefix else routes)
    return _Front(rest, {f"{prefix}/scheduler": web.scheduler, f"{prefix}/file_upload_handler": web.upload})


async def _wrong_method(_request: Request) -> Response:
    return PlainTextResponse("BOINC clients POST here", status_code=405)


def is_transfer(url: str, path: str) -> bool:
    """Whether a request for this path carries a file, so that it takes its time and needs nothing but the file."""
    prefix = urls.path_of(url)
    return path == f"{prefix}/file_upload_handler" or path.startswith(f"{prefix}/download/")


class _Front:
    """Hands the two calls that make up nearly all traffic straight to their handlers, the rest to Starlette."""

    def __init__(self, rest: ASGIApp, hot: Mapping[str, Callable[[Request], Awaitable[Response]]]) -> None:
        self._rest = rest
        self._hot = hot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._hot.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if handler is None:
            await self._rest(scope, receive, send)
            return
        try:
            response = await handler(Request(scope, receive))
        except Exception:
            # Such as a full disk or a database that is gone: the client tries again later, with everything it had.
            log.exception("request-failed", path=scope["path"])
            response = PlainTextResponse("the server has a problem; try again later", status_code=503)
        await response(scope, receive, send)


class _Web:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.config = service.project.config
        self.status = PublicStatus(service.database, service.clock, urlsplit(self.config.url).hostname or "")

    async def master_page(self, _request: Request) -> Response:
        page = account_protocol.master_page(self.config.name, f"{self.config.url}scheduler")
        return Response(page, media_type="text/html; charset=utf-8")

    # --- work -------------------------------------------------------------------------------------------------------

    async def _parsed(self, body: bytes) -> SchedulerRequest:
        """Large ones beside everything else, and only if an account sent them: they take seconds."""
        if len(body) <= SMALL:
            return parse_request(body)
        key = _KEY.search(body)
        if key is None or accounts.authenticate(self.service.database.reader(), key.group(1).decode("latin-1")) is None:
            return SchedulerRequest(complete=True)
        return await asyncio.to_thread(parse_request, body)

    async def scheduler(self, request: Request) -> Response:
        try:
            body = await read(request, _MAX_REQUEST)
        except ClientDisconnect:
            return PlainTextResponse("the request did not arrive", status_code=408)
        except TooLargeError as error:
            log.info("request-refused", address=self.address(request), status=error.status)
            return PlainTextResponse("the request is too large", status_code=error.status)
        parsed = await self._parsed(body)
        if not parsed.complete:
            return Response(format_reply(self._incomplete()), media_type=_XML)
        await self._read_unknown_outputs(parsed)
        address = self.address(request)
        now = self.service.clock()
        reply = await self.service.writer.run(lambda tx: self.service.scheduler.handle(tx, parsed, address, now))
        return Response(format_reply(reply), media_type=_XML)

    def _incomplete(self) -> SchedulerReply:
        message = Message("The project's server received only a part of your computer's request")
        return SchedulerReply(self.config.name, self.config.url, messages=(message,), request_delay=60)

    async def _read_unknown_outputs(self, parsed: SchedulerRequest) -> None:
        """Outputs that came before this server started are read here, not in the writer's thread."""
        uploads = self.service.uploads
        for result in parsed.results:
            for file in result.files:
                if not uploads.knows(file.name) and uploads.is_ours(file.name):
                    await asyncio.to_thread(uploads.arrived, file.name)

    def address(self, request: Request) -> str:
        """The client's address; behind trusted proxies the one that the outermost of them saw."""
        if self.config.proxies:
            seen = [part.strip() for part in request.headers.get("x-forwarded-for", "").split(",") if part.strip()]
            if len(seen) >= self.config.proxies:
                return seen[-self.config.proxies][:254]
        return request.client.host if request.client else ""

    async def server_status(self, request: Request) -> Response:
        if request.query_params.get("counts") == "1":
            return Response(await asyncio.to_thread(job_counts, self.service.database), media_type=_XML)
        if request.query_params.get("xml") == "1":
            return Response(await asyncio.to_thread(self.status.document), media_type=_XML)
        return PlainTextResponse("ask with ?xml=1 or ?counts=1", status_code=404)

    async def statistics(self, request: Request) -> Response:
        path = self.service.statistics.folder / request.path_params["name"]
        if path.name not in stats.FILES or not path.is_file():
            return PlainTextResponse(f"there are {', '.join(stats.FILES)}, once a day", status_code=404)
        return FileResponse(path, media_type="application/gzip" if path.suffix == ".gz" else _XML)

    async def upload(self, request: Request) -> Response:
        try:
            reply = await self.service.uploads.handle(request.stream(), self.address(request))
        except ClientDisconnect:
            reply = upload.format_reply(upload.TRANSIENT, "the connection was lost")
        return Response(reply, media_type=_TEXT)

    async def download(self, request: Request) -> Response:
        name = request.path_params["name"]
        path = self.service.downloads.path(name) if is_name(name) else None
        if path is None or not path.is_file():
            # Never a 5xx: while a download backs off a client asks for no work at all.
            return PlainTextResponse("no such file", status_code=404)
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return FileResponse(path, media_type="application/octet-stream", headers=headers)
