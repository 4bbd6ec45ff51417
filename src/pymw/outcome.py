"""How a task ended, as data. Standard library only, Python 3.9: it is also made on volunteers' machines."""

from __future__ import annotations

import builtins
import enum
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from pymw.errors import RemoteError, RemoteTraceback, TaskError, TimeLimitExceeded, UnshippableError, WorkerLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    # (module, qualname) -> the exception class, or None where the master does not have it.
    Resolve = Callable[[str, str], Optional[type]]

__all__ = ["Attempt", "Ending", "ExceptionData", "Outcome", "resolve_imported"]

DEEPEST_CHAIN = 20


class Ending(enum.Enum):
    """How a task ended."""

    RETURNED = "returned"  # the function returned ``value``
    RAISED = "raised"  # the function raised ``exception``
    LOST = "lost"  # no worker finished it, whatever the number of attempts; ``attempts`` say why
    OUT_OF_TIME = "out of time"  # one attempt exceeded time_limit
    UNSENDABLE = "unsendable"  # the function returned what cannot come back; ``detail`` names the culprit
    CANCELLED = "cancelled"  # it was cancelled before it ended


@dataclass(frozen=True)
class Attempt:
    """One attempt at a task, as its worker or whoever watched that worker tells it."""

    worker: str  # a process or a host, in words: "process 4711", "host 12 (laptop)"
    ending: str  # "returned", "killed by SIGKILL", "no reply within its deadline", ...
    started: float | None = None  # seconds since the epoch
    seconds: float | None = None  # running time
    stderr: str = ""


@dataclass(frozen=True)
class ExceptionData:
    """An exception as data: never rebuilt by importing what a stranger names."""

    module: str
    qualname: str
    message: str
    args: tuple[Any, ...] | None = None  # None: they could not be encoded
    bases: tuple[tuple[str, str], ...] = ()  # (module, qualname) of the ancestors, nearest first
    notes: tuple[str, ...] = ()
    traceback: str = ""  # as the worker would have printed it, causes and contexts included
    cause: ExceptionData | None = None
    context: ExceptionData | None = None
    suppress_context: bool = False
    exceptions: tuple[ExceptionData, ...] = ()  # the members of an exception group
    state: Mapping[str, Any] = field(default_factory=dict)  # what of the instance's attributes could be encoded

    @classmethod
    def of(
        cls,
        error: BaseException,
        encodable: Callable[[Any], bool] = lambda value: True,
        *,
        skip: int = 0,
        depth: int = 0,
    ) -> ExceptionData:
        """Describe `error`; `encodable` tells whether a value could travel, `skip` leaves out the runner's frames."""
        import traceback  # not where all goes well: an empty job would feel it

        kind = type(error)

        def linked(other: BaseException | None) -> ExceptionData | None:
            if other is None or depth >= DEEPEST_CHAIN:
                return None
            return cls.of(other, encodable, depth=depth + 1)

        trace = error.__traceback__
        for _ in range(skip):
            trace = trace.tb_next if trace is not None else None
        members = getattr(error, "exceptions", ()) if _is_group(error) else ()
        args = error.args[:1] if members else error.args
        if isinstance(error, OSError):
            args = OSError.__reduce__(error)[1]  # type: ignore[assignment]  # its args leave out the file's name
        return cls(
            module=kind.__module__,
            qualname=kind.__qualname__,
            message=_text(error),
            args=args if encodable(args) else None,
            bases=tuple((c.__module__, c.__qualname__) for c in kind.__mro__[1:] if c is not object),
            notes=tuple(str(note) for note in getattr(error, "__notes__", ())),
            traceback="" if depth else "".join(traceback.format_exception(kind, error, trace)),
            cause=linked(error.__cause__),
            context=None if error.__suppress_context__ else linked(error.__context__),
            suppress_context=error.__suppress_context__,
            exceptions=tuple(cls.of(member, encodable, depth=depth + 1) for member in members),
            state={k: v for k, v in vars(error).items() if k != "__notes__" and isinstance(k, str) and encodable(v)},
        )

    def rebuild(self, resolve: Resolve | None = None) -> BaseException:
        """The exception to raise at the master; no constructor of a user's class is called.

        `resolve` defaults to built-in exceptions alone. A class that it does not know becomes a RemoteError.
        """
        error = self._instance(resolve or (lambda module, name: None))
        for note in self.notes:
            _add_note(error, note)
        if self.context is not None:
            error.__context__ = self.context.rebuild(resolve)
        error.__cause__ = self.cause.rebuild(resolve) if self.cause is not None else None
        error.__suppress_context__ = self.suppress_context
        if self.traceback:
            error.__cause__ = RemoteTraceback(_with_lines_of_cells(self.traceback))
        return error

    def _instance(self, resolve: Resolve) -> BaseException:
        kind = _builtin(self.module, self.qualname)
        if self.exceptions and kind is not None:
            group: BaseException = kind(self.message_of_group, [member.rebuild(resolve) for member in self.exceptions])
            return group
        if kind is not None and self.args is not None:
            try:
                known_to_all: BaseException = kind(*self.args)
                return known_to_all
            except Exception:  # noqa: BLE001 - a built-in with arguments it would not take: the class below says it all
                kind = None
        known = kind or resolve(self.module, self.qualname)
        if known is None or not issubclass(known, BaseException) or self.args is None:
            return self._stranger()
        try:
            error: BaseException = known.__new__(known, *self.args)
        except Exception:  # noqa: BLE001 - a __new__ with another signature
            return self._stranger()
        error.args = self.args
        error.__dict__.update(self.state)
        return error

    def _stranger(self) -> BaseException:
        """An instance that says which class it was and can be caught as its nearest built-in ancestor."""
        kinds = (_builtin(*base) for base in ((self.module, self.qualname), *self.bases))
        ancestor = next((kind for kind in kinds if kind is not None), Exception)
        name, members = self.qualname.rpartition(".")[2], {"__module__": self.module, "__str__": _first_argument}
        try:
            kind: Any = type(name, (RemoteError,) if ancestor is Exception else (RemoteError, ancestor), members)
            error = kind.__new__(kind)
        except TypeError:  # groups, and whatever else cannot be mixed in
            kind = type(name, (RemoteError,), members)
            error = kind.__new__(kind)
        error.args = (self.message,)
        error.data = self
        assert isinstance(error, BaseException)
        return error

    @property
    def message_of_group(self) -> str:
        """The message of an exception group without the count of its members."""
        return str(self.args[0]) if self.args else self.message

    def __str__(self) -> str:
        name = self.qualname if self.module == "builtins" else f"{self.module}.{self.qualname}"
        return f"{name}: {self.message}" if self.message else name


