"""State that survives suspension, quitting, reboots and kills at any moment."""

from __future__ import annotations

import os
import time

from pyboinc.initdata import DEFAULT_CHECKPOINT_PERIOD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyboinc.api import Session

CHECKPOINT_FILE = "pyboinc_checkpoint"


class Checkpoint:
    """A file that always holds one whole state: the last one saved.

    >>> state = checkpoint.load()
    >>> step = int(state) if state else 0
    >>> while step < 1000:
    ...     step += 1
    ...     if checkpoint.due():
    ...         checkpoint.save(str(step).encode())
    """

    def __init__(self, session: Session, name: str = CHECKPOINT_FILE) -> None:
        self._session = session
        self._path = os.path.join(session.directory, name)
        self._saved = time.monotonic()

    def load(self) -> bytes | None:
        """The last saved state; None at the first start."""
        try:
            with open(self._path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def save(self, state: bytes) -> None:
        """Replace the saved state, and tell the client how far the work is safe."""
        with open(self._path + ".new", "wb") as file:
            file.write(state)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self._path + ".new", self._path)
        self._saved = time.monotonic()
        self._session.link.say("checkpoint")

    def due(self) -> bool:
        """Whether to save now: the volunteer's time between two writes has passed, or the client wants to quit."""
        link = self._session.link
        link.poll()
        return link.quit_requested or time.monotonic() - self._saved >= self.period

    @property
    def period(self) -> float:
        """Seconds between two checkpoints as the volunteer wants it."""
        period = self._session.link.period
        if period is None:
            period = self._session.init_data().checkpoint_period
        return period or DEFAULT_CHECKPOINT_PERIOD
