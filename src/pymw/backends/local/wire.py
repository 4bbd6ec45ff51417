"""What the pool and its worker processes say to each other: small tuples, pickled, one per message.

Values and arguments travel inside as bytes of their own, so that one that cannot be read spoils nothing else.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

from pymw.backends.local.area import Area, Place, Spool

__all__ = [
    "BROKEN",
    "EXIT",
    "FLUSH",
    "HELLO",
    "LOG",
    "OUTCOME",
    "PROGRESS",
    "READY",
    "RUN",
    "UNREADABLE",
    "VALUE",
    "VALUES",
    "Packed",
    "by_value",
    "dumps",
    "loads",
    "plain_dumps",
    "read",
    "size",
]

# To the worker.
HELLO = "hello"  # (HELLO, sys.path, sys.argv, initializer bytes or None, directory of checkpoints)
RUN = "run"  # (RUN, serial, segments, functions to forget)
EXIT = "exit"  # (EXIT,): end as a Python program does

# To the pool.
READY = "ready"  # (READY,)
BROKEN = "broken"  # (BROKEN, text): the initializer raised
FLUSH = "flush"  # (FLUSH, serial, records, stopped, seconds): `stopped` is None, or how far the chunk went, in the end
UNREADABLE = "unreadable"  # (UNREADABLE, serial, exception data bytes): nothing of the chunk was run
PROGRESS = "progress"  # (PROGRESS, serial, position, fraction)
LOG = "log"  # (LOG, serial, position, line)

# Small pickles travel as bytes, large ones as a place in shared memory.
Packed = bytes | Place

# A segment: (function number, function bytes or None, many, packed, (call id, indices)): packed are (args, kwargs)
# of one task, or with `many` the columns. A record: (position, kind, packed[, times]) with these kinds:
VALUES = "values"  # a list of plain values, for position, position + 1, ...
VALUE = "value"  # one value; `times` are (started, seconds, cpu seconds)
OUTCOME = "outcome"  # an Outcome

loads: Callable[[Any], Any] = pickle.loads


def read(data: Packed, area: Area | None) -> Any:
    """The value that these bytes are, or that lies at this place of the area."""
    if isinstance(data, bytes):
        return loads(data)
    assert area is not None
    with area.at(data) as view:
        return loads(view)


def size(data: Packed) -> int:
    """How many bytes it is."""
    return len(data) if isinstance(data, bytes) else data[1]


class _PlainPickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        # Built-in values never come here; whatever has a class to be looked up does.
        raise TypeError


def plain_dumps(values: Any, area: Area | None) -> Packed | None:
    """Pickled, where these are built-in values throughout, in containers or not: then reading them cannot fail."""
    try:
        return _spooled(_PlainPickler, values, area)
    except (TypeError, RecursionError):
        return None


def dumps(value: Any, area: Area | None = None) -> Packed:
    """Pickled as the standard library does, or by value what no other process could import."""
    try:
        return _spooled(pickle.Pickler, value, area)
    except Exception:  # noqa: BLE001 - a class of the script, or what really cannot be pickled: this one knows
        return by_value(value, area)


def by_value(value: Any, area: Area | None = None) -> Packed:
    """Pickled with what the master's `__main__` defines by value."""
    from pymw.pickling import ByValue  # a worker that only sees plain values never pays for it

    return _spooled(ByValue, value, area)


def _spooled(pickler: Any, value: Any, area: Area | None) -> Packed:
    if area is None:
        file = io.BytesIO()
        pickler(file, protocol=5).dump(value)
        return file.getvalue()
    spool = Spool(area)
    try:
        pickler(spool, protocol=5).dump(value)
    except BaseException:
        spool.undo()
        raise
    return spool.take()
