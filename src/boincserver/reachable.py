"""Whether clients that know nothing but the project's URL get what they come for: asked as they ask, from here."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator
from html import unescape
from typing import Final
from urllib.parse import urlsplit

from boincserver.checkup import Finding
from boincserver.project import Project
from boincserver.protocol.text import fields

__all__ = ["reachable"]

_TIMEOUT: Final = 15.0
_EXPIRES_SOON: Final = 14 * 86400
_LARGE: Final = 3 << 20
"""More than proxies let through by themselves, less than a usual output."""


def reachable(project: Project) -> Iterator[Finding]:
    """What stands between clients and the server; for one that runs."""
    url = project.config.url
    try:
        status, headers, body, expires = _ask(url, "GET", "get_project_config.php")
    except ssl.SSLCertVerificationError as error:
        yield Finding(f"{url}: clients do not trust its certificate: {error.verify_message}")
        return
    except (OSError, http.client.HTTPException) as error:
        yield Finding(
            f"{url}: nobody answers there: {error or type(error).__name__}; see `listen`, and the proxy in front"
        )
        return
    found = fields(body.decode("utf-8", "replace"))
    if status != 200 or "master_url" not in found:
        yield Finding(f"{url}: something else answers there (HTTP {status})")
        return
    if unescape(found["master_url"]) != url:
        yield Finding(f"{url}: the project {unescape(found['master_url'])} answers there")
        return
    if expires is not None and expires < _EXPIRES_SOON:
        yield Finding(f"{url}: its certificate ends in {expires / 86400:.0f} days")
    yield from _proxies(project, headers)
    yield from _large_upload(url)


def _proxies(project: Project, headers: http.client.HTTPMessage) -> Iterator[Finding]:
    # This server names itself in no header; whoever stands in front does.
    if project.config.proxies == 0 and ("server" in headers or "via" in headers):
        who = headers.get("server") or headers.get("via")
        yield Finding(
            f"a proxy ({who}) stands in front, so all clients seem to come from its address: say proxies = 1 in "
            "project.toml",
            grave=False,
        )
    if project.config.proxies and not project.listen[0].startswith(("127.", "::1")):
        yield Finding(
            "proxies is set, and `listen` is open to others: whoever comes past the proxy may claim any address",
            grave=False,
        )


def _large_upload(url: str) -> Iterator[Finding]:
    head = (
        b"<data_server_request>\n<file_upload>\n<file_info>\n<name>doctor</name>\n</file_info>\n"
        b"<nbytes>%d</nbytes>\n<offset>0</offset>\n<data>\n" % _LARGE
    )
    try:
        status, _, body, _ = _ask(url, "POST", "file_upload_handler", head + bytes(_LARGE))
    except (OSError, http.client.HTTPException) as error:
        yield Finding(f"{url}file_upload_handler: an upload of {_LARGE >> 20} MB does not come through: {error}")
        return
    if b"<data_server_reply>" not in body:
        yield Finding(
            f"{url}file_upload_handler: an upload of {_LARGE >> 20} MB is refused (HTTP {status}) on its way; in nginx "
            "that is client_max_body_size (boincserver nginx prints all of its settings)"
        )


def _ask(
    url: str, method: str, call: str, body: bytes | None = None
) -> tuple[int, http.client.HTTPMessage, bytes, float | None]:
    """Status, headers, body, and for how many seconds the certificate is good."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            host, parts.port, timeout=_TIMEOUT, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=_TIMEOUT)
    try:
        connection.request(method, f"{parts.path}{call}", body)
        expires = None
        if isinstance(connection.sock, ssl.SSLSocket):
            until = (connection.sock.getpeercert() or {}).get("notAfter")
            expires = ssl.cert_time_to_seconds(str(until)) - time.time() if until else None
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read(1 << 20), expires
    finally:
        connection.close()
