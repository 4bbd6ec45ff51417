"""What the pool and its worker processes say to each other: small tuples, pickled, one per message.

Values and arguments travel inside as bytes of their own, so that one that cannot be read spoils nothing else.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

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
    "dumps",
    "loads",
    "plain_dumps",
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

# A segment: (function number, function bytes or None, many, bytes, (call id, indices)): the bytes are (args, kwargs)
# of one task, or with `many` the columns. A record: (position, kind, bytes[, times]) with these kinds:
VALUES = "values"  # a list of plain values, for position, position + 1, ...
VALUE = "value"  # one value; `times` are (started, seconds, cpu seconds)
OUTCOME = "outcome"  # an Outcome

loads: Callable[[Any], Any] = pickle.loads


class _PlainPickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        # Built-in values never come here; whatever has a class to be looked up does.
        raise TypeError


def plain_dumps(values: Any) -> bytes | None:
    """Pickled, where these are built-in values throughout, in containers or not: then reading them cannot fail."""
    file = io.BytesIO()
    try:
        _PlainPickler(file, protocol=5).dump(values)
    except (TypeError, RecursionError):
        return None
    return file.getvalue()


def dumps(value: Any) -> bytes:
    """Pickle as the standard library does, or by value what no other process could import."""
    import cloudpickle  # type: ignore[import-untyped]  # a worker that only sees plain values never pays for it

    data: bytes = cloudpickle.dumps(value, protocol=5)
    return data
