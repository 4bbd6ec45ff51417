"""Reading and writing BOINC's XML-like text."""

from __future__ import annotations

import math
import re
from html import unescape
from typing import Final

__all__ = [
    "clean",
    "element",
    "escape",
    "fields",
    "flag",
    "flagged",
    "integer",
    "number",
    "section",
    "sections",
    "split_section",
    "split_sections",
    "without_stray_bytes",
]

_FIELD: Final = re.compile(r"<([a-zA-Z_]\w*)>([^<\n]*)</\1>")
_FLAG: Final = re.compile(r"<([a-zA-Z_]\w*) ?/>")
_BYTE_REFERENCES: Final = re.compile(r"(?:&#(?:12[89]|1[3-9]\d|2[0-4]\d|25[0-5]);)+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")
_STRAY: Final = re.compile(r"[\x00-\x08\x0b-\x1f]")


def escape(text: str) -> str:
    """Escape for a client: it knows no more than these three, and takes UTF-8 as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def element(name: str, value: object) -> str:
    """`<name>value</name>` on a line of its own."""
    return f"<{name}>{escape(str(value))}</{name}>\n"


def flag(name: str, on: bool) -> str:
    """`<name/>` on a line of its own, or nothing."""
    return f"<{name}/>\n" if on else ""


def fields(text: str) -> dict[str, str]:
    """Every one-line element, the first of each name; an empty element counts as `1`."""
    found: dict[str, str] = {}
    for name, value in _FIELD.findall(text):
        found.setdefault(name, value)
    if "/>" in text:
        for name in _FLAG.findall(text):
            found.setdefault(name, "1")
    return found


def flagged(text: str, name: str) -> bool:
    """True if an element says yes, as `<name/>` or with a number."""
    return fields(text).get(name, "0").strip() not in ("", "0")


def section(text: str, name: str) -> str | None:
    """What stands between the first `<name>` and the `</name>` after it."""
    start = text.find(f"<{name}>")
    if start < 0:
        return None
    start += len(name) + 2
    end = text.find(f"</{name}>", start)
    return text[start:end] if end >= 0 else None


def sections(text: str, name: str) -> list[str]:
    """What stands inside each `<name>`."""
    return split_sections(text, name)[0]


def split_sections(text: str, name: str) -> tuple[list[str], str]:
    """What stands inside each `<name>`, and the text without them; in linear time whatever the text."""
    opening, closing = f"<{name}>", f"</{name}>"
    inside: list[str] = []
    outside: list[str] = []
    position = 0
    while (start := text.find(opening, position)) >= 0:
        end = text.find(closing, start)
        if end < 0:
            break
        inside.append(text[start + len(opening) : end])
        outside.append(text[position:start])
        position = end + len(closing)
    outside.append(text[position:])
    return inside, "".join(outside)


def split_section(text: str, name: str) -> tuple[str | None, str]:
    """The first section of that name, and the text without it."""
    opening, closing = f"<{name}>", f"</{name}>"
    start = text.find(opening)
    end = text.find(closing, start + len(opening)) if start >= 0 else -1
    if end < 0:
        return None, text
    return text[start + len(opening) : end], text[:start] + text[end + len(closing) :]


def clean(value: str, limit: int = 254) -> str:
    """A short text of a client's: unescaped, on one line, no longer than the column that takes it."""
    return _CONTROL.sub(" ", unescape(_bytes_restored(value))).strip()[:limit]


def number(value: str | None, default: float = 0.0, *, low: float = 0.0, high: float = 1e30) -> float:
    """A number within bounds; `default` for what is none."""
    try:
        found = float(value) if value is not None else default
    except ValueError:
        return default
    if low <= found <= high:
        return found
    return min(max(found, low), high) if math.isfinite(found) else default


def integer(value: str | None, default: int = 0, *, low: int = -(2**31), high: int = 2**31 - 1) -> int:
    """A whole number within bounds; `default` for what is none."""
    return int(number(value, default, low=low, high=high))


def without_stray_bytes(text: str) -> str:
    """A program's own output, as text: the client writes each byte from 128 on as a reference of its own."""
    return _STRAY.sub("\N{REPLACEMENT CHARACTER}", _bytes_restored(text))


def _bytes_restored(text: str) -> str:
    if "&#" not in text:
        return text
    return _BYTE_REFERENCES.sub(_decode_references, text)


def _decode_references(match: re.Match[str]) -> str:
    codes = bytes(int(code) for code in match.group()[2:-1].split(";&#"))
    return codes.decode("utf-8", "replace")
