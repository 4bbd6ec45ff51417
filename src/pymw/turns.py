"""Whose turn it is to give keys: in a named run the calls get theirs in the order in which they were made.

A long map gives those of its first tasks at the call, and the others in a thread, to which its turn goes over: so its
first results are there long before its last key. Whoever calls meanwhile waits for the turn.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

__all__ = ["Turns"]


class Turns:
    """A lock that a thread may take more than once, and hand over to another one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holder: int | None = None
        self._depth = 0
        self._over = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._holder in (None, me))
            self._holder = me
            self._depth += 1

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._depth -= 1
            if not self._depth:
                self._holder = None
                self._changed.notify_all()

    def hand_over(self, steps: Iterator[None]) -> None:
        """Whoever has the turn gives it to a thread that takes these steps, unless the run is closed meanwhile."""
        with self._changed:
            thread = threading.Thread(target=self._take, args=(steps,), name="pymw keys", daemon=True)
            thread.start()
            self._thread, self._holder = thread, thread.ident
            self._depth += 1

    def _take(self, steps: Iterator[None]) -> None:
        with self._changed:
            pass  # the turn is there
        try:
            while not self._over and next(steps, self) is not self:
                pass
        finally:
            self.__exit__()

    def close(self) -> None:
        """No more steps are taken; more than once does no harm."""
        self._over = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
