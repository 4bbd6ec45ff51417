"""Interpreters of the project python-build-standalone, for kinds of machines that none can be built for here: macOS.

An archive is downloaded, or taken from a local file, and must have the digest that is pinned. What programs read of it
goes into a tar: the interpreter, its libraries, and the standard library as bytecode. A launcher unpacks that once per
host. Nothing of it has run on a Mac yet.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from pyboinc.package import build, launcher, recipe
from pyboinc.package.cache import entry
from pyboinc.package.sources import SourceError, check

PLATFORMS = {"macos-x86_64": "x86_64-apple-darwin", "macos-aarch64": "arm64-apple-darwin"}
"""Kinds of machines that have no other interpreter, and BOINC's names of them."""
LONGEST = 99
"""Bytes of a name that the launcher reads."""
_PINS = Path(__file__).with_name("standalone_python.sha256")
_NOT_SHIPPED = re.compile(
    r"/(lib2to3|site-packages|config-[^/]*|pkgconfig|(tcl|tk|itcl|thread)\d[^/]*)/|_tkinter|lib(tcl|tk)"
)
_LIMIT = 400 << 20
_TIMEOUT = 60


@dataclass(frozen=True, slots=True)
class Pin:
    """Where an archive is, and the digest that it must have."""

    sha256: str
    url: str

    @property
    def name(self) -> str:
        """The file's name."""
        return urllib.parse.unquote(self.url.rpartition("/")[2])

    @property
    def python(self) -> str:
        """The version of Python, which stands in the name."""
        return self.name.split("-")[1].partition("+")[0]


def pins() -> dict[str, Pin]:
    """The archives by kind of machine."""
    lines = [line.split() for line in _PINS.read_text().splitlines()]
    return {target: Pin(sha256, url) for sha256, target, url in lines}


def make(target: str, cache: Path, archive: Path | None = None) -> tuple[Path, Path]:
    """Launcher and tar for a kind of machine, from the cache or made into it; `archive` spares the download."""
    pin = pins()[target]

    def fill(into: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="pyboinc-standalone-") as folder:
            local = Path(folder, pin.name)
            if archive is None:
                download(pin, local)
            else:
                _copy(archive, local)
            check(local, pin.sha256)
            # The same bytecode is read by all machines, so the interpreter that runs here makes it.
            make_tar(local, f"pbrt-{pin.python}-{target}", build.build(recipe.X86_64, cache), into)
        launcher.make(target, into, cache)

    folder = place(target, cache)
    entry(folder.parent, folder.name, fill)
    [program], [tar] = folder.glob("pyboinc_*"), folder.glob("*.tar")
    return program, tar


def place(target: str, cache: Path) -> Path:
    """The folder where both are once they are made."""
    parts = [Path(__file__), *launcher.ingredients(target)]
    made_of = [part.read_bytes() for part in parts] + [pins()[target].sha256.encode(), target.encode()]
    return cache / "runtime" / hashlib.sha256(b"".join(made_of)).hexdigest()[:32]


def download(pin: Pin, into: Path) -> None:
    """Fetch an archive; whether it is the pinned one is for the caller to see."""
    try:
        with urllib.request.urlopen(pin.url, timeout=_TIMEOUT) as answer, into.open("wb") as out:
            left = _LIMIT
            while data := answer.read(1 << 20):
                left -= len(data)
                if left < 0:
                    raise SourceError(f"{pin.url} is larger than any interpreter")
                out.write(data)
    except (urllib.error.URLError, OSError) as error:
        raise SourceError(
            f"{pin.url} cannot be had: {error}; "
            f"download it where the internet is and name the file: --archive {pin.name}"
        ) from error


def make_tar(archive: Path, name: str, python: Path, into: Path) -> Path:
    """What programs read, in one tar that is named by its digest; the same archive gives the same bytes."""
    with tempfile.TemporaryDirectory(prefix="pyboinc-standalone-") as folder:
        stage = Path(folder)
        _extract(archive, stage)
        if not (stage / "bin" / "python3").exists():
            raise SourceError(f"{archive.name} holds no interpreter: there is no python/bin/python3.N in it")
        _compile(stage / "lib", python, archive.name)
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for path in sorted(path for path in stage.rglob("*") if path.is_file()):
                member = tarfile.TarInfo(path.relative_to(stage).as_posix())
                if len(member.name.encode()) > LONGEST:
                    raise SourceError(f"{archive.name} holds a name that the launcher cannot read: {member.name}")
                member.size, member.mode = path.stat().st_size, 0o755 if os.access(path, os.X_OK) else 0o644
                with path.open("rb") as file:
                    tar.addfile(member, file)
    target = into / f"{name}_{hashlib.sha256(out.getvalue()).hexdigest()[:40]}.tar"
    target.write_bytes(out.getvalue())
    return target


def _extract(archive: Path, stage: Path) -> None:
    """The regular files that are shipped. Symbolic links are other names of files for people and compilers."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                _, _, name = member.name.partition("/")
                parts = member.name.split("/")
                if parts[0] != "python" or ".." in parts or "\\" in member.name:
                    raise SourceError(f"{archive.name} holds what does not belong there: {member.name}")
                if not (member.isreg() or member.issym() or member.isdir()):
                    raise SourceError(f"{archive.name} holds what is no file: {member.name}")
                if member.isreg() and (place := _wanted(name)):
                    path = stage / place
                    path.parent.mkdir(parents=True, exist_ok=True)
                    source = tar.extractfile(member)
                    assert source is not None
                    with path.open("wb") as out:
                        shutil.copyfileobj(source, out)
                    path.chmod(0o755 if member.mode & 0o100 else 0o644)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceError(f"{archive.name} cannot be unpacked: {error}") from error


def _wanted(name: str) -> str:
    """Where a file of the archive belongs; empty if it stays behind."""
    if re.fullmatch(r"bin/python3\.\d+", name):
        return "bin/python3"
    parts = set(name.split("/"))
    left_out = parts & {*recipe.NOT_SHIPPED, "__pycache__"} or _NOT_SHIPPED.search(name) or name.endswith(".a")
    return name if name.startswith("lib/") and not left_out else ""


def _compile(folder: Path, python: Path, name: str) -> None:
    """Bytecode in place of the sources, which nobody compares it with."""
    code = "import compileall, py_compile, sys; sys.exit(not compileall.compile_dir(sys.argv[1], quiet=1, legacy=True, "
    code += "stripdir=sys.argv[1], invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH))"
    done = subprocess.run(
        [str(python), "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if done.returncode != 0:
        raise SourceError(f"{name} cannot be compiled: {done.stdout}{done.stderr}")
    for path in folder.rglob("*.py"):
        path.unlink()


def _copy(archive: Path, into: Path) -> None:
    try:
        shutil.copyfile(archive, into)
    except OSError as error:
        raise SourceError(f"{archive} cannot be read: {error}") from error
