"""Run one call here as a volunteer's computer would, before anything is sent.

So a function that cannot be loaded away from its script, or whose result cannot come home, is refused at the call and
not after a day on a thousand computers. The value is thrown away; how long it took tells how much work a job is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pymw import envelope
from pymw.errors import UnshippableError
from pymw.outcome import Ending
from pymw.volunteer import FILES, FOLDERS, OUTCOMES, TASKS

__all__ = ["rehearse"]

PATIENCE = 10.0  # seconds; a task that runs longer got past what a rehearsal looks for


def rehearse(
    program: bytes,
    code: Mapping[str, bytes],
    files: Mapping[str, Path],
    job: envelope.Job,
    *,
    name: str,
    python: str = sys.executable,
    packages: Sequence[str] = (),
) -> tuple[float, int]:
    """Seconds that the call in `job` took, or had taken when it was cut short, and the bytes of its outcome, if any.

    `files` are its data files, `packages` the folders of what it imports, for the interpreter `python`.

    Raises UnshippableError where the code does not load, or the result cannot be sent.
    """
    with tempfile.TemporaryDirectory(prefix="pymw-rehearsal-", ignore_cleanup_errors=True) as folder:
        slot = Path(folder)
        (slot / "worker.pyz").write_bytes(program)
        for file, content in code.items():
            (slot / file).write_bytes(content)
        for file, path in files.items():
            link = slot / FILES / file
            link.parent.mkdir(parents=True, exist_ok=True)
            link.write_text(f"<soft_link>{path}</soft_link>\n")  # as the client does
        (slot / TASKS).write_bytes(envelope.pack_job(job))
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYMW"))}
        environment[FOLDERS] = os.pathsep.join(packages)
        child = subprocess.Popen(
            [python, "worker.pyz", "--child"],
            cwd=slot,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the master's to handle
        )
        started = time.perf_counter()
        try:
            _, stderr = child.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return PATIENCE, 0
        finally:
            _end(child)
        took = time.perf_counter() - started
        if not (slot / OUTCOMES).exists():
            if child.returncode < 0:
                return took, 0  # it died of a signal: the workers' attempts will tell of it
            said = stderr.decode("utf-8", "replace").strip()
            raise UnshippableError(f"{name} does not load as a volunteer's computer would load it:\n{said}")
        (packed,) = envelope.unpack_outcomes((slot / OUTCOMES).read_bytes())
    kind, _ = envelope.agreement(packed)
    if kind == Ending.UNSENDABLE.value:
        outcome = envelope.unpack_outcome(packed, ())
        raise UnshippableError(f"{name}: {outcome.detail}")
    return envelope.running_time(packed) or took, len(packed)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started."""
    import signal

    if os.name == "posix":
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    elif child.poll() is None:
        child.kill()
    child.communicate()
