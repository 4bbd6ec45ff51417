"""A line of the log, as text for people or as JSON: written and read back.

    2026-11-26T03:40:00.123Z WARNING copy-failed host=7 job=pi_1 outcome=CLIENT_ERROR
        a traceback follows its line, each of its lines behind four spaces

What strangers say (names, addresses, what a program wrote) is a value like any other: no character of it that is more
than a sign on paper gets out as it is, so nobody ends a line, forges one, or talks to the operator's terminal.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["FORMATS", "LEVELS", "Line", "LineFormatter", "read"]

FORMATS: Final = ("text", "json")
LEVELS: Final = ("debug", "info", "warning", "error")
_INDENT: Final = "    "
_PLAIN: Final = re.compile(
    r"(?!(?:true|false|null|NaN|-?Infinity|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)$)[\w/:.@+-][^\s\"'=\\]*"
)
"""Text that nobody takes for a number, nor for anything but what it is."""
_LONGEST: Final = 2000
"""Characters of a value; what a stranger may make longer fills no disk."""
_FIELD: Final = re.compile(r' ([A-Za-z_]\w*)=("(?:[^"\\]|\\.)*"|\S*)')
_HEAD: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (DEBUG|INFO|WARNING|ERROR) +(\S+)")
_MESSAGE: Final = "message"
"""The event of a library that knows of none; its sentence is the field `text`."""


@dataclass(frozen=True, slots=True)
class Line:
    """One event: Unix time, level in small letters, and what belongs to it."""

    time: float
    level: str
    event: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    traceback: str = ""

    def text(self) -> str:
        """For people."""
        values = "".join(f" {name}={_value(value)}" for name, value in self.fields.items())
        more = "".join(f"\n{_INDENT}{_harmless(line)}" for line in self.traceback.splitlines())
        return f"{_stamp(self.time)} {self.level.upper():7} {self.event}{values}{more}"

    def json(self) -> str:
        """For programs: one object."""
        document = {**self.fields, "time": _stamp(self.time), "level": self.level, "event": self.event}
        if self.traceback:
            document["traceback"] = self.traceback
        return _harmless(json.dumps(document, ensure_ascii=False))


def _stamp(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _value(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.isprintable():
        return value
    return _harmless(json.dumps(value, ensure_ascii=False))


def _harmless(text: str) -> str:
    """Escaped as in JSON, whatever a terminal or a reader of lines might take for more than a letter."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)


def _shortened(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


class LineFormatter(logging.Formatter):
    """Makes lines of what the standard library's loggers are told."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        """The line, and its traceback if there is one."""
        line = line_of(record)
        return line.json() if self._json else line.text()


def line_of(record: logging.LogRecord) -> Line:
    """What a logger was told."""
    level = record.levelname.lower() if record.levelname.lower() in LEVELS else "error"
    traceback = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
    given = getattr(record, "fields", None)
    if given is None:
        return Line(
            record.created, level, _MESSAGE, {"text": _shortened(record.getMessage()), "by": record.name}, traceback
        )
    return Line(
        record.created, level, str(record.msg), {name: _shortened(value) for name, value in given.items()}, traceback
    )


def read(lines: Iterable[str]) -> Iterator[Line | None]:
    """The events of a log in either form, None where an empty text says that no more has come; the rest is left out."""
    last: Line | None = None
    for raw in lines:
        if not raw:
            if last is not None:
                yield last
            last = None
            yield None
            continue
        if raw.startswith(_INDENT) and last is not None:
            more = raw[len(_INDENT) :].rstrip("\n")
            last = replace(last, traceback=f"{last.traceback}\n{more}" if last.traceback else more)
            continue
        if last is not None:
            yield last
        last = _parsed(raw.rstrip("\n"))
    if last is not None:
        yield last


def _parsed(raw: str) -> Line | None:
    try:
        return _parsed_json(raw) if raw.startswith("{") else _parsed_text(raw)
    except (ValueError, TypeError):
        return None


def _parsed_json(raw: str) -> Line | None:
    document = json.loads(raw)
    try:
        time, level, event = (str(document.pop(name)) for name in ("time", "level", "event"))
    except KeyError:
        return None
    traceback = str(document.pop("traceback", ""))
    return Line(_time(time), level, event, document, traceback)


def _parsed_text(raw: str) -> Line | None:
    head = _HEAD.match(raw)
    if head is None:
        return None
    values = {name: _read_value(text) for name, text in _FIELD.findall(raw[head.end() :])}
    return Line(_time(head[1]), head[2].lower(), head[3], values)


def _read_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
