"""HTTP to one server: connections that are kept, certificates that are checked, and patience."""

from __future__ import annotations

import http.client
import ipaddress
import random
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from boincserver.errors import ControlError, ServerNotRunning, SubmissionRefused, UnusableUrl
from boincserver.urls import port_of, split

__all__ = ["Answer", "Transport"]

_TIMEOUT: Final = 120.0
_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_TRY_AGAIN: Final = frozenset({408, 429, 502, 503, 504})
_LONGEST_ANSWER: Final = 1 << 30

Body = bytes | Callable[[], Iterable[bytes]]
"""The bytes, or a function that gives them in pieces, anew for each try."""


class Answer:
    """Status, headers and body."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


class Transport:
    """Requests to the server at a URL, from any thread."""

    def __init__(self, url: str, *, patience: float = 20.0, context: ssl.SSLContext | None = None) -> None:
        parts = split(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise UnusableUrl(
                f"{url!r} is no address of a project; write for example https://boinc.example.org/project/"
            )
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise UnusableUrl(f"{url!r} would send your account's key unencrypted over the network; use https://")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/"
        self._host, self._port = parts.hostname, port_of(parts, url)
        self._path = f"{parts.path.rstrip('/')}/"
        self._secure = parts.scheme == "https"
        self._context = context or (ssl.create_default_context() if self._secure else None)
        self._patience = patience
        self._local = threading.local()
        self._all: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close what is open; a later request opens anew."""
        with self._lock:
            connections, self._all = self._all, []
        for connection in connections:
            connection.close()
        self._local = threading.local()

    def request(
        self, method: str, page: str, body: Body | None = None, headers: Mapping[str, str] | None = None, *, again: bool
    ) -> Answer:
        """The answer with status 200; `again`: the request may be sent twice.

        Raises ServerNotRunning where nobody answers, ControlError for an answer of another kind.
        """
        until = time.monotonic() + self._patience
        for tried in range(10**6):
            try:
                answer = self._once(method, page, body, headers or {})
            except ssl.SSLCertVerificationError as error:
                raise SubmissionRefused(
                    f"the certificate of {self.url} is not to be trusted: {error.verify_message}; for an authority of "
                    f"your own name its file in SSL_CERT_FILE"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                if not again or time.monotonic() > until:
                    raise ServerNotRunning(f"{self.url} does not answer: {error or type(error).__name__}") from error
                wait = 0.0
            else:
                if answer.status == 200:
                    return answer
                if answer.status not in _TRY_AGAIN or time.monotonic() > until:
                    raise _wrong_status(self.url, page, answer)
                after = answer.headers.get("retry-after", "")
                wait = float(after) if after.isdecimal() else 0.0
            pause = max(wait, _PAUSES[min(tried, len(_PAUSES) - 1)] * random.uniform(0.5, 1.0))
            time.sleep(max(0.0, min(pause, until - time.monotonic())))
        raise AssertionError("unreachable")

    def _once(self, method: str, page: str, body: Body | None, headers: Mapping[str, str]) -> Answer:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        fresh = connection is None
        if connection is None:
            connection = self._open()
        try:
            return self._exchange(connection, method, page, body, headers)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            self._drop(connection)
            # The server closes connections that were idle; nothing of the request was read then.
            if fresh:
                raise
            return self._exchange(self._open(), method, page, body, headers)
        except BaseException:
            self._drop(connection)
            raise

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        page: str,
        body: Body | None,
        headers: Mapping[str, str],
    ) -> Answer:
        content = body() if callable(body) else body
        connection.request(method, f"{self._path}{page}", content, {"User-Agent": "boincserver.remote", **headers})
        response = connection.getresponse()
        data = response.read(_LONGEST_ANSWER + 1)
        if len(data) > _LONGEST_ANSWER:
            raise ControlError(f"{self.url}{page.partition('?')[0]} answers more than {_LONGEST_ANSWER} bytes")
        if response.will_close:
            self._drop(connection)
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)

    def _open(self) -> http.client.HTTPConnection:
        host, port = self._host, self._port
        proxy = urllib.request.getproxies().get("https" if self._secure else "http")
        through = urlsplit(proxy) if proxy and not urllib.request.proxy_bypass(host) and self._secure else None
        if through is not None and through.hostname:
            host, port = through.hostname, through.port
        connection: http.client.HTTPConnection
        if self._secure:
            connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT, context=self._context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
        if through is not None:
            connection.set_tunnel(self._host, self._port)
        self._local.connection = connection
        with self._lock:
            self._all.append(connection)
        return connection

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        connection.close()
        self._local.connection = None
        with self._lock:
            if connection in self._all:
                self._all.remove(connection)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wrong_status(url: str, page: str, answer: Answer) -> Exception:
    where = f"{url}{page.partition('?')[0]}"
    if "location" in answer.headers:
        return ControlError(f"{where} has moved to {answer.headers['location']}; use that address")
    text = answer.body[:200].decode("utf-8", "replace").strip()
    if answer.status == 404:
        return ControlError(f"{where} is not there: the project takes no remote jobs, or its address is another one")
    return ControlError(f"{where} answers with status {answer.status}: {text}")
