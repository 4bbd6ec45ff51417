"""Wait for a condition, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["wait_until"]

T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, timeout: float, what: str = "", interval: float = 0.05) -> T:
    """What `condition` returns once that is true; TimeoutError, saying what was waited for, after so many seconds."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:g} s in vain for {what or condition!r}")
        time.sleep(interval)
