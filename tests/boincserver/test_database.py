"""Connections that are closed while other threads use them, as when a server is stopped soon after its start."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from boincserver.database import Database, Session, sqlite_url

LIMIT = 60.0
ENDLESS = text("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c")


def in_thread(database: Database, use: Callable[[Session], Any]) -> Future[Any]:
    """What `use` makes of a thread's own session."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(use(database.reader()))
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def test_a_long_statement_does_not_keep_a_database_from_being_closed(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "database.sqlite3"))
    begun = threading.Event()

    def count(session: Session) -> None:
        session.connection.set_progress_handler(begun.set, 1000)
        session.all(ENDLESS)

    counting = in_thread(database, count)
    assert begun.wait(LIMIT)
    database.close()
    error = counting.exception(LIMIT)
    assert isinstance(error, sqlite3.OperationalError)
    assert "interrupted" in str(error)
    with pytest.raises(RuntimeError, match="the database is closed"):
        database.session()


def test_a_database_is_closed_between_statements_and_not_under_one(tmp_path: Path) -> None:
    for _ in range(30):
        database = Database(sqlite_url(tmp_path / "database.sqlite3"))
        begun = threading.Event()

        def select(session: Session, begun: threading.Event = begun) -> None:
            for number in itertools.count():
                session.all(text(f"SELECT {number}"))  # a new one is compiled each time
                begun.set()

        selecting = in_thread(database, select)
        assert begun.wait(LIMIT)
        database.close()
        assert isinstance(selecting.exception(LIMIT), sqlite3.Error | RuntimeError)


def test_mariadb_ends_its_statement_and_nobody_connects_anew(database_url: str) -> None:
    database = Database(database_url)
    begun = threading.Event()

    def sleep(session: Session) -> None:
        while True:
            begun.set()
            assert session.value(text("SELECT SLEEP(0.2)")) == 0

    sleeping = in_thread(database, sleep)
    assert begun.wait(LIMIT)
    database.close()
    assert isinstance(sleeping.exception(LIMIT), RuntimeError)
    with pytest.raises(RuntimeError, match="the database is closed"):
        database.session()
