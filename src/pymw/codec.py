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

import dataclasses
import datetime as dt
import enum
import hashlib
import math
import re
import struct
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID

__all__ = ["DEFAULT_LIMITS", "CodecError", "Limits", "Record", "classes", "decode", "digest", "encode"]

MAGIC = b"PyMW\x01"  # the last byte is the format's version
MAX_FRACTION_BYTES = 1 << 16  # reducing a hostile fraction costs quadratic time; this size costs a tenth of a second
_NAN = struct.pack("<d", math.nan)
_DTYPE = re.compile(r"[<>|=]([biufcSUV][0-9]+|[mM]8(\[[0-9a-zA-Z]{1,8}\])?)")


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an encoded value may take: bytes in all, levels of nesting, and values counted one by one."""

    size: int = 64 << 20
    depth: int = 100
    count: int = 4_000_000


DEFAULT_LIMITS = Limits()


@dataclasses.dataclass(frozen=True)
class Record:
    """An instance of a class that is not known here, as `decode(..., modules=None)` describes it."""

    kind: str
    name: str
    content: Any


class CodecError(ValueError):
    """A value that cannot be encoded, or bytes that are no value.

    `path` leads to the culprit inside the object, such as `[0]['model'].lock`; it is empty for bytes.
    """

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason, path)
        self.reason, self.path = reason, path

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason

    def under(self, root: str) -> CodecError:
        """The same error as seen from the outside of `root`."""
        return CodecError(self.reason, root + self.path)


def encode(value: object, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The bytes from which `decode` makes an equal value of the same type; CodecError says what cannot be sent."""
    return MAGIC + bytes(_Encoder(limits, canonical=False).encode(value))


def digest(value: object, *, limits: Limits = DEFAULT_LIMITS) -> str:
    """The SHA-256, in hexadecimal, of type and content: equal for equal values wherever they were computed."""
    return hashlib.sha256(_Encoder(limits, canonical=True).encode(value)).hexdigest()


def classes(value: object, *, limits: Limits = DEFAULT_LIMITS) -> set[type]:
    """The dataclasses, named tuples and enums that whoever decodes `value` must have."""
    encoder = _Encoder(limits, canonical=False)
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
    decoder = _Decoder(memoryview(data)[len(MAGIC) :], known, limits)
    try:
        value = decoder.value()
    except CodecError:
        raise
    except (ValueError, TypeError, OverflowError, InvalidOperation, RecursionError, LookupError) as error:
        raise CodecError(f"malformed value: {error}") from error
    if decoder.position != len(decoder.data):
        raise CodecError("bytes are left over after the value")
    return value


@contextmanager
def _at(segment: str) -> Iterator[None]:
    try:
        yield
    except CodecError as error:
        raise error.under(segment) from None


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class _Encoder:
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

    @contextmanager
    def inside(self, container: object) -> Iterator[None]:
        if id(container) in self.open:
            raise CodecError("contains itself; cycles cannot be sent")
        if len(self.open) >= self.limits.depth:
            raise CodecError(f"nested deeper than {self.limits.depth} levels")
        self.open.add(id(container))
        yield
        self.open.discard(id(container))

    def sequence(self, tag: bytes, items: tuple[object, ...] | list[object]) -> None:
        with self.inside(items):
            self.out += tag + _varint(len(items))
            done = 0
            try:
                for item in items:
                    self.value(item)
                    done += 1
            except CodecError as error:
                raise error.under(f"[{done}]") from None

    def set(self, tag: bytes, items: Collection[object]) -> None:
        with self.inside(items):
            self.out += tag + _varint(len(items))
            encoded = []
            for item in items:
                with _at("{...}"):
                    encoded.append(self.detached(item))
            for element in sorted(encoded):  # so that equal sets make equal bytes
                self.out += element

    def detached(self, value: object) -> bytes:
        """The encoding of one value, taken off the end of `out` again."""
        start = len(self.out)
        self.value(value)
        encoded = bytes(self.out[start:])
        del self.out[start:]
        return encoded

    def dict(self, mapping: dict[object, object]) -> None:
        with self.inside(mapping):
            self.out += b"d" + _varint(len(mapping))
            start = len(self.out)
            entries = []
            for key, item in mapping.items():
                begin = len(self.out)
                with _at(f" key {key!r:.60}"):
                    self.value(key)
                middle = len(self.out)
                with _at(f"[{key!r:.60}]"):
                    self.value(item)
                if self.canonical:
                    entries.append((bytes(self.out[begin:middle]), bytes(self.out[middle:])))
            if self.canonical:
                self.out[start:] = b"".join(key + item for key, item in sorted(entries))

    def record(self, tag: bytes, value: object, fields: Any, *, by_name: bool = False) -> None:
        with self.inside(value):
            items = list(fields)
            self.class_name(tag, type(value))
            self.out += _varint(len(items))
            for name, item in items:
                if by_name:
                    self.blob(b"", name.encode())
                with _at(f".{name}"):
                    self.value(item)

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
        if not _DTYPE.fullmatch(dtype.str):
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

