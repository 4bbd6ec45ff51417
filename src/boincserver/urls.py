"""The project's URL: what clients can use, and which address a server for it listens on."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlencode, urlsplit

from boincserver.errors import UnusableUrl

__all__ = ["RUN_PAGE", "canonical", "listen_address", "path_of", "port_of", "run_page", "run_proof", "split"]

RUN_PAGE: Final = "run.php"

_HOST_NAME: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*")
_LOCAL_SUFFIXES: Final = (".local", ".localhost", ".lan", ".internal", ".home.arpa")
_MAX_LENGTH: Final = 200  # the client keeps URLs in buffers of 256 bytes and appends file names


def canonical(url: str, *, allow_http: bool = False) -> str:
    """The URL as clients write it, with a `/` at its end; raises UnusableUrl for one they could not use."""
    parts = split(url)
    if parts.scheme not in ("http", "https"):
        raise UnusableUrl(f"{url!r} does not begin with http:// or https://; clients speak nothing else")
    host = parts.hostname
    if not host:
        raise UnusableUrl(f"{url!r} names no host; write for example http://127.0.0.1:8700/ or https://pi.example.org/")
    if parts.username or parts.query or parts.fragment:
        raise UnusableUrl(f"{url!r} must be a plain address: no user name, no ? and no #")
    if not (_is_address(host) or _HOST_NAME.fullmatch(host)):
        raise UnusableUrl(f"{host!r} in {url!r} is no host name")
    if _is_address(host) and ipaddress.ip_address(host).is_unspecified:
        raise UnusableUrl(f"{url!r} is an address to listen on, not one to reach; name the machine as clients see it")
    if port_of(parts, url) == 0:
        raise UnusableUrl(f"{url!r} has port 0; the URL of a project is for ever, so it needs a fixed port")
    if not re.fullmatch(r"[A-Za-z0-9._~/-]*", parts.path) or "//" in parts.path or ".." in parts.path:
        raise UnusableUrl(f"the path in {url!r} may hold letters, digits and . _ ~ - / only")
    if len(url) > _MAX_LENGTH:
        raise UnusableUrl(f"the URL is longer than {_MAX_LENGTH} characters, which the client's buffers do not hold")
    if parts.scheme == "http" and not is_local(host) and not allow_http:
        raise UnusableUrl(
            f"{url!r} is a public address without encryption: anybody on the way could read accounts and change files. "
            f"Use https:// (a proxy such as Caddy or nginx in front does it), or say --allow-http"
        )
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}/"


def split(url: str) -> SplitResult:
    """The parts of a URL; raises UnusableUrl for what is none."""
    try:
        return urlsplit(url.strip())
    except ValueError as error:
        raise UnusableUrl(f"{url!r} is not a URL: {error}") from error


def port_of(parts: SplitResult, url: str) -> int | None:
    """The port, if the URL names one; raises UnusableUrl for what cannot be one."""
    try:
        return parts.port
    except ValueError as error:
        raise UnusableUrl(f"{url!r} has no usable port: {error}") from error


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_local(host: str) -> bool:
    """True for this machine and private networks: addresses and names that mean nothing outside."""
    if _is_address(host):
        return ipaddress.ip_address(host).is_private
    return "." not in host or host.endswith(_LOCAL_SUFFIXES)


def listen_address(url: str) -> tuple[str, int]:
    """Where to listen for clients of this URL: loopback, on the URL's port; behind a proxy (no port in it) 8080."""
    return "127.0.0.1", urlsplit(url).port or 8080


def path_of(url: str) -> str:
    """The path under which the project lives, without a `/` at its end."""
    return urlsplit(url).path.rstrip("/")


def run_proof(key: str, run: str) -> str:
    """What the link to a run's page ends with: only the key of its owner's account makes it."""
    return hmac.new(key.encode(), run.encode(), hashlib.sha256).hexdigest()


def run_page(url: str, key: str, run: str) -> str:
    """The owner's link to the page of a run; none without an account."""
    query = urlencode({"name": run, "auth_str": run_proof(key, run)})
    return f"{url.rstrip('/')}/{RUN_PAGE}?{query}" if key else ""
