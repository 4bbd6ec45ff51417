"""What a project offers to volunteers' computers: our worker program, where it can on an interpreter of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from boincserver.control import AppFile, Control
from pyboinc.package.runtimes import APPLICATION
from pymw.backends.boinc.interpreters import compiled, installed
from pymw.backends.boinc.packing import ADAPTIVE_APP, APP
from pymw.backends.boinc.worker_app import PLATFORMS, Worker
from pymw.volunteer import TRUSTED

__all__ = ["offer", "register"]


def offer(server: Control, worker: Worker) -> None:
    """Register the worker for each platform; the same files are registered once.

    On a platform for which the project has an interpreter they run on that, elsewhere on the computer's own python3.
    """
    server.ensure_app(APP, validator="pymw", user_friendly_name="PyMW tasks")
    server.ensure_app(
        ADAPTIVE_APP, validator="pymw", user_friendly_name="PyMW tasks, checked until trusted", target_nresults=2
    )
    platforms: dict[str, Sequence[AppFile]] = dict.fromkeys([*PLATFORMS, *installed(server.directory)], ())
    for app in (APP, ADAPTIVE_APP):
        register(server, worker, app, platforms)


def register(server: Control, worker: Worker, app: str, further: Mapping[str, Sequence[AppFile]]) -> None:
    """Have versions of an application for these platforms: the worker, what it stands on, and further files."""
    interpreters = installed(server.directory)
    with tempfile.TemporaryDirectory(prefix="pymw-worker-") as folder:
        program, trusted = Path(folder) / "pymw_worker.pyz", Path(folder) / TRUSTED
        program.write_bytes(worker.program)
        trusted.write_bytes(worker.trusted)
        for platform, files in sorted(further.items()):
            if platform in interpreters:
                on_top = compiled(server.directory, worker.program, interpreters.values())
                base = [*interpreters[platform].files, AppFile(on_top, APPLICATION)]
            else:
                base = [AppFile(program, program.name, main_program=True)]
            server.ensure_app_version(app, platform, None, [*base, AppFile(trusted, TRUSTED), *files])
