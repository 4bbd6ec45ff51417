"""Option packages=: a set of packages is a BOINC application of its own, whose versions hold each platform's files.

So a computer fetches only what is for its platform, keeps it as long as the set is in use, and shares the files of
packages, interpreter and worker with all other sets. Nothing in a workunit differs from one platform to another.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from boincserver.control import AppFile, Control, SentFile
from boincserver.files import FileStore
from pyboinc.package import cache, runtimes, sources, wheels
from pyboinc.packages import unpack
from pymw.backends.boinc.interpreters import COMPILED, Interpreter, installed, runnable
from pymw.backends.boinc.worker_app import Worker
from pymw.errors import BackendError
from pymw.volunteer import PACKAGES

__all__ = ["Copies", "PackageSet", "Packages"]

FORMAT = 1  # of what is noted of a set; another one is resolved anew


class Copies(Enum):
    """Where copies of a job run. To agree exactly they share a version: other platforms' builds may round otherwise."""

    ANYWHERE = ""
    ALIKE = "_alike"
    ADAPTIVE = "_adaptive"  # alike, and one alone on proven hosts


@dataclass(frozen=True, slots=True)
class PackageSet:
    """Packages that are on the server, and the application by which jobs get them."""

    app: str
    files: Mapping[str, tuple[AppFile, ...]]  # by platform


class Packages:
    """The package sets of a project."""

    def __init__(self, server: Control, worker: Worker) -> None:
        self._server = server
        self._worker = worker
        self._known: dict[tuple[tuple[str, ...], Copies], PackageSet] = {}

    def app(self, requirements: Sequence[str], copies: Copies) -> str:
        """The application for jobs that import these; the first time they are fetched and sent to the project.

        Without any it is that for jobs that need the project's own interpreters, and no other Python.
        """
        return self._set(requirements, copies).app

    @property
    def python(self) -> str:
        """The minor version of the project's interpreters; empty where it has none."""
        return next((each.minor for each in installed(self._server.directory).values()), "")

    def here(self, requirements: Sequence[str]) -> tuple[str, list[str]]:
        """An interpreter that runs on this machine, and the unpacked packages for it."""
        interpreter, python = self._runnable()
        store, folders = FileStore(self._server.directory / "download"), []
        for file in self._set(requirements, Copies.ANYWHERE).files[interpreter.platform]:
            assert isinstance(file.path, SentFile)
            unpacked = self._server.directory / COMPILED / "packages"
            folders.append(unpack(str(store.path(file.path.name)), str(unpacked)))
        return str(python), folders

    def _runnable(self) -> tuple[Interpreter, Path]:
        found = runnable(self._server.directory, installed(self._server.directory).values())
        if found is None:
            raise BackendError("packages= needs an interpreter that runs on this machine too, to compile them for all")
        return found

    def _set(self, requirements: Sequence[str], copies: Copies) -> PackageSet:
        try:
            wanted = wheels.checked(requirements)
            if (wanted, copies) not in self._known:
                self._known[wanted, copies] = self._register(wanted, copies)
            return self._known[wanted, copies]
        except (wheels.PackagingError, sources.SourceError) as error:
            raise BackendError(f"packages=: {error}") from error

    def _register(self, wanted: tuple[str, ...], copies: Copies) -> PackageSet:
        from pymw.backends.boinc.offer import register

        interpreters = installed(self._server.directory)
        if not interpreters:
            raise BackendError(
                f"packages= needs an interpreter that the packages are for, and {self._server.directory} has none: "
                f"pymw boinc install-worker {self._server.directory}"
            )
        minor = next(iter(interpreters.values())).minor
        key = json.dumps([FORMAT, wanted, minor, sorted(interpreters)])
        digest = hashlib.sha256(key.encode()).hexdigest()[:12]
        note = self._server.directory / COMPILED / f"packages-{digest}.json"
        files: Mapping[str, tuple[AppFile, ...]] = dict.fromkeys(interpreters, ())
        native = False
        if wanted:
            files, native = _read(note) if note.exists() else self._send(wanted, interpreters, note)
        made = PackageSet(f"pymw_{digest}{copies.value}", files)
        self._server.ensure_app(
            made.app,
            validator="pymw",
            user_friendly_name=f"PyMW tasks with {', '.join(wanted) or f'Python {minor}'}"[:250],
            homogeneous_app_version=native and copies is not Copies.ANYWHERE,
            target_nresults=2 if copies is Copies.ADAPTIVE else 1,
        )
        register(self._server, self._worker, made.app, files)
        return made

    def _send(
        self, wanted: tuple[str, ...], interpreters: Mapping[str, Interpreter], note: Path
    ) -> tuple[dict[str, tuple[AppFile, ...]], bool]:
        _, python = self._runnable()
        targets = {platform: target for target, platform in runtimes.TARGETS.items() if platform in interpreters}
        files: dict[str, tuple[AppFile, ...]] = {}
        versions: dict[str, str] = {}
        native = False
        with tempfile.TemporaryDirectory(prefix="pymw-packages-") as folder:
            for platform, target in targets.items():
                resolved = wheels.resolve(wanted, target, interpreters[platform].minor, python, Path(folder))
                for package in resolved:
                    if versions.setdefault(package.name, package.version) != package.version:
                        raise BackendError(
                            f"packages=: {package.name} is {versions[package.name]} on one platform and "
                            f"{package.version} on {platform}; name one version of it as well"
                        )
                archives = {package.name: package.path for package in resolved}
                if any(package.native for package in resolved):
                    native = True
                    libraries = wheels.compat(target, cache.default(), Path(folder))
                    archives |= {"system-libraries": libraries} if libraries else {}
                files[platform] = tuple(
                    AppFile(self._server.send(path, suffix=".tar", compressed=True), f"{PACKAGES}/{name}.tar")
                    for name, path in sorted(archives.items())
                )
        note.parent.mkdir(exist_ok=True)
        note.write_text(json.dumps({"native": native, "files": _noted(files)}, indent=1))
        return files, native


def _noted(files: Mapping[str, Sequence[AppFile]]) -> dict[str, list[list[str]]]:
    return {platform: [[*_sent(file), file.open_name] for file in each] for platform, each in files.items()}


def _sent(file: AppFile) -> tuple[str, str]:
    assert isinstance(file.path, SentFile)
    return file.path.name, file.path.gzipped


def _read(note: Path) -> tuple[dict[str, tuple[AppFile, ...]], bool]:
    noted = json.loads(note.read_bytes())
    files = {
        platform: tuple(AppFile(SentFile(name, gzipped), open_name) for name, gzipped, open_name in each)
        for platform, each in noted["files"].items()
    }
    return files, bool(noted["native"])
