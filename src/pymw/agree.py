"""When two results of one task say the same: exactly, or within a tolerance for floating-point numbers."""

from __future__ import annotations

import math
from typing import Any

from pymw import codec

__all__ = ["DEFAULT_RTOL", "close", "difference", "tolerance"]

DEFAULT_RTOL = 1e-9  # as math.isclose has it


def close(rtol: float = DEFAULT_RTOL) -> str:
    """For the option `agree`: floating-point numbers may differ by `rtol` times the larger of the two.

    >>> close(rtol=1e-6)
    'close:1e-06'
    """
    agree = f"close:{rtol!r}"
    tolerance(agree)
    return agree


def tolerance(agree: str) -> float | None:
    """The relative tolerance that an option ``agree="close"`` or ``"close:1e-6"`` asks for; None for ``"exact"``."""
    kind, _, rtol = agree.partition(":")
    if kind == "exact" and not rtol:
        return None
    try:
        number = float(rtol) if rtol else DEFAULT_RTOL
    except ValueError:
        number = math.nan
    if kind != "close" or not 0 <= number < 1:
        raise ValueError(f"agree={agree!r} is none of 'exact', 'close', 'close:RTOL' with RTOL below 1, or a function")
    return number


def difference(a: Any, b: Any, rtol: float | None) -> str | None:
    """Where two values first differ, such as ``[3].energy: 1.25 vs 1.31``; None where they agree.

    With a tolerance, floats and complex numbers, also in arrays, may differ by `rtol` times the larger of the two;
    all else must be equal in type and content.

    >>> difference([1, {"x": 2.0}], [1, {"x": 2.5}], 1e-9)
    "[1]['x']: 2.0 vs 2.5"
    >>> difference(0.1 + 0.2, 0.3, 1e-9) is None
    True
    """
    if rtol is None:
        return None if codec.digest(a) == codec.digest(b) else (_walk(a, b, 0.0, "") or ": not the same")
    return _walk(a, b, rtol, "")


def _walk(a: Any, b: Any, rtol: float, path: str) -> str | None:
    if type(a) is not type(b):
        return _say(path, a, b)
    if isinstance(a, (float, complex)):
        return None if _close(a, b, rtol) else _say(path, a, b)
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return f"{path}: {len(a)} items vs {len(b)}"
        return _first(_walk(x, y, rtol, f"{path}[{i}]") for i, (x, y) in enumerate(zip(a, b)))
    if isinstance(a, dict):
        if set(a) != set(b):
            return f"{path}: keys {sorted(map(repr, set(a) ^ set(b)))} are in one alone"
        return _first(_walk(a[key], b[key], rtol, f"{path}[{key!r}]") for key in a)
    if isinstance(a, codec.Record):
        if (a.kind, a.name) != (b.kind, b.name):
            return f"{path}: {a.name} vs {b.name}"
        if a.kind == "dataclass":
            names = dict(a.content), dict(b.content)
            if set(names[0]) != set(names[1]):
                return f"{path}: other fields"
            return _first(_walk(names[0][name], names[1][name], rtol, f"{path}.{name}") for name in names[0])
        return _walk(a.content, b.content, rtol, path)
    if hasattr(a, "dtype"):
        return None if _arrays_close(a, b, rtol) else f"{path}: arrays differ"
    return None if codec.digest(a) == codec.digest(b) else _say(path, a, b)


def _first(found: Any) -> str | None:
    return next((difference for difference in found if difference is not None), None)


def _say(path: str, a: Any, b: Any) -> str:
    return f"{path}: {a!r:.60} vs {b!r:.60}"


def _close(a: Any, b: Any, rtol: float) -> bool:
    if isinstance(a, complex):
        return _close(a.real, b.real, rtol) and _close(a.imag, b.imag, rtol)
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=rtol)


def _arrays_close(a: Any, b: Any, rtol: float) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind not in "fc":
        return codec.digest(a) == codec.digest(b)
    import numpy as np

    return bool(np.all(np.isclose(a, b, rtol=rtol, atol=0.0, equal_nan=True)))
