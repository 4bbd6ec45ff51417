"""Where the work goes: a BOINC project that was reached, and what our code there is signed with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from boincserver import control
from pymw.backends.boinc.keys import SigningKey
from pymw.backends.boinc.offer import offer
from pymw.backends.boinc.project import Project
from pymw.backends.boinc.worker_app import Worker, worker_program

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
    offer(server, worker)
    return Place(f"boinc:{directory}", server, worker)