_WRITERS: dict[type, Callable[[_Encoder, Any], None]] = {
    type(None): lambda e, v: e.out.extend(b"0"),
    bool: lambda e, v: e.out.extend(b"t" if v else b"n"),
    int: _Encoder.integer,
    float: lambda e, v: e.out.extend(b"f" + e.bits(v)),
    complex: lambda e, v: e.out.extend(b"c" + e.bits(v.real) + e.bits(v.imag)),
    str: lambda e, v: e.blob(b"s", v.encode("utf-8", "surrogatepass")),
    bytes: lambda e, v: e.blob(b"b", v),
    tuple: lambda e, v: e.sequence(b"(", v),
    list: lambda e, v: e.sequence(b"[", v),
    set: lambda e, v: e.set(b"{", v),
    frozenset: lambda e, v: e.set(b"}", v),
    dict: _Encoder.dict,
    dt.date: lambda e, v: e.out.extend(b"y" + struct.pack("<I", v.toordinal())),
    dt.datetime: _Encoder.datetime,
    dt.time: _Encoder.time,
    dt.timedelta: _Encoder.timedelta,
    dt.timezone: _Encoder.timezone,
    Decimal: lambda e, v: e.blob(b"x", str(v).encode()),
    Fraction: _Encoder.fraction,
    UUID: lambda e, v: e.out.extend(b"u" + v.bytes),
}


