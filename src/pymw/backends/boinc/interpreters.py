"""The interpreters that a project offers to computers that have no Python, and the worker program for them.

They are sent to the project once, by `pymw boinc install-worker`, and noted in its directory. The worker program is
a file of its own beside them, so that a change in it moves some hundred kilobytes and not the interpreter.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from boincserver.control import AppFile, Control, SentFile
from boincserver.files import FileStore
from pyboinc import packages
from pyboinc.package import application, runtimes
from pymw.errors import BackendError

__all__ = ["COMPILED", "Interpreter", "compiled", "install", "installed", "runnable"]

NOTE = "pymw_interpreters.json"
COMPILED = "pymw_worker"  # the folder of worker programs as bytecode, and of what makes them


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter that is on the server, for one of BOINC's platforms."""

    platform: str
    python: str  # its version
    files: tuple[AppFile, ...]

    @property
    def minor(self) -> str:
        """The version that bytecode and packages are made for: 3.13."""
        return ".".join(self.python.split(".")[:2])


def install(server: Control, found: Iterable[runtimes.Runtime]) -> list[Interpreter]:
    """Send these interpreters to the project, compressed and once, and note that it has them."""
    known = dict(installed(server.directory))
    new = [Interpreter(runtime.platform, runtime.python, _send(server, runtime)) for runtime in found]
    known.update((interpreter.platform, interpreter) for interpreter in new)
    if len(minors := {interpreter.minor for interpreter in known.values()}) > 1:
        raise BackendError(
            f"one project speaks one Python: {' and '.join(sorted(minors))} do not go together, since a task may go "
            f"to any platform; remove {server.directory / NOTE} and install all of them anew"
        )
    _write(server.directory / NOTE, json.dumps([_noted(each) for each in known.values()], indent=1).encode())
    return new


def installed(directory: Path) -> Mapping[str, Interpreter]:
    """The interpreters of a project, by platform."""
    try:
        noted = json.loads((directory / NOTE).read_bytes())
        return {each["platform"]: _interpreter(each) for each in noted}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackendError(f"{directory / NOTE} cannot be read, so install the worker again: {error}") from error


def runnable(directory: Path, interpreters: Iterable[Interpreter]) -> tuple[Interpreter, Path] | None:
    """The one of these interpreters that runs on this machine, as a program to start; None if there is none."""
    interpreter = next((each for each in interpreters if each.platform == _platform()), None)
    if interpreter is None:
        return None
    store, own = FileStore(directory / "download"), directory / COMPILED
    files = {file.open_name if not file.main_program else "": file.path for file in interpreter.files}
    if runtimes.RUNTIME in files:  # the program is only what unpacks the interpreter
        return interpreter, _unpacked(store.path(_name(files[runtimes.RUNTIME])), own / "interpreters")
    name = _name(files[""])
    path = own / name
    if not path.exists():
        own.mkdir(exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        shutil.copy(store.path(name), part)
        part.chmod(0o755)
        part.replace(path)
    return interpreter, path


def _unpacked(tar: Path, into: Path) -> Path:
    try:
        return Path(packages.unpack(str(tar), str(into)), "bin", "python3")
    except packages.PackageError as error:
        raise BackendError(f"the project's interpreter cannot be used, so install the worker again: {error}") from error


def _name(file: object) -> str:
    assert isinstance(file, SentFile)
    return file.name


def compiled(directory: Path, program: bytes, interpreters: Iterable[Interpreter]) -> Path:
    """The worker program as a zip of bytecode; of source where none of these interpreters runs here to compile it."""
    here = runnable(directory, interpreters)
    version = here[0].python if here else "source"
    digest = hashlib.sha256(version.encode() + program).hexdigest()[:40]
    path = directory / COMPILED / f"pymw-worker-{digest}.zip"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        _write(path, _compile(program, here[1]) if here else program)
    return path


def _compile(program: bytes, python: Path) -> bytes:
    with tempfile.TemporaryDirectory(prefix="pymw-compile-") as folder:
        stage = Path(folder, "stage")
        with zipfile.ZipFile(BytesIO(program)) as archive:
            archive.extractall(stage)
        try:
            return application.compile_zip(stage, python, Path(folder, "out.zip")).read_bytes()
        except (application.ApplicationError, OSError, subprocess.SubprocessError) as error:
            raise BackendError(f"the worker program cannot be compiled by {python}: {error}") from error


def _platform() -> str:
    """What BOINC calls this machine, where interpreters are one file that can run here; else empty."""
    if os.name == "posix" and os.uname().sysname == "Linux":
        return f"{os.uname().machine}-pc-linux-gnu".replace("aarch64-pc", "aarch64-unknown")
    return ""


def _send(server: Control, runtime: runtimes.Runtime) -> tuple[AppFile, ...]:
    # A launcher finds the digest of its tar in the tar's name, which is to hold nothing else.
    return tuple(
        AppFile(
            server.send(file.path, suffix=None if file.main_program else file.path.suffix, compressed=True),
            file.open_name,
            main_program=file.main_program,
        )
        for file in runtime.files
    )


def _noted(interpreter: Interpreter) -> Mapping[str, object]:
    files = []
    for file in interpreter.files:
        assert isinstance(file.path, SentFile)
        files.append([file.path.name, file.path.gzipped, file.open_name, file.main_program])
    return {"platform": interpreter.platform, "python": interpreter.python, "files": files}


def _interpreter(noted: Mapping[str, object]) -> Interpreter:
    files: list[list[object]] = noted["files"]  # type: ignore[assignment]
    made = tuple(
        AppFile(SentFile(str(name), str(gzipped)), str(open_name), main_program=bool(main))
        for name, gzipped, open_name, main in files
    )
    return Interpreter(str(noted["platform"]), str(noted["python"]), made)


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(data)
    part.replace(path)
