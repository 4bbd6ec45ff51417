"""Where the work goes: a BOINC project that was reached, and what our code there is signed with."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from boincserver import control
from pymw.backends.boinc.keys import SigningKey
from pymw.backends.boinc.packing import APP
from pymw.backends.boinc.project import Project
from pymw.backends.boinc.worker_app import PLATFORMS, Worker, worker_program
from pymw.volunteer import TRUSTED

__all__ = ["Place", "local_place"]


@dataclass(frozen=True, slots=True)
class Place:
    """A project, by what to reach it, and what our code there is signed with."""

    name: str  # the backend's URL
    project: Project
    worker: Worker


def local_place(directory: Path) -> Place:
    """The project that is served from this directory; it offers our worker program from now on."""
    server = control.connect(directory)
    worker = Worker(server.info().url, SigningKey.of(directory), worker_program())
    _offer(server, worker)
    return Place(f"boinc:{directory}", server, worker)


def _offer(server: control.Control, worker: Worker) -> None:
    """Have the project offer our worker program to volunteers; the same program is registered once."""
    server.ensure_app(APP, validator="pymw", user_friendly_name="PyMW tasks")
    with tempfile.TemporaryDirectory(prefix="pymw-worker-") as folder:
        program, trusted = Path(folder) / "pymw_worker.pyz", Path(folder) / TRUSTED
        program.write_bytes(worker.program)
        trusted.write_bytes(worker.trusted)
        files = [control.AppFile(program, program.name, main_program=True), control.AppFile(trusted, TRUSTED)]
        for platform in PLATFORMS:
            server.ensure_app_version(APP, platform, None, files)
