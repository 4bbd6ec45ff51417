"""From bytes to values: nothing is believed, and nothing that the bytes name is run."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
import struct
import sys
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from uuid import UUID

from pymw.codec.wire import DTYPE, MAX_FRACTION_BYTES, CodecError, Limits, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Decoder"]


class Decoder:
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
            if self.modules is None:  # to compare arrays, their bytes will do
                return Record("array", repr(_checked_dtype(self.value())), (self.value(), self.blob()))
            raise CodecError("the value holds a NumPy array and NumPy is not installed here") from None
        dtype = np.dtype(_checked_dtype(self.value()))
        shape, content = self.value(), self.blob()
        if not isinstance(shape, tuple) or len(shape) > 64 or not all(type(n) is int for n in shape):
            raise CodecError("an array without a proper shape")
        if not all(0 <= n <= self.limits.size for n in shape):  # before they are multiplied: they may be huge
            raise CodecError("an array without a proper shape")
        if dtype.itemsize == 0 or math.prod(shape) * dtype.itemsize != len(content):
            raise CodecError("an array whose content does not fit its shape")
        return np.frombuffer(content, dtype).reshape(shape).copy()

    def scalar(self) -> Any:
        array = self.array()
        if isinstance(array, Record):
            return Record("scalar", array.name, array.content)
        if array.shape:
            raise CodecError("a NumPy scalar with a shape")
        return array[()]


def _checked_dtype(description: object) -> Any:
    if isinstance(description, str) and DTYPE.fullmatch(description):
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

_READERS: dict[bytes, Callable[[Decoder], Any]] = {
    b"0": lambda d: None,
    b"t": lambda d: True,
    b"n": lambda d: False,
    b"i": lambda d: int.from_bytes(d.blob(), "little", signed=True),
    b"f": lambda d: d.unpack("<d")[0],
    b"c": lambda d: complex(*d.unpack("<dd")),
    b"s": lambda d: d.blob().decode("utf-8", "surrogatepass"),
    b"b": Decoder.blob,
    b"(": lambda d: tuple(d.items()),
    b"[": Decoder.items,
    b"{": lambda d: set(d.hashables()),
    b"}": lambda d: frozenset(d.hashables()),
    b"d": Decoder.dict,
    b"y": lambda d: dt.date.fromordinal(*d.unpack("<I")),
    b"M": Decoder.datetime,
    b"m": Decoder.time,
    b"T": Decoder.timedelta,
    b"o": Decoder.timezone,
    b"z": Decoder.zone_info,
    b"x": lambda d: Decimal(d.text()),
    b"q": Decoder.fraction,
    b"u": lambda d: UUID(bytes=d.take(16)),
    b"p": Decoder.path,
    b"D": Decoder.dataclass,
    b"N": Decoder.named_tuple,
    b"E": Decoder.enum,
    b"a": Decoder.array,
    b"g": Decoder.scalar,
}
