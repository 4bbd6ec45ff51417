"""A project is a directory: create it, open it.

project.toml       settings
keys/              code_sign_private (may live elsewhere), code_sign_public, upload_secret
database.sqlite3   unless the settings name another database
download/ upload/  files for and from volunteers, in BOINC's fan-out of folders
templates/         what outputs jobs have, by digest
log/               what happened, the newest in server.log
run/               control socket and locks of the running server
backups/           what `boincserver backup` makes unless told otherwise, and copies from before a change of the schema
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from boincserver import config as configuration
from boincserver import migrations, signing, urls
from boincserver.config import AccountsConfig, Config
from boincserver.database import Database, sqlite_url
from boincserver.errors import AlreadyServed, ConfigError, NotAProject, ProjectExists, SigningKeyMissing
from boincserver.events import Events

__all__ = ["FOLDERS", "Project", "create", "write_secret"]

log = Events(__name__)

FOLDERS: Final = ("keys", "download", "upload", "templates", "run")


@dataclass(frozen=True)
class Project:
    """An existing project's directory."""

    directory: Path
    config: Config

    @staticmethod
    def open(directory: str | os.PathLike[str]) -> Project:
        """The project in this directory; raises NotAProject."""
        path = Path(directory).expanduser().absolute()
        settings = path / "project.toml"
        if not settings.is_file():
            raise NotAProject(f"{path} is not a project (it has no project.toml); make one: boincserver create {path}")
        return Project(path, configuration.load(settings))

    @property
    def database_url(self) -> str:
        """Where the tables are."""
        return self.config.database or sqlite_url(self.directory / "database.sqlite3")

    @property
    def listen(self) -> tuple[str, int]:
        """Address and port to serve on."""
        host, _, port = self.config.listen.rpartition(":")
        if not host or not port.isdecimal():
            raise ConfigError(f"{self.directory / 'project.toml'}: listen must be address:port")
        return host.strip("[]"), int(port)

    @property
    def control_socket(self) -> Path:
        """The Unix socket of the running server."""
        return self.directory / "run" / "control.sock"

    @cached_property
    def public_key(self) -> signing.PublicKey:
        """The key that clients trust."""
        return signing.PublicKey.parse((self.directory / "keys" / "code_sign_public").read_text("ascii"))

    @cached_property
    def upload_secret(self) -> bytes:
        """What makes the names of output files unguessable."""
        return bytes.fromhex((self.directory / "keys" / "upload_secret").read_text("ascii"))

    def read_keys(self) -> None:
        """Have at hand what a server needs of them, or raise what stands in its way."""
        _ = self.public_key, self.upload_secret

    def private_key(self) -> signing.PrivateKey:
        """The signing key, if it is kept here; raises SigningKeyMissing."""
        path = self.directory / "keys" / "code_sign_private"
        try:
            return signing.PrivateKey.parse(path.read_text("ascii"))
        except FileNotFoundError:
            raise SigningKeyMissing(
                f"{path} is not on this machine, so application files cannot be signed here; "
                f"bring them to the machine that has the key, say there: boincserver app sign KEY FILE..., and bring "
                f"each FILE.signature back beside its file"
            ) from None

    def key_signature(self, trusted: str) -> str | None:
        """The signature of the present public key by the one that a client still trusts, if that was ours."""
        folder = self.directory / "keys" / "former"
        name = hashlib.sha256(" ".join(trusted.split()).encode()).hexdigest()
        path = folder / f"{name}.signature"
        return path.read_text("ascii") if path.is_file() else None

    def open_database(self) -> Database:
        """The database, migrated to this program's schema; before that a backup of its tables is made."""
        database = Database(self.database_url)
        try:
            with self._migration_lock():
                migrations.migrate(database.engine, lambda version: self._back_up(database, version))
        except BaseException:
            database.close()
            raise
        return database

    def _back_up(self, database: Database, version: int) -> None:
        from boincserver import backup

        target = backup.default_target(self, time.time(), f"before-schema-{version + 1}")
        log.warning("schema-changes", tables_before=target)
        backup.write(self, database, target, now=time.time(), files=False)

    @contextmanager
    def _migration_lock(self) -> Iterator[None]:
        descriptor = os.open(self.directory / "run" / "migration", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Hold the project for one server, as long as anybody has this descriptor open; raises AlreadyServed."""
        descriptor = os.open(self.directory / "run" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyServed(f"another server already serves {self.directory}; stop it first") from None
            os.ftruncate(descriptor, 0)
            yield descriptor
        finally:
            os.close(descriptor)


def create(
    directory: str | os.PathLike[str],
    url: str,
    *,
    name: str = "",
    allow_http: bool = False,
    open_accounts: bool = False,
    database: str = "",
) -> Project:
    """Make a project; nothing is left behind when that fails."""
    path = Path(directory).expanduser().absolute()
    canonical = urls.canonical(url, allow_http=allow_http)
    if (path / "project.toml").exists():
        raise ProjectExists(f"{path} is a project already; serve it: boincserver serve {path}")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ProjectExists(f"{path} exists and is not empty; name a new directory")
    host, port = urls.listen_address(canonical)
    config = Config(
        name=checked_name(name or path.name),
        url=canonical,
        listen=f"{host}:{port}",
        database=database,
        accounts=replace(AccountsConfig(), creation="open" if open_accounts else "closed"),
    )
    existed = path.is_dir()
    # Built beside and renamed, so that an interrupted creation is never taken for a project.
    scratch = path.with_name(f".{path.name}.creating-{secrets.token_hex(4)}")
    try:
        _populate(scratch, config)
        if existed:
            path.rmdir()
        scratch.rename(path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Project.open(path)


def checked_name(name: str) -> str:
    """A project name that clients can show; raises ConfigError."""
    # The client stores the name unescaped and then fails to show it.
    if not name.strip() or any(character in name for character in "<>&") or not name.isprintable():
        raise ConfigError(f"the project name {name!r} must be printable and free of < > &")
    return name.strip()


def _populate(path: Path, config: Config) -> None:
    path.mkdir(parents=True, mode=0o755)
    for folder in FOLDERS:
        # A server in front reads `download`; all the rest is nobody's business.
        (path / folder).mkdir(mode=0o755 if folder == "download" else 0o700)
    key = signing.generate()
    write_secret(path / "keys" / "code_sign_private", key.text())
    (path / "keys" / "code_sign_public").write_text(key.public.text(), "ascii")
    write_secret(path / "keys" / "upload_secret", secrets.token_hex(32))
    # The URL of a database may hold its password.
    write_secret(path / "project.toml", configuration.render(config))
    # Addresses and keys of volunteers are in it; SQLite makes its further files as this one is.
    if not config.database:
        (path / "database.sqlite3").touch(0o600)
    database = Project(path, config).open_database()
    database.close()


def write_secret(path: Path, text: str) -> None:
    """A new file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
