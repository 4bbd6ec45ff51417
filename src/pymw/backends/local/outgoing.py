"""Tasks on their way out: functions and single calls are pickled when submitted, maps when their chunks are cut."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from typing import Any

from pymw.backends.local import wire
from pymw.backends.local.chunks import Stretch
from pymw.backends.local.store import Region, Store, to_send
from pymw.backends.protocol import Batch, Ended
from pymw.errors import UnshippableError
from pymw.files import InFolder
from pymw.outcome import Ending, Outcome
from pymw.safely import Safely, refuse_unsafe
from pymw.shipping import Shipment, culprit, pack, pack_call, ship

__all__ = ["apart", "one_by_one", "prepared", "segment"]


def prepared(batch: Batch, store: Store, *, safe: bool) -> Stretch:
    """What to queue for these tasks; UnshippableError where they cannot be sent."""
    call = batch.call
    if safe:
        for position, (_, args) in enumerate(batch.tasks()):
            refuse_unsafe(args, batch.kwargs if position == 0 else {})
    if not call.shipped:
        function = InFolder.of(Safely(call.function) if safe else call.function, call.options)
        call.shipped.append(ship(function, lambda function, name: _function(function, name, store)))
    payload = None if call.many else _call(batch.args(0), dict(batch.kwargs), store)
    return Stretch(batch, call.shipped[0], 0, len(batch), payload)


def segment(stretch: Stretch, store: Store, needed: list[Region]) -> tuple[Any, ...]:
    """The stretch as a worker reads it, for which it needs some regions; raises whatever pickling raises."""
    batch = stretch.batch
    indices = batch.indices[stretch.start : stretch.end]
    origin: tuple[str, Sequence[Any]] = (batch.call.id, indices)
    if batch.keys is not None:
        origin = ("", batch.keys[stretch.start : stretch.end])
    packed = stretch.payload
    if packed is None:
        packed = _columns(batch[stretch.start : stretch.end], store)
    shipment = stretch.shipment
    return shipment.number, to_send(shipment.data, needed), stretch.many, to_send(packed, needed), origin


def one_by_one(stretch: Stretch, error: Exception) -> tuple[list[Stretch], list[Ended]]:
    """Some task of the stretch cannot be pickled: those that can, each alone, and how the others end."""
    sound, events = [], []
    for position in range(len(stretch)):
        one = stretch.part(position, position + 1)
        try:
            pack(tuple(one.batch.args(one.start)), "args")
            if len(stretch) == 1:  # nothing is wrong with what it was given
                raise UnshippableError(f"{one.batch.call.name} cannot be sent: {error!r}") from error
        except UnshippableError as told:
            events.append(Ended(one.batch.call, one.index(), Outcome(Ending.UNSENDABLE, detail=str(told)), told))
        else:
            sound.append(one)
    return sound, events


def apart(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Their tasks, each to travel alone: with a shipment of its own, so that it is not measured with the others."""
    tasks = [stretch.part(position, position + 1) for stretch in stretches for position in range(len(stretch))]
    for task in tasks:
        task.shipment = Shipment(task.shipment.data)
    return tasks


def _function(function: Any, name: str, store: Store) -> Any:
    try:
        return wire.by_value(function, store)
    except Exception as error:
        raise UnshippableError(culprit(function, name) or f"{name} cannot be sent: {error}") from error


def _call(args: tuple[Any, ...], kwargs: dict[str, Any], store: Store) -> Any:
    if not _any_bulky(args) and not _any_bulky(kwargs.values()):
        plain = wire.plain_dumps((args, kwargs), store)  # several times quicker, and most arguments are
        if plain is not None:
            return plain
    lying_apart = tuple(map(_apart, args)), {name: _apart(value) for name, value in kwargs.items()}
    try:
        return wire.by_value(lying_apart, store)
    except Exception:  # noqa: BLE001
        return pack_call(args, kwargs)  # says which part cannot be sent


def _columns(part: Batch, store: Store) -> Any:
    if all(isinstance(column, range) for column in part.columns):
        return pickle.dumps(part.columns, protocol=5)
    plain = wire.plain_dumps(part.columns, store)
    return plain if plain is not None else wire.by_value(part.columns, store)


class _Bytes:
    """Stands for large bytes on their way: pickled like an array, apart from the rest."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def __reduce__(self) -> Any:
        return bytes, (pickle.PickleBuffer(self._value),)


def _apart(value: Any) -> Any:
    return _Bytes(value) if type(value) is bytes and len(value) >= wire.APART else value


def _any_bulky(values: Iterable[Any]) -> bool:
    return any(type(value) is bytes and len(value) >= wire.APART for value in values)
