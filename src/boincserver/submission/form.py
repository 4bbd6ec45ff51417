"""The form that a web call brings, as it comes: fields in memory, files in pieces, so files may be of any size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from boincserver.errors import SubmissionRefused

__all__ = ["FileData", "FileEnd", "FileStart", "Form", "FormField", "read_form"]

_MOST_HEADER: Final = 8192


@dataclass(frozen=True, slots=True)
class FormField:
    """A plain field, whole."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileStart:
    """A file begins."""

    name: str


@dataclass(frozen=True, slots=True)
class FileData:
    """A piece of the file that began last."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnd:
    """The file that began last is complete."""


Form = AsyncIterator[FormField | FileStart | FileData | FileEnd]


async def read_form(content_type: str, body: AsyncIterator[bytes], most: int) -> Form:
    """The parts of a form, in order; SubmissionRefused for what is none, or has fields of more than `most` bytes."""
    kind, options = parse_options_header(content_type)
    if kind == b"multipart/form-data":
        boundary = options.get(b"boundary", b"")
        if not boundary or len(boundary) > 200:
            raise SubmissionRefused("the form has no usable boundary")
        async for part in _multipart(boundary, body, most):
            yield part
        return
    if kind not in (b"application/x-www-form-urlencoded", b""):
        raise SubmissionRefused("a call is a form: application/x-www-form-urlencoded or multipart/form-data")
    text = bytearray()
    async for chunk in body:
        text += chunk
        if len(text) > 3 * most:
            raise SubmissionRefused(f"the request is longer than {most} bytes; send less at once")
    try:
        pairs = parse_qsl(text.decode("utf-8"), keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise SubmissionRefused("the form cannot be read") from error
    for name, value in pairs:
        yield FormField(name, value)


async def _multipart(boundary: bytes, body: AsyncIterator[bytes], most: int) -> Form:
    reader = _Reader(most)
    try:
        parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]
        async for chunk in body:
            parser.write(chunk)
            for part in reader.take():
                yield part
        parser.finalize()
    except (FormParserError, UnicodeDecodeError) as error:
        raise SubmissionRefused(f"the form cannot be read: {error}") from error
    for part in reader.take():
        yield part
    if not reader.complete:
        raise SubmissionRefused("the form is not complete")


class _Reader:
    """Makes parts of what the parser calls."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[FormField | FileStart | FileData | FileEnd] = []
        self._key = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._name: str | None = None  # of the plain field that is being read
        self._text = bytearray()
        self.complete = False

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._headers.clear, "on_part_data": self._data, "on_part_end": self._part_end,
            "on_header_field": self._header_field, "on_header_value": self._header_value,
            "on_header_end": self._header_end, "on_headers_finished": self._headers_finished, "on_end": self._end,
        }  # fmt: skip

    def take(self) -> list[FormField | FileStart | FileData | FileEnd]:
        """What is complete since the last time."""
        parts, self._parts = self._parts, []
        return parts

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._key += data[start:end]
        self._check_header()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._key) + len(self._value) > _MOST_HEADER or len(self._headers) > 20:
            raise SubmissionRefused("the form has headers that are too long")

    def _header_end(self) -> None:
        self._headers[self._key.lower()] = self._value
        self._key = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8")
        self._text = bytearray()
        if b"filename" in options:
            self._name = None
            self._parts.append(FileStart(name))
        else:
            self._name = name

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name is None:
            self._parts.append(FileData(data[start:end]))
            return
        self._text += data[start:end]
        if len(self._text) > self._most:
            raise SubmissionRefused(f"the request is longer than {self._most} bytes; send less at once")

    def _part_end(self) -> None:
        if self._name is None:
            self._parts.append(FileEnd())
        else:
            self._parts.append(FormField(self._name, self._text.decode("utf-8")))

    def _end(self) -> None:
        self.complete = True
