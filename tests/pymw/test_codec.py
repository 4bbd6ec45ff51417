"""The codec: round trips, one digest per content, and bytes from strangers."""

from __future__ import annotations

import datetime as dt
import enum
import math
import struct
import threading
from collections import OrderedDict
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymw.codec import CodecError, Limits, classes, decode, digest, encode
from pymw.codec.wire import MAGIC


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


class Point(NamedTuple):
    x: int
    y: float


@dataclass(frozen=True)
class Star:
    name: str
    at: Point

    def __post_init__(self) -> None:
        if self.name == "boom":
            raise RuntimeError("user code ran")


def back(value: object) -> Any:
    return decode(encode(value), modules=[__name__])


def identical(a: Any, b: Any) -> bool:
    """Equal in type and content, floats bit by bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, complex):
        return identical(a.real, b.real) and identical(a.imag, b.imag)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(identical, a, b))
    if isinstance(a, dict):
        return identical(list(a.items()), list(b.items()))
    return bool(a == b)


hashable = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.dates(), st.times(), st.timedeltas(),
    st.datetimes(timezones=st.one_of(st.none(), st.just(dt.timezone(dt.timedelta(hours=5), "X")))),
    st.decimals(allow_nan=False), st.fractions(), st.uuids(),
)  # fmt: skip
values = st.recursive(
    hashable | st.floats() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(hashable, inner) | st.frozensets(hashable)
    ),
    max_leaves=30,
)


@given(values)
def test_round_trip_keeps_type_order_and_bits(value: Any) -> None:
    assert identical(back(value), value)


@given(values)
def test_digest_survives_a_round_trip(value: Any) -> None:
    assert digest(back(value)) == digest(value)


@given(st.dictionaries(st.integers(), st.integers()))
def test_digest_ignores_the_order_of_dicts_and_sets(mapping: dict[int, int]) -> None:
    assert digest(dict(reversed(mapping.items()))) == digest(mapping)
    assert digest(frozenset(sorted(mapping))) == digest(frozenset(sorted(mapping, reverse=True)))


@pytest.mark.parametrize(
    "value",
    [
        Colour.BLUE, Point(1, 2.0), Star("Vega", Point(3, math.pi)), Path("a/b"), PurePosixPath("/x"),
        PureWindowsPath("c:/x"), ZoneInfo("Europe/Paris"), dt.datetime(2026, 1, 2, 3, fold=1, tzinfo=ZoneInfo("UTC")),
        dt.UTC, Decimal("sNaN7"), Decimal("1.50"), Fraction(-3, 7), UUID(int=9), {1: {2: {3: []}}}, -(2**200),
        "\ud800", {frozenset({1}), ()},
    ],
)  # fmt: skip
def test_round_trip_of_the_rest_of_the_set(value: Any) -> None:
    result = back(value)
    assert type(result) is type(value)
    assert repr(result) == repr(value)


def test_values_that_differ_in_type_differ_in_digest() -> None:
    alike = [
        1,
        True,
        1.0,
        1 + 0j,
        np.int64(1),
        np.int32(1),
        np.float64(1),
        Decimal(1),
        Fraction(1),
        "1",
        b"1",
        (1,),
        [1],
    ]
    alike += [{1}, frozenset({1}), {1: 1}, np.array(1), np.array([1]), 0.0, -0.0, None, False, 0]
    assert len({digest(value) for value in alike}) == len(alike)


def test_all_nans_are_one() -> None:
    other = struct.unpack("<d", b"\x01\0\0\0\0\0\xf8\xff")[0]
    assert digest(other) == digest(math.nan) == digest(-math.nan)
    assert digest(np.array([1, other])) == digest(np.array([1, math.nan]))
    assert digest(np.array([complex(other, 1)])) == digest(np.array([complex(math.nan, 1)]))
    assert struct.pack("<d", back(other)) == struct.pack("<d", other)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4), np.arange(12).reshape(3, 4).T, np.array(3), np.zeros((0, 3)), np.array(["a", "bc"]),
        np.arange(3, dtype=">i4"), np.array([1, 2], dtype="M8[s]"), np.array([(1, 2.0)], dtype=[("a", "<i4"), ("b", "<f8")]),
        np.array([True, False]), np.array([1 + 2j]),
    ],
)  # fmt: skip
def test_arrays(array: Any) -> None:
    result = back(array)
    assert result.dtype == array.dtype.newbyteorder("<")
    assert result.shape == array.shape
    assert (result == array).all()
    assert result.flags.writeable
    assert digest(array.copy(order="F")) == digest(array)


def test_numpy_scalars_keep_their_type() -> None:
    for scalar in (np.float32(1.5), np.int8(-3), np.bool_(True), np.datetime64(5, "D"), np.str_("x")):
        assert type(back(scalar)) is type(scalar)
        assert back(scalar) == scalar


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([0, {"model": threading.Lock()}], r"\[1\]\['model'\]: _thread.lock cannot be sent"),
        (Star("Vega", threading.Lock()), r"\.at: _thread.lock cannot be sent"),  # type: ignore[arg-type]
        ({"a": OrderedDict()}, r"\['a'\]: collections.OrderedDict cannot be sent: use a dict"),
        (np.array([None]), "a NumPy array of Python objects"),
        (lambda: 0, "functions are not values here"),
        (enum.Flag("F", "A B")(3), "combination of flags"),
        (type("Local", (int,), {})(3), "cannot be sent"),
    ],
)
def test_what_is_outside_the_set_is_refused_with_the_path_to_it(value: object, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        encode(value)


def test_cycles_and_depth_and_size_are_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(CodecError, match="contains itself"):
        encode(loop)
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(CodecError, match="deeper than 100"):
        encode(deep)
    with pytest.raises(CodecError, match="deeper than 100"):
        decode(MAGIC + b"[\x01" * 200 + b"0")
    with pytest.raises(CodecError, match="larger than"):
        encode(b"x" * 100, limits=Limits(size=50))
    with pytest.raises(CodecError, match="values"):
        encode([0] * 100, limits=Limits(count=50))
    shared = [0]
    assert back([shared, shared]) == [[0], [0]]


def test_a_stranger_names_no_classes() -> None:
    hostile = encode(Star("Vega", Point(1, 2)))
    with pytest.raises(CodecError, match="not of a module that was shipped"):
        decode(hostile)
    for name in (b"os:system", b"subprocess:Popen", b"builtins:exec"):
        for tag in b"DNE":
            with pytest.raises(CodecError):
                decode(MAGIC + bytes([tag, len(name)]) + name + b"\0", modules=["os", "builtins"])


def test_without_the_classes_values_are_described_and_still_compare() -> None:
    star = Star("Vega", Point(1, float("nan")))
    described = decode(encode([star, Colour.RED]), modules=None)
    assert described[0].name == f"{__name__}:Star"
    assert digest(described) == digest(decode(encode([star, Colour.RED]), modules=None))
    assert digest(described) != digest(decode(encode([star, Colour.BLUE]), modules=None))


def test_classes_are_told() -> None:
    assert classes({"a": [Star("Vega", Point(1, 2)), Colour.RED]}) == {Star, Point, Colour}


def test_rebuilding_runs_no_user_code() -> None:
    star = object.__new__(Star)
    object.__setattr__(star, "name", "boom")
    object.__setattr__(star, "at", None)
    assert back(star).name == "boom"


def test_fields_that_do_not_fit_are_refused() -> None:
    name = f"{__name__}:Point".encode()
    one_field = MAGIC + b"N" + bytes([len(name)]) + name + b"\x01" + b"0"
    with pytest.raises(CodecError, match="has 2 fields, not 1"):
        decode(one_field, modules=[__name__])


def test_keys_chosen_to_collide_are_refused() -> None:
    with pytest.raises(CodecError, match="collide"):
        decode(encode({n * (2**61 - 1) for n in range(1, 2000)}))


@given(values, st.data())
def test_truncated_or_changed_bytes_never_escape_codec_error(value: Any, data: st.DataObject) -> None:
    good = encode(value)
    cut = good[: data.draw(st.integers(0, len(good)))]
    at = data.draw(st.integers(0, len(good) - 1))
    changed = good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]
    for hostile in (cut, changed):
        try:
            decode(hostile, modules=[__name__])
        except CodecError:
            pass


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_codec_error(data: bytes) -> None:
    try:
        decode(MAGIC + data, modules=[__name__])
    except CodecError:
        pass


def test_huge_shapes_cost_no_time() -> None:
    huge = encode((2 ** (8 * 1000),) * 64)[len(MAGIC) :]
    with pytest.raises(CodecError, match="proper shape"):
        decode(MAGIC + b"a" + encode("<f8")[len(MAGIC) :] + huge + b"\0")


class Grumpy(NamedTuple):
    x: int

    def __hash__(self) -> int:
        raise RuntimeError("user code ran")


def test_an_error_of_user_code_is_a_codec_error() -> None:
    item = encode(Grumpy(1))[len(MAGIC) :]
    with pytest.raises(CodecError, match="user code ran"):
        decode(MAGIC + b"{\x01" + item, modules=[__name__])


def test_lengths_allocate_nothing_before_they_are_checked() -> None:
    for tag in b"sb[({}d":
        with pytest.raises(CodecError, match="beyond the end"):
            decode(MAGIC + bytes([tag]) + b"\xff\xff\xff\xff\xff\x7f")
