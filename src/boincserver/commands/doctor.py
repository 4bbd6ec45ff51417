"""The command that looks for what is wrong, in the tables and around them."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from boincserver.commands.show import command, show
from boincserver.errors import ServerNotRunning

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare it."""
    doctor = command(
        commands, "doctor", _doctor, "look for what is wrong: tables, files, disk, clock, secrets, the URL"
    )
    doctor.add_argument("--offline", action="store_true", help="do not ask the project's URL, as clients do")


def _doctor(options: argparse.Namespace) -> int:
    from boincserver.project import Project

    found = list(_findings(Project.open(options.directory), offline=options.offline))
    grave = [finding.text for finding in found if finding.grave]
    advice = [finding.text for finding in found if not finding.grave]
    lines = [*grave, *(f"worth a look: {text}" for text in advice)]
    if not grave:
        lines.append("All is well." if not advice else "Nothing is wrong.")
    show(options, {"findings": grave, "advice": advice}, "\n".join(lines))
    return 1 if grave else 0


def _findings(project: Any, *, offline: bool) -> Iterator[Any]:
    from boincserver import checkup
    from boincserver.checkup import Finding
    from boincserver.doctor import examine
    from boincserver.files import FileStore
    from boincserver.hindrance import hindrances
    from boincserver.reachable import reachable

    now = time.time()
    database = project.open_database()
    try:
        yield from map(Finding, examine(database, FileStore(project.directory / "upload")))
        health = _health(project)
        reader = database.reader()
        yield from checkup.disk(project.directory, os.statvfs(project.directory))
        yield from checkup.secrets(project)
        yield from checkup.clock(reader, now, synchronised=checkup.is_synchronised())
        yield from checkup.progress(health, reader, now)
        yield from checkup.backlog(reader, now)
        yield from (Finding(sentence, grave=False) for sentence in hindrances(reader, project.config.jobs, now))
        yield from checkup.errors(project.directory, now)
        yield from checkup.backups(project, now)
        if health is not None and not offline:
            yield from reachable(project)
    finally:
        database.close()


def _health(project: Any) -> Mapping[str, Any] | None:
    from boincserver.control import connect

    try:
        return connect(project.directory).health()
    except ServerNotRunning:
        return None
