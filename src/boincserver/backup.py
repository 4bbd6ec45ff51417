"""Backups: one file with the tables and files of a project as they were at one moment, made while it is served.

manifest.json      what this is; the last member, so that it stands only in a whole backup
database.sqlite3   the tables, whatever database the project uses
project.toml, templates/, download/, upload/
keys/              the public key, and the signatures by former keys; nothing secret
keys.sealed        the secret keys under a passphrase, if that was asked for
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from boincserver import durable, keybox, snapshot
from boincserver.database import Database
from boincserver.deletion import DeletionLock
from boincserver.errors import BackupError, SigningKeyMissing
from boincserver.files import digest_file
from boincserver.project import Project

__all__ = ["FILES", "SECRETS", "Manifest", "default_target", "write"]

FORMAT: Final = 1
SECRETS: Final = ("code_sign_private", "upload_secret", "mail_password")
FILES: Final = ("templates", "download", "upload")
_PREFIX: Final = "backup-"
_LEVEL: Final = 1
"""Of compression: most of what lies here is compressed already."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself."""

    format: int
    name: str
    url: str
    made: int
    database_sha256: str
    with_files: bool
    with_keys: bool


def default_target(project: Project, now: float, what: str = "backup") -> Path:
    """Where a backup goes unless the operator says otherwise."""
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S")
    return project.directory / "backups" / f"{what}-{moment}.tar.gz"


def write(
    project: Project, database: Database, target: Path, *, now: float, files: bool = True, passphrase: str = ""
) -> Manifest:
    """Write a backup; the file is there whole or not at all. With a passphrase it holds the secret keys too."""
    target = target.expanduser().absolute()
    if target.exists():
        raise BackupError(f"{target} exists; a backup never replaces a file")
    sealed = keybox.seal(_secrets(project), passphrase) if passphrase else b""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _staged(project, database, files) as staged:
        manifest = Manifest(
            FORMAT, project.config.name, project.config.url, int(now),
            digest_file(staged / "database.sqlite3", "sha256"), files, bool(sealed),
        )  # fmt: skip
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".backup-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                _pack(file, staged, sealed, manifest)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    durable.sync([target])
    return manifest


def _secrets(project: Project) -> dict[str, str]:
    """The secret keys, which must be here: a backup that was to hold them and does not would be found out too late."""
    folder = project.directory / "keys"
    found = {}
    for name in SECRETS:
        path = folder / name
        if path.is_file():
            found[name] = path.read_text("utf-8")
    if "code_sign_private" not in found:
        raise SigningKeyMissing(
            f"{folder / 'code_sign_private'} is not on this machine; keep it safe where it is, and back up without keys"
        )
    return found


@contextlib.contextmanager
def _staged(project: Project, database: Database, files: bool) -> Iterator[Path]:
    """A folder with everything as it was at one moment: a copy of the tables, links to the files."""
    run = project.directory / "run"
    lock = DeletionLock(run)
    try:
        with lock.alone():
            for left in run.glob(f"{_PREFIX}*"):
                shutil.rmtree(left)  # by a backup that was killed; nobody else is here now
            staged = Path(tempfile.mkdtemp(dir=run, prefix=_PREFIX))
            try:
                snapshot.save(database, staged / "database.sqlite3")
                shutil.copy(project.directory / "project.toml", staged)
                _public_keys(project.directory / "keys", staged / "keys")
                for folder in FILES if files else ():
                    link_tree(project.directory / folder, staged / folder)
            except BaseException:
                shutil.rmtree(staged)
                raise
        try:
            yield staged
        finally:
            shutil.rmtree(staged)
    finally:
        lock.close()


def _public_keys(source: Path, target: Path) -> None:
    target.mkdir()
    shutil.copy(source / "code_sign_public", target)
    if (source / "former").is_dir():
        shutil.copytree(source / "former", target / "former")


def link_tree(source: Path, target: Path) -> None:
    """The same files under another folder, without copying them where the file system can do that."""
    shutil.copytree(
        source, target, copy_function=_link, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".new-*", ".incoming-*")
    )


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        pass  # an upload that arrived damaged goes at any time; the tables do not speak of it
    except OSError:
        shutil.copy(source, target)


def _pack(file: io.BufferedWriter, staged: Path, sealed: bytes, manifest: Manifest) -> None:
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=_LEVEL) as archive:
        for path in sorted(staged.iterdir()):
            archive.add(path, path.name)
        if sealed:
            _member(archive, "keys.sealed", sealed)
        _member(archive, "manifest.json", json.dumps(asdict(manifest)).encode())


def _member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
