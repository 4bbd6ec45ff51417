"""What a backend is: a carrier of batches of tasks, with one collector for whatever comes back.

    submit/map ──▶ Batch: one Call (function, options), many tasks as columns of arguments
                     │ Backend.submit(batches)            in bulk, without an object per task
                     ▼
                  backend: cuts chunks as it likes, runs or sends them, has at most one thread of its own
                     │ Collector.begin(call, index, count, worker) -> bool     "a worker takes these; still wanted?"
                     │ Collector.deliver([Returned, Ended, Progressed, ...])   in bulk, when they come
                     ▼
    Future / map iterator (by Call.receiver); a named run commits to its journal inside `deliver`

A task is (call, index): index counts within the call, 0 for a `submit`, the position in the input for a `map`.
Everything here is typed, and nothing here runs.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pymw.errors import UnsupportedOption
from pymw.outcome import Attempt, Outcome

if TYPE_CHECKING:
    from pymw.task import TaskOptions

__all__ = [
    "AttemptLost",
    "Backend",
    "BackendFactory",
    "BackendStatus",
    "Batch",
    "Broken",
    "Call",
    "Capabilities",
    "Collector",
    "Ended",
    "Event",
    "Logged",
    "Placement",
    "Progressed",
    "Receiver",
    "Returned",
    "RunHandle",
    "Setup",
    "refuse_unsupported",
]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend promises; the conformance suite tests each promise, or its refusal by name at the call."""

    outlives_master: bool = False  # tasks of a named run go on without the master, and a later process attaches
    survives_worker_loss: bool = False  # a lost worker costs its own task alone, which is tried again
    cancels_running: bool = False  # `cancel` also stops tasks that have begun
    kills_tasks: bool = False  # option time_limit
    deadlines: bool = False  # option deadline
    redundancy: bool = False  # options quorum, agree and canaries: workers are strangers
    trusted: bool = False  # workers are the user's own: pickle may travel
    progress: bool = False  # progress() reaches the master
    logs: bool = False  # log() reaches the master
    output: bool = False  # what a submitted function prints comes home: TaskFuture.stdout and stderr
    checkpoints: bool = False  # a later attempt goes on from the last checkpoint
    files: bool = False  # options files and outputs
    packages: bool = False  # option packages
    shared_files: bool = False  # workers see the master's file system: Master.share
    priorities: bool = False  # option priority
    memory_limit: bool = False  # option memory
    disk_limit: bool = False  # option disk
    counts_attempts: bool = True  # option attempts; False where the engine alone decides how often it begins again
    max_result_bytes: int | None = None


# Which capability an option needs. Those that are not here work everywhere: they are the master's own business
# (retries, key, reuse, name), a mere hint (est_seconds), or done by the code that runs beside the function.
NEEDS: Mapping[str, str] = {
    "time_limit": "kills_tasks",
    "deadline": "deadlines",
    "quorum": "redundancy",
    "agree": "redundancy",
    "canaries": "redundancy",
    "files": "files",
    "outputs": "files",
    "into": "files",
    "packages": "packages",
    "priority": "priorities",
    "memory": "memory_limit",
    "disk": "disk_limit",
    "attempts": "counts_attempts",
}


def refuse_unsupported(options: TaskOptions, capabilities: Capabilities, backend: str) -> None:
    """UnsupportedOption names the first option given that the backend cannot honour."""
    for name in options.given():
        need = NEEDS.get(name)
        if need is not None and not getattr(capabilities, need):
            raise UnsupportedOption(name, backend, f"it does not promise {need}")


class Receiver(Protocol):
    """Where the outcomes of one call go: a future, or the results of a map. Called by the collector only."""

    def begin(self, index: int, count: int, worker: str) -> bool:
        """Tasks index..index+count-1 are about to run; False: they were cancelled and must not."""
        ...

    def receive(self, event: Event) -> None:
        """Something came back."""
        ...


_numbers = itertools.count(1)
_session = f"{os.getpid():x}"


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One `submit` or `map`: a function, its options and who waits for the outcomes. Compared by identity."""

    function: Callable[..., Any]
    options: TaskOptions
    receiver: Receiver
    many: bool = False  # a map: keyword arguments are never used, indices grow
    chunksize: int | None = None  # the caller's wish; otherwise the backend cuts chunks as it sees fit
    run: RunHandle | None = None  # the named run, if there is one
    shipped: list[Any] = field(default_factory=list)  # what the backend made of the function, for all of its batches
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def id(self) -> str:
        """Unique among the calls of this machine's processes."""
        return f"{_session}-{self.number}"

    @property
    def name(self) -> str:
        """What people read."""
        return self.options.name or getattr(self.function, "__name__", None) or type(self.function).__name__


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Many tasks of one call, as columns: task i of the batch is ``function(*[c[i] for c in columns], **kwargs)``.

    A sized `map` is one batch whatever its length; an endless one arrives as batch after batch; a `submit` is a
    batch of one. `indices` are the tasks' positions in the call: a range, unless a resumed run left gaps.
    """

    call: Call
    indices: Sequence[int]
    columns: tuple[Sequence[Any], ...]  # one per positional argument, each as long as `indices`
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    keys: Sequence[str] | None = None  # in a named run: what tells the tasks apart for ever, each as long as indices

    def __len__(self) -> int:
        return len(self.indices)

    def args(self, i: int) -> tuple[Any, ...]:
        """The positional arguments of the i-th task of the batch."""
        return tuple(column[i] for column in self.columns)

    def __getitem__(self, part: slice) -> Batch:
        keys = None if self.keys is None else self.keys[part]
        columns = tuple(column[part] for column in self.columns)
        return dataclasses.replace(self, indices=self.indices[part], columns=columns, keys=keys)

    def pick(self, positions: Sequence[int]) -> Batch:
        """Some of its tasks, by their positions in the batch."""
        keys = None if self.keys is None else [self.keys[i] for i in positions]
        columns = tuple([column[i] for i in positions] for column in self.columns)
        return dataclasses.replace(self, indices=[self.indices[i] for i in positions], columns=columns, keys=keys)

    def tasks(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """(index, positional arguments) of each task: for backends that do look at each."""
        return zip(
            self.indices, zip(*self.columns, strict=True) if self.columns else itertools.repeat(()), strict=False
        )


# What comes back. Order matters within a call only in that nothing follows the end of a task.


@dataclass(frozen=True, slots=True)
class Returned:
    """Tasks index, index+1, ... returned these values: the quick way home, without an Outcome for each."""

    call: Call
    index: int
    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """One task ended; `error` is what result() raises, already rebuilt by the backend's rules of trust."""

    call: Call
    index: int
    outcome: Outcome
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Progressed:
    """The function told how far it is."""

    call: Call
    index: int
    fraction: float


