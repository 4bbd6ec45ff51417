"""Which workunits hold which tasks that somebody waits for."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence

from pymw.backends.boinc.packing import Unit
from pymw.backends.protocol import Call

__all__ = ["Ledger"]


class Ledger:
    """Used by the threads of the user and by the collector's.

    A workunit may stand here several times: one that a named run attaches to can hold tasks of several calls.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._units: dict[str, list[Unit]] = {}
        self._of_call: defaultdict[Call, dict[int, Unit]] = defaultdict(dict)  # by id

    def add(self, units: Iterable[Unit]) -> None:
        """Wait for these."""
        with self._lock:
            for unit in units:
                self._units.setdefault(unit.name, []).append(unit)
                self._of_call[unit.batch.call][id(unit)] = unit

    def cancel(self, call: Call, indices: Sequence[int] | None) -> list[str]:
        """Wait no longer for these tasks (None: all of the call); the workunits that hold no others."""
        with self._lock:
            idle = []
            for unit in list(self._of_call.get(call, {}).values()):
                unit.cancelled.update(unit.batch.indices if indices is None else indices)
                if unit.cancelled.issuperset(unit.batch.indices) and self._drop(unit):
                    idle.append(unit.name)
            return idle

    def drop(self, units: Iterable[Unit]) -> list[str]:
        """Wait no longer for these; the workunits that hold no others."""
        with self._lock:
            return [unit.name for unit in units if self._drop(unit)]

    def _drop(self, unit: Unit) -> bool:
        left = [each for each in self._units.get(unit.name, ()) if each is not unit]
        self._leave_call(unit)
        if left:
            self._units[unit.name] = left
            return False
        return self._units.pop(unit.name, None) is not None

    def _leave_call(self, unit: Unit) -> None:
        units = self._of_call.get(unit.batch.call)
        if units is not None:
            units.pop(id(unit), None)
            if not units:
                del self._of_call[unit.batch.call]

    def named(self, name: str) -> list[Unit]:
        """What is waited for in a workunit."""
        with self._lock:
            return list(self._units.get(name, ()))

    def holds(self, name: str) -> bool:
        """Whether anything in a workunit is waited for."""
        return name in self._units

    def holding(self, call: Call, index: int) -> Unit | None:
        """Where a task is."""
        with self._lock:
            return next((unit for unit in self._of_call.get(call, {}).values() if index in unit.batch.indices), None)

    def units(self) -> list[Unit]:
        """All that are waited for."""
        with self._lock:
            return [unit for units in self._units.values() for unit in units]
