"""A function that no volunteer has run yet goes to a few computers first, and the rest waits here for a sign of life.

    new workunits ─▶ enough of them are out, and none came home? ──yes──▶ held back ──the first came home──▶ the server
                                                    └──no──▶ the server            └─a canary ended: the next one goes

So a function that is broken in a way that shows on volunteers' computers alone costs some attempts, and not a
thousand people's hours. Where hardly more computers are there than it takes to tell, nothing is held back.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from boincserver import control
from boincserver.errors import BoincServerError
from pymw.backends.boinc.experience import HOSTS, TRIES, Experience
from pymw.backends.boinc.packing import Unit
from pymw.backends.boinc.project import Project
from pymw.task import TaskOptions

__all__ = ["Canaries", "enough"]

CROWD_FOR = 10.0  # seconds for which the number of hosts is good enough
Packed = tuple[Unit, control.Job]


def enough(options: TaskOptions) -> int:
    """Workunits whose attempts, should all of them fail, tell that a function is broken."""
    return max(HOSTS, math.ceil(TRIES / options.attempts))


class Canaries:
    """Used by the threads of the user and by the collector's; `experience` is by the digest of the function."""

    def __init__(self, server: Project, experience: Mapping[str, Experience]) -> None:
        self._server, self._experience = server, experience
        self._lock = threading.Lock()
        self._out: defaultdict[str, set[str]] = defaultdict(set)  # names of workunits at the server, by function
        self._held: defaultdict[str, dict[str, Packed]] = defaultdict(dict)  # by function, by name
        self._crowd_until, self._is_crowd = 0.0, False

    def admit(self, made: Iterable[Packed]) -> list[Packed]:
        """Which of these may go to the server now; the others are held back."""
        with self._lock:
            return [each for each in made if self._may_go(each)]

    def _may_go(self, made: Packed) -> bool:
        unit = made[0]
        digest, options = unit.code.bundle.digest, unit.batch.call.options
        if not options.canaries or self._experience[digest].worked:
            return True
        if len(self._out[digest]) < enough(options) or not self._crowd():
            self._out[digest].add(unit.name)
            return True
        self._held[digest][unit.name] = made
        return False

    def _crowd(self) -> bool:
        """Whether more computers are there than it takes to tell that a function is broken."""
        now = time.monotonic()
        if now > self._crowd_until:
            with contextlib.suppress(BoincServerError):  # else as it was
                self._is_crowd, self._crowd_until = len(self._server.hosts()) > HOSTS, now + CROWD_FOR
        return self._is_crowd

    def ended(self, unit: Unit) -> None:
        """This workunit is over, however it ended."""
        with self._lock:
            self._out[unit.code.bundle.digest].discard(unit.name)

    def released(self) -> list[Packed]:
        """What need not wait any longer."""
        found: list[Packed] = []
        with self._lock:
            for digest, held in list(self._held.items()):
                del self._held[digest]
                if self._experience[digest].worked:
                    found += held.values()
                else:
                    found += [each for each in held.values() if self._may_go(each)]
        return found

    def drop(self, names: Sequence[str]) -> list[str]:
        """Forget these; those among them that the server may have."""
        with self._lock:
            for out in self._out.values():
                out.difference_update(names)
            held = [each for each in self._held.values() if each]
            return [name for name in names if not any(each.pop(name, None) for each in held)]

    def give_up(self) -> list[Packed]:
        """All that is held back: nobody will be here to say when it may go."""
        with self._lock:
            found = [each for held in self._held.values() for each in held.values()]
            self._held.clear()
        return found

    def holds(self, name: str) -> bool:
        """Whether a workunit is held back."""
        with self._lock:
            return any(name in held for held in self._held.values())

    @property
    def tasks(self) -> int:
        """How many tasks are held back."""
        with self._lock:
            return sum(len(unit.batch) for held in self._held.values() for unit, _ in held.values())
