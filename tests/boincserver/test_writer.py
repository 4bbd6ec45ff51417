"""The group commit: what an operation that fails costs its neighbours, and what it leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, select

from boincserver.database import Database, sqlite_url
from boincserver.errors import Conflict
from boincserver.project import Project
from boincserver.schema import platform as table
from boincserver.writer import Transaction, Writer

from .conftest import make_project

_NAMES = select(table.c.name).where(table.c.name.like(bindparam("like"))).order_by(table.c.id)


class Refused(Exception):
    """What the test's own operations raise."""


class Journal:
    """Operations that insert a row each, and what became of them in memory."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.committed: list[str] = []
        self.undone: list[str] = []

    def put(self, name: str, problem: Callable[[int], Exception | None] = lambda _run: None) -> Callable[..., str]:
        def operation(tx: Transaction) -> str:
            self.runs.append(name)
            tx.db.insert(table, create_time=0, name=name, user_friendly_name=name, deprecated=0)
            tx.on_commit(lambda: self.committed.append(name))
            tx.on_rollback(lambda: self.undone.append(name))
            if (error := problem(self.runs.count(name))) is not None:
                raise error
            return name

        return operation


def always(error: Exception) -> Callable[[int], Exception]:
    return lambda _run: error


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of changes is not cut short because this machine stood still for a moment."""
    monkeypatch.setattr("boincserver.writer.SLICE", 60.0)


def within(directory: Path, check: Callable[[Writer, Database], Awaitable[None]]) -> None:
    make_project(directory)
    database = Project.open(directory).open_database()

    async def run() -> None:
        writer = Writer(database)
        try:
            await asyncio.wait_for(check(writer, database), 60)
        finally:
            await writer.close()

    try:
        asyncio.run(run())
    finally:
        database.close()


def names(database: Database) -> list[str]:
    return [row[0] for row in database.reader().all(_NAMES, like="test-%")]


async def together(writer: Writer, *operations: Callable[[Transaction], Any]) -> list[Any]:
    return await asyncio.gather(*map(writer.run, operations), return_exceptions=True)


def test_operations_that_came_together_share_a_commit_and_run_once(directory: Path) -> None:
    async def check(writer: Writer, database: Database) -> None:
        journal = Journal()
        wanted = [f"test-{n}" for n in range(20)]
        assert await together(writer, *map(journal.put, wanted)) == wanted
        assert (writer.commits, writer.operations) == (1, 20)
        assert journal.runs == journal.committed == names(database) == wanted
        assert journal.undone == []

    within(directory, check)


def test_one_that_fails_leaves_nothing_and_costs_its_neighbours_one_repetition(directory: Path) -> None:
    async def check(writer: Writer, database: Database) -> None:
        journal, refused = Journal(), Refused("no")
        bad = journal.put("test-bad", always(refused))
        assert await together(writer, journal.put("test-first"), bad, journal.put("test-last")) == [
            "test-first",
            refused,
            "test-last",
        ]
        assert names(database) == journal.committed == ["test-first", "test-last"]
        assert writer.commits == 1
        # Up to the failure without savepoints; then all of them with one each.
        assert journal.runs == ["test-first", "test-bad", "test-first", "test-bad", "test-last"]
        # In memory as well: whatever ran in vain was undone, last first.
        assert journal.undone == ["test-bad", "test-first", "test-bad"]

    within(directory, check)


def test_several_that_fail_are_told_apart(directory: Path) -> None:
    async def check(writer: Writer, database: Database) -> None:
        journal = Journal()
        operations = [
            journal.put(f"test-{n}", always(Refused(str(n))) if n % 3 == 0 else lambda _run: None) for n in range(12)
        ]
        results = await together(writer, *operations)
        assert [str(result) for result in results] == [str(n) if n % 3 == 0 else f"test-{n}" for n in range(12)]
        assert names(database) == journal.committed == [f"test-{n}" for n in range(12) if n % 3]
        assert max(journal.runs.count(name) for name in set(journal.runs)) == 2

    within(directory, check)


def test_the_groups_after_a_failure_are_as_quick_as_before(directory: Path) -> None:
    async def check(writer: Writer, _database: Database) -> None:
        journal = Journal()
        with pytest.raises(Refused):
            await writer.run(journal.put("test-bad", always(Refused("no"))))
        statements: list[str] = []
        script = writer._session.script
        writer._session.script = lambda text: (statements.append(text), script(text))[1]  # type: ignore[method-assign,func-returns-value]
        await together(writer, journal.put("test-a"), journal.put("test-b"))
        assert statements == ["BEGIN IMMEDIATE", "COMMIT"]

    within(directory, check)


def test_one_that_may_succeed_when_it_is_run_again_does(directory: Path) -> None:
    """Rows that another process changed are read again; that costs attempts of its own only."""

    async def check(writer: Writer, database: Database) -> None:
        journal = Journal()
        changed = journal.put("test-changed", lambda run: Conflict("changed meanwhile") if run < 4 else None)
        assert await together(writer, changed, journal.put("test-b")) == ["test-changed", "test-b"]
        assert names(database) == ["test-changed", "test-b"]
        assert journal.runs.count("test-b") == 1

    within(directory, check)


def test_what_fails_at_the_end_of_a_group_is_told_to_all_in_it(directory: Path) -> None:
    """It is tried again a limited number of times, and leaves nothing behind."""

    async def check(writer: Writer, database: Database) -> None:
        journal = Journal()

        def breaks(tx: Transaction) -> str:
            tx.at_end("key", lambda _db: (_ for _ in ()).throw(Refused("at the end")))
            return journal.put("test-end")(tx)

        results = await together(writer, breaks, journal.put("test-b"))
        assert isinstance(results[0], Refused)
        assert results[1] == "test-b"
        assert names(database) == ["test-b"]

    within(directory, check)


def test_a_database_without_tables_refuses_and_the_writer_goes_on(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "empty.sqlite3"))

    async def run() -> None:
        writer = Writer(database)
        with pytest.raises(Exception, match="no such table"):
            await writer.run(Journal().put("test-a"))
        assert await writer.run(lambda tx: tx.db.script("CREATE TABLE here (n INTEGER)")) is None
        await writer.close()

    try:
        asyncio.run(asyncio.wait_for(run(), 60))
    finally:
        database.close()
