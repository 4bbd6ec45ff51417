"""Packages for volunteers' computers: wheels of the index for any kind of machine, made quick to send and to import.

A wheel holds no bytecode, and compiling it on each computer would cost more than most jobs; so it is compiled here, by
the interpreter that will run it. Tests and what only compilers read stay behind.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyboinc.package import sources
from pyboinc.packages import DIGITS, LIBRARIES

__all__ = ["Package", "PackagingError", "checked", "compat", "resolve"]

_TAGS: Mapping[str, tuple[str, ...]] = {
    # As old as the interpreter's own C library.
    "linux-x86_64": ("manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "linux-aarch64": ("manylinux_2_17_aarch64", "manylinux2014_aarch64"),
    "windows-x86_64": ("win_amd64",),
    "macos-x86_64": ("macosx_11_0_x86_64", "macosx_10_15_x86_64"),
    "macos-aarch64": ("macosx_11_0_arm64",),
}
_COMPAT = {"linux-x86_64": ("amd64", "x86_64-linux-gnu"), "linux-aarch64": ("arm64", "aarch64-linux-gnu")}
_LIBRARIES = {"libgcc_s.so.1": "libgcc-s1", "libstdc++.so.6": "libstdc++6", "libz.so.1": "zlib1g"}
"""What wheels for Linux expect of any host, in the order of their own needs, and Debian's packages of them."""
_LEFT_OUT = re.compile(r"(^|/)(tests?|__pycache__)/|\.(pyi|pyx|pxd|pyc|h|hpp|c|cpp|a|lib)$|/include/")
_PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._,-]+\])?==[A-Za-z0-9.+!_-]+")


class PackagingError(Exception):
    """A package cannot be had for a kind of machine, or cannot be made ready for it."""


@dataclass(frozen=True, slots=True)
class Package:
    """One distribution as volunteers' computers get it."""

    name: str
    version: str
    path: Path
    """A tar whose name is the digest of its content."""
    native: bool
    """Whether it differs from one kind of machine to another."""


def checked(requirements: Sequence[str]) -> tuple[str, ...]:
    """The requirements in one order; PackagingError for one that does not say which version it means."""
    for requirement in requirements:
        if not isinstance(requirement, str) or not _PINNED.fullmatch(requirement):
            raise PackagingError(
                f"{requirement!r} does not name one version of a package, which all computers are to have; "
                "write for example numpy==2.2.6"
            )
    return tuple(sorted(set(requirements)))


def resolve(requirements: Sequence[str], target: str, minor: str, python: Path, into: Path) -> list[Package]:
    """These packages and what they need, for a kind of machine and a Python of the version `minor`.

    `python` is such an interpreter that runs here. Whatever the target, pip only reads: nothing of a package is run.
    """
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pyboinc-wheels-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--only-binary", ":all:", "--python-version", minor, "--implementation", "cp", "--dest", folder]
        for tag in _TAGS[target]:
            command += ["--platform", tag]
        done = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = " ".join(line for line in done.stderr.splitlines() if line.startswith("ERROR")) or done.stderr
            raise PackagingError(f"{', '.join(requirements)} cannot be had for {target} and Python {minor}: {said}")
        wheels = sorted(Path(folder).glob("*.whl"))
        return [normalise(wheel, python, into) for wheel in wheels]


def normalise(wheel: Path, python: Path, into: Path) -> Package:
    """A wheel as a tar of what is imported, with its bytecode; the same wheel gives the same bytes."""
    name, version, *_, abi, machine = wheel.stem.split("-")
    with tempfile.TemporaryDirectory(prefix="pyboinc-wheel-") as folder:
        stage = Path(folder)
        with zipfile.ZipFile(wheel) as archive:
            for member, place in _wanted(archive.namelist()):
                target = stage / place
                if ".." in target.parts:
                    raise PackagingError(f"{wheel.name} names a file outside of itself: {member}")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(member))
        _compile(stage, python, wheel.name)
        return Package(name, version, write_tar(stage, into), native=(abi, machine) != ("none", "any"))


def _wanted(members: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Members of a wheel and where they belong; headers, scripts and the like stay behind."""
    for member in members:
        top, _, rest = member.partition("/")
        place = member
        if top.endswith(".data"):
            kind, _, place = rest.partition("/")
            if kind not in ("purelib", "platlib"):
                continue
        if not member.endswith("/") and not _LEFT_OUT.search(place):
            yield member, place


def _compile(stage: Path, python: Path, name: str) -> None:
    # Bytecode that nobody compares with its source: volunteers' files keep no times.
    code = "import compileall, sys; sys.exit(not compileall.compile_dir(sys.argv[1], quiet=2, ddir='', workers=1, "
    code += "legacy=False, invalidation_mode=__import__('py_compile').PycInvalidationMode.UNCHECKED_HASH))"
    done = subprocess.run(
        [python, "-c", code, stage], capture_output=True, text=True, check=False, env={"PYTHONHASHSEED": "0"}
    )
    if done.returncode not in (0, 1):  # 1: some module is for another Python; it would not be imported here either
        raise PackagingError(f"{name} cannot be compiled: {done.stderr}")


def write_tar(stage: Path, into: Path) -> Path:
    """All files of a folder as a tar, named by its digest."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(path for path in stage.rglob("*") if path.is_file()):
            member = tarfile.TarInfo(path.relative_to(stage).as_posix())
            member.size = path.stat().st_size
            member.mode = 0o755 if ".so" in path.name else 0o644
            with path.open("rb") as file:
                archive.addfile(member, file)
    target = into / f"{hashlib.sha256(out.getvalue()).hexdigest()[:DIGITS]}.tar"
    target.write_bytes(out.getvalue())
    return target


def compat(target: str, cache: Path, into: Path) -> Path | None:
    """The system libraries that wheels expect of a host, from Debian, for hosts that lack them; None: none needed."""
    if target not in _COMPAT:
        return None
    architecture, triplet = _COMPAT[target]
    with tempfile.TemporaryDirectory(prefix="pyboinc-compat-") as folder:
        lib = Path(folder) / LIBRARIES
        lib.mkdir()
        for library, package in _LIBRARIES.items():
            root = sources.fetch_binary(f"{package}/{sources.COMPAT_RELEASE}", architecture, cache / "binaries")
            found = next(path for base in ("lib", "usr/lib") if (path := root / base / triplet / library).exists())
            shutil.copy(found.resolve(), lib / library)
        (lib / "order").write_text("\n".join(_LIBRARIES) + "\n")
        into.mkdir(parents=True, exist_ok=True)
        return write_tar(Path(folder), into)
