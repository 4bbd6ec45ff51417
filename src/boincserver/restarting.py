"""How a restart is asked for and how it went: a signal to the process that serves, and a file for the answer."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Final

from boincserver import durable
from boincserver.errors import AlreadyServed, BoincServerError, ServerNotRunning
from boincserver.project import Project

__all__ = ["record", "restart"]

_LONGEST: Final = 240.0
"""Seconds for each process: the new one loads, requests end, and it takes up what is to be done."""
_LOOK: Final = 0.05


def _answer(directory: Path) -> Path:
    return directory / "run" / "restart.json"


def record(directory: Path, error: str = "") -> None:
    """Say how a restart ended."""
    durable.write_new(_answer(directory), json.dumps({"error": error}).encode())


def restart(project: Project) -> None:
    """Have a new process serve in the place of the running one; BoincServerError if that does not come to be."""
    number = _server(project)
    answer = _answer(project.directory)
    answer.unlink(missing_ok=True)
    os.kill(number, signal.SIGUSR2)
    until = time.monotonic() + _LONGEST * max(1, project.config.processes)
    while not answer.exists():
        _server(project)
        if time.monotonic() > until:
            raise BoincServerError(
                f"nothing is known of the restart after so long; see: boincserver log {project.directory}"
            )
        time.sleep(_LOOK)
    error = json.loads(answer.read_text("utf-8"))["error"]
    if error:
        raise BoincServerError(error)


def _server(project: Project) -> int:
    """The process that holds the project."""
    try:
        with project.lock():
            pass
    except AlreadyServed:
        text = (project.directory / "run" / "lock").read_text("ascii").strip()
        if not text.isdecimal():
            raise AlreadyServed(f"another command works on {project.directory}; wait for its end") from None
        return int(text)
    raise ServerNotRunning(f"no server runs {project.directory}; start it: boincserver serve {project.directory}")
