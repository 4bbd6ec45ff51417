"""Safe, canonical encoding of values: what may come home from a computer that nobody here controls.

`encode` and `decode` keep types, dict order and float bits; decoding runs no code that the bytes name and allocates
no more than a small multiple of what it reads. The closed set: None, bool, int, float, complex, str, bytes, tuple,
list, set, frozenset, dict; date, time, datetime, timedelta, timezone, ZoneInfo; Decimal, Fraction, UUID, paths;
NumPy arrays and scalars without objects; dataclasses, named tuples and enums of modules that the reader names.

`digest` is a separate, canonical fingerprint: equal if and only if type and content are equal. There all NaNs are
one, -0.0 is not 0.0, and the order of sets and dicts does not count.

The wire form is one tag byte, then lengths as LEB128 and content in little-endian order. This module runs on
volunteers' computers too: standard library only, NumPy only where a value needs it, Python 3.9 or later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from pymw.codec.decoder import Decoder
from pymw.codec.encoder import Encoder
from pymw.codec.wire import DEFAULT_LIMITS, MAGIC, CodecError, Limits, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["DEFAULT_LIMITS", "CodecError", "Limits", "Record", "classes", "decode", "digest", "encode", "examine"]


def encode(value: object, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The bytes from which `decode` makes an equal value of the same type; CodecError says what cannot be sent."""
    return MAGIC + bytes(Encoder(limits, canonical=False).encode(value))


def digest(value: object, *, limits: Limits = DEFAULT_LIMITS) -> str:
    """The SHA-256, in hexadecimal, of type and content: equal for equal values wherever they were computed."""
    return hashlib.sha256(Encoder(limits, canonical=True).encode(value)).hexdigest()


def examine(value: object, *, limits: Limits = DEFAULT_LIMITS) -> tuple[str, set[type]]:
    """Its digest, and the dataclasses, named tuples and enums in it."""
    encoder = Encoder(limits, canonical=True)
    return hashlib.sha256(encoder.encode(value)).hexdigest(), encoder.classes


def classes(value: object, *, limits: Limits = DEFAULT_LIMITS) -> set[type]:
    """The dataclasses, named tuples and enums that whoever decodes `value` must have."""
    encoder = Encoder(limits, canonical=False)
    encoder.encode(value)
    return encoder.classes


def decode(data: bytes, *, modules: Collection[str] | None = (), limits: Limits = DEFAULT_LIMITS) -> Any:
    """The value in `data`, which may come from a stranger.

    Dataclasses, named tuples and enums are rebuilt field by field, without running code of theirs, and only those
    that stand in one of `modules`, already imported here. With `modules=None` each becomes a `Record` instead: so
    values can be compared where their classes are not to be had. Raises CodecError for anything else.
    """
    if len(data) > limits.size + len(MAGIC):
        raise CodecError(f"{len(data)} bytes are more than the {limits.size} allowed")
    if data[: len(MAGIC)] != MAGIC:
        raise CodecError("these bytes do not begin as an encoded value does")
    known = None if modules is None else frozenset(modules)
    decoder = Decoder(memoryview(data)[len(MAGIC) :], known, limits)
    try:
        value = decoder.value()
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(f"malformed value: {error}") from error
    if decoder.position != len(decoder.data):
        raise CodecError("bytes are left over after the value")
    return value
