"""The error tree of pymw. Standard library only: it is also read on volunteers' machines.

    PyMWError
    ├── BackendError                the backend cannot run the tasks at all; raised at once
    │   ├── UnknownBackend          no backend of that name (also a ValueError)
    │   ├── UnsupportedOption       the backend cannot honour that option (also a ValueError)
    │   └── BrokenBackend           the backend stopped for good (also concurrent.futures.BrokenExecutor)
    ├── UnshippableError            a function, argument or result cannot travel (also a TypeError)
    ├── TaskError                   a task ended without a value, and not by an exception of its own
    │   ├── WorkerLost              every attempt lost its worker
    │   ├── TimeLimitExceeded       an attempt ran longer than time_limit (also a TimeoutError)
    │   ├── DependencyFailed        a task among the arguments failed
    │   └── RemoteError             the function raised a class that the master does not have
    ├── RunError                    something is wrong with a named run
    │   ├── RunNotFound             no run of that name (also a LookupError)
    │   └── RunBusy                 another process holds the run
    └── NotInsideTask               Master was used inside a volunteer's task (also a RuntimeError)

An exception that the function itself raised is none of these: it comes home as what it was. The codec's own
CodecError (a ValueError, with the path to the culprit) is the cause of the UnshippableError that a caller sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pymw.broken import BrokenBackend
    from pymw.outcome import Attempt, ExceptionData

__all__ = [
    "BackendError",
    "BrokenBackend",
    "DependencyFailed",
    "NotInsideTask",
    "PyMWError",
    "RemoteError",
    "RemoteTraceback",
    "RunBusy",
    "RunError",
    "RunNotFound",
    "TaskError",
    "TimeLimitExceeded",
    "UnknownBackend",
    "UnshippableError",
    "UnsupportedOption",
    "WorkerLost",
]


class PyMWError(Exception):
    """Everything that pymw itself raises."""


class BackendError(PyMWError):
    """The backend cannot run the tasks at all."""


class UnknownBackend(BackendError, ValueError):
    """No backend has this name."""

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        self.name, self.known = name, tuple(sorted(known))
        super().__init__(f"no backend is named {name!r}; there are: {', '.join(self.known) or 'none'}")


class UnsupportedOption(BackendError, ValueError):
    """The backend cannot honour an option."""

    def __init__(self, option: str, backend: str, reason: str = "") -> None:
        self.option, self.backend = option, backend
        super().__init__(f"backend {backend!r} cannot honour {option}=" + (f": {reason}" if reason else ""))


class UnshippableError(PyMWError, TypeError):
    """Something cannot travel between the master and a worker."""


class TaskError(PyMWError):
    """A task ended without a value, and not by an exception of its own."""


class WorkerLost(TaskError):
    """Every attempt at a task lost its worker; ``attempts`` holds what each of them said."""

    def __init__(self, task: str, attempts: Sequence[Attempt] = ()) -> None:
        self.task, self.attempts = task, tuple(attempts)
        said = "".join(
            f"\n  attempt {n} on {a.worker}: {a.ending}{_last_lines(a.stderr)}" for n, a in enumerate(self.attempts, 1)
        )
        times = "once" if len(self.attempts) == 1 else f"{len(self.attempts)} times"
        super().__init__(f"task {task} lost its worker {times}; attempts= allows no more{said}")


def _last_lines(stderr: str, most: int = 5) -> str:
    """The end of what an attempt wrote, below the line about it."""
    lines = [line for line in stderr.strip().splitlines() if line.strip()][-most:]
    return "".join(f"\n      | {line:.200}" for line in lines)


class TimeLimitExceeded(TaskError, TimeoutError):
    """One attempt ran longer than ``time_limit``; it and its children were ended."""


class DependencyFailed(TaskError):
    """A task among the arguments failed; its exception is the ``__cause__``."""


class RemoteError(TaskError):
    """The function raised an exception whose class the master does not have.

    What is raised is a subclass that also derives from the nearest built-in ancestor of the
    original class, so that ``except ValueError`` works; ``data`` tells what it was.
    """

    data: ExceptionData | None = None


class RemoteTraceback(Exception):
    """The traceback text of the worker, shown as the cause of an exception that came home."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


class RunError(PyMWError):
    """Something is wrong with a named run."""


class RunNotFound(RunError, LookupError):
    """There is no run of that name."""


class RunBusy(RunError):
    """Another process holds the run; ``holder`` says who."""

    def __init__(self, run: str, holder: str) -> None:
        self.run, self.holder = run, holder
        super().__init__(f"run {run!r} is held by {holder}; wait for it, stop it, or look on with open_run({run!r})")


class NotInsideTask(PyMWError, RuntimeError):
    """Master was used inside a volunteer's task."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*(args or ("a task on a volunteer's computer cannot be a master itself",)))


def __getattr__(name: str) -> Any:
    if name != "BrokenBackend":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pymw.broken import BrokenBackend

    return BrokenBackend