class _Decoder:
    """Reads `data` from `position` on; every length is checked against what is left before anything is made of it."""

    def __init__(self, data: memoryview, modules: frozenset[str] | None, limits: Limits) -> None:
        self.data = data
        self.position = 0
        self.modules = modules
        self.limits = limits
        self.count = 0
        self.depth = 0

    def take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self.data):
            raise CodecError("the bytes end in the middle of a value")
        piece = bytes(self.data[self.position : end])
        self.position = end
        return piece

    def length(self) -> int:
        shift = number = 0
        while shift < 63:
            (byte,) = self.take(1)
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                if number > len(self.data) - self.position:
                    raise CodecError("a length goes beyond the end of the bytes")
                return number
            shift += 7
        raise CodecError("a length of more than 63 bits")

    def blob(self) -> bytes:
        return self.take(self.length())

    def text(self) -> str:
        return self.blob().decode()

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def value(self) -> Any:
        self.count += 1
        if self.count > self.limits.count:
            raise CodecError(f"more than {self.limits.count} values")
        tag = self.take(1)
        reader = _READERS.get(tag)
        if reader is None:
            raise CodecError(f"unknown tag {tag!r}")
        return reader(self)

    def items(self) -> list[Any]:
        self.depth += 1
        if self.depth > self.limits.depth:
            raise CodecError(f"nested deeper than {self.limits.depth} levels")
        values = [self.value() for _ in range(self.length())]
        self.depth -= 1
        return values

    def hashables(self) -> list[Any]:
        return _unsuspicious(self.items())

    def dict(self) -> dict[Any, Any]:
        self.depth += 1
        if self.depth > self.limits.depth:
            raise CodecError(f"nested deeper than {self.limits.depth} levels")
        pairs = [(self.value(), self.value()) for _ in range(self.length())]
        self.depth -= 1
        _unsuspicious([key for key, _ in pairs])
        return dict(pairs)

    def datetime(self) -> dt.datetime:
        *fields, fold = self.unpack("<HBBBBBIB")
        return dt.datetime(*fields).replace(tzinfo=self.zone(), fold=fold)

    def time(self) -> dt.time:
        *fields, fold = self.unpack("<BBBIB")
        return dt.time(*fields).replace(tzinfo=self.zone(), fold=fold)

    def zone(self) -> dt.tzinfo | None:
        zone = self.value()
        if zone is not None and not isinstance(zone, dt.tzinfo):
            raise CodecError("a time whose zone is none")
        return zone

    def timedelta(self) -> dt.timedelta:
        return dt.timedelta(*self.unpack("<iII"))

    def timezone(self) -> dt.timezone:
        if self.take(1) != b"T":
            raise CodecError("a zone without an offset")
        offset, name = self.timedelta(), self.value()
        return dt.timezone(offset) if name is None else dt.timezone(offset, name)

    def zone_info(self) -> dt.tzinfo:
        from zoneinfo import ZoneInfo

        return ZoneInfo(self.text())

    def fraction(self) -> Fraction:
        numerator, denominator = self.part(), self.part()
        if denominator <= 0:
            raise CodecError("a fraction whose denominator is not positive")
        return Fraction(numerator, denominator)

    def part(self) -> int:
        if self.take(1) != b"i":
            raise CodecError("a fraction of something else than integers")
        content = self.blob()
        if len(content) > MAX_FRACTION_BYTES:
            raise CodecError(f"a fraction whose parts take more than {MAX_FRACTION_BYTES} bytes")
        return int.from_bytes(content, "little", signed=True)

    def path(self) -> PurePath:
        content = self.blob()
        kinds: dict[bytes, type[PurePath]] = {b"n": Path, b"p": PurePosixPath, b"w": PureWindowsPath}
        return kinds[content[:1]](content[1:].decode("utf-8", "surrogateescape"))

    def named(self, wanted: str) -> Any:
        """The class that the bytes name: looked up among what is imported, never imported, and nothing of it run."""
        name = self.text()
        if self.modules is None:
            return name
        module_name, _, qualname = name.partition(":")
        if module_name not in self.modules or module_name not in sys.modules:
            raise CodecError(f"class {module_name}.{qualname} is not of a module that was shipped")
        found: Any = sys.modules[module_name]
        for part in qualname.split("."):
            found = vars(found).get(part)
            if found is None:
                raise CodecError(f"there is no class {module_name}.{qualname} here")
        if not isinstance(found, type) or found.__module__ != module_name or not _IS[wanted](found):
            raise CodecError(f"{module_name}.{qualname} is no {wanted}")
        return found

    def dataclass(self) -> Any:
        cls = self.named("dataclass")
        self.depth += 1
        if self.depth > self.limits.depth:
            raise CodecError(f"nested deeper than {self.limits.depth} levels")
        found = {self.text(): self.value() for _ in range(self.length())}
        self.depth -= 1
        if isinstance(cls, str):
            return Record("dataclass", cls, found)
        expected = {field.name for field in dataclasses.fields(cls)}
        if set(found) != expected:
            raise CodecError(f"the fields of {cls.__qualname__} are {sorted(expected)}, not {sorted(found)}")
        made = object.__new__(cls)
        for name, item in found.items():
            object.__setattr__(made, name, item)
        return made

    def named_tuple(self) -> Any:
        cls = self.named("named tuple")
        items = self.items()
        if isinstance(cls, str):
            return Record("named tuple", cls, tuple(items))
        if len(items) != len(cls._fields):
            raise CodecError(f"{cls.__qualname__} has {len(cls._fields)} fields, not {len(items)}")
        return tuple.__new__(cls, items)

    def enum(self) -> Any:
        cls, name = self.named("enum"), self.text()
        if isinstance(cls, str):
            return Record("enum", cls, name)
        if name not in cls._member_map_:
            raise CodecError(f"{cls.__qualname__} has no member {name!r:.60}")
        return cls._member_map_[name]

    def array(self) -> Any:
        try:
            import numpy as np
        except ImportError:
            raise CodecError("the value holds a NumPy array and NumPy is not installed here") from None
        dtype = np.dtype(_checked_dtype(self.value()))
        shape, content = self.value(), self.blob()
        if not isinstance(shape, tuple) or len(shape) > 64 or not all(type(n) is int and n >= 0 for n in shape):
            raise CodecError("an array without a proper shape")
        if dtype.itemsize == 0 or math.prod(shape) * dtype.itemsize != len(content):
            raise CodecError("an array whose content does not fit its shape")
        return np.frombuffer(content, dtype).reshape(shape).copy()

    def scalar(self) -> Any:
        array = self.array()
        if array.shape:
            raise CodecError("a NumPy scalar with a shape")
        return array[()]


