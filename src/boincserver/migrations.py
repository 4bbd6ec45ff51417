"""Numbered migrations: each brings a database from the version before it to its own number.

`schema.metadata` draws the newest schema, and a new database gets all of it at once: a step that adds tables makes
those that are missing. A later change of the schema appends a function here and never edits one that was released.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection, Engine, inspect, select

from boincserver import schema
from boincserver.errors import SchemaError

__all__ = ["LATEST", "migrate", "version_of"]


def _create(connection: Connection) -> None:
    schema.metadata.create_all(connection)
    connection.execute(schema.boincserver_meta.insert().values(name="schema_version", value="0"))


def _submission_rights(connection: Connection) -> None:
    # The tables are there where `_create` drew the schema of today.
    schema.metadata.create_all(connection, tables=[schema.user_submit, schema.user_submit_app])


def _add_accounts(connection: Connection) -> None:
    tables = [schema.consent_type, schema.consent, schema.token, schema.boincserver_invitation]
    schema.metadata.create_all(connection, tables=tables)
    for number, (name, description) in enumerate(CONSENT_TYPES.items(), start=1):
        connection.execute(
            schema.consent_type.insert().values(id=number, shortname=name, description=description, enabled=1)
        )


def _find_messages(connection: Connection) -> None:
    schema.message_host.create(connection, checkfirst=True)


CONSENT_TYPES: Final = {
    "ENROLL": "Do you agree to this project's terms of use?",
    "STATSEXPORT": "Do you agree that your name and credit go to the sites that gather BOINC statistics?",
}
MIGRATIONS: Final[Sequence[Callable[[Connection], None]]] = (_create, _submission_rights, _add_accounts, _find_messages)
LATEST: Final = len(MIGRATIONS)


def version_of(connection: Connection) -> int:
    """The number of the last migration that this database has seen; 0 if it is empty."""
    if not inspect(connection).has_table(schema.boincserver_meta.name):
        return 0
    meta = schema.boincserver_meta
    value = connection.scalar(select(meta.c.value).where(meta.c.name == "schema_version"))
    return int(value or 0)


def migrate(engine: Engine, before: Callable[[int], object] = lambda version: None) -> int:
    """Bring the database up to date, one transaction per step; returns its version.

    `before` is called with the old version when there is something to change in a database that is not new.
    """
    meta = schema.boincserver_meta
    with engine.connect() as connection:
        version = version_of(connection)
    if version > LATEST:
        raise SchemaError(
            f"the database has schema version {version}, this program knows {LATEST}; use the newer boincserver"
        )
    if 0 < version < LATEST:
        before(version)
    for number, step in enumerate(MIGRATIONS[version:], start=version + 1):
        with engine.begin() as connection:
            step(connection)
            connection.execute(meta.update().where(meta.c.name == "schema_version").values(value=str(number)))
    return LATEST
