"""What earlier processes of a named run left on the server: attached to, not created again.

An outcome that nobody asks for yet is kept, and the server is not told that it may forget it. So a run can be
opened as often as one likes, with other chunks or with more items, and nothing is computed twice.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence

from boincserver import control
from boincserver.states import ErrorMask
from pymw.backends.boinc.ledger import Ledger
from pymw.backends.boinc.packing import Code, Unit
from pymw.backends.boinc.project import Project
from pymw.backends.protocol import Batch, RunHandle

__all__ = ["Attachments", "left_behind"]


class Attachments:
    """Outcomes and workunits of a named run between the process that made them and the one that wants them.

    Used by the threads of the user and by the collector's. Of an unnamed run it lets everything pass.
    """

    def __init__(self, run: RunHandle | None, ledger: Ledger, alive: Iterable[str], cancelled: Iterable[str]) -> None:
        self._run, self._ledger = run, ledger
        self._alive = set(alive)  # workunits whose outcome is still to come, or has come and was not handed on
        self._unclaimed: dict[str, control.JobOutcome] = {}
        self._claimed: list[control.JobOutcome] = []
        self._given_up = set(cancelled)
        self._lock = threading.Lock()

    @property
    def alive(self) -> set[str]:
        """Of a named run: what nobody may have asked for yet."""
        with self._lock:
            return set(self._alive)

    def placed(self, batch: Batch) -> tuple[dict[str, list[tuple[int, int]]], list[int]]:
        """Which tasks of the batch are in living workunits: by name (task, position there); and the others."""
        parts: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        if self._run is None or batch.keys is None or not self._alive:
            return parts, list(range(len(batch)))
        placed = self._run.placements(batch.keys)
        rest = []
        for i, key in enumerate(batch.keys):
            if key in placed and placed[key].unit in self._alive:
                parts[placed[key].unit].append((i, placed[key].position))
            else:
                rest.append(i)
        return parts, rest

    def attach(self, batch: Batch, parts: dict[str, list[tuple[int, int]]], code: Code) -> list[Unit]:
        """Wait for these tasks; an outcome is either here already, or is handed on when it comes."""
        assert self._run is not None
        attached = []
        for name, members in parts.items():
            picked, positions = batch.pick([i for i, _ in members]), [position for _, position in members]
            unit = Unit(name, picked, code, positions=positions, size=len(self._run.keys_of(name)))
            with self._lock:
                self._ledger.add([unit])
                if name in self._unclaimed:
                    self._claimed.append(self._unclaimed.pop(name))
            attached.append(unit)
        return attached

    def give_up(self, names: Sequence[str]) -> None:
        """Nobody wants these workunits any more."""
        if self._run is not None:
            self._given_up.update(names)
            self._alive.difference_update(names)

    def sort(self, finished: Sequence[control.JobOutcome]) -> list[control.JobOutcome]:
        """What can be handed on; the rest is kept until its tasks are asked for."""
        if self._run is None:
            return list(finished)
        with self._lock:
            at_hand = []
            came, self._claimed = [*self._claimed, *finished], []
            for job in came:
                if self._ledger.holds(job.name):
                    at_hand.append(job)
                    self._alive.discard(job.name)
                elif job.name not in self._given_up:
                    self._unclaimed[job.name] = job
        return at_hand

    def acknowledge_upto(self, after: int) -> int:
        """The last number up to which everything was handed on."""
        with self._lock:
            kept = [job.seq for job in (*self._unclaimed.values(), *self._claimed)]
        return min([after, *(number - 1 for number in kept)])


def left_behind(server: Project, batch: int, run: RunHandle) -> tuple[set[str], set[str]]:
    """Workunits of a batch whose outcome is still to come, or has come and was not taken; and those nobody wants.

    An earlier process may have recorded an outcome without telling the server, which then brings it again.
    """
    alive = {job.name for job in server.job_states(batch) if job.state != "over"}
    cancelled: set[str] = set()
    after = 0
    while finished := server.outcomes(batch, after=after):
        alive.update(job.name for job in finished)
        cancelled.update(job.name for job in finished if job.error_mask & ErrorMask.CANCELLED)
        after = finished[-1].seq
    unwanted = cancelled | {name for name in alive if run.has_ended(name)}
    return alive - unwanted, unwanted