@dataclass(frozen=True)
class Outcome:
    """The end of one task: what the function made of it, and what was seen beside it."""

    ending: Ending
    value: Any = None
    exception: ExceptionData | None = None
    detail: str = ""  # for OUT_OF_TIME and UNSENDABLE: what to tell the user
    stdout: str = ""
    stderr: str = ""
    log: tuple[str, ...] = ()  # what it told with `pymw.log`, where that does not come home at once
    worker: str = ""
    started: float | None = None  # seconds since the epoch
    seconds: float | None = None  # running time of the attempt that ended it
    cpu_seconds: float | None = None
    attempts: tuple[Attempt, ...] = ()  # the attempts before the last one, and the last where it too was lost
    files: Mapping[str, bytes] = field(default_factory=dict)

    def error(self, task: str = "", resolve: Resolve | None = None) -> BaseException | None:
        """What ``.result()`` raises, or None where the task returned."""
        if self.ending is Ending.RETURNED:
            return None
        if self.ending is Ending.RAISED and self.exception is not None:
            return self.exception.rebuild(resolve)
        if self.ending is Ending.LOST:
            return WorkerLost(task, self.attempts)
        if self.ending is Ending.OUT_OF_TIME:
            return TimeLimitExceeded(f"task {task}: {self.detail}")
        if self.ending is Ending.UNSENDABLE:
            return UnshippableError(f"task {task}: {self.detail}")
        return TaskError(f"task {task}: {self.detail or self.ending.value}")


def resolve_imported(module: str, qualname: str) -> type | None:
    """A class of a module that this process has already imported; nothing is imported for it."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) else None


def _with_lines_of_cells(traceback: str) -> str:
    """The text of a traceback with lines of a notebook's cells, of which only the master has the source."""
    import linecache

    lines = traceback.splitlines(keepends=True)
    told = []
    for line, following in zip(lines, [*lines[1:], ""]):
        told.append(line)
        _, quote, rest = line.partition('  File "')
        if quote and not following.startswith("    "):
            file, _, place = rest.partition('", line ')
            number, cell = place.partition(",")[0], linecache.cache.get(file)  # what is on disk is not read for it
            if cell and len(cell) == 4 and number.isdecimal() and 0 < int(number) <= len(cell[2]):
                told.append(f"    {cell[2][int(number) - 1].strip()}\n")
    return "".join(told)


def _builtin(module: str, qualname: str) -> Any:
    kind = getattr(builtins, qualname, None) if module == "builtins" else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseException) else None


def _is_group(error: BaseException) -> bool:
    group = getattr(builtins, "BaseExceptionGroup", None)
    return group is not None and isinstance(error, group)


def _first_argument(error: BaseException) -> str:
    return str(error.args[0]) if error.args else ""


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - a __str__ of the user's that fails must not hide the error itself
        return f"<its __str__ raised {type(broken).__name__}>"


def _add_note(error: BaseException, note: str) -> None:
    if hasattr(error, "add_note"):
        error.add_note(note)
