"""What an executor runs at its workers: a chunk of tasks, and beside each of them what its function may call."""

# ruff: noqa: BLE001 - reading and writing the user's objects may raise anything

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pickle
import platform
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymw import worker
from pymw.captured import Printed, captured
from pymw.errors import UnshippableError
from pymw.kept import Checkpoints
from pymw.outcome import Ending, Outcome
from pymw.shipping import pack

__all__ = ["Beside", "encodable", "in_process", "in_thread", "process", "recordable"]

MOST_LINES = 1000  # of the log of one task; its end is kept
Tasks = list[tuple[tuple[Any, ...], dict[str, Any]]]


def process() -> str:
    """This process, among those of all machines."""
    return f"process {os.getpid()} on {platform.node()}"


@dataclass(frozen=True, slots=True)
class Beside:
    """What a chunk needs to know beside its tasks."""

    ids: Sequence[str]  # what tells each task apart, also from those of other runs
    checkpoints: str  # the master's folder for them; kept only where a worker sees it
    printed: bool  # somebody will ask for what they print
    master: str  # the master's process, whose output is its own
    recorded: bool = False  # a journal keeps what becomes of them


class ChunksTask(worker.CurrentTask):
    """progress(), checkpoint and log of one task of a chunk; what it logs goes home with its outcome."""

    def __init__(self, task: str, checkpoints: Checkpoints | None) -> None:
        self.id = task
        self.logged: deque[str] = deque(maxlen=MOST_LINES)
        self._checkpoints = checkpoints
        self._complained = False

    def log(self, message: str) -> None:
        """Keep the line."""
        self.logged.append(message)

    def load(self, default: Any) -> Any:
        """What an earlier attempt left, if it left it where it is seen from here."""
        return default if self._checkpoints is None else self._checkpoints.load(self.id, default)

    def save(self, value: Any) -> None:
        """Likewise; where it would not be seen, say so."""
        if self._checkpoints is not None:
            self._checkpoints.save(self.id, value)
        elif not self._complained:
            self._complained = True
            self.log(f"its checkpoints are not kept: {platform.node()} does not see the master's folder for them")

    def due(self) -> bool:
        """As its checkpoints say."""
        return self._checkpoints is not None and self._checkpoints.due()


class ThreadsTask(ChunksTask):
    """The same in a thread of the master's own process, which can tell at once."""

    def __init__(self, task: str, checkpoints: Checkpoints | None, tell: Callable[[float | str], None]) -> None:
        super().__init__(task, checkpoints)
        self._tell = tell

    def progress(self, fraction: float) -> None:
        """At once."""
        self._tell(fraction)

    def log(self, message: str) -> None:
        """At once."""
        self._tell(message)


def in_thread(
    function: Callable[..., Any], tasks: Tasks, beside: Beside, tell: Callable[[int, float | str], None]
) -> list[Outcome]:
    """Run the tasks; `tell` takes the position of the one that runs, and a line or how far it is."""
    name, checkpoints = threading.current_thread().name, _checkpoints(beside)
    outcomes = []
    for position, (args, kwargs) in enumerate(tasks):
        task = ThreadsTask(beside.ids[position], checkpoints, functools.partial(tell, position))
        with worker.running(task):
            outcome = worker.perform(function, args, kwargs, worker=name, encodable=encodable)
        outcomes.append(recordable(outcome) if beside.recorded else outcome)
    if checkpoints is not None:
        checkpoints.forget()
    return outcomes


def in_process(function: bytes, tasks: bytes, beside: Beside) -> list[bytes]:
    """Run the tasks, at a worker where this module can be imported; their outcomes, pickled each for itself."""
    name, checkpoints = process(), _checkpoints(beside)
    try:
        called, calls = pickle.loads(function), pickle.loads(tasks)  # noqa: S301 - the master's own
    except Exception as error:
        raise UnshippableError(f"it cannot be read by {name}: {type(error).__name__}: {error}") from error
    outcomes = []
    for task, (args, kwargs) in zip(beside.ids, calls, strict=True):
        current = ChunksTask(task, checkpoints)
        keeping = captured() if beside.printed and name != beside.master else contextlib.nullcontext(Printed())
        with worker.running(current), keeping as printed:
            outcome = worker.perform(called, args, kwargs, worker=name, encodable=encodable)
        log = tuple(current.logged)
        outcomes.append(_packed(dataclasses.replace(outcome, stdout=printed.stdout, stderr=printed.stderr, log=log)))
    if checkpoints is not None:
        checkpoints.forget()
    return outcomes


def _checkpoints(beside: Beside) -> Checkpoints | None:
    folder = Path(beside.checkpoints)
    return Checkpoints(folder) if folder.is_dir() else None


def encodable(value: Any) -> bool:
    """Whether it can be sent."""
    try:
        pack(value)
    except Exception:
        return False
    return True


def recordable(outcome: Outcome) -> Outcome:
    """Of a thread, whose result need not be sent, but written down: UNSENDABLE where it cannot be."""
    try:
        pickle.dumps(outcome.value, protocol=5, buffer_callback=lambda buffer: None)
    except Exception:
        try:
            pack(outcome.value, "result")
        except UnshippableError as error:
            return dataclasses.replace(outcome, ending=Ending.UNSENDABLE, value=None, detail=str(error))
    return outcome


def _packed(outcome: Outcome) -> bytes:
    try:
        return pack(outcome)
    except UnshippableError:
        try:
            pack(outcome.value, "result")
        except UnshippableError as error:
            return pack(dataclasses.replace(outcome, ending=Ending.UNSENDABLE, value=None, detail=str(error)))
        raise
