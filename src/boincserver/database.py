"""The database at arm's length: statements are drawn with SQLAlchemy Core, compiled once, and run on the bare driver.

A request makes about ten small statements. Through SQLAlchemy's result machinery each costs several times what SQLite
itself needs, so `Session` keeps the compiled text and hands parameters straight to the driver. Columns of this schema
are numbers and text only, so nothing is lost by that.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy import Connection, Engine, Table, UnaryExpression, bindparam, event
from sqlalchemy.sql import ClauseElement, operators
from sqlalchemy.sql.compiler import SQLCompiler

from boincserver.errors import ConfigError
from boincserver.events import Events

__all__ = ["Database", "Row", "Session", "insert_into", "select_locked", "select_where", "sqlite_url", "update_where"]

log = Events(__name__)

Parameters = Mapping[str, Any]
Row = tuple[Any, ...]

_CACHE_KB: Final = 65536
_LOCK_WAIT: Final = 20
"""Seconds that a statement waits for another process's transaction."""
_LOOK: Final = 0.05
_CLOSED: Final = "the database is closed"
_LAST_STATEMENT: Final = 5.0
"""Seconds that MariaDB is given to end a statement whose connection is to be closed."""
_AWAY: Final = frozenset({0, 1040, 1053, 1077, 1079, 1080, 1927, 2002, 2003, 2006, 2013, 2014, 2045, 2055})
_LOST_RACE: Final = frozenset({1020, 1205, 1213})
_DUPLICATE: Final = 1062
_NAMES: Final = 250
"""Rows whose ids are asked for in one statement."""
_GIVEN: Final = sqlalchemy.table("sqlite_sequence", sqlalchemy.column("name"), sqlalchemy.column("seq"))


@lru_cache(maxsize=512)
def insert_into(table: Table, *columns: str) -> ClauseElement:
    """INSERT with one parameter per column, of the column's name."""
    return table.insert().values({name: bindparam(name) for name in columns})


@lru_cache(maxsize=512)
def update_where(table: Table, columns: tuple[str, ...], conditions: tuple[str, ...]) -> ClauseElement:
    """UPDATE of these columns where each condition column has the value of parameter `was_NAME`."""
    statement = table.update().values({name: bindparam(name) for name in columns})
    for name in conditions:
        column: Any = table.c[name]
        if not column.primary_key:
            # The plus keeps this from being weighed against partial indexes, at each execution anew: see `_Prepared`.
            column = UnaryExpression(column, operator=operators.custom_op("+"))
        statement = statement.where(column == bindparam(f"was_{name}"))
    return statement


@lru_cache(maxsize=512)
def select_where(table: Table, columns: tuple[str, ...], conditions: tuple[str, ...]) -> ClauseElement:
    """SELECT these columns where each condition column equals the parameter of its name, ordered by the first key."""
    statement = sqlalchemy.select(*(table.c[name] for name in columns))
    for name in conditions:
        statement = statement.where(table.c[name] == bindparam(name))
    return statement.order_by(next(iter(table.primary_key.columns)))


@lru_cache(maxsize=512)
def select_locked(table: Table, columns: tuple[str, ...], conditions: tuple[str, ...]) -> ClauseElement:
    """The same, locking the rows; SQLite, whose writer is alone, has no word for that and needs none."""
    statement: Any = select_where(table, columns, conditions)
    locked: ClauseElement = statement.with_for_update()
    return locked


@lru_cache(maxsize=16)
def _last_id(table: Table) -> ClauseElement:
    # SQLite's own record of what was given, which a restored project sets beyond what can have been.
    given = sqlalchemy.select(_GIVEN.c.seq).where(_GIVEN.c.name == table.name).scalar_subquery()
    newest = sqlalchemy.select(sqlalchemy.func.max(table.c.id)).scalar_subquery()
    known = [sqlalchemy.func.coalesce(number, 0) for number in (given, newest)]
    return sqlalchemy.select(sqlalchemy.func.max(*known))


@lru_cache(maxsize=16)
def _ids_of(table: Table) -> ClauseElement:
    names: list[Any] = [bindparam(f"name_{n}") for n in range(_NAMES)]
    return sqlalchemy.select(table.c.name, table.c.id).where(table.c.name.in_(names))


class _Prepared:
    """A statement as the driver wants it: text, and how to order the parameters."""

    __slots__ = ("_pick", "defaults", "order", "statement", "text")

    def __init__(self, statement: ClauseElement, dialect: sqlalchemy.Dialect) -> None:
        compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        assert isinstance(compiled, SQLCompiler)
        self.statement = statement  # kept alive, so that its id stays its own
        self.text = str(compiled)
        self.order = list(compiled.positiontup) if compiled.positiontup is not None else None
        self.defaults = {name: value for name, value in compiled.params.items() if value is not None}
        if self.order is not None and dialect.paramstyle == "qmark":
            self._write_out_constants(self.order)
        # Quicker than a loop where there are several, and there mostly are.
        self._pick = itemgetter(*self.order) if self.order and len(self.order) > 1 else None

    def _write_out_constants(self, order: list[str]) -> None:
        """Where a parameter's value decides whether an index serves, SQLite plans a statement anew for each value."""
        pieces = self.text.split("?")
        numbers = {name: str(int(value)) for name, value in self.defaults.items() if isinstance(value, int)}
        marks = [numbers.get(name, "?") for name in order]
        self.text = "".join(piece + mark for piece, mark in zip(pieces, [*marks, ""], strict=True))
        self.order = [name for name in order if name not in numbers]

    def arguments(self, given: Parameters) -> Any:
        values = {**self.defaults, **given} if self.defaults else given
        if self._pick is not None:
            return self._pick(values)
        return [values[name] for name in self.order] if self.order is not None else values


