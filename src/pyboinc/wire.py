"""Lines between supervisor and child: a verb and its fields, one line each way of a pipe.

The child's lines come from user code, so whatever arrives is either a known verb with good fields or dropped.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    Field = str | float | int | bool

MAX_LINE = 256 * 1024

# What each verb carries, each way.
FROM_CHILD: dict[str, tuple[type, ...]] = {
    "fraction": (float,),
    "checkpoint": (),
    "critical": (bool,),
    "trickle": (str, str),  # variety, text
    "upload": (str,),  # logical name
    "network": (bool,),  # wanted
    "limit": (float,),  # seconds from now, 0 for none
    "temporary": (float, str, bool),  # delay, reason, notice
}
TO_CHILD: dict[str, tuple[type, ...]] = {
    "quit": (),
    "trickle": (str,),
    "uploaded": (str, int),  # logical name, status
    "network": (bool,),  # allowed
    "period": (float,),  # seconds between checkpoints
}


def line(verb: str, *fields: Field) -> bytes:
    """One message; texts travel as hexadecimal digits, behind a letter so that no field is ever empty."""
    return " ".join([verb, *map(_encode, fields)]).encode() + b"\n"


def checked(verb: str, fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """What the child says, as it travels; TypeError or ValueError for what cannot: a message may not get lost."""
    return tuple(_checked(verb, kind, field) for kind, field in zip(FROM_CHILD[verb], fields))


def _checked(verb: str, kind: type, field: Field) -> Field:
    if kind is str:
        if not isinstance(field, str):
            raise TypeError(f"{verb}: a text is wanted, not {field!r}")
        return field
    if kind is bool:
        return bool(field)
    number = float(field)
    if not abs(number) < float("inf"):
        raise ValueError(f"{verb}: a number is wanted, not {field!r}")
    return number


def parse(data: bytes, verbs: dict[str, tuple[type, ...]]) -> tuple[str, tuple[Field, ...]] | None:
    """Verb and fields of a line without its end; None for whatever is no message."""
    try:
        verb, *texts = data.decode("ascii").split(" ")
        kinds = verbs[verb]
        if len(texts) != len(kinds):
            return None
        return verb, tuple(_decode(kind, text) for kind, text in zip(kinds, texts))
    except (ValueError, KeyError):
        return None


class Lines:
    """Cuts a stream into lines; one that is too long is dropped as a whole, its end included."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._skipping and lines:
            del lines[0]
            self._skipping = False
        if self._skipping or len(self._rest) > self._limit:
            self._rest, self._skipping = b"", True
        return [line for line in lines if len(line) <= self._limit]


def _encode(field: Field) -> str:
    if isinstance(field, str):
        return "x" + field.encode("utf-8", "surrogateescape").hex()
    return repr(int(field) if isinstance(field, bool) else field)


def _decode(kind: type, text: str) -> Field:
    if kind is str:
        if text[:1] != "x":
            raise ValueError(text)
        return bytes.fromhex(text[1:]).decode("utf-8", "replace")
    if kind is bool:
        return {"0": False, "1": True}[text]
    if kind is int:
        return int(text)
    number = float(text)
    if not abs(number) < float("inf"):
        raise ValueError(text)
    return number
