"""The Windows side, run by Wine: the runtime's own checks, the launcher, and what it does with a bad tar."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from pyboinc.package import cache, sources, toolchain, wheels, windows
from pyboinc.testing import FakeClient

HERE = Path(__file__).parent
Wine = Callable[..., subprocess.CompletedProcess[str]]
# Writes its arguments and its interpreter, and ends with a code of its own.
PROGRAM = "import sys; open('out', 'a').write(f'{sys.argv[1:]} {sys.executable}\\n'); sys.exit(len(sys.argv))"


@pytest.fixture(scope="session")
def runtime(lacking: Callable[[str], NoReturn]) -> tuple[Path, Path]:
    """Launcher and tar, as made once on this machine."""
    if not any((cache.default() / "runtime").glob("*/*.exe")):
        lacking("the Windows runtime is not built: make runtime TARGET=windows-x86_64")
    try:
        return windows.build(cache.default())
    except toolchain.NoCompilerError as error:
        lacking(str(error))


@pytest.fixture(scope="session")
def wine(tmp_path_factory: pytest.TempPathFactory, lacking: Callable[[str], NoReturn]) -> Iterator[Wine]:
    """wine(program, arguments..., cwd=...): a Windows program's end."""
    program = next((path for path in ("/usr/lib/wine/wine64", "/usr/bin/wine64") if Path(path).exists()), None)
    if program is None:
        lacking("not installed: wine64")
    prefix = tmp_path_factory.mktemp("wine")
    environment = {**os.environ, "WINEPREFIX": str(prefix), "WINEDEBUG": "-all", "DISPLAY": ""}

    def run(*command: str | Path, cwd: Path, timeout: float = 200) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *command],
            cwd=cwd,
            env=environment,
            capture_output=True,
            timeout=timeout,
            check=False,
            text=True,
            errors="replace",
        )

    run("cmd", "/c", "exit", cwd=prefix)
    try:
        yield run
    finally:
        server = shutil.which("wineserver") or "/usr/lib/wine/wineserver"
        subprocess.run([server, "-k"], env=environment, check=False, capture_output=True)
        subprocess.run([server, "-w"], env=environment, check=False, capture_output=True, timeout=30)


@pytest.fixture
def slot(runtime: tuple[Path, Path], client: FakeClient) -> FakeClient:
    """A slot with the application's soft links and the files of the project beside it."""
    launcher, tar = runtime
    shutil.copy(launcher, client.project / "launcher.exe")
    shutil.copy(tar, client.link("runtime.tar", tar.name))
    with zipfile.ZipFile(client.link("main.zip", "work_1.zip"), "w") as archive:
        archive.writestr("__main__.py", PROGRAM)
    return client


def launch(wine: Wine, slot: FakeClient, *arguments: str) -> subprocess.CompletedProcess[str]:
    return wine("../../projects/example.org/launcher.exe", *arguments, cwd=slot.slot)


def cached(slot: FakeClient) -> list[str]:
    return sorted(path.name for path in (slot.project / "pb_cache").iterdir())


