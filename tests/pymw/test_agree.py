"""When two results say the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pymw.agree import difference, tolerance
from pymw.codec import Record


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1.0, 1.0 + 1e-12), (math.nan, math.nan), (1 + 2j, 1 + 2.0000000000001j), ([1, (2.0,)], [1, (2.0 + 1e-15,)]),
        ({"a": 1.0, "b": None}, {"b": None, "a": 1.0 + 1e-14}), (np.array([1.0, np.nan]), np.array([1.0 + 1e-13, np.nan])),
        (Record("dataclass", "m:C", {"x": 1.0}), Record("dataclass", "m:C", {"x": 1.0 + 1e-13})), ({1, 2}, {2, 1}), (0.0, -0.0),
    ],
)  # fmt: skip
def test_close(a: Any, b: Any) -> None:
    assert difference(a, b, 1e-9) is None


@pytest.mark.parametrize(
    ("a", "b", "where"),
    [
        (1.0, 1.1, ": 1.0 vs 1.1"), (1, 1.0, ": 1 vs 1.0"), (1, True, ": 1 vs True"), ([0, 1], [0], ": 2 items vs 1"),
        ([0, {"e": [1.25]}], [0, {"e": [1.31]}], "[1]['e'][0]: 1.25 vs 1.31"), ({"a": 1}, {"b": 1}, "are in one alone"),
        (Record("dataclass", "m:C", {"x": 1.0}), Record("dataclass", "m:C", {"x": 2.0}), ".x: 1.0 vs 2.0"),
        (Record("enum", "m:C", "A"), Record("enum", "m:C", "B"), ": 'A' vs 'B'"), (np.zeros(2), np.zeros(3), "arrays differ"),
        (np.zeros(2), np.zeros(2, dtype="f4"), "arrays differ"), (np.array([1]), np.array([2]), "arrays differ"), ("a", "b", "'a' vs 'b'"),
    ],
)  # fmt: skip
def test_not_close_says_where(a: Any, b: Any, where: str) -> None:
    assert where in str(difference(a, b, 1e-9))
    assert difference(a, b, None) is not None


def test_exact_is_by_the_canonical_digest() -> None:
    assert difference(0.0, -0.0, None) is not None
    assert difference({"a": math.nan, "b": 1}, {"b": 1, "a": math.nan}, None) is None


def test_tolerances() -> None:
    assert tolerance("exact") is None
    assert tolerance("close") == 1e-9
    assert tolerance("close:1e-3") == 1e-3
    for wrong in ("near", "close:x", "close:2", "close:-1", "exact:1", "close:nan"):
        with pytest.raises(ValueError, match="none of"):
            tolerance(wrong)
