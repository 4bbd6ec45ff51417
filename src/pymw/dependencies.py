"""A TaskFuture among the arguments, or in a list or tuple there: the task waits for it, and is given its result."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pymw.backends.protocol import Batch, Ended
from pymw.errors import DependencyFailed
from pymw.outcome import Ending, Outcome
from pymw.task import TaskFuture

__all__ = ["dependencies", "replaced", "when_ready"]

LOOKED_AT = 10_000  # members of a list: longer ones hold data, and are not searched at each call


def dependencies(batch: Batch) -> list[TaskFuture]:
    """The futures among the arguments of a single task."""
    given = [column[0] for column in batch.columns] + list(batch.kwargs.values())
    return [future for value in given for future in _futures(value)]


def replaced(value: Any, change: Callable[[TaskFuture], Any]) -> Any:
    """The argument with each future in it changed; itself where it holds none."""
    if isinstance(value, TaskFuture):
        return change(value)
    if not _futures(value):
        return value
    return type(value)(change(part) if isinstance(part, TaskFuture) else part for part in value)


def _futures(value: Any) -> list[TaskFuture]:
    if isinstance(value, TaskFuture):
        return [value]
    if type(value) in (list, tuple) and len(value) <= LOOKED_AT:
        return [part for part in value if isinstance(part, TaskFuture)]
    return []


def when_ready(batch: Batch, waits_for: Sequence[TaskFuture], send: Callable[[Batch], None]) -> None:
    """Call `send` with the results in place of the futures, from whichever thread ends the last of these.

    Where one of them fails the task ends with DependencyFailed; where sending fails, with that.
    """
    lock, left = threading.Lock(), len(waits_for)

    def one_is_over(future: Any) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        failed = future.cancelled() or future.exception() is not None
        if failed:
            told = "was cancelled" if future.cancelled() else "failed"
            error = DependencyFailed(f"{batch.call.name} needs the result of {future.name}, which {told}")
            error.__cause__ = None if future.cancelled() else future.exception()
            _end(batch, error)
        elif last and not any(other.cancelled() or other.exception() is not None for other in waits_for):
            try:
                send(_filled(batch))
            except Exception as error:  # noqa: BLE001 - nobody else could tell whoever waits
                _end(batch, error)

    for future in waits_for:
        future.add_done_callback(one_is_over)


def _end(batch: Batch, error: BaseException) -> None:
    batch.call.receiver.receive(Ended(batch.call, 0, Outcome(Ending.UNSENDABLE, detail=str(error)), error))


def _filled(batch: Batch) -> Batch:
    columns = tuple((replaced(column[0], TaskFuture.result),) for column in batch.columns)
    kwargs = {name: replaced(value, TaskFuture.result) for name, value in batch.kwargs.items()}
    return dataclasses.replace(batch, columns=columns, kwargs=kwargs)
