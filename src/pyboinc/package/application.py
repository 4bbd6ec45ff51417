"""Makes a BOINC application out of a Python program: for each platform the files of an app version.

    apps/NAME/VERSION/PLATFORM/
        version.xml                     which file is what, as BOINC's `update_versions` reads it
        pyboinc_..._linux-x86_64        the interpreter, started by the client
        NAME_DIGEST.zip                 the program and the supervisor; in the slot its name is main.zip

Physical names hold digests, since BOINC's clients keep a file by its name for ever.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyboinc
from pyboinc.package import build, recipe
from pyboinc.package.runtimes import APPLICATION, TARGETS, File, build_runtime, build_standalone

API_VERSION = "7.5.0"
"""From 6.0 on clients speak through the file that this runtime maps."""
_START = """
import sys

CHILD = "--pyboinc-child"
if sys.argv[1:2] == [CHILD]:
    del sys.argv[1]
    import faulthandler
    import runpy

    faulthandler.enable()  # so that a crash in C tells the line of Python
    runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
else:
    from pyboinc.supervisor import supervise

    policy = None
    if {sandboxed!r}:
        from pyboinc.sandbox import Policy

        policy = Policy(network={network!r})
    command = [sys.executable, sys.argv[0], CHILD, *sys.argv[1:]]
    sys.exit(supervise(command, sandbox=policy, outputs={outputs!r}))
"""


class ApplicationError(Exception):
    """The program cannot be made an application."""


@dataclass(frozen=True, slots=True)
class Application:
    """A program: its main file or folder, and what stands beside it."""

    name: str
    main: Path
    beside: tuple[Path, ...] = ()
    outputs: tuple[str, ...] = ()
    """Outputs that jobs declare with `copy_file`."""
    sandboxed: bool = True
    network: bool = False

    def __post_init__(self) -> None:
        """Refuse what no client could run."""
        if not self.name.isidentifier():
            raise ApplicationError(f"an application's name is one word of letters, digits and _: {self.name!r}")
        for path in (self.main, *self.beside):
            if not path.exists():
                raise ApplicationError(f"there is no {path}")
        if self.main.is_dir() and not (self.main / "__main__.py").exists():
            raise ApplicationError(f"the folder {self.main} has no __main__.py to start with")


def make_zip(application: Application, python: Path, out: Path) -> Path:
    """The program and the supervisor as bytecode of the interpreter `python`; the same input gives the same bytes."""
    with tempfile.TemporaryDirectory(prefix="pyboinc-app-") as folder:
        stage = Path(folder)
        ignored = shutil.ignore_patterns("__pycache__", "package", "testing.py", "*.pyc")
        shutil.copytree(Path(str(pyboinc.__file__)).parent, stage / "pyboinc", ignore=ignored)
        for path in (application.main, *application.beside):
            if path.is_dir():
                shutil.copytree(path, stage / path.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
            else:
                shutil.copy(path, stage)
        start = _START.format(
            module=application.main.stem if application.main.is_file() else application.main.name,
            sandboxed=application.sandboxed,
            network=application.network,
            outputs=application.outputs,
        )
        (stage / "__main__.py").write_text(start)
        return compile_zip(stage, python, out)


def compile_zip(folder: Path, python: Path, out: Path) -> Path:
    """All of a folder as a zip, its modules as bytecode of the interpreter `python`."""
    with tempfile.TemporaryDirectory(prefix="pyboinc-nothing-") as nothing:
        compiler = [str(python), str(Path(__file__).with_name("stdlib.py")), nothing, str(folder), str(out)]
        done = subprocess.run(compiler, capture_output=True, text=True, env={"PYTHONHASHSEED": "0"}, check=False)
    if done.returncode != 0:
        raise ApplicationError(f"Python {recipe.PYTHON_VERSION} does not take it:\n{done.stderr}")
    return out


def files(
    application: Application,
    target: str,
    cache: Path,
    into: Path,
    *,
    ready_made: bool = False,
    tell: build.Tell = lambda line: None,
) -> list[File]:
    """The files of an app version, under names that hold their digests."""
    into.mkdir(parents=True, exist_ok=True)
    # Bytecode is the same for all machines, so one interpreter that runs here serves all.
    packed = make_zip(application, build.build(recipe.X86_64, cache, tell=tell), into / "packed")
    program = File(packed.rename(into / f"{application.name}_{_digest(packed)}.zip"), APPLICATION)
    runtime = build_standalone(target, cache) if ready_made else build_runtime(target, cache, tell=tell)
    return [*(_named(file, into) for file in runtime.files), program]


def _named(file: File, into: Path) -> File:
    """The file as a copy whose name holds its digest."""
    digest = _digest(file.path)
    name = file.path.name if digest in file.path.stem else f"{file.path.name}_{digest}"
    return File(Path(shutil.copy(file.path, into / name)), file.open_name, file.main_program)


def version_xml(found: Iterable[File]) -> str:
    """What BOINC's own server reads to register the files."""
    lines = ["<version>"]
    for file in found:
        open_name = f"<logical_name>{file.open_name}</logical_name>" if file.open_name else ""
        main = "<main_program/>" if file.main_program else ""
        lines.append(f"  <file><physical_name>{file.path.name}</physical_name>{open_name}{main}<gzip/></file>")
    return "\n".join([*lines, f"  <api_version>{API_VERSION}</api_version>", "</version>", ""])


def make(
    application: Application,
    version: str,
    targets: Iterable[str],
    cache: Path,
    out: Path,
    *,
    ready_made: bool = False,
    tell: build.Tell = lambda line: None,
) -> list[Path]:
    """The folders of the app versions, as the official server has them below its project.

    `ready_made` interpreters are those of python-build-standalone; `tell` hears of the steps where one is built.
    """
    if sys.platform != "linux":
        raise ApplicationError("interpreters are built on Linux")
    made = []
    for target in targets:
        folder = out / "apps" / application.name / version / TARGETS[target]
        if folder.exists():
            raise ApplicationError(f"{folder} exists; choose another version, since clients keep what they have")
        found = files(application, target, cache, folder, ready_made=ready_made, tell=tell)
        (folder / "version.xml").write_text(version_xml(found))
        made.append(folder)
    return made


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:40]
