"""Workunits that nobody wants any more are cancelled at the server: at once, or when it answers again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence

from boincserver.errors import BoincServerError, ControlError, ServerNotRunning
from pymw.backends.boinc.ledger import Ledger
from pymw.backends.boinc.packing import Unit
from pymw.backends.boinc.project import Project

__all__ = ["Cancelling"]


class Cancelling:
    """Used by the threads of the user and by the collector's."""

    def __init__(self, server: Project, batch: int, ledger: Ledger) -> None:
        self._server, self._batch, self._ledger = server, batch, ledger
        self._lock = threading.Lock()
        self._names: dict[str, None] = {}  # those of which the server was not told yet

    def add(self, names: Iterable[str]) -> None:
        """These are to be cancelled; `go_on` does it."""
        with self._lock:
            self._names.update(dict.fromkeys(names))

    def go_on(self) -> int:
        """Tell the server; how many are left for later because it does not answer."""
        with self._lock:
            names = list(self._names)
        if not names:
            return 0
        try:
            self._server.cancel_jobs(self._batch, names)
        except (ServerNotRunning, ControlError):
            return len(names)
        except BoincServerError:
            pass  # it will not do it when asked again either
        with self._lock:  # not while it is asked: others may add some meanwhile
            for name in names:
                self._names.pop(name, None)
        return 0

    @contextlib.contextmanager
    def creating(self, units: Sequence[Unit]) -> Iterator[None]:
        """Around the creation of these: of what was cancelled meanwhile, the server knew nothing when it was told."""
        try:
            yield
        finally:  # where only the answer was lost, they are there too
            self.add(unit.name for unit in units if not self._ledger.holds(unit.name))
            self.go_on()
