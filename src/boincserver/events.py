"""What happens, told to the log: the name of an event and its fields, which stay apart until a line is written.

>>> log = Events(__name__)
>>> log.warning("clock-jumped", seconds=90)
"""

from __future__ import annotations

import logging
import sys
from typing import Any

__all__ = ["Events"]


class Events:
    """A logger of the standard library's that takes events."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    @property
    def level(self) -> int:
        """From which level on anybody wants to know; for what costs something to find out."""
        return self._logger.getEffectiveLevel()

    def debug(self, event: str, /, **fields: Any) -> None:
        """Of interest to who looks for a fault."""
        self.tell(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """Of interest to the operator."""
        self.tell(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Something that should not be, and that the server copes with."""
        self.tell(logging.WARNING, event, fields)

    def error(self, event: str, /, *, raised: BaseException | None = None, **fields: Any) -> None:
        """Something that somebody has to mend; what was raised is told with its traceback."""
        self.tell(logging.ERROR, event, fields, raised)

    def exception(self, event: str, /, **fields: Any) -> None:
        """The same of an exception that is being handled, with its traceback."""
        self.tell(logging.ERROR, event, fields, sys.exception())

    def tell(self, level: int, event: str, fields: dict[str, Any], raised: BaseException | None = None) -> None:
        """The same at any level."""
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, exc_info=raised, extra={"fields": fields})
