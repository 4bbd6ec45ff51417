"""Builds the Linux interpreter: the libraries, CPython, then the standard library behind it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from pyboinc.package import recipe, sources, toolchain
from pyboinc.package.cache import entry
from pyboinc.package.recipe import Source, Target

Tell = Callable[[str], None]
_HERE = Path(__file__).parent


class BuildError(Exception):
    """A step of the build failed; the message has the end of its log."""


def build(target: Target, cache: Path, *, tell: Tell = lambda line: None) -> Path:
    """The interpreter of a target: from the cache, or built into it, which takes some minutes."""

    def make(into: Path) -> None:
        libraries = build_libraries(target, cache, tell=tell)
        native = _native(target, cache, tell)
        with tempfile.TemporaryDirectory(prefix="python-", dir=_work(cache)) as work:
            bare = _build_python(target, Path(work), libraries, cache, native, tell)
            tell("standard library")
            library = native.parent / "stdlib.zip" if native else _build_stdlib(bare, Path(work), cache)
            shutil.copy(library, into / "stdlib.zip")
            _join(bare, into / "stdlib.zip", into / name(target))

    return entry(cache / "runtime", recipe.digest(target), make) / name(target)


def name(target: Target) -> str:
    """The file's name."""
    return f"pyboinc-{recipe.PYTHON_VERSION}-{target.short}"


def build_libraries(target: Target, cache: Path, *, tell: Tell = lambda line: None) -> Path:
    """The folder with lib/*.a and include/ for a target."""

    def make(into: Path) -> None:
        (into / "lib").mkdir()
        (into / "include").mkdir()
        sources.fetch([library.source for library in recipe.LIBRARIES], cache / "sources")
        for library in recipe.LIBRARIES:
            tell(library.name)
            with tempfile.TemporaryDirectory(prefix=f"{library.name}-", dir=_work(cache)) as work:
                variables = {"PREFIX": str(into)}
                _build(library.source, library.commands, target, Path(work), cache, variables)

    return entry(cache / "libraries", recipe.libraries_digest(target), make)


def _build_python(target: Target, work: Path, libraries: Path, cache: Path, native: Path | None, tell: Tell) -> Path:
    tell("CPython")
    sources.fetch([recipe.PYTHON], cache / "sources")
    variables = recipe.python_variables(str(libraries)) | {
        "PREFIX": str(libraries),
        "CPPFLAGS": f"-I{libraries}/include",
        "LDFLAGS": f"-L{libraries}/lib -Wl,-s",
        "MAIN_C": str(_HERE / "main.c"),
        "BUILD_HOST": recipe.X86_64.gnu,
        "BUILD_PYTHON": f"--with-build-python={native}" if native else "",
        "CONFIGURE": " ".join(target.configure),
    }
    return _build(recipe.PYTHON, recipe.PYTHON_COMMANDS, target, work, cache, variables) / "build" / "python"


def _native(target: Target, cache: Path, tell: Tell) -> Path | None:
    """The interpreter that runs here and helps to build one for another kind of machine."""
    return None if target == recipe.X86_64 else build(recipe.X86_64, cache, tell=tell)


def _build(source: Source, commands: str, target: Target, work: Path, cache: Path, variables: dict[str, str]) -> Path:
    """Run a package's commands in its source tree, which is then what is returned."""
    tree, log = work / "source", work / "log"
    sources.unpack(source, cache / "sources", tree)
    environment = toolchain.environment(target, work, cache) | variables
    with log.open("wb") as output:
        done = subprocess.run(
            ["/bin/sh", "-eu", "-c", commands],
            cwd=tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        kept = cache / f"failed-{source.package}.log"
        shutil.copy(log, kept)
        end = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise BuildError(f"building {source.package} for {target.short} failed; the whole log is {kept}\n{end}")
    return tree


def _build_stdlib(bare: Path, work: Path, cache: Path) -> Path:
    """The zip, made by the new interpreter, which for that first gets the library as plain source."""
    lib, extra, out = work / "source" / "Lib", work / "extra", work / "stdlib.zip"
    extra.mkdir()
    with zipfile.ZipFile(sources.fetch_wheel(*recipe.TZDATA, cache / "sources")) as wheel:
        wheel.extractall(extra, [member for member in wheel.namelist() if member.startswith("tzdata/")])
    for target in recipe.TARGETS.values():
        (extra / f"_sysconfigdata__linux_{target.gnu}.py").write_text(_sysconfig(target))
    plain, first = work / "plain.zip", work / "first"
    with zipfile.ZipFile(plain, "w", zipfile.ZIP_STORED) as archive:
        for path in lib.rglob("*.py"):
            if "test" not in path.parts:
                archive.write(path, path.relative_to(lib))
    _join(bare, plain, first)
    program = [str(first), str(_HERE / "stdlib.py"), str(lib), str(extra), str(out), *sorted(recipe.NOT_SHIPPED)]
    subprocess.run(program, check=True, env={**os.environ, "PYTHONHASHSEED": "0"})
    return out


def _sysconfig(target: Target) -> str:
    """The few of the build's variables that say something on another machine."""
    soabi = f"cpython-{''.join(recipe.PYTHON_VERSION.split('.')[:2])}-{target.gnu}"
    variables = {
        "SOABI": soabi,
        "EXT_SUFFIX": f".{soabi}.so",
        "MULTIARCH": target.gnu,
        "VERSION": ".".join(recipe.PYTHON_VERSION.split(".")[:2]),
        "Py_DEBUG": 0,
        "Py_ENABLE_SHARED": 0,
        "Py_GIL_DISABLED": 0,
    }
    return f"build_time_vars = {variables!r}\n"


def _join(executable: Path, archive: Path, into: Path) -> None:
    with into.open("wb") as out:
        for part in (executable, archive):
            with part.open("rb") as file:
                shutil.copyfileobj(file, out)
    into.chmod(0o755)


def _work(cache: Path) -> Path:
    work = cache / "work"
    work.mkdir(parents=True, exist_ok=True)
    return work
