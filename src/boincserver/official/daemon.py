"""A daemon as an official project starts and stops its own: `bin/start` runs it, a signal or a file ends it.

It logs to where `bin/start` sends what it prints. It goes on when the database comes back.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from boincserver.errors import ServerNotRunning

__all__ = ["Daemon"]

log = logging.getLogger(__name__)

_SIGNALS: Final = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
_LEVELS: Final = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
_LOOK_EVERY: Final = 1.0
"""Seconds between two looks for the file that ends daemons."""


class Daemon:
    """Repeats a pass over the tables of the project in this directory until it is told to stop."""

    def __init__(self, directory: Path, one_pass: Callable[[Callable[[], bool]], int], sleep: float = 2.0) -> None:
        self._trigger = directory / "stop_daemons"
        self._pass = one_pass
        self._sleep = sleep
        self._told = threading.Event()

    def run(self, *, one_pass: bool = False, level: int = 2) -> int:
        """Returns the exit code. `level` from 1, errors alone, to 4, everything."""
        logging.basicConfig(
            format="%(asctime)s [%(levelname)s] %(message)s", level=_LEVELS[min(max(level, 1), len(_LEVELS)) - 1]
        )
        log.info("begins, for %s", self._trigger.parent)
        with self._signals():
            while not self._stops():
                try:
                    done = self._pass(self._stops)
                except ServerNotRunning as error:
                    if one_pass:
                        raise
                    log.error("%s", error)
                    done = 0
                if one_pass:
                    return 0
                if not done:
                    self._rest()
        return 0

    def _stops(self) -> bool:
        return self._told.is_set() or self._trigger.exists()

    def _rest(self) -> None:
        left = self._sleep
        while left > 0 and not self._stops():
            self._told.wait(min(left, _LOOK_EVERY))
            left -= _LOOK_EVERY

    @contextmanager
    def _signals(self) -> Iterator[None]:
        before = [signal.signal(number, lambda *_: self._told.set()) for number in _SIGNALS]
        try:
            yield
        finally:
            for number, handler in zip(_SIGNALS, before, strict=True):
                signal.signal(number, handler)
