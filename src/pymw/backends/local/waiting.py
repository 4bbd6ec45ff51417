"""Wait for many connections at once, and be woken from another thread."""

from __future__ import annotations

import contextlib
import os
import selectors
import sys
from multiprocessing.connection import Connection, Pipe
from multiprocessing.connection import wait as wait_for_any
from typing import Generic, TypeVar

__all__ = ["Waiter"]

T = TypeVar("T")


class Waiter(Generic[T]):
    """Connections, each with what it stands for."""

    def __init__(self) -> None:
        self._owners: dict[Connection, T] = {}
        self._woken, self._waker = Pipe(duplex=False)
        if sys.platform != "win32":
            os.set_blocking(self._waker.fileno(), False)
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._woken, selectors.EVENT_READ)

    def add(self, connection: Connection, owner: T) -> None:
        """From any thread; follow with `wake`."""
        self._owners[connection] = owner
        if sys.platform != "win32":
            self._selector.register(connection, selectors.EVENT_READ)

    def remove(self, connection: Connection) -> None:
        """Before the connection is closed."""
        del self._owners[connection]
        if sys.platform != "win32":
            self._selector.unregister(connection)

    def wake(self) -> None:
        """End the wait that is going on, or else the next one; from any thread."""
        with contextlib.suppress(BlockingIOError, OSError):
            if sys.platform == "win32":
                self._waker.send_bytes(b"\0")
            else:
                os.write(self._waker.fileno(), b"\0")  # no frame: a full pipe may well lose it

    def wait(self, timeout: float | None) -> list[T]:
        """The owners of the connections that have something to read."""
        if sys.platform == "win32":
            ready = wait_for_any([self._woken, *self._owners], timeout)
        else:
            ready = [key.fileobj for key, _ in self._selector.select(timeout)]
        owners = []
        for connection in ready:
            if connection is not self._woken:
                owners.append(self._owners[connection])  # type: ignore[index]
            elif sys.platform == "win32":
                self._woken.recv_bytes()
            else:
                os.read(self._woken.fileno(), 4096)
        return owners

    def close(self) -> None:
        """Free it; the connections are their owners' to close."""
        if sys.platform != "win32":
            self._selector.close()
        self._woken.close()
        self._waker.close()
