"""Restore a backup: into a new directory, or in the place of a project that is broken.

Everything is built beside and renamed at the end, so a restore that fails changes nothing. What the backup does not
hold (files, if it has the tables alone; secret keys, unless they were asked for) is taken from the project that is
replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from boincserver import config as configuration
from boincserver import durable, epoch, keybox, snapshot
from boincserver.backup import FILES, FORMAT, SECRETS, Manifest, link_tree
from boincserver.errors import ProjectExists, RestoreError
from boincserver.files import digest_file
from boincserver.jobs import Outputs
from boincserver.project import FOLDERS, Project, write_secret

__all__ = ["Restored", "restore"]


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore made. `aside`: where the project went that was replaced."""

    project: Project
    manifest: Manifest
    aside: Path | None
    can_sign: bool
    same_secret: bool


def restore(
    archive: Path,
    directory: str | os.PathLike[str],
    *,
    replacing: bool = False,
    database: str = "",
    passphrase: str = "",
    keys: Path | None = None,
    clock: Callable[[], float] = time.time,
) -> Restored:
    """Make a project of a backup, in a new epoch of names and numbers; raises RestoreError and changes nothing."""
    path = Path(directory).expanduser().absolute()
    old = _to_replace(path, replacing)
    scratch = path.with_name(f".{path.name}.restoring-{secrets.token_hex(4)}")
    with old.lock() if old else contextlib.nullcontext():
        try:
            scratch.mkdir(parents=True)
            manifest = _unpack(archive, scratch)
            if old is not None and old.config.url != manifest.url:
                raise RestoreError(f"the backup is of {manifest.url}, and {path} is the project {old.config.url}")
            can_sign, same_secret = _keys(scratch, manifest, passphrase, keys, path if old else None)
            _folders(scratch, manifest, path if old else None)
            _tables(scratch, database, int(clock()))
            durable.sync(path for path in scratch.rglob("*") if path.is_file())
            aside = _swap(path, scratch, old)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    return Restored(Project.open(path), manifest, aside, can_sign, same_secret)


def _to_replace(path: Path, replacing: bool) -> Project | None:
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    if not (path / "project.toml").is_file():
        raise ProjectExists(f"{path} exists and is no project; name a new directory")
    if not replacing:
        raise ProjectExists(f"{path} is a project; to put the backup in its place say --replace (it is kept beside)")
    return Project.open(path)


def _unpack(archive: Path, scratch: Path) -> Manifest:
    try:
        with tarfile.open(archive, "r:gz") as packed:
            packed.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and later
            packed.extractall(scratch, map(_plain, packed))  # noqa: S202 - `_plain` looks at each
        document = json.loads((scratch / "manifest.json").read_text("utf-8"))
        manifest = Manifest(**document)
    except FileNotFoundError as error:
        if not archive.is_file():
            raise RestoreError(f"there is no backup {archive}") from error
        raise RestoreError(f"{archive} is no whole backup: it has no manifest at its end") from error
    except (tarfile.TarError, EOFError, OSError, ValueError, TypeError) as error:
        raise RestoreError(f"{archive} is damaged or no backup: {error}") from error
    if manifest.format != FORMAT:
        raise RestoreError(f"{archive} was made by a newer boincserver (format {manifest.format}); use that")
    if digest_file(scratch / "database.sqlite3", "sha256") != manifest.database_sha256:
        raise RestoreError(f"the tables in {archive} are damaged")
    return manifest


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """What backups hold, files and folders below their own: a link, or a path that leads out, was slipped in."""
    if not (member.isfile() or member.isdir()) or member.name.startswith("/") or ".." in member.name.split("/"):
        raise tarfile.TarError(f"{member.name!r} is not of a backup")
    return member


def _keys(
    scratch: Path, manifest: Manifest, passphrase: str, given: Path | None, old: Path | None
) -> tuple[bool, bool]:
    """Bring the secret keys; says whether the signing key is here, and whether old names of outputs still hold."""
    folder = scratch / "keys"
    folder.chmod(0o700)
    sealed = scratch / "keys.sealed"
    found: dict[str, str] = {}
    if passphrase:
        if not manifest.with_keys:
            raise RestoreError(
                "this backup holds no secret keys, so no passphrase opens any; say where they are: --keys"
            )
        found = keybox.unseal(sealed.read_bytes(), passphrase)
    if given is not None and not any((given / name).is_file() for name in SECRETS):
        raise RestoreError(f"--keys: there is none of {', '.join(SECRETS)} in {given}")
    sources = [source for source in (given, old / "keys" if old else None) if source is not None]
    for source in sources:
        for name in SECRETS:
            if name not in found and (source / name).is_file():
                found[name] = (source / name).read_text("utf-8")
    if manifest.with_keys and "upload_secret" not in found:
        raise RestoreError("this backup holds the secret keys: say --passphrase-file, or --keys with their folder")
    sealed.unlink(missing_ok=True)
    for name, text in found.items():
        write_secret(folder / name, text)
    if "upload_secret" not in found:
        write_secret(folder / "upload_secret", secrets.token_hex(32))
    return "code_sign_private" in found, "upload_secret" in found


def _folders(scratch: Path, manifest: Manifest, old: Path | None) -> None:
    if not manifest.with_files:
        if old is None:
            raise RestoreError("this backup holds the tables alone; restore it in the place of its project: --replace")
        for folder in FILES:
            link_tree(old / folder, scratch / folder)
    for folder in FOLDERS:
        (scratch / folder).mkdir(mode=0o755 if folder == "download" else 0o700, exist_ok=True)


def _tables(scratch: Path, url: str, now: int) -> None:
    """Load the tables, and begin a new epoch."""
    settings = scratch / "project.toml"
    config = configuration.load(settings)
    if url:
        config = replace(config, database="" if url == "sqlite" else url)
        settings.write_text(configuration.render(config), "utf-8")
    copy = scratch / "database.backup"
    (scratch / "database.sqlite3").rename(copy)
    project = Project(scratch, config)
    if not config.database:
        (scratch / "database.sqlite3").touch(0o600)
    database = snapshot.load(copy, project.database_url)
    try:
        outputs = Outputs(scratch / "templates", f"{config.url}file_upload_handler", project.upload_secret)
        with database.engine.begin() as connection:
            epoch.begin(connection, outputs, now)
    finally:
        database.close()
    for left in (*scratch.glob("database.backup*"), scratch / "manifest.json"):
        left.unlink()


def _swap(path: Path, scratch: Path, old: Project | None) -> Path | None:
    aside = None
    if old is not None:
        aside = path.with_name(f"{path.name}.replaced-{time.strftime('%Y%m%d-%H%M%S')}")
        path.rename(aside)
    elif path.is_dir():
        path.rmdir()
    scratch.rename(path)
    for folder in ("backups", "log"):
        if aside is not None and (aside / folder).is_dir():
            (aside / folder).rename(path / folder)
    return aside