def _checked_dtype(description: object) -> Any:
    if isinstance(description, str) and _DTYPE.fullmatch(description):
        return description
    if isinstance(description, list) and description:
        fields = [item for item in description if isinstance(item, tuple) and len(item) == 2]
        if len(fields) == len(description) and all(isinstance(name, str) for name, _ in fields):
            return [(name, _checked_dtype(inner)) for name, inner in fields]
    raise CodecError("an array of a kind that is never sent")


def _unsuspicious(keys: list[Any]) -> list[Any]:
    """Refuse keys chosen to collide: they would make a dict or set of n entries cost n² steps."""
    if len(keys) > 64 and len({hash(key) for key in keys}) < len(keys) // 2:
        raise CodecError("keys that were chosen to collide")
    return keys


_IS: dict[str, Callable[[Any], bool]] = {
    "dataclass": dataclasses.is_dataclass,
    "named tuple": lambda cls: issubclass(cls, tuple) and hasattr(cls, "_fields"),
    "enum": lambda cls: issubclass(cls, enum.Enum),
}

_READERS: dict[bytes, Callable[[_Decoder], Any]] = {
    b"0": lambda d: None,
    b"t": lambda d: True,
    b"n": lambda d: False,
    b"i": lambda d: int.from_bytes(d.blob(), "little", signed=True),
    b"f": lambda d: d.unpack("<d")[0],
    b"c": lambda d: complex(*d.unpack("<dd")),
    b"s": lambda d: d.blob().decode("utf-8", "surrogatepass"),
    b"b": _Decoder.blob,
    b"(": lambda d: tuple(d.items()),
    b"[": _Decoder.items,
    b"{": lambda d: set(d.hashables()),
    b"}": lambda d: frozenset(d.hashables()),
    b"d": _Decoder.dict,
    b"y": lambda d: dt.date.fromordinal(*d.unpack("<I")),
    b"M": _Decoder.datetime,
    b"m": _Decoder.time,
    b"T": _Decoder.timedelta,
    b"o": _Decoder.timezone,
    b"z": _Decoder.zone_info,
    b"x": lambda d: Decimal(d.text()),
    b"q": _Decoder.fraction,
    b"u": lambda d: UUID(bytes=d.take(16)),
    b"p": _Decoder.path,
    b"D": _Decoder.dataclass,
    b"N": _Decoder.named_tuple,
    b"E": _Decoder.enum,
    b"a": _Decoder.array,
    b"g": _Decoder.scalar,
}
