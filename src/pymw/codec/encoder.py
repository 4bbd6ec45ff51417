"""From values to bytes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
import struct
from collections.abc import Callable, Collection
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from uuid import UUID

from pymw.codec.wire import DTYPE, MAX_FRACTION_BYTES, CodecError, Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Encoder"]

_SMALL = [bytes([number]) for number in range(0x80)]
_NAN = struct.pack("<d", math.nan)


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _SMALL[number]
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Encoder:
    """Appends to `out`; `canonical` forgets what a digest must not see."""

    def __init__(self, limits: Limits, *, canonical: bool) -> None:
        self.out = bytearray()
        self.limits = limits
        self.canonical = canonical
        self.count = 0
        self.open: set[int] = set()  # the containers that we are inside of
        self.classes: set[type] = set()

    def encode(self, value: object) -> bytearray:
        self.value(value)
        return self.out

    def value(self, value: object) -> None:
        self.count += 1
        if self.count > self.limits.count or len(self.out) > self.limits.size:
            raise CodecError(f"larger than the {self.limits.size} bytes or {self.limits.count} values allowed")
        writer = _WRITERS.get(type(value))
        if writer is not None:
            writer(self, value)
        elif isinstance(value, enum.Enum):
            self.enum(value)
        elif isinstance(value, tuple) and hasattr(type(value), "_fields"):
            self.record(b"N", value, zip(type(value)._fields, value))  # type: ignore[attr-defined]
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = dataclasses.fields(value)
            self.record(b"D", value, ((f.name, getattr(value, f.name)) for f in fields), by_name=True)
        elif isinstance(value, PurePath):
            self.path(value)
        elif type(value).__module__ == "zoneinfo" and getattr(value, "key", None):
            self.blob(b"z", value.key.encode())  # type: ignore[attr-defined]
        elif type(value).__module__.partition(".")[0] == "numpy":
            self.numpy(value)
        else:
            raise CodecError(_refusal(value))

    def blob(self, tag: bytes, content: bytes | memoryview) -> None:
        if len(self.out) + len(content) > self.limits.size:
            raise CodecError(f"larger than the {self.limits.size} bytes allowed")
        self.out += tag + _varint(len(content))
        self.out += content

    def integer(self, number: int) -> None:
        size = (number.bit_length() + 8) // 8
        self.blob(b"i", number.to_bytes(size, "little", signed=True))

    def bits(self, number: float) -> bytes:
        return _NAN if self.canonical and math.isnan(number) else struct.pack("<d", number)

    def enter(self, container: object) -> None:
        """Go into a container; `leave` it again. After an error nobody goes on with this encoder."""
        if id(container) in self.open:
            raise CodecError("contains itself; cycles cannot be sent")
        if len(self.open) >= self.limits.depth:
            raise CodecError(f"nested deeper than {self.limits.depth} levels")
        self.open.add(id(container))

    def leave(self, container: object) -> None:
        self.open.discard(id(container))

    def sequence(self, tag: bytes, items: tuple[object, ...] | list[object]) -> None:
        self.enter(items)
        self.out += tag + _varint(len(items))
        done = 0
        try:
            for item in items:
                self.value(item)
                done += 1
        except CodecError as error:
            raise error.under(f"[{done}]") from None
        self.leave(items)

    def set(self, tag: bytes, items: Collection[object]) -> None:
        self.enter(items)
        self.out += tag + _varint(len(items))
        try:
            encoded = [self.detached(item) for item in items]
        except CodecError as error:
            raise error.under("{...}") from None
        for element in sorted(encoded):  # so that equal sets make equal bytes
            self.out += element
        self.leave(items)

    def detached(self, value: object) -> bytes:
        """The encoding of one value, taken off the end of `out` again."""
        start = len(self.out)
        self.value(value)
        encoded = bytes(self.out[start:])
        del self.out[start:]
        return encoded

    def dict(self, mapping: dict[object, object]) -> None:
        self.enter(mapping)
        self.out += b"d" + _varint(len(mapping))
        start = len(self.out)
        entries = []
        key: object = None
        in_key = True
        try:
            for key, item in mapping.items():
                begin, in_key = len(self.out), True
                self.value(key)
                middle, in_key = len(self.out), False
                self.value(item)
                if self.canonical:
                    entries.append((bytes(self.out[begin:middle]), bytes(self.out[middle:])))
        except CodecError as error:
            raise error.under(f" key {key!r:.60}" if in_key else f"[{key!r:.60}]") from None
        if self.canonical:
            self.out[start:] = b"".join(key + item for key, item in sorted(entries))
        self.leave(mapping)

    def record(self, tag: bytes, value: object, fields: Any, *, by_name: bool = False) -> None:
        self.enter(value)
        items = list(fields)
        self.class_name(tag, type(value))
        self.out += _varint(len(items))
        name = ""
        try:
            for name, item in items:
                if by_name:
                    self.blob(b"", name.encode())
                self.value(item)
        except CodecError as error:
            raise error.under(f".{name}") from None
        self.leave(value)

    def enum(self, member: enum.Enum) -> None:
        if not isinstance(member._name_, str) or member._name_ not in type(member)._member_map_:
            raise CodecError(f"{member!r} is a combination of flags; send its value")
        self.class_name(b"E", type(member))
        self.blob(b"", member._name_.encode())

    def class_name(self, tag: bytes, cls: type) -> None:
        if "<locals>" in cls.__qualname__:
            raise CodecError(f"class {cls.__qualname__} is made inside a function; move it to the top of its module")
        self.classes.add(cls)
        self.blob(tag, f"{cls.__module__}:{cls.__qualname__}".encode())

    def path(self, path: PurePath) -> None:
        if isinstance(path, Path):
            self.blob(b"p", b"n" + path.as_posix().encode("utf-8", "surrogateescape"))
        elif type(path) in (PurePosixPath, PureWindowsPath):
            flavour = b"p" if type(path) is PurePosixPath else b"w"
            self.blob(b"p", flavour + str(path).encode("utf-8", "surrogateescape"))
        else:
            raise CodecError(_refusal(path))

    def datetime(self, moment: dt.datetime) -> None:
        fields = struct.pack("<HBBBBBIB", *moment.timetuple()[:6], moment.microsecond, moment.fold)
        self.out += b"M" + fields
        self.value(moment.tzinfo)

    def time(self, moment: dt.time) -> None:
        fields = (moment.hour, moment.minute, moment.second, moment.microsecond, moment.fold)
        self.out += b"m" + struct.pack("<BBBIB", *fields)
        self.value(moment.tzinfo)

    def timedelta(self, delta: dt.timedelta) -> None:
        self.out += b"T" + struct.pack("<iII", delta.days, delta.seconds, delta.microseconds)

    def timezone(self, zone: dt.timezone) -> None:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        self.out += b"o"
        self.timedelta(offset)
        self.value(name[0] if name else None)

    def fraction(self, number: Fraction) -> None:
        for part in (number.numerator, number.denominator):
            if part.bit_length() > MAX_FRACTION_BYTES * 8 - 8:
                raise CodecError(f"a fraction whose parts take more than {MAX_FRACTION_BYTES} bytes")
        self.out += b"q"
        self.integer(number.numerator)
        self.integer(number.denominator)

    def numpy(self, value: Any) -> None:
        import numpy as np

        if type(value) is not np.ndarray and not isinstance(value, np.generic):
            raise CodecError(_refusal(value))
        if value.dtype.hasobject:
            raise CodecError("a NumPy array of Python objects; send a list, or give it a dtype")
        little = np.asarray(value, dtype=value.dtype.newbyteorder("<"), order="C")
        if self.canonical and little.dtype.kind in "fc" and np.isnan(little).any():
            little = _one_nan(little)
        self.out += b"a" if type(value) is np.ndarray else b"g"
        self.value(_dtype_description(little.dtype))
        self.value(value.shape)
        self.blob(b"", little.tobytes())


def _one_nan(array: Any) -> Any:
    """A copy in which every NaN has the same bits, also in the parts of complex numbers."""
    import numpy as np

    array = array.copy()
    parts = array.reshape(-1).view(array.real.dtype)
    parts[np.isnan(parts)] = np.nan
    return array


def _dtype_description(dtype: Any) -> object:
    if dtype.subdtype is not None:
        raise CodecError(f"NumPy dtype {dtype} cannot be sent")
    if dtype.fields is None:
        if not DTYPE.fullmatch(dtype.str):
            raise CodecError(f"NumPy dtype {dtype} cannot be sent")
        return str(dtype.str)
    if dtype.itemsize != sum(dtype[name].itemsize for name in dtype.names):
        raise CodecError(f"NumPy dtype {dtype} has gaps between its fields")
    return [(name, _dtype_description(dtype[name])) for name in dtype.names]


def _refusal(value: object) -> str:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    hint = _HINTS.get(name, "")
    return f"{name} cannot be sent{': ' + hint if hint else ''}"


_HINTS = {
    "bytearray": "use bytes",
    "range": "use a list or a tuple",
    "generator": "use a list",
    "collections.OrderedDict": "use a dict",
    "collections.defaultdict": "use a dict",
    "collections.Counter": "use a dict",
    "collections.deque": "use a list",
    "array.array": "use a list or a NumPy array",
    "pandas.core.frame.DataFrame": "send its columns as NumPy arrays",
    "function": "functions are not values here; send what they return",
}

_WRITERS: dict[type, Callable[[Encoder, Any], None]] = {
    type(None): lambda e, v: e.out.extend(b"0"),
    bool: lambda e, v: e.out.extend(b"t" if v else b"n"),
    int: Encoder.integer,
    float: lambda e, v: e.out.extend(b"f" + e.bits(v)),
    complex: lambda e, v: e.out.extend(b"c" + e.bits(v.real) + e.bits(v.imag)),
    str: lambda e, v: e.blob(b"s", v.encode("utf-8", "surrogatepass")),
    bytes: lambda e, v: e.blob(b"b", v),
    tuple: lambda e, v: e.sequence(b"(", v),
    list: lambda e, v: e.sequence(b"[", v),
    set: lambda e, v: e.set(b"{", v),
    frozenset: lambda e, v: e.set(b"}", v),
    dict: Encoder.dict,
    dt.date: lambda e, v: e.out.extend(b"y" + struct.pack("<I", v.toordinal())),
    dt.datetime: Encoder.datetime,
    dt.time: Encoder.time,
    dt.timedelta: Encoder.timedelta,
    dt.timezone: Encoder.timezone,
    Decimal: lambda e, v: e.blob(b"x", str(v).encode()),
    Fraction: Encoder.fraction,
    UUID: lambda e, v: e.out.extend(b"u" + v.bytes),
}
