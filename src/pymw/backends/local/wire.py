"""What the pool and its worker processes say to each other: small tuples, pickled, one per message.

Values and arguments travel inside as pickles of their own, so that one that cannot be read spoils nothing else: small
ones as bytes, large ones as places in shared memory, large buffers in them (arrays) apart, to be used where they lie.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from pymw.backends.local.memory import Place, Window

__all__ = [
    "APART",
    "BROKEN",
    "EXIT",
    "FLUSH",
    "HELLO",
    "LARGE",
    "LOG",
    "OUTCOME",
    "PROGRESS",
    "READY",
    "RUN",
    "UNREADABLE",
    "VALUE",
    "VALUES",
    "Apart",
    "Keeper",
    "Packed",
    "by_value",
    "carried",
    "dumps",
    "loads",
    "plain_dumps",
    "read",
    "size",
    "stored",
]

# To the worker.
HELLO = (
    "hello"  # (HELLO, sys.path, sys.argv, initializer bytes or None, directory of checkpoints, whether it is to last)
)
RUN = "run"  # (RUN, serial, segments, functions to forget, places of results that the pool has no more use for)
EXIT = "exit"  # (EXIT,): end as a Python program does

# To the pool. `kept` are the offsets, in the pool's store, of what the worker still has views of.
READY = "ready"  # (READY,)
BROKEN = "broken"  # (BROKEN, text): the initializer raised
FLUSH = "flush"  # (FLUSH, serial, records, stopped, seconds, kept): `stopped` is None, or how far the chunk went
UNREADABLE = "unreadable"  # (UNREADABLE, serial, exception data bytes, kept): nothing of the chunk was run
PROGRESS = "progress"  # (PROGRESS, serial, position, fraction)
LOG = "log"  # (LOG, serial, position, line)

# A segment: (function number, packed function or None, many, packed, (call id, indices)): packed are (args, kwargs)
# of one task, or with `many` the columns. A record: (position, kind, packed[, times]) with these kinds:
VALUES = "values"  # a list of plain values, for position, position + 1, ...
VALUE = "value"  # one value; `times` are (started, seconds, cpu seconds)
OUTCOME = "outcome"  # an Outcome

LARGE = 1 << 15  # bytes of a pickle; less than this goes by the socket
APART = 100_000  # bytes of one buffer; from here on it lies apart

loads: Callable[[Any], Any] = pickle.loads


class Apart(NamedTuple):
    """A pickle whose large buffers are not in it."""

    stream: Any  # bytes, or where it lies
    buffers: Sequence[Any]  # where they lie


Packed = bytes | Place | Apart

Held_co = TypeVar("Held_co", covariant=True)


class Keeper(Protocol[Held_co]):
    """Who has shared memory to write to; what it answers stands for a place there."""

    def put(self, parts: Sequence[Any], size: int) -> Held_co | None:
        """Write something that is read once."""
        ...

    def keep(self, data: memoryview) -> Held_co | None:
        """Write something that is used where it lies."""
        ...

    def drop(self, held: Any) -> None:
        """What was kept was not sent after all."""
        ...


def read(data: Packed, window: Window | None, *, writable: bool = False) -> Any:
    """The value that was packed; its large buffers stay where they are."""
    if isinstance(data, bytes):
        return loads(data)
    assert window is not None
    if isinstance(data, Apart):
        lent = [window.lend(place) for place in data.buffers]
        return _load(data.stream, window, lent if writable else [view.toreadonly() for view in lent])
    return _load(data, window, ())


def _load(stream: bytes | Place, window: Window, buffers: Sequence[memoryview]) -> Any:
    if isinstance(stream, bytes):
        return pickle.loads(stream, buffers=buffers)  # noqa: S301 - from the pool or a worker of its own
    with window.at(stream) as view:
        return pickle.loads(view, buffers=buffers)  # noqa: S301


def size(data: Packed) -> int:
    """How many bytes it is."""
    if isinstance(data, Apart):
        return sum(map(size, data.buffers), size(data.stream))
    return len(data) if isinstance(data, bytes) else data[1]


def carried(data: Packed | None) -> int:
    """How many bytes of it go by the socket."""
    if isinstance(data, Apart):
        return carried(data.stream)
    return len(data) if isinstance(data, bytes) else 0


class _PlainPickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        # Built-in values never come here; whatever has a class to be looked up does.
        raise TypeError


def plain_dumps(values: Any, keeper: Keeper[Any] | None) -> Any | None:
    """Pickled, where these are built-in values throughout, in containers or not: then reading them cannot fail."""
    try:
        return _pickled(_PlainPickler, values, keeper)
    except (TypeError, RecursionError):
        return None


def dumps(value: Any, keeper: Keeper[Any] | None = None) -> Any:
    """Pickled as the standard library does, or by value what no other process could import."""
    try:
        return _pickled(pickle.Pickler, value, keeper)
    except Exception:  # noqa: BLE001 - a class of the script, or what really cannot be pickled: this one knows
        return by_value(value, keeper)


def by_value(value: Any, keeper: Keeper[Any] | None = None) -> Any:
    """Pickled with what the master's `__main__` defines by value."""
    from pymw.pickling import ByValue  # a worker that only sees plain values never pays for it

    return _pickled(ByValue, value, keeper)


def _pickled(pickler: Any, value: Any, keeper: Keeper[Any] | None) -> Any:
    if keeper is None:
        file = io.BytesIO()
        pickler(file, protocol=5).dump(value)
        return file.getvalue()
    spool, buffers = _Spool(), list[memoryview]()

    def stays_in(buffer: pickle.PickleBuffer) -> bool:
        try:
            data = buffer.raw()
        except BufferError:  # not in one piece
            return True
        if data.nbytes < APART:
            return True
        buffers.append(data)
        return False

    pickler(spool, protocol=5, buffer_callback=stays_in).dump(value)
    stream = stored(spool.parts, spool.size, keeper)
    if not buffers:
        return stream
    places = [keeper.keep(data) for data in buffers]
    if None not in places:
        return Apart(stream, places)
    for place in places:  # there is no room for all of them
        if place is not None:
            keeper.drop(place)
    return _pickled(pickler, value, None)


def stored(parts: Sequence[Any], size: int, keeper: Keeper[Any] | None) -> Any:
    """As bytes, or where they lie if they are many and there is room for them."""
    if size >= LARGE and keeper is not None and (place := keeper.put(parts, size)) is not None:
        return place
    return b"".join(parts) if len(parts) != 1 else bytes(parts[0])


class _Spool:
    """A file to pickle into, without copying: the pickler hands over large bytes as they are."""

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.size = 0

    def write(self, data: Any) -> int:
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        self.parts.append(data)
        self.size += size
        return size
