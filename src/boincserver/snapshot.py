"""A project's tables as one SQLite file: consistent although others write meanwhile, and the way back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, insert, inspect, select

from boincserver import migrations
from boincserver.database import Database, sqlite_url
from boincserver.errors import RestoreError
from boincserver.schema import metadata

__all__ = ["load", "save"]

_ROWS: Final = 2000


def save(database: Database, target: Path) -> None:
    """Copy every table as it is at one moment; nobody waits for it."""
    if database.is_sqlite:
        source = database.session().connection
        with closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE").close()
        return
    copy_of = Database(sqlite_url(target))
    try:
        metadata.create_all(copy_of.engine)
        with (
            database.engine.connect().execution_options(isolation_level="REPEATABLE READ") as source_rows,
            copy_of.engine.begin() as rows,
        ):
            _copy(source_rows, rows)
    finally:
        copy_of.close()
    with closing(sqlite3.connect(target)) as copy:
        copy.execute("PRAGMA journal_mode=DELETE").close()


def load(source: Path, url: str) -> Database:
    """The database of this URL, which must be empty, with the tables of a copy brought up to this program's schema."""
    target, old = Database(url), Database(sqlite_url(source))
    try:
        if inspect(target.engine).get_table_names():
            raise RestoreError("the database has tables already; name an empty one: --database URL")
        migrations.migrate(old.engine)
        metadata.create_all(target.engine)
        with old.engine.connect() as rows, target.engine.begin() as new_rows:
            _copy(rows, new_rows)
    except BaseException:
        target.close()
        raise
    finally:
        old.close()
    return target


def _copy(source: Connection, target: Connection) -> None:
    there = _columns(source)
    for table in metadata.sorted_tables:
        columns = [column for column in table.columns if column.name in there.get(table.name, ())]
        if not columns:
            continue
        rows = source.execution_options(yield_per=_ROWS).execute(select(*columns))
        for part in rows.mappings().partitions():
            target.execute(insert(table), [dict(row) for row in part])


def _columns(connection: Connection) -> dict[str, set[str]]:
    found = inspect(connection)
    return {name: {column["name"] for column in found.get_columns(name)} for name in found.get_table_names()}