@dataclass(frozen=True, slots=True)
class Logged:
    """The function told a line."""

    call: Call
    index: int
    line: str


@dataclass(frozen=True, slots=True)
class AttemptLost:
    """An attempt lost its worker, and the task goes elsewhere."""

    call: Call
    index: int
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Broken:
    """The backend stopped for good: every task that has not ended fails with this error."""

    error: BaseException


Event = Returned | Ended | Progressed | Logged | AttemptLost | Broken


class Collector(Protocol):
    """The master's side of the way home."""

    def begin(self, call: Call, index: int, count: int, worker: str) -> bool:
        """A worker takes tasks index..index+count-1; False: they were cancelled meanwhile, drop them.

        From any thread. A backend that cannot hold a task back any more (a volunteer has it) ignores the answer.
        """
        ...

    def deliver(self, events: Sequence[Event]) -> None:
        """All that is at hand, in one call, from one thread at a time.

        When it returns, what belongs to a named run is on disk: only then may the backend acknowledge it to
        whoever still holds it. A task's end that is delivered twice is ignored the second time.
        """
        ...


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a task of a named run was put: in which unit of the backend's (a workunit), at which position."""

    unit: str
    position: int
    attempt: int = 1


class RunHandle(Protocol):
    """A named run as its backend sees it: a name, and what must survive the master."""

    @property
    def name(self) -> str:
        """As the user wrote it."""
        ...

    @property
    def folder(self) -> Path:
        """A directory of the run's own, where checkpoints may be kept."""
        ...

    def place(self, unit: str, keys: Sequence[str], attempt: int = 1) -> None:
        """Durably note, before the unit is created, that it holds these tasks in this order."""
        ...

    def placements(self, keys: Iterable[str]) -> Mapping[str, Placement]:
        """The latest placement of each of these tasks that has one: what to attach to instead of creating."""
        ...

    def keys_of(self, unit: str) -> Sequence[str]:
        """The tasks that a unit holds, in order; empty for an unknown unit."""
        ...

    def has_ended(self, unit: str) -> bool:
        """Whether each task that was placed in a unit, and in no other since, has its end on disk."""
        ...

    def note(self, name: str, value: str | None = None) -> str | None:
        """Durably keep a small value of the backend's own (a position to collect from); without one, read it."""
        ...


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """What a backend can tell about itself at a moment."""

    workers: int | None = None  # how many tasks can run at once; None: unknown
    running: int = 0
    queued: int = 0
    lines: Sequence[str] = ()  # further facts, in words


@runtime_checkable
class Backend(Protocol):
    """Carries tasks to workers. All methods may be called from any thread and return quickly."""

    @property
    def name(self) -> str:
        """As in its URL: "local", "boinc:/srv/project"."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it promises."""
        ...

    def submit(self, batches: Sequence[Batch]) -> None:
        """Accept these tasks; return when they are queued, however many there are.

        Raises BackendError or UnshippableError where it can tell at once that they cannot run; then none of them
        was accepted. With keys, a task that an earlier process placed is attached to, not created again.
        """
        ...

    def cancel(self, call: Call, indices: Sequence[int] | None = None, *, running: bool = False) -> None:
        """Forget these tasks of the call (None: all); nothing need be delivered for them.

        `running` asks to stop those that have begun too, where the backend can.
        """
        ...

    def explain(self, call: Call, index: int) -> str:
        """Why this task is not done."""
        ...

    def status(self) -> BackendStatus:
        """Numbers for the progress bar and `Master.status()`."""
        ...

    def close(self, *, detach: bool = False) -> None:
        """Free everything. Tasks that have not ended are cancelled, on their workers too.

        With `detach`, those of a named run go on where the backend outlives its master. After this, nothing is
        delivered any more. Calling it again does nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Setup:
    """What `Master` was given beyond the backend's URL; a factory refuses by name what it has no use for."""

    collector: Collector
    max_workers: int | None = None
    run: RunHandle | None = None
    values: str = "native"  # or "safe": the volunteer's rules for arguments and results
    rehearse: bool = True  # run the first task here under those rules before anything is sent
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    max_tasks_per_child: int | None = None
    mp_context: Any = None

    def refuse(self, *options: str, backend: str, why: str) -> None:
        """UnsupportedOption for the first of these that was given."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in options:
            if getattr(self, name) != defaults[name]:
                raise UnsupportedOption(name, backend, why)


# What a backend's module offers to the registry: everything after the colon of the URL, and the set-up.
BackendFactory = Callable[[str, Setup], Backend]
