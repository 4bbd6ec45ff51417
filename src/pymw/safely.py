"""A volunteer's rules for values, rehearsed on one's own machine: Master("local", values="safe")."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymw import codec
from pymw.errors import UnshippableError

__all__ = ["Safely", "refuse_unsafe"]


def refuse_unsafe(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """UnshippableError leads to the argument that the codec does not carry."""
    for root, value in [(f"args[{i}]", arg) for i, arg in enumerate(args)] + [
        (f"kwargs[{k!r}]", v) for k, v in kwargs.items()
    ]:
        try:
            codec.encode(value)
        except codec.CodecError as error:
            raise UnshippableError(f"{root}{error.path}: {error.reason}") from error


@dataclass(frozen=True)
class Safely:
    """A function whose result must be one that the codec carries."""

    function: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it; UnshippableError leads to the part of the result that could not come home."""
        value = self.function(*args, **kwargs)
        try:
            codec.encode(value)
        except codec.CodecError as error:
            raise UnshippableError(f"result{error.path}: {error.reason}") from error
        return value
