"""Contenders, each warm and ready in a process of its own.

So no library's threads take the interpreter from another's, as they would not in a user's program; all stay within one
process tree and wait while one of them runs.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from bench._compare import Cost, cost
from bench._peers import OURS, Missing, open_peer

__all__ = ["Contender", "contenders"]

LIMIT = 120.0  # seconds that a contender has to start, and for each run
context = multiprocessing.get_context("spawn")


def same(x: Any) -> Any:
    """The least that a task can do."""
    return x


def blobs() -> list[bytes]:
    """A hundred different ones, 1 MiB each."""
    return [os.urandom(1 << 20) for _ in range(100)]


def arrays() -> list[Any]:
    """The same as NumPy arrays."""
    import numpy

    return [numpy.frombuffer(blob, dtype=numpy.float64).copy() for blob in blobs()]


WORK: dict[str, Callable[[], Sequence[Any]]] = {
    "a range of 100 000": lambda: range(100_000),
    "a list of 100 000": lambda: list(range(100_000)),
    "1 000 ints": lambda: range(1000),
    "bytes": blobs,
    "arrays": arrays,
}


class Contender:
    """One library's process: `maps` and `submits` say what it offers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(name, theirs), name=name)
        self._process.start()
        theirs.close()
        try:
            self.maps, self.submits = self._answer()
        except BaseException:
            self.close()
            raise

    def run(self, way: str, work: str) -> Cost:
        """Let it work, by `map` or by `submit`; measured in its process."""
        self._connection.send((way, work))
        answer: Cost = self._answer()
        return answer

    def close(self) -> None:
        """End it, with all that it started."""
        self._connection.close()
        self._process.join(LIMIT)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _answer(self) -> Any:
        if not self._connection.poll(LIMIT):
            raise TimeoutError(f"no answer in {LIMIT:.0f} s")
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextlib.contextmanager
def contenders(names: Sequence[str]) -> Iterator[list[Contender]]:
    """Ours first, and of those named all that are installed and start; the others are told."""
    with contextlib.ExitStack() as stack:
        found = []
        for name in [OURS, *names]:
            try:
                found.append(contender := Contender(name))
            except (Missing, OSError, EOFError) as error:
                print(
                    f"  missing: {name} ({error}); `make bench` installs it: pip install 'pymw-grid[bench]'", flush=True
                )
            else:
                stack.callback(contender.close)
        yield found


def _serve(name: str, connection: Connection) -> None:
    """In the contender's process: open the library, warm it up, and do what is asked until nobody asks any more."""
    with contextlib.ExitStack() as stack:
        try:
            peer = open_peer(name, stack)
            ways = {way: call for way, call in {"map": peer.map, "submit": peer.submit_all}.items() if call}
            for call in ways.values():
                call(same, range(100))
        except Exception as error:  # noqa: BLE001 - whatever keeps a peer from starting, the others go on
            connection.send(Missing(f"{type(error).__name__}: {error}"))
            return
        connection.send(("map" in ways, "submit" in ways))
        items: dict[str, Sequence[Any]] = {}
        with contextlib.suppress(EOFError):
            while True:
                way, work = connection.recv()
                if work not in items:
                    items = {work: WORK[work]()}  # one at a time, so that memory is as in a program of its own
                connection.send(cost(lambda: ways[way](same, items[work])))  # noqa: B023 - it is called at once
