"""The body of a control call: one line of JSON, then raw bytes to which the JSON refers by position and length."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Blobs", "pack", "unpack"]


class Blobs:
    """Bytes gathered for a message."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, data: bytes) -> list[int]:
        """Append bytes; returns the reference to put into the document."""
        reference = [self.size, len(data)]
        self.parts.append(data)
        self.size += len(data)
        return reference


def pack(document: Mapping[str, Any], blobs: Blobs | None = None) -> bytes:
    """One message."""
    head = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return b"".join([head, b"\n", *(blobs.parts if blobs else ())])


def unpack(body: bytes) -> tuple[dict[str, Any], memoryview]:
    """The document and the bytes behind it; ValueError for anything else."""
    end = body.find(b"\n")
    document = json.loads(body[:end] if end >= 0 else body)
    if not isinstance(document, dict):
        raise ValueError("a message is a JSON object")
    return document, memoryview(body)[end + 1 if end >= 0 else len(body) :]


def blob(data: memoryview, reference: Sequence[int]) -> bytes:
    """The bytes to which a reference points; ValueError if it points outside."""
    start, length = reference
    if not 0 <= start <= start + length <= len(data):
        raise ValueError("a reference points outside the message")
    return bytes(data[start : start + length])
