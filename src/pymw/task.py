"""What is asked of a task (TaskOptions) and what its caller holds (TaskFuture)."""

from __future__ import annotations

import dataclasses
import enum
import html
import numbers
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pymw.backends.protocol import AttemptLost, Broken, Ended, Event, Logged, Progressed, Returned
from pymw.files import put_down
from pymw.outcome import Attempt, Ending, Outcome

if TYPE_CHECKING:
    from pymw.backends.protocol import Backend, Call

__all__ = ["Agree", "TaskFuture", "TaskOptions", "TaskState"]

# How replicas of a result are compared: "exact", "close" (or "close:RTOL"), or a function of two values.
ADAPTIVE = "adaptive"  # a quorum: two results must agree, until a host has proved itself
Agree = str | Callable[[Any, Any], bool]


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Everything that `Master.options` takes; None and empty mean: as the backend has it.

    `timeout` is not among these: it only ever waits. See `Capabilities` for which backend honours what.
    """

    name: str | None = None  # shown to people; the function's own name otherwise
    files: Sequence[str | Path] | Mapping[str, str | Path] = ()  # data files, there under their names
    outputs: Sequence[str] = ()  # names of files that the function leaves, brought back as TaskFuture.files
    into: str | Path | None = None  # the folder where these are put; those of a map in a folder for each item
    modules: Sequence[str | ModuleType] = ()  # the user's own modules, beside those found by themselves
    packages: Sequence[str] = ()  # what volunteers' computers are to have installed: "numpy==2.2.6"
    retries: int = 0  # how often an exception of the function is answered by another try
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    attempts: int = 3  # how many workers may be lost over it; 1 means at most once
    time_limit: float | None = None  # seconds that one attempt may run
    deadline: float | None = None  # seconds after which a volunteer's copy is given up
    quorum: int | str = 1  # how many results must agree; "adaptive": two, until a host has proved itself
    agree: Agree = "exact"
    canaries: bool = True  # a new function goes to few volunteers first; False: to all of them at once, come what may
    seed: int | str | None = "auto"  # random generators are seeded from the task's key under redundancy; None: never
    key: Any = None  # what tells the task apart in a named run, instead of its arguments
    reuse: bool = False  # equal calls share one computation
    priority: int = 0  # higher runs earlier
    est_seconds: float | None = None  # expected running time on one core of this machine; a hint
    memory: int | None = None  # bytes that one attempt may use
    disk: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("retries", 0), ("attempts", 1), ("quorum", 1)):
            value = getattr(self, name)
            if name == "quorum" and value == ADAPTIVE:
                if self.attempts == 1:
                    raise ValueError("quorum='adaptive' runs some tasks twice, and attempts=1 means at most once")
            elif not isinstance(value, int) or value < least:
                raise ValueError(f"{name}= must be a whole number of at least {least}, not {value!r}")
        for name in ("time_limit", "deadline", "est_seconds", "memory", "disk"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, numbers.Real) and float(value) > 0):
                raise ValueError(f"{name}= must be positive, not {value!r}")
        if not isinstance(self.canaries, bool):
            raise TypeError(f"canaries= is True or False, not {self.canaries!r}")
        if not isinstance(self.priority, int):
            raise TypeError(f"priority= must be a whole number, not {self.priority!r}")
        for name in ("files", "outputs", "modules"):
            if isinstance(value := getattr(self, name), (str, Path, ModuleType)):
                raise TypeError(f"{name}= takes several: write {name}=[{value!r}]")
        if isinstance(self.retry_on, type):
            object.__setattr__(self, "retry_on", (self.retry_on,))
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in self.retry_on):
            raise TypeError(f"retry_on= takes classes of exceptions, not {self.retry_on!r}")

    @property
    def copies(self) -> int:
        """Copies of a task to begin with."""
        return self.quorum if isinstance(self.quorum, int) else 1

    def but(self, **changes: Any) -> TaskOptions:
        """These options with some of them changed; an unknown name is a TypeError that lists the known ones."""
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise TypeError(f"there is no option {name!r}; there are: {', '.join(known)}")
        return dataclasses.replace(self, **changes)

    def given(self) -> tuple[str, ...]:
        """The names of the options that differ from their defaults."""
        return tuple(f.name for f in dataclasses.fields(self) if not _same(getattr(self, f.name), f.default))


class TaskState(enum.Enum):
    """Where a task is, as its future tells it."""

    QUEUED = "queued"  # accepted, no worker has it
    RUNNING = "running"  # a worker has it
    DONE = "done"  # it returned
    FAILED = "failed"  # it raised, or no worker could finish it
    CANCELLED = "cancelled"


class TaskFuture(Future[Any]):
    """A real `concurrent.futures.Future` that also tells where its task is and how it went."""

    # Set by whoever makes both: the call's receiver is this future. None once the task is over, so that neither
    # the function nor its arguments live as long as the future.
    _call: Call | None = None
    _id = _name = _worker = ""
    _outcome: Outcome | None = None
    _lost: tuple[Attempt, ...] = ()
    _logged: tuple[str, ...] = ()
    _progress = 0.0
    _begun = False  # where that makes no difference to the standard library's future
    key = ""  # in a named run: what tells the task apart for ever

    def __init__(self, backend: Backend, over: Callable[[Call], None]) -> None:
        super().__init__()
        self._backend = backend
        self._over = over
        self._submitted = time.time()

    @property
    def id(self) -> str:
        """What tells the task apart in messages, logs and the run's journal."""
        return self._call.id if self._call is not None else self._id

    @property
    def name(self) -> str:
        """The option `name`, else the function's own name."""
        return self._call.name if self._call is not None else self._name

    @property
    def state(self) -> TaskState:
        """Queued, running, done, failed or cancelled."""
        if self.cancelled():
            return TaskState.CANCELLED
        if self.done():
            error = self.exception()
            ended = error is not None and self._outcome is not None and self._outcome.ending is Ending.CANCELLED
            if ended and isinstance(error, CancelledError):
                return TaskState.CANCELLED  # while it ran
            return TaskState.DONE if error is None else TaskState.FAILED
        return TaskState.RUNNING if self.running() else TaskState.QUEUED

    @property
    def progress(self) -> float:
        """The fraction, 0 to 1, that the function last told; 1 when it is done."""
        return 1.0 if self.done() and not self.cancelled() and self.exception() is None else self._progress

    @property
    def worker(self) -> str:
        """Which process or host has the task, or had it last; empty while it is queued."""
        return self._outcome.worker if self._outcome is not None and self._outcome.worker else self._worker

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that lost their worker."""
        return self._outcome.attempts if self._outcome is not None and self._outcome.attempts else self._lost

    @property
    def stdout(self) -> str:
        """What the function printed; complete when the task has ended."""
        return self._outcome.stdout if self._outcome is not None else ""

    @property
    def stderr(self) -> str:
        """What the function wrote to standard error; complete when the task has ended."""
        return self._outcome.stderr if self._outcome is not None else ""

    @property
    def log(self) -> tuple[str, ...]:
        """The lines that the function told with `pymw.log`, as they come."""
        return self._logged

    @property
    def files(self) -> Mapping[str, bytes]:
        """The files that the option `outputs` named."""
        return self._outcome.files if self._outcome is not None else {}

    @property
    def submitted(self) -> float:
        """When the task was accepted, in seconds since the epoch."""
        return self._submitted

    @property
    def started(self) -> float | None:
        """When the attempt that ended the task began, in seconds since the epoch."""
        return self._outcome.started if self._outcome is not None else None

    @property
    def seconds(self) -> float | None:
        """How long that attempt ran."""
        return self._outcome.seconds if self._outcome is not None else None

    @property
    def cpu_seconds(self) -> float | None:
        """How much processor time that attempt took."""
        return self._outcome.cpu_seconds if self._outcome is not None else None

    def explain(self) -> str:
        """Why the task is not done, or how it ended, in a sentence or two."""
        match self.state:
            case TaskState.CANCELLED:
                return f"{self.name} was cancelled"
            case TaskState.DONE:
                took = f" in {self.seconds:.3g} s" if self.seconds is not None else ""
                return f"{self.name} returned{took}" + (f" on {self.worker}" if self.worker else "")
            case TaskState.FAILED:
                error = self.exception()
                return f"{self.name} failed: {type(error).__name__}: {error}"
            case _:
                return self._backend.explain(self._call, 0) if self._call is not None else f"{self.name} is over"

    def cancel(self) -> bool:
        """Cancel the task if it has not begun, as in the standard library; on BOINC also if it has.

        There a task may be on somebody's computer for days, and stops at its next contact with the project.
        """
        cancelled, call = super().cancel(), self._call
        if cancelled and call is not None:
            self._forget(call)
            self._backend.cancel(call)
            self._tell_who_waits()
        return cancelled

    def _tell_who_waits(self) -> None:
        """In `concurrent.futures.wait`, say, for which a cancelled future is not over before that."""
        with self._condition:
            if self._state == "CANCELLED":
                self.set_running_or_notify_cancel()

    def running(self) -> bool:
        """Whether a worker has the task."""
        return super().running() or (self._begun and not self.done())

    def _forget(self, call: Call) -> None:
        self._id, self._name, self._call = call.id, call.name, None
        self._over(call)

    def __repr__(self) -> str:
        told = f" {self.progress:.0%}" if self.state is TaskState.RUNNING and self._progress else ""
        where = f" on {self.worker}" if self.worker else ""
        return f"<TaskFuture {self.id} {self.name} {self.state.value}{told}{where}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(self.name)}</code> {html.escape(self.explain())}"

    # The future is its call's Receiver: what follows is called by the collector alone.

    def begin(self, index: int, count: int, worker: str) -> bool:
        """A worker takes the task; False where it was cancelled, or ended with a backend that broke."""
        if self.done():
            self._tell_who_waits()
            return False
        self._worker = worker
        if self._backend.capabilities.outlives_master:  # for the standard library it can be cancelled as before
            self._begun = True
            return True
        return super().running() or self.set_running_or_notify_cancel()

    def receive(self, event: Event) -> None:
        """Something came back."""
        match event:
            case Ended(_, _, outcome, error):
                self._end(outcome, error)
            case Returned(_, _, values):
                self._end(Outcome(Ending.RETURNED, values[0], worker=self._worker), None)
            case Progressed(_, _, fraction):
                self._progress = fraction
            case Logged(_, _, line):
                self._logged += (line,)
            case AttemptLost(_, _, attempt):
                self._lost += (attempt,)
                self._progress = 0.0
            case Broken(error):
                self._end(Outcome(Ending.CANCELLED, worker=self._worker, attempts=self._lost), error)
            case _:
                pass

    def _end(self, outcome: Outcome, error: BaseException | None) -> None:
        if self.done():
            return  # cancelled meanwhile, or told twice
        if outcome.files and self._call is not None:
            try:
                put_down(outcome.files, self._call.options, None)
            except OSError as problem:
                error = error or problem
        self._outcome = outcome
        if self._call is not None:
            self._forget(self._call)
        if error is not None and isinstance(error, CancelledError) and super().cancel():
            self._tell_who_waits()
            return
        if not super().running() and not self.set_running_or_notify_cancel():
            return  # cancelled in this moment
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(outcome.value)


def _same(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and bool(value == default))
