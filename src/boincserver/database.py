"""The database at arm's length: statements are drawn with SQLAlchemy Core, compiled once, and run on the bare driver.

A request makes about ten small statements. Through SQLAlchemy's result machinery each costs several times what SQLite
itself needs, so `Session` keeps the compiled text and hands parameters straight to the driver. Columns of this schema
are numbers and text only, so nothing is lost by that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy import Engine, Table, bindparam, event
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from boincserver.errors import ConfigError

__all__ = ["Database", "Row", "Session", "insert_into", "select_where", "sqlite_url", "update_where"]

Parameters = Mapping[str, Any]
Row = tuple[Any, ...]

_CACHE_KB: Final = 65536


@lru_cache(maxsize=512)
def insert_into(table: Table, *columns: str) -> ClauseElement:
    """INSERT with one parameter per column, of the column's name."""
    return table.insert().values({name: bindparam(name) for name in columns})


@lru_cache(maxsize=512)
def update_where(table: Table, columns: tuple[str, ...], conditions: tuple[str, ...]) -> ClauseElement:
    """UPDATE of these columns where each condition column has the value of parameter `was_NAME`."""
    statement = table.update().values({name: bindparam(name) for name in columns})
    for name in conditions:
        statement = statement.where(table.c[name] == bindparam(f"was_{name}"))
    return statement


@lru_cache(maxsize=512)
def select_where(table: Table, columns: tuple[str, ...], conditions: tuple[str, ...]) -> ClauseElement:
    """SELECT these columns where each condition column equals the parameter of its name, ordered by the first key."""
    statement = sqlalchemy.select(*(table.c[name] for name in columns))
    for name in conditions:
        statement = statement.where(table.c[name] == bindparam(name))
    return statement.order_by(next(iter(table.primary_key.columns)))


class _Prepared:
    """A statement as the driver wants it: text, and how to order the parameters."""

    __slots__ = ("defaults", "order", "statement", "text")

    def __init__(self, statement: ClauseElement, dialect: sqlalchemy.Dialect) -> None:
        compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        assert isinstance(compiled, SQLCompiler)
        self.statement = statement  # kept alive, so that its id stays its own
        self.text = str(compiled)
        self.order = list(compiled.positiontup) if compiled.positiontup is not None else None
        self.defaults = {name: value for name, value in compiled.params.items() if value is not None}

    def arguments(self, given: Parameters) -> Any:
        values = {**self.defaults, **given}
        return [values[name] for name in self.order] if self.order is not None else values


class Session:
    """One driver connection, used by one thread at a time."""

    def __init__(self, connection: Any, dialect: sqlalchemy.Dialect, prepared: dict[int, _Prepared]) -> None:
        self.connection = connection
        self._dialect = dialect
        self._prepared = prepared
        self._cursor = connection.cursor()

    def _prepare(self, statement: ClauseElement) -> _Prepared:
        found = self._prepared.get(id(statement))
        if found is None:
            found = self._prepared[id(statement)] = _Prepared(statement, self._dialect)
        return found

    def script(self, text: str) -> None:
        """Run a literal statement such as COMMIT."""
        self._cursor.execute(text)

    def all(self, statement: ClauseElement, **params: Any) -> Sequence[Row]:
        """Every row."""
        prepared = self._prepare(statement)
        self._cursor.execute(prepared.text, prepared.arguments(params))
        return self._cursor.fetchall()  # type: ignore[no-any-return]

    def first(self, statement: ClauseElement, **params: Any) -> Row | None:
        """The first row, or None."""
        prepared = self._prepare(statement)
        self._cursor.execute(prepared.text, prepared.arguments(params))
        row: Row | None = self._cursor.fetchone()
        # An unfinished SELECT keeps its snapshot and stands in the way of checkpoints.
        self._cursor.fetchall()
        return row

    def value(self, statement: ClauseElement, **params: Any) -> Any:
        """The first column of the first row, or None."""
        row = self.first(statement, **params)
        return row[0] if row else None

    def run(self, statement: ClauseElement, **params: Any) -> int:
        """Change rows; returns how many."""
        prepared = self._prepare(statement)
        self._cursor.execute(prepared.text, prepared.arguments(params))
        return int(self._cursor.rowcount)

    def many(self, statement: ClauseElement, rows: Iterable[Parameters]) -> None:
        """The same change with many sets of parameters."""
        prepared = self._prepare(statement)
        self._cursor.executemany(prepared.text, [prepared.arguments(row) for row in rows])

    def insert(self, table: Table, **values: Any) -> int:
        """Insert one row; returns its new id."""
        prepared = self._prepare(insert_into(table, *values))
        self._cursor.execute(prepared.text, prepared.arguments(values))
        return int(self._cursor.lastrowid)

    def get(self, table: Table, columns: tuple[str, ...], **equal: Any) -> Row | None:
        """These columns of the first row in which the named columns have these values."""
        return self.first(select_where(table, columns, tuple(equal)), **equal)

    def close(self) -> None:
        """Give the connection up."""
        self.connection.close()


class Database:
    """Opens sessions on one database, SQLite in WAL mode with full durability unless the URL says otherwise."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)
        self._prepared: dict[int, _Prepared] = {}
        self._local = threading.local()
        self._sessions: list[Session] = []
        self._lock = threading.Lock()

    @property
    def is_sqlite(self) -> bool:
        """True for SQLite, which has one writer at a time."""
        return self.engine.dialect.name == "sqlite"

    def session(self) -> Session:
        """A new session, closed with the database."""
        raw = self.engine.raw_connection()
        connection = raw.driver_connection
        raw.detach()
        assert connection is not None
        session = Session(connection, self.engine.dialect, self._prepared)
        with self._lock:
            self._sessions.append(session)
        return session

    def reader(self) -> Session:
        """This thread's own session for reading; it sees what is committed."""
        found: Session | None = getattr(self._local, "session", None)
        if found is None:
            found = self._local.session = self.session()
        return found

    def close(self) -> None:
        """Close every session; none may be in use."""
        with self._lock:
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.close()
        self.engine.dispose()


def _engine(url: str) -> Engine:
    try:
        if sqlalchemy.make_url(url).get_backend_name() != "sqlite":
            return sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
    except (sqlalchemy.exc.ArgumentError, ModuleNotFoundError) as error:
        raise ConfigError(
            f"the database {url!r} cannot be used: {error} (for MariaDB and MySQL install 'pymw-grid[mysql]' and say "
            "mysql+pymysql://USER:PASSWORD@HOST/NAME)"
        ) from error
    # isolation_level None leaves BEGIN and COMMIT to us; sessions move between threads, one at a time.
    engine = sqlalchemy.create_engine(
        url, connect_args={"isolation_level": None, "check_same_thread": False, "timeout": 30}
    )
    event.listen(engine, "connect", _sqlite_settings)
    return engine


def _sqlite_settings(connection: Any, _record: object) -> None:
    for setting in ("journal_mode=WAL", "synchronous=FULL", f"cache_size=-{_CACHE_KB}", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {setting}").close()


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"
