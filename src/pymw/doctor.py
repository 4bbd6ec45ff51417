"""What `pymw doctor` looks at."""

from __future__ import annotations

import importlib.util
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

__all__ = ["Finding", "findings"]

PATIENCE = 60.0  # seconds for a worker process to answer


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    told: str
    ok: bool = True


def findings(backend: str = "") -> Iterator[Finding]:
    """Everything that a task needs here, and on `backend` if that is named."""
    yield Finding("python", f"{platform.python_version()} at {sys.executable}")
    yield Finding("pymw", version("pymw-grid"))
    yield _runs()
    yield _local()
    yield from _extras()
    if backend:
        yield _named(backend)


def _runs() -> Finding:
    from pymw.journal import home, runs

    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding("runs", f"nothing can be written in {folder}: {error}; set PYMW_HOME", ok=False)
    return Finding("runs", f"{folder} can be written to; named runs there: {len(runs())}")


def _local() -> Finding:
    from pymw.master import Master

    began = time.monotonic()
    try:
        with Master("local", max_workers=1) as master:
            told = master.submit(platform.node).result(PATIENCE)
    except Exception as error:  # noqa: BLE001 - whatever is wrong is what the command is there to tell
        return Finding("local", f"a worker process did not answer: {error}", ok=False)
    return Finding("local", f"a worker process on {told} answered in {time.monotonic() - began:.2f} s")


def _extras() -> Iterator[Finding]:
    from pymw.backends import EXTRAS

    for name, (extra, module) in EXTRAS.items():
        # Not imported: importing mpi4py begins an MPI job.
        if importlib.util.find_spec(module) is not None:
            yield Finding(name, f"{module} is installed")
        else:
            yield Finding(name, f"not usable yet: pip install 'pymw-grid[{extra}]'")


def _named(backend: str) -> Finding:
    from pymw.master import Master

    try:
        with Master(backend) as master:
            return Finding(backend, str(master.status()))
    except Exception as error:  # noqa: BLE001 - whatever is wrong is what the command is there to tell
        return Finding(backend, f"{type(error).__name__}: {error}", ok=False)
