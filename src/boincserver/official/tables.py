"""An official project's database: opened and looked at before anything is written into it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Final

from sqlalchemy import bindparam, column, func, select
from sqlalchemy import table as any_table
from sqlalchemy.exc import DBAPIError

from boincserver import schema
from boincserver.database import Database, Row, Session, insert_into
from boincserver.errors import ConfigError, SchemaError, ServerNotRunning
from boincserver.model import Result, Workunit
from boincserver.official.settings import Settings

__all__ = ["Tables", "text"]

_COLUMNS: Final[Any] = select(
    column("column_name"), column("data_type"), column("is_nullable"), column("column_default"), column("extra")
).select_from(
    any_table("columns", column("table_name"), column("table_schema"), schema="information_schema")
).where(
    column("table_schema") == func.database(), column("table_name") == bindparam("name")
)  # fmt: skip
_NEEDED: Final[Mapping[str, frozenset[str]]] = {
    "app": frozenset({"id", "name", "target_nresults"}),
    "app_version": frozenset({"appid", "deprecated", "xml_doc", "version_num"}),
    "batch": frozenset(schema.batch.columns.keys()),
    "host": frozenset({"id", "userid", "rpc_time", "p_ncpus", "total_credit", "expavg_credit", "expavg_time"}),
    "host_app_version": frozenset({"host_id", "app_version_id", "consecutive_valid", "max_jobs_per_day"}),
    "result": frozenset(Result._fields) | {"xml_doc_in", "xml_doc_out", "stderr_out", "workunitid", "appid", "batch"},
    "msg_from_host": frozenset({"id", "hostid", "variety", "handled", "xml"}),
    "user": frozenset({"id", "teamid", "total_credit", "expavg_credit", "expavg_time"}),
    "workunit": frozenset(Workunit._fields) | {"xml_doc", "opaque", "rsc_bandwidth_bound", "transitioner_flags"},
}
_TEXTS: Final = ("char", "text", "blob", "binary")


class Tables:
    """The database of a project; ServerNotRunning where it is away, SchemaError where it is of another time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._database = Database(settings.database_url)
        self._lock = threading.Lock()
        try:
            self._writer = self._database.session()
            self._blanks = {name: self._look_at(name) for name in _NEEDED}
        except BaseException as error:
            self._database.close()
            raise self._explained(error) or error from error

    def reader(self) -> Session:
        """This thread's session for single statements; it sees what is committed."""
        return self._database.reader()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Changes that are made together or not at all; one thread at a time."""
        with self._lock:
            db = self._writer
            try:
                db.script("BEGIN")
            except Exception as error:
                if not self._database.is_away(error):
                    raise
                db.reconnect()
                db.script("BEGIN")
            try:
                yield db
                db.script("COMMIT")
            except BaseException:
                with suppress(Exception):  # a connection that broke has undone it already
                    db.script("ROLLBACK")
                raise

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Say ServerNotRunning where it is worth asking again."""
        try:
            yield
        except Exception as error:
            if (explained := self._explained(error)) is None:
                raise
            raise explained from error

    def is_duplicate(self, error: BaseException) -> bool:
        """Whether another process made a row with this name in the meantime."""
        return self._database.is_duplicate(error)

    def is_away(self, error: BaseException) -> bool:
        """Whether it is the database that failed, and not what was asked of it."""
        return self._explained(error) is not None

    def insert(self, db: Session, table: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Insert rows of the same columns; returns the id of one alone.

        The official columns have no defaults: each that is not given is 0 or empty, also one that a later version adds.
        """
        whole = [{**self._blanks[table], **row} for row in rows]
        into = _with_columns(table, tuple(whole[0]))
        if len(whole) == 1:
            return db.insert(into, **whole[0])
        db.many(insert_into(into, *whole[0]), whole)
        return 0

    def close(self) -> None:
        """Give all connections up."""
        self._database.close()

    def _look_at(self, name: str) -> dict[str, Any]:
        found = {str(row[0]): row for row in self._writer.all(_COLUMNS, name=name)}
        where = self.settings.database_in_words
        if not found:
            raise SchemaError(f"{where} has no table {name}: is it the one of a BOINC project?")
        if missing := sorted(_NEEDED[name] - found.keys()):
            raise SchemaError(
                f"{where} is of another version than this program knows: its table {name} lacks {', '.join(missing)}; "
                "bring the project up to date with the official html/ops/upgrade_db.php"
            )
        return {key: _blank(str(row[1])) for key, row in found.items() if _has_to_be_given(row)}

    def _explained(self, error: BaseException) -> Exception | None:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        number = cause.args[0] if cause.args else None
        where = self.settings.database_in_words
        if self._database.is_away(error) or self._database.lost_race(cause):
            return ServerNotRunning(f"{where} does not answer: {cause}")
        if number in _REFUSED:
            return ConfigError(f"{where} refuses {self.settings.db_user!r} as config.xml has it: {cause}")
        return None


_REFUSED: Final = frozenset({1044, 1045, 1049, 1142, 1143, 1698})


def _has_to_be_given(row: Row) -> bool:
    nullable, default, extra = str(row[2]), row[3], str(row[4])
    return nullable == "NO" and default is None and "auto_increment" not in extra


@cache
def _with_columns(name: str, columns: tuple[str, ...]) -> Any:
    return any_table(name, *map(column, columns))


@cache
def _blank(kind: str) -> Any:
    return "" if any(word in kind for word in _TEXTS) else 0


def text(value: object) -> str:
    """A text of the tables, which the official ones keep as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
