"""Stopping a server costs no request that has begun."""

from __future__ import annotations

import socket
import urllib.parse
from pathlib import Path

from boincserver.testing import serving, wait_until

from .conftest import make_project

LIMIT = 60.0


def test_a_request_that_has_begun_is_answered(directory: Path) -> None:
    make_project(directory)
    with serving(directory) as server:
        at = urllib.parse.urlsplit(server.control.info().url)
        address = (at.hostname or "", at.port or 0)
        body = b"<scheduler_request>\n</scheduler_request>\n"
        with socket.create_connection(address, timeout=LIMIT) as connection:
            head = f"POST /scheduler HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[:10])
            # Whoever is answered later than the first bytes came is answered by a server that has seen these.
            server.control.info()
            with socket.create_connection(address, timeout=LIMIT) as other:
                other.sendall(f"GET / HTTP/1.1\r\nHost: {at.netloc}\r\nConnection: close\r\n\r\n".encode())
                while other.recv(65536):
                    pass
            server.process.terminate()
            wait_until(lambda: refused(address), timeout=LIMIT, what="the server to listen no more")
            # Only now would it drop the request, if it did not wait for it.
            wait_until(lambda: "waiting-for-requests" in server.log.read_text(), timeout=LIMIT, what="it to wait")
            assert server.process.poll() is None
            connection.sendall(body[10:])
            reply = b""
            while piece := connection.recv(65536):
                reply += piece
        assert reply.startswith(b"HTTP/1.1 200 ")
        assert b"</scheduler_reply>" in reply
        assert server.process.wait(LIMIT) == 0


def refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=LIMIT).close()
    except OSError:
        return True
    return False
