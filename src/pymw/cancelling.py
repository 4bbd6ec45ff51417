"""Ending a named run from another process than its master: `pymw cancel RUN`."""

from __future__ import annotations

from dataclasses import dataclass

from pymw.backends import open_backend
from pymw.backends.protocol import Setup
from pymw.collector import Intake
from pymw.lease import ask_to_cancel
from pymw.onlooker import open_run
from pymw.run import BACKEND, Run

__all__ = ["Cancelled", "cancel_run"]


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What became of it."""

    tasks: int  # how many were under way
    holder: str  # the process that held the run and was told; empty where none did


def cancel_run(name: str) -> Cancelled:
    """End whatever of the run is under way, wherever that is; what is done stays recorded."""
    with open_run(name) as view:
        held, folder = view.holder, view.folder
        unfinished = view.counts()["asked"]
    if held:
        return Cancelled(ask_to_cancel(folder, name), held)
    run = Run(name)
    try:
        url = run.note(BACKEND)
        if not url:
            return Cancelled(0, "")  # its tasks ended with their master
        backend = open_backend(url, Setup(collector=Intake(run), run=run))
        backend.close(detach=False)
    finally:
        run.close()
    return Cancelled(unfinished, "")