@pytest.fixture(scope="session")
def python(runtime: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter by itself."""
    folder = tmp_path_factory.mktemp("python")
    with tarfile.open(runtime[1]) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)  # 3.11.4 and later
        archive.extractall(folder)
    return folder / "python.exe"


def test_the_supervisor_on_windows(wine: Wine, python: Path, tmp_path: Path) -> None:
    done = wine(python, HERE / "windows_checks.py", f"Z:{tmp_path / 'slots'}", cwd=tmp_path)
    checks = [
        line.split("(")[0][4:]
        for line in (HERE / "windows_checks.py").read_text().splitlines()
        if line.startswith("def check_")
    ]
    assert done.stdout.split() == checks, done.stderr[-3000:]


IMPORTED = """
import sys
sys.path.insert(0, sys.argv[1])
from pyboinc import packages
places = [packages.unpack(path) for path in sys.argv[2:]]
assert places == [packages.unpack(path) for path in sys.argv[2:]]
packages.use(places)
import numpy
matrix = numpy.arange(9.0).reshape(3, 3) + numpy.eye(3)
assert numpy.allclose(numpy.linalg.inv(matrix) @ matrix, numpy.eye(3))
assert numpy._core.multiarray.__cached__.endswith(".pyc")
print(numpy.__version__, numpy.__file__.replace("\\\\", "/"))
"""


def test_a_package_is_imported(
    wine: Wine, python: Path, interpreter: Path, tmp_path: Path, lacking: Callable[[str], NoReturn]
) -> None:
    """NumPy as jobs get it. Later ones than 2.1 want a function of Windows that Wine 8 has not: crealf."""
    minor = windows.PYTHON_VERSION.rpartition(".")[0]
    try:
        made = wheels.resolve(["numpy==2.1.3"], windows.SHORT, minor, interpreter, tmp_path / "made")
    except wheels.PackagingError as error:
        lacking(str(error))
    [package] = made
    assert package.native
    done = wine(python, "-c", IMPORTED, f"Z:{HERE.parents[1] / 'src'}", f"Z:{package.path}", cwd=tmp_path)
    place = package.path.parent / "pb_cache" / package.path.stem
    assert done.stdout.split() == ["2.1.3", f"Z:{place}/numpy/__init__.py"], done.stderr[-3000:]
    assert list(place.rglob("*.pyd"))
    assert not [path for path in place.rglob("*") if path.suffix == ".so"]


def test_the_launcher_unpacks_once(wine: Wine, slot: FakeClient, runtime: tuple[Path, Path]) -> None:
    assert launch(wine, slot, "one", "two words").returncode == 3
    folder = slot.project / "pb_cache" / runtime[1].stem
    assert cached(slot) == [folder.name]
    assert {path.name for path in folder.iterdir()} == set(windows.pins())
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert launch(wine, slot).returncode == 1
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    first, second = (slot.slot / "out").read_text().splitlines()
    assert first.startswith("['one', 'two words'] ")
    assert first.endswith("python.exe")
    assert second.startswith("[] ")


def test_three_first_jobs_unpack_once(wine: Wine, slot: FakeClient, runtime: tuple[Path, Path]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        ends = list(pool.map(lambda _: launch(wine, slot).returncode, range(3)))
    assert ends == [1, 1, 1]
    assert cached(slot) == [runtime[1].stem]


def damaged(tar: Path, change: Callable[[bytearray], None]) -> None:
    data = bytearray(tar.read_bytes())
    change(data)
    tar.write_bytes(data)


def rename(tar: Path, slot: FakeClient) -> None:
    """Give a tar the name that its new content asks for, so that only its content is left to refuse."""
    import hashlib

    name = f"pbrt_{hashlib.sha256(tar.read_bytes()).hexdigest()[:40]}.tar"
    tar.rename(slot.link("runtime.tar", name))


def test_a_tampered_tar_is_refused(wine: Wine, slot: FakeClient, runtime: tuple[Path, Path]) -> None:
    tar = slot.project / runtime[1].name
    damaged(tar, lambda data: data.__setitem__(1000, data[1000] ^ 1))
    done = launch(wine, slot)
    assert done.returncode == 206
    assert "was tampered with" in done.stderr
    assert cached(slot) == []
    assert not (slot.slot / "out").exists()


def test_a_truncated_tar_is_refused(wine: Wine, slot: FakeClient, runtime: tuple[Path, Path]) -> None:
    tar = slot.project / runtime[1].name
    with tar.open("r+b") as file:
        file.truncate(3_000_000)
    rename(tar, slot)
    done = launch(wine, slot)
    assert done.returncode == 206
    assert "ends too early" in done.stderr
    assert cached(slot) == []
    assert not (slot.slot / "out").exists()


@pytest.mark.parametrize("name", ["../evil.exe", "/evil.exe", "C:/evil.exe", "a\\..\\evil.exe"])
def test_a_path_out_of_the_cache_is_refused(wine: Wine, slot: FakeClient, tmp_path: Path, name: str) -> None:
    made = windows.make_tar({name: b"x"}, tmp_path)
    shutil.move(made, slot.link("runtime.tar", made.name))
    done = launch(wine, slot)
    assert done.returncode == 206
    assert "does not belong there" in done.stderr
    assert not list(tmp_path.rglob("evil*"))


def test_a_link_in_the_tar_is_refused(wine: Wine, slot: FakeClient, tmp_path: Path) -> None:
    tar = tmp_path / "links.tar"
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as archive:
        link = tarfile.TarInfo("python.exe")
        link.type, link.linkname = tarfile.SYMTYPE, "../../launcher.exe"
        archive.addfile(link)
    rename(tar, slot)
    assert "does not belong there" in launch(wine, slot).stderr


def test_a_slot_without_its_files_is_said(wine: Wine, slot: FakeClient) -> None:
    (slot.slot / "runtime.tar").unlink()
    assert "the slot has no runtime.tar" in launch(wine, slot).stderr


def test_another_interpreter_is_refused() -> None:
    found: Mapping[str, bytes] = dict.fromkeys(windows.pins(), b"another")
    with pytest.raises(sources.SourceError, match="not the file"):
        windows.check(dict(found))


def test_the_tar_is_the_same_each_time(tmp_path: Path) -> None:
    files = {"b": b"2", "a": b"1"}
    (tmp_path / "again").mkdir()
    one, other = windows.make_tar(files, tmp_path), windows.make_tar(dict(reversed(files.items())), tmp_path / "again")
    assert (one.name, one.read_bytes()) == (other.name, other.read_bytes())


@pytest.mark.soak
def test_two_builds_are_the_same(runtime: tuple[Path, Path], tmp_path: Path) -> None:
    """Everything again, fetched and compiled elsewhere."""
    again = windows.build(tmp_path)
    assert [path.name for path in again] == [path.name for path in runtime]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in runtime]
