"""Pickling by value what the workers cannot import, tracebacks included: a function keeps the name of its file."""

from __future__ import annotations

import io
from collections import ChainMap
from collections.abc import Callable
from pickle import PickleBuffer
from types import CodeType
from typing import Any, ClassVar

import cloudpickle  # type: ignore[import-untyped]

__all__ = ["ByValue", "dumps"]


def _code_reduced(code: CodeType) -> tuple[Any, ...]:
    """As cloudpickle does, which from 3.1.3 on forgets where the code was written."""
    make, args = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return _code_made, (make, args, code.co_filename)


def _code_made(make: Callable[..., CodeType], args: tuple[Any, ...], filename: str) -> CodeType:
    return make(*args).replace(co_filename=filename)


class ByValue(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle's pickler, whose functions raise with the file and the line that they come from."""

    dispatch_table: ClassVar[Any] = ChainMap({CodeType: _code_reduced}, cloudpickle.Pickler.dispatch_table)


def dumps(value: Any, buffer_callback: Callable[[PickleBuffer], object] | None = None) -> bytes:
    """Pickled with protocol 5, without the buffers for which the callback returns a false value."""
    file = io.BytesIO()
    ByValue(file, protocol=5, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()
