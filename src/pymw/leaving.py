"""How masters end that nobody closes: collected as garbage, detached, or open when the interpreter exits."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pymw.backends.protocol import Backend
from pymw.collector import Intake

if TYPE_CHECKING:
    from pymw.run import Run
    from pymw.sharing import Shelf

__all__ = ["Belongings", "forget", "remember"]


@dataclass(slots=True, eq=False)
class Belongings:
    """What is left of a master without the master itself."""

    intake: Intake
    backend: Backend
    run: Run | None
    shelf: Shelf | None = None

    def close(self, *, detach: bool | None = None) -> None:
        """Free it; a named run goes on where it can, unless it shall not."""
        forget(self)
        if self.run is not None:
            self.run.turns.close()  # nothing more is handed to the backend
        self.backend.close(detach=self.run is not None if detach is None else detach)
        if self.run is not None:
            self.run.close()
        if self.shelf is not None:
            self.shelf.close()

    def tell(self, *, interrupted: bool = False) -> None:
        """What lives on and how to go on with it, for whoever left while tasks were not over."""
        if not self.intake.open_calls():
            return
        if self.run is None:
            if interrupted:
                sys.stderr.write('pymw: unfinished tasks are cancelled; those of Master(..., run="a name") can go on\n')
            return
        name = self.run.name
        if self.backend.capabilities.outlives_master:
            told = f"run {name!r} goes on at {self.backend.name}; run the script again to collect it, or `pymw cancel`"
        else:
            told = f"run {name!r} is not over; run the script again to go on with it"
        sys.stderr.write(f"pymw: {told}; `pymw show {shlex.quote(name)}` tells how far it is\n")

    def finish(self) -> None:
        """Close when the last task is over, or at once where the run goes on without us."""
        if self.run is not None and self.backend.capabilities.outlives_master:
            self.close()
        else:
            self.intake.when_over(self.close)


# Masters that were neither closed nor collected: at exit their tasks are waited for, as the standard library does.
_alive: dict[Belongings, None] = {}


def remember(belongings: Belongings) -> None:
    """From now on it is looked after at exit."""
    _alive[belongings] = None


def forget(belongings: Belongings) -> None:
    """Somebody else closes it, or has."""
    _alive.pop(belongings, None)


def _at_exit() -> None:
    interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    for belongings in list(_alive):
        with contextlib.suppress(KeyboardInterrupt):
            if not interrupted:
                belongings.intake.wait()
        belongings.tell(interrupted=True)
        belongings.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alive.clear)  # what a fork inherits is not its own to wait for

# Before the interpreter joins its threads, as concurrent.futures does it; atexit itself runs too late.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
