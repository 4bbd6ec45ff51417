"""How a refusal is worded: what cannot be shipped, why, and what to do."""

from __future__ import annotations

from typing import Any

from pymw.errors import UnshippableError

__all__ = ["SourceMissing", "describe", "refusal"]


class SourceMissing(UnshippableError):
    """A function of the script has no source: made by `exec`, say, or typed into a plain interpreter."""


def refusal(reason: str, advice: str) -> UnshippableError:
    """The error to raise: a reason, and what to do about it."""
    return UnshippableError(f"{reason}; {advice}")


def describe(function: Any) -> str:
    """How messages call a function or class."""
    name = getattr(function, "__qualname__", None)
    if name is None:
        return f"an object of class {type(function).__qualname__!r}"
    return f"{'class' if isinstance(function, type) else 'function'} {name!r}"
