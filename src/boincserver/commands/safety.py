"""Commands for the day when something breaks: backup, restore."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from boincserver.commands.show import asked_for, command, show
from boincserver.errors import BoincServerError

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare them."""
    backup = command(
        commands, "backup", _backup, "write tables and files into one file, also while the project is served"
    )
    backup.add_argument("file", metavar="FILE", nargs="?", help="where to (default: DIR/backups/backup-TIME.tar.gz)")
    backup.add_argument("--tables-only", action="store_true", help="leave out the files of jobs and applications")
    backup.add_argument("--with-keys", action="store_true", help="put the secret keys in too, under a passphrase")
    backup.add_argument("--passphrase-file", metavar="PATH", help="holds the passphrase (default: it is asked for)")

    restore = command(
        commands, "restore", _restore, "make a project of a backup; clients that went on meanwhile recover"
    )
    restore.add_argument("backup", metavar="BACKUP", help="the file that `boincserver backup` wrote")
    restore.add_argument("--replace", action="store_true", help="put it in the place of DIR, which is kept beside")
    restore.add_argument("--database", default="", metavar="URL", help="another, empty database; sqlite: a file in DIR")
    restore.add_argument("--passphrase-file", metavar="PATH", help="holds the passphrase of the keys in the backup")
    restore.add_argument("--keys", metavar="FOLDER", help="holds code_sign_private and upload_secret")


def _passphrase(path: str | None, wanted: bool, *, twice: bool = False) -> str:
    if path is not None:
        text = Path(path).expanduser().read_text("utf-8").strip("\r\n")
    elif wanted and sys.stdin.isatty():
        text = asked_for("Passphrase of the keys: ", twice=twice)
    elif wanted:
        raise BoincServerError("say where the passphrase is: --passphrase-file PATH")
    else:
        return ""
    if len(text) < 8:
        raise BoincServerError("a passphrase has at least 8 characters")
    return text


def _backup(options: argparse.Namespace) -> int:
    from boincserver import backup
    from boincserver.project import Project

    project = Project.open(options.directory)
    passphrase = _passphrase(options.passphrase_file, options.with_keys, twice=True)
    now = time.time()
    target = Path(options.file).expanduser() if options.file else backup.default_target(project, now)
    database = project.open_database()
    try:
        manifest = backup.write(
            project, database, target, now=now, files=not options.tables_only, passphrase=passphrase
        )
    finally:
        database.close()
    size = target.stat().st_size
    secret = (
        "The secret keys are in it, under the passphrase."
        if manifest.with_keys
        else f"It holds no secret keys: keep a copy of {project.directory / 'keys'} in another safe place."
    )
    document = {"file": str(target), "bytes": size, "with_keys": manifest.with_keys, "with_files": manifest.with_files}
    return show(options, document, f"{target}: {size / 1e6:.1f} MB\n{secret}")


def _restore(options: argparse.Namespace) -> int:
    from boincserver.restore import restore

    restored = restore(
        Path(options.backup).expanduser(),
        options.directory,
        replacing=options.replace,
        database=options.database,
        passphrase=_passphrase(options.passphrase_file, wanted=False),
        keys=Path(options.keys).expanduser() if options.keys else None,
    )
    made = time.strftime("%d %B %Y, %H:%M", time.localtime(restored.manifest.made))
    lines = [f"{restored.project.directory} is the project {restored.manifest.url} as it was on {made}."]
    if restored.aside:
        lines.append(f"What was there before is in {restored.aside}; delete it when you do not need it any more.")
    if not restored.can_sign:
        lines.append("The signing key is not here: application versions are to be signed where it is (app sign).")
    if not restored.same_secret:
        lines.append("keys/upload_secret was not there and is new: jobs that are out now will be computed again,")
        lines.append("and an account that was made since the backup gets another key when it is made again.")
    lines.append(f"Next: boincserver serve {options.directory}")
    document = {
        "directory": str(restored.project.directory),
        "url": restored.manifest.url,
        "made": restored.manifest.made,
        "aside": str(restored.aside) if restored.aside else None,
        "can_sign": restored.can_sign,
        "same_secret": restored.same_secret,
    }
    return show(options, document, "\n".join(lines))
