"""Several processes serve one database: which of them looks after what, and how they tell each other.

Each holds a lock of the database for its shard and looks after the workunits whose number, divided by the number of
processes, leaves the shard's own. Requests are answered by whichever process takes them. What becomes known in one and
concerns another is told in a datagram; a lost one costs seconds, since every process also looks into the tables.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, text

from boincserver import unix_socket
from boincserver.database import Database, Session
from boincserver.errors import AlreadyServed
from boincserver.events import Events

__all__ = ["Shard", "ShardLock", "Siblings", "in_shard"]

log = Events(__name__)

_TAKE: Final = text("SELECT GET_LOCK(:name, :seconds)")
_RELEASE: Final = text("SELECT RELEASE_LOCK(:name)")
_IS_MINE: Final = text("SELECT COALESCE(IS_USED_LOCK(:name) = CONNECTION_ID(), 0)")
_WAIT: Final = 20
"""Seconds that a process waits for the shard of one that is ending, or whose end the database has yet to notice."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of so many processes."""

    number: int = 0
    count: int = 1

    def of(self, identifier: int) -> int:
        """The shard of a row."""
        return identifier % self.count

    def owns(self, identifier: int) -> bool:
        """True if this process looks after the row of that number."""
        return identifier % self.count == self.number

    @property
    def parameters(self) -> dict[str, int]:
        """For statements with `in_shard`."""
        return {"shard": self.number, "shards": self.count}


def in_shard(column: ColumnElement[int]) -> ColumnElement[bool]:
    """The condition that a row is this shard's; with `Shard.parameters`."""
    return column % bindparam("shards", type_=column.type) == bindparam("shard", type_=column.type)


class ShardLock:
    """A lock of the database server's, which goes with its connection; SQLite's project has the directory's lock."""

    def __init__(self, database: Database, shard: Shard) -> None:
        self._session: Session | None = None if database.is_sqlite else database.session(lasting=True)
        self._name = f"boincserver {database.engine.url.database} {shard.number}"

    def take(self) -> None:
        """Wait for the lock; AlreadyServed if another process keeps it."""
        if self._session is not None and self._session.value(_TAKE, name=self._name, seconds=_WAIT) != 1:
            raise AlreadyServed(f"another process holds the database's lock {self._name!r}; stop that server first")

    def release(self) -> None:
        """Another process may take it."""
        if self._session is not None:
            try:
                self._session.value(_RELEASE, name=self._name)
            except Exception as error:  # noqa: BLE001 - then it went with its connection
                log.debug("lock-not-released", error=error)

    def held(self) -> bool:
        """True if the lock is still ours, or ours again after the database was away."""
        if self._session is None or self._session.value(_IS_MINE, name=self._name):
            return True
        return bool(self._session.value(_TAKE, name=self._name, seconds=0) == 1)


_MOST: Final = 1024
"""Bytes of what one process tells another."""


class Siblings:
    """The other processes of this project, on this machine."""

    def __init__(self, folder: Path, shard: Shard) -> None:
        self._folder = folder
        self.shard = shard
        self._own: socket.socket | None = None
        self._others: dict[int, socket.socket] = {}

    def listen(self, loop: Any, hear: Callable[[str, int, str], None]) -> None:
        """From now on call `hear` with what others say."""
        if self.shard.count > 1:
            own = self._own = unix_socket.bind(self._path(self.shard.number), socket.SOCK_DGRAM)
            own.setblocking(False)
            loop.add_reader(own.fileno(), self._receive, own, hear)

    def tell(self, number: int, topic: str, value: int = 0, text: str = "") -> None:
        """Tell one of them; what cannot be delivered is dropped."""
        try:
            if number not in self._others:
                self._others[number] = unix_socket.connect(self._path(number), 0, socket.SOCK_DGRAM)
            self._others[number].send(f"{topic} {value} {text}".encode()[:_MOST])
        except OSError as error:
            log.debug("process-does-not-hear", process=number, error=error)
            if number in self._others and not isinstance(error, BlockingIOError):
                self._others.pop(number).close()

    def tell_all(self, topic: str, value: int = 0) -> None:
        """Tell every other one."""
        for number in range(self.shard.count):
            if number != self.shard.number:
                self.tell(number, topic, value)

    def close(self, loop: Any) -> None:
        """Say and hear no more."""
        if self._own is not None:
            loop.remove_reader(self._own.fileno())
            self._own.close()
            self._path(self.shard.number).unlink(missing_ok=True)
        for other in self._others.values():
            other.close()

    def _path(self, number: int) -> Path:
        return self._folder / f"shard-{number}.sock"

    def _receive(self, own: socket.socket, hear: Callable[[str, int, str], None]) -> None:
        while True:
            try:
                topic, value, text = (*own.recv(_MOST).decode("utf-8", "replace").split(" ", 2), "", "")[:3]
            except BlockingIOError:
                return
            if value.lstrip("-").isdecimal():
                hear(topic, int(value), text)
