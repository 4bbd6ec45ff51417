"""The file upload handler's two requests and its replies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from boincserver.protocol.request import is_name
from boincserver.protocol.text import element, fields, integer, number

__all__ = ["MAX_HEADER", "PERMANENT", "TRANSIENT", "SizeQuery", "UploadHeader", "format_reply", "parse_header"]

MAX_HEADER: Final = 16384
"""A header of more bytes is none."""
_DATA: Final = b"<data>\n"

TRANSIENT: Final = 1
"""The client tries again later."""
PERMANENT: Final = -1
"""The client gives up this file, and then reports its job as a success all the same."""


@dataclass(frozen=True, slots=True)
class SizeQuery:
    """How much of this file is here?"""

    name: str


@dataclass(frozen=True, slots=True)
class UploadHeader:
    """What the rest of the body is: bytes of this file from `offset` to its end."""

    name: str
    nbytes: int
    offset: int
    md5: str


def parse_header(head: bytes) -> tuple[UploadHeader | SizeQuery | None, int] | None:
    """The request and where its data begin in `head`; (None, 0) if it is malformed, None if more bytes are needed."""
    end = head.find(_DATA)
    if end >= 0:
        return _upload(head[:end].decode("utf-8", "replace")), end + len(_DATA)
    if b"</data_server_request>" in head:
        name = fields(head.decode("utf-8", "replace")).get("get_file_size", "").strip()
        return (SizeQuery(name) if is_name(name) else None), len(head)
    return (None, 0) if len(head) > MAX_HEADER else None


def _upload(text: str) -> UploadHeader | None:
    found = fields(text)
    name = found.get("name", "").strip()
    nbytes = int(number(found.get("nbytes"), -1.0, low=-1.0, high=2.0**62))
    offset = int(number(found.get("offset"), -1.0, low=-1.0, high=2.0**62))
    if not is_name(name) or nbytes < 0 or not 0 <= offset <= nbytes:
        return None
    return UploadHeader(name, nbytes, offset, found.get("md5_cksum", "").strip().lower())


def format_reply(status: int, message: str = "", file_size: int | None = None) -> bytes:
    """The handler's answer."""
    size = "" if file_size is None else element("file_size", file_size)
    text = element("message", message) if message else ""
    return f"<data_server_reply>\n<status>{status}</status>\n{text}{size}</data_server_reply>\n".encode()


def parse_status(reply: bytes) -> tuple[int, int | None]:
    """What a client reads from the answer: status and file size."""
    found = fields(reply.decode("utf-8", "replace"))
    size = found.get("file_size")
    return integer(found.get("status"), TRANSIENT), None if size is None else int(number(size))
