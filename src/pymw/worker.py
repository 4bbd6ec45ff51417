"""Beside the user's function: progress(), checkpoint, log, and what runs one call. Standard library only, Python 3.9.

Whoever runs tasks installs a `CurrentTask` for the time of each of them: the local worker, the volunteer's
program, the in-memory backend. Outside a task nothing is installed and every call here does nothing.
"""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Iterator, Mapping, Sequence

from pymw.outcome import Ending, ExceptionData, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

__all__ = [
    "CurrentTask",
    "checkpoint",
    "current",
    "install",
    "log",
    "perform",
    "progress",
    "running",
    "seed_generators",
]


class CurrentTask:
    """What the function's calls reach; each runner overrides what it can do."""

    id = ""  # tells the task apart in messages
    may_be_master = True  # whether the function may open a Master of its own

    def progress(self, fraction: float) -> None:
        """The function says how far it is; `fraction` is within 0 and 1."""

    def log(self, message: str) -> None:
        """The function has something to tell whoever watches."""

    def load(self, default: Any) -> Any:
        """What an earlier attempt saved last, else `default`."""
        return default

    def save(self, value: Any) -> None:
        """Keep `value` for an attempt after this one."""

    def due(self) -> bool:
        """Whether now is a good time to save."""
        return False


# One task at a time runs in a worker process, and the threads that a function starts belong to it: a module
# global. Only a backend that runs tasks in threads of one process needs the context variable.
_process: CurrentTask | None = None
_thread: contextvars.ContextVar[CurrentTask | None] = contextvars.ContextVar("pymw_task", default=None)


def current() -> CurrentTask | None:
    """The task that is running here, or None."""
    return _thread.get() or _process


def install(task: CurrentTask | None) -> None:
    """Make `task` the one that runs in this process; None when it ended."""
    global _process  # noqa: PLW0603
    _process = task


@contextlib.contextmanager
def running(task: CurrentTask) -> Iterator[CurrentTask]:
    """Make `task` the one that runs in this thread alone."""
    token = _thread.set(task)
    try:
        yield task
    finally:
        _thread.reset(token)


def progress(fraction: float) -> None:
    """Say how much of the task is done: 0 nothing, 1 all of it.

    >>> progress(0.5)  # outside a task this does nothing
    """
    task = current()
    if task is not None:
        fraction = float(fraction)
        task.progress(0.0 if not fraction > 0 else min(fraction, 1.0))  # NaN counts as nothing done


def log(message: object) -> None:
    """Tell a line to whoever watches the task."""
    task = current()
    if task is not None:
        task.log(str(message))


class Checkpoint:
    """Where a task left off: a retry after a lost worker goes on from what was saved last.

    >>> done, total = checkpoint.load((0, 0.0))
    >>> for i in range(done, 1000):
    ...     total += i
    ...     if checkpoint.due():
    ...         checkpoint.save((i + 1, total))
    """

    def load(self, default: Any = None) -> Any:
        """What was saved last, by this attempt or an earlier one; `default` where nothing was."""
        task = current()
        return default if task is None else task.load(default)

    def save(self, value: Any) -> None:
        """Keep `value`, replacing what was saved before."""
        task = current()
        if task is not None:
            task.save(value)

    def due(self) -> bool:
        """Whether it is time to save again; cheap enough for an inner loop."""
        task = current()
        return task is not None and task.due()


checkpoint = Checkpoint()


def perform(
    function: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    encodable: Callable[[Any], bool] = lambda value: True,
    worker: str = "",
) -> Outcome:
    """Run one call and say how it ended, whatever it raises; the caller has installed the current task."""
    started, clock, cpu = time.time(), time.perf_counter(), time.process_time()
    value, failure = None, None
    try:
        value = function(*args, **(kwargs or {}))
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are outcomes as well
        failure = ExceptionData.of(error, encodable, skip=1)
    return Outcome(
        ending=Ending.RETURNED if failure is None else Ending.RAISED,
        value=value,
        exception=failure,
        worker=worker,
        started=started,
        seconds=time.perf_counter() - clock,
        cpu_seconds=time.process_time() - cpu,
    )


def seed_generators(seed: int) -> None:
    """Seed `random` and, where it is imported, NumPy's global generator: replicas of a task then agree."""
    import random
    import sys

    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
