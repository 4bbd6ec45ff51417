"""Results on their way home: a worker's records become the events that the collector takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from pymw.backends.local import wire
from pymw.backends.local.chunks import Chunk, Stretch
from pymw.backends.local.memory import Window
from pymw.backends.protocol import Ended, Event, Returned
from pymw.errors import UnshippableError
from pymw.files import Left
from pymw.outcome import Ending, ExceptionData, Outcome, resolve_imported

__all__ = ["events_of", "unreadable"]


def events_of(chunk: Chunk, record: tuple[Any, ...], window: Window, worker: str) -> Iterator[Event]:
    """What the record says of the chunk's tasks, which are home with it."""
    position, kind, data, *times = record
    chunk.back += wire.size(data)
    if kind == wire.VALUES:
        values = wire.read(data, window)
        chunk.home = position + len(values)
        taken = 0
        for stretch in chunk.parts(position, chunk.home):
            some = values[taken : taken + len(stretch)] if len(stretch) < len(values) else values
            yield from _returned(stretch, some)
            taken += len(stretch)
        return
    chunk.home = position + 1
    stretch, offset = chunk.at(position)
    yield _ended(stretch, offset, kind, data, times, window, worker)


def unreadable(stretch: Stretch, error: ExceptionData, worker: str) -> Ended:
    """The worker could not read this task."""
    call = stretch.batch.call
    detail = f"the worker cannot read the function or its arguments: {error}"
    outcome = Outcome(Ending.RAISED, exception=error, detail=detail, worker=worker)
    return Ended(call, stretch.index(), outcome, outcome.error(call.id, _resolve))


def _returned(stretch: Stretch, values: Sequence[Any]) -> Iterator[Event]:
    if isinstance(stretch.batch.indices, range):
        yield Returned(stretch.batch.call, stretch.index(), values)
        return
    for position, value in enumerate(values):
        yield Returned(stretch.batch.call, stretch.index(position), [value])


def _ended(
    stretch: Stretch, offset: int, kind: str, data: wire.Packed, times: Sequence[Any], window: Window, worker: str
) -> Event:
    call, index = stretch.batch.call, stretch.index(offset)
    try:
        read = wire.read(data, window, writable=True)
    except Exception as error:  # noqa: BLE001 - reading the user's objects may raise anything
        told = f"the result cannot be read here: {error!r}"
        return Ended(call, index, Outcome(Ending.UNSENDABLE, detail=told, worker=worker), UnshippableError(told))
    if kind == wire.OUTCOME:
        outcome = read
    elif times:
        started, seconds, cpu = times[0]
        outcome = Outcome(Ending.RETURNED, read, worker=worker, started=started, seconds=seconds, cpu_seconds=cpu)
    elif isinstance(read, Left):
        outcome = Outcome(Ending.RETURNED, read, worker=worker)
    else:
        return Returned(call, index, [read])
    outcome = Left.apart(outcome)
    return Ended(call, index, outcome, outcome.error(f"{call.id} ({call.name})", _resolve))


def _resolve(module: str, qualname: str) -> type | None:
    """Workers are the user's own: what they name may be imported."""
    import importlib

    if module not in sys.modules:
        try:
            importlib.import_module(module)
        except Exception:  # noqa: BLE001 - a module of the user's
            return None
    return resolve_imported(module, qualname)
