"""PyMW: one Python function, one call, any number of machines.

Names are imported when they are first used (PEP 562): `import pymw` is quick, and works on a volunteer's machine,
where only the worker's part of the package is. That part does without `typing`: it would cost a tenth of an empty job.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import as_completed, wait
    from typing import Any

    from pymw.agree import close
    from pymw.errors import (
        BackendError,
        BrokenBackend,
        DependencyFailed,
        NotInsideTask,
        PyMWError,
        RemoteError,
        RunBusy,
        RunError,
        RunNotFound,
        TaskError,
        TimeLimitExceeded,
        UnknownBackend,
        UnshippableError,
        UnsupportedOption,
        WorkerLost,
    )
    from pymw.master import Master
    from pymw.onlooker import RunView, open_run
    from pymw.scripting import arguments
    from pymw.task import TaskFuture, TaskOptions, TaskState
    from pymw.worker import checkpoint, log, progress

# module -> the public names in it
HOME = {
    "concurrent.futures": ("as_completed", "wait"),
    "pymw.agree": ("close",),
    "pymw.errors": (
        *("BackendError", "BrokenBackend", "DependencyFailed", "NotInsideTask", "PyMWError", "RemoteError"),
        *("RunBusy", "RunError", "RunNotFound", "TaskError", "TimeLimitExceeded", "UnknownBackend"),
        *("UnshippableError", "UnsupportedOption", "WorkerLost"),
    ),
    "pymw.master": ("Master",),
    "pymw.scripting": ("arguments",),
    "pymw.onlooker": ("RunView", "open_run"),
    "pymw.task": ("TaskFuture", "TaskOptions", "TaskState"),
    "pymw.worker": ("checkpoint", "log", "progress"),
}
_MODULE = {name: module for module, names in HOME.items() for name in names}

__all__ = [
    "BackendError",
    "BrokenBackend",
    "DependencyFailed",
    "Master",
    "NotInsideTask",
    "PyMWError",
    "RemoteError",
    "RunBusy",
    "RunError",
    "RunNotFound",
    "RunView",
    "TaskError",
    "TaskFuture",
    "TaskOptions",
    "TaskState",
    "TimeLimitExceeded",
    "UnknownBackend",
    "UnshippableError",
    "UnsupportedOption",
    "WorkerLost",
    "arguments",
    "as_completed",
    "checkpoint",
    "close",
    "log",
    "open_run",
    "progress",
    "wait",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'pymw' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