class Session:
    """One driver connection, used by one thread at a time, which another may close.

    `lasting`: for single statements; it connects anew when the database server was away.
    """

    def __init__(self, connect: Callable[[], Any], database: Database, *, lasting: bool) -> None:
        self._connect = connect
        self._database = database
        self._lasting = lasting
        self._prepared = database.prepared
        self.is_sqlite = database.is_sqlite
        self._closed = False
        self._in_use = threading.Lock()
        """Held during a statement: sqlite3 breaks down, with all of Python, when a connection is closed under one."""
        self.connection = connect()
        self._cursor = self.connection.cursor()

    def _prepare(self, statement: ClauseElement) -> _Prepared:
        found = self._prepared.get(id(statement))
        if found is None:
            found = self._prepared[id(statement)] = _Prepared(statement, self._database.engine.dialect)
        return found

    def _execute(self, text: str, arguments: Any = ()) -> Any:
        if self._closed:
            raise RuntimeError(_CLOSED)
        try:
            self._cursor.execute(text, arguments)
        except Exception as error:
            if self._closed or not self._lasting or not self._database.is_away(error):
                raise
            self.reconnect()
            self._cursor.execute(text, arguments)
        return self._cursor

    def reconnect(self) -> None:
        """Take a new connection in the place of one that broke."""
        try:
            self.connection.close()
        except Exception as error:  # noqa: BLE001
            log.debug("broken-connection-does-not-close", error=error)
        self.connection = self._connect()
        self._cursor = self.connection.cursor()

    def script(self, text: str) -> None:
        """Run a literal statement such as COMMIT."""
        with self._in_use:
            self._execute(text)

    def all(self, statement: ClauseElement, **params: Any) -> Sequence[Row]:
        """Every row."""
        prepared = self._prepare(statement)
        with self._in_use:
            return self._execute(prepared.text, prepared.arguments(params)).fetchall()  # type: ignore[no-any-return]

    def first(self, statement: ClauseElement, **params: Any) -> Row | None:
        """The first row, or None."""
        prepared = self._prepare(statement)
        with self._in_use:
            cursor = self._execute(prepared.text, prepared.arguments(params))
            row: Row | None = cursor.fetchone()
            # An unfinished SELECT keeps its snapshot and stands in the way of checkpoints.
            cursor.fetchall()
            return row

    def value(self, statement: ClauseElement, **params: Any) -> Any:
        """The first column of the first row, or None."""
        row = self.first(statement, **params)
        return row[0] if row else None

    def run(self, statement: ClauseElement, **params: Any) -> int:
        """Change rows; returns how many."""
        prepared = self._prepare(statement)
        with self._in_use:
            return int(self._execute(prepared.text, prepared.arguments(params)).rowcount)

    def many(self, statement: ClauseElement, rows: Iterable[Parameters]) -> None:
        """The same change with many sets of parameters."""
        prepared = self._prepare(statement)
        arguments = [prepared.arguments(row) for row in rows]
        with self._in_use:
            self._cursor.executemany(prepared.text, arguments)

    def insert(self, table: Table, **values: Any) -> int:
        """Insert one row; returns its new id."""
        prepared = self._prepare(insert_into(table, *values))
        with self._in_use:
            return int(self._execute(prepared.text, prepared.arguments(values)).lastrowid)

    def insert_named(self, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows that have unique names; each is given its `id`."""
        if not rows:
            return
        if self.is_sqlite:
            # Nobody else writes within this transaction, so the next numbers are known.
            for number, row in enumerate(rows, start=int(self.value(_last_id(table))) + 1):
                row["id"] = number
            self.many(insert_into(table, *rows[0]), rows)
            return
        self.many(insert_into(table, *rows[0]), rows)
        found = self.ids_of(table, [row["name"] for row in rows])
        for row in rows:
            row["id"] = found[row["name"]]

    def ids_of(self, table: Table, names: Sequence[str]) -> dict[str, int]:
        """The ids of those rows of these names that there are."""
        found: dict[str, int] = {}
        for start in range(0, len(names), _NAMES):
            some = list(names[start : start + _NAMES])
            some += some[:1] * (_NAMES - len(some))
            found.update(self.all(_ids_of(table), **{f"name_{n}": name for n, name in enumerate(some)}))
        return found

    def get(self, table: Table, columns: tuple[str, ...], **equal: Any) -> Row | None:
        """These columns of the first row in which the named columns have these values."""
        return self.first(select_where(table, columns, tuple(equal)), **equal)

    def locked(self, table: Table, columns: tuple[str, ...], **equal: Any) -> Row | None:
        """The same, of a row that nobody else changes until this transaction ends."""
        return self.first(select_locked(table, columns, tuple(equal)), **equal)

    def close(self) -> None:
        """Give the connection up. A statement that another thread is at fails, and so does each one after it."""
        self._closed = True
        if self.is_sqlite:
            while not self._in_use.acquire(timeout=_LOOK):
                self.connection.interrupt()
            ended = True
        else:
            ended = self._in_use.acquire(timeout=_LAST_STATEMENT)
        try:
            self.connection.close()
        finally:
            if ended:
                self._in_use.release()


class Database:
    """Opens sessions on one database, SQLite in WAL mode with full durability unless the URL says otherwise."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)
        self.prepared: dict[int, _Prepared] = {}
        self._local = threading.local()
        self._sessions: list[Session] = []
        self._closed = False
        self._lock = threading.Lock()

    @property
    def is_sqlite(self) -> bool:
        """True for SQLite, which has one writer at a time."""
        return self.engine.dialect.name == "sqlite"

    def session(self, *, lasting: bool = False) -> Session:
        """A new session, closed with the database."""
        session = Session(self._connection, self, lasting=lasting)
        with self._lock:
            if not self._closed:
                self._sessions.append(session)
                return session
        session.close()
        raise RuntimeError(_CLOSED)

    def _connection(self) -> Any:
        raw = self.engine.raw_connection()
        connection = raw.driver_connection
        raw.detach()
        assert connection is not None
        return connection

    def reader(self) -> Session:
        """This thread's own session for reading; it sees what is committed."""
        found: Session | None = getattr(self._local, "session", None)
        if found is None:
            found = self._local.session = self.session(lasting=True)
        return found

    def is_away(self, error: BaseException) -> bool:
        """True if the error says that the database cannot be reached, or cannot be written just now."""
        cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
        if isinstance(cause, sqlite3.OperationalError):
            return getattr(cause, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        return not self.is_sqlite and _code(cause) in _AWAY

    def lost_race(self, error: BaseException) -> bool:
        """True if another process was quicker, and the whole transaction is undone because of that."""
        return not self.is_sqlite and _code(error) in _LOST_RACE

    def is_duplicate(self, error: BaseException) -> bool:
        """True if a row with this key exists: another process made it in the meantime."""
        return not self.is_sqlite and _code(error) == _DUPLICATE

    def close(self) -> None:
        """Close every session; statements that other threads are at fail."""
        with self._lock:
            self._closed = True
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.close()
        self.engine.dispose()


def _code(error: BaseException | None) -> int | None:
    """The number that MariaDB or its driver gives an error."""
    arguments = getattr(error, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def _without_password(url: str) -> str:
    return re.sub(r"://([^:@/]*):[^@/]*@", r"://\1:***@", url)


def _engine(url: str) -> Engine:
    try:
        address = sqlalchemy.make_url(url)
        if address.drivername in ("mysql", "mariadb"):  # SQLAlchemy's choice of a driver is another one
            address = address.set(drivername=f"{address.drivername}+pymysql")
        if address.get_backend_name() != "sqlite":
            engine = sqlalchemy.create_engine(address, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
            event.listen(engine, "connect", _server_settings)
            return engine
    except (sqlalchemy.exc.ArgumentError, ModuleNotFoundError) as error:
        raise ConfigError(
            f"the database {_without_password(url)!r} cannot be used: {error} (for MariaDB and MySQL install "
            "'pymw-grid[mysql]' and say mysql://USER:PASSWORD@HOST/NAME)"
        ) from error
    if address.database and address.database != ":memory:" and not Path(address.database).is_absolute():
        raise ConfigError(f"the database {url!r} is another one in each folder; give its whole path: sqlite:////PATH")
    # isolation_level None leaves BEGIN and COMMIT to us; sessions move between threads, one at a time.
    engine = sqlalchemy.create_engine(
        url, connect_args={"isolation_level": None, "check_same_thread": False, "timeout": 30, "cached_statements": 512}
    )
    event.listen(engine, "connect", _sqlite_settings)
    # The driver begins no transaction by itself then, so SQLAlchemy's own has to.
    event.listen(engine, "begin", _sqlite_begin)
    return engine


def _sqlite_begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _sqlite_settings(connection: Any, _record: object) -> None:
    for setting in ("journal_mode=WAL", "synchronous=FULL", f"cache_size=-{_CACHE_KB}", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {setting}").close()


def _server_settings(connection: Any, _record: object) -> None:
    # What others committed is to be seen by the next statement: rows are locked before they are changed, and read then.
    cursor = connection.cursor()
    cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {_LOCK_WAIT}")
    cursor.close()


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"
