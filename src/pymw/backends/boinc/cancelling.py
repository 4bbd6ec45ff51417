"""Workunits that nobody wants any more are cancelled at the server: at once, or when it answers again."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from boincserver.errors import BoincServerError, ControlError, ServerNotRunning
from pymw.backends.boinc.project import Project

__all__ = ["Cancelling"]


class Cancelling:
    """Used by the threads of the user and by the collector's."""

    def __init__(self, server: Project, batch: int) -> None:
        self._server, self._batch = server, batch
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
