"""The form of encoded values, the limits on them, and the error that says what is wrong with one."""

from __future__ import annotations

import dataclasses
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["DEFAULT_LIMITS", "DTYPE", "MAGIC", "MAX_FRACTION_BYTES", "CodecError", "Limits", "Record"]

MAGIC = b"PyMW\x01"  # the last byte is the format's version
MAX_FRACTION_BYTES = 1 << 16  # reducing a hostile fraction costs quadratic time; this size costs a tenth of a second
# The NumPy dtypes that travel, as dtype.str writes them.
DTYPE = re.compile(r"[<>|=]([biufcSUV][0-9]+|[mM]8(\[[0-9a-zA-Z]{1,8}\])?)")


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
