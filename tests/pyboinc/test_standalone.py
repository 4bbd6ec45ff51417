"""Interpreters of python-build-standalone, by a local stand-in of their archives, and the launcher that unpacks them."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from tests.standin import SHIPPED, archive, info, pinned

from pyboinc.package import cache, recipe, runtimes, standalone, toolchain
from pyboinc.package import launcher as launchers
from pyboinc.package.__main__ import main
from pyboinc.package.sources import SourceError
from pyboinc.testing import FakeClient

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="applications are packaged on Linux")

TARGET = "linux-x86_64"
PROGRAM = """
import os, sys
values = sorted(f"{key}={value}" for key, value in os.environ.items() if key.startswith("PYTHON"))
with open("out", "a") as out:
    out.write(f"{sys.argv[1:]} {' '.join(values)}\\n")
sys.exit(len(sys.argv))
"""
ENDED = 3  # by PROGRAM, when it is given two arguments


def made_tar(source: Path, into: Path) -> Path:
    into.mkdir(exist_ok=True)
    return standalone.make_tar(source, "pbrt-3.13.17-stand-in", Path(sys.executable), into)


def test_the_table_pins_what_clients_can_use() -> None:
    pins = standalone.pins()
    assert set(pins) >= set(standalone.PLATFORMS)
    minor = recipe.PYTHON_VERSION.rpartition(".")[0]
    for target, pin in pins.items():
        assert len(pin.sha256) == 64, target
        assert pin.url.startswith("https://"), target
        assert pin.python.rpartition(".")[0] == minor, "one project speaks one Python"
        assert pin.name.endswith("install_only_stripped.tar.gz"), target


def test_what_programs_read_is_shipped_and_nothing_else(tmp_path: Path) -> None:
    source = archive(tmp_path / "archive.tar.gz")
    tar = made_tar(source, tmp_path / "one")
    assert tar.name == f"pbrt-3.13.17-stand-in_{hashlib.sha256(tar.read_bytes()).hexdigest()[:40]}.tar"
    with tarfile.open(tar) as opened:
        assert {member.name: member.mode for member in opened} == SHIPPED
        assert all(member.isreg() for member in opened)
    again = made_tar(source, tmp_path / "two")
    assert again.read_bytes() == tar.read_bytes()


@pytest.mark.parametrize(
    ("member", "told"),
    [
        (info("python/../../evil"), "what does not belong there"),
        (info("/etc/evil"), "what does not belong there"),
        (info("other/evil"), "what does not belong there"),
        (info("python/lib/a\\..\\evil"), "what does not belong there"),
        (info("python/lib/pipe", tarfile.FIFOTYPE), "is no file"),
        (info("python/lib/passwd", tarfile.LNKTYPE, "/etc/passwd"), "is no file"),
        (info("python/lib/" + "long/" * 25), "the launcher cannot read"),
        (info("python/lib/python3.13/bad.py"), "cannot be compiled"),
    ],
)
def test_a_hostile_archive_is_refused(tmp_path: Path, member: tarfile.TarInfo, told: str) -> None:
    member.name += "x" * member.name.endswith("/")
    source = archive(tmp_path / "archive.tar.gz", {member: b"def"})
    with pytest.raises(SourceError, match=told):
        made_tar(source, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "evil").exists()


def test_a_link_of_the_archive_leads_nowhere(tmp_path: Path) -> None:
    """A file below a link to a folder elsewhere is a file of its own."""
    outside = tmp_path / "outside"
    outside.mkdir()
    link = info("python/lib/folder", tarfile.SYMTYPE, str(outside))
    source = archive(tmp_path / "archive.tar.gz", {link: b"", info("python/lib/folder/data"): b"x"})
    with tarfile.open(made_tar(source, tmp_path / "out")) as opened:
        assert opened.getmember("lib/folder/data").isreg()
    assert not list(outside.iterdir())


@pytest.mark.parametrize("keep", [0, 100, 1000])
def test_a_truncated_archive_is_refused(tmp_path: Path, keep: int) -> None:
    source = archive(tmp_path / "archive.tar.gz")
    source.write_bytes(source.read_bytes()[:keep])
    with pytest.raises(SourceError, match="cannot be unpacked"):
        made_tar(source, tmp_path / "out")


def test_an_archive_without_an_interpreter_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "archive.tar.gz"
    with tarfile.open(source, "w:gz") as tar:
        tar.addfile(info("python/README"))
    with pytest.raises(SourceError, match="holds no interpreter"):
        made_tar(source, tmp_path / "out")


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the folder `mirror`."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *of_no_interest: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_it_is_downloaded_checked_and_kept(
    tmp_path: Path,
    mirror: str,
    monkeypatch: pytest.MonkeyPatch,
    interpreter: Path,
    compiler: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the command, with a cache of its own that has the interpreter which compiles."""
    own = tmp_path / "cache"
    monkeypatch.setenv("PYBOINC_CACHE", str(own))
    built = own / "runtime" / recipe.digest(recipe.X86_64)
    built.mkdir(parents=True)
    (built / interpreter.name).symlink_to(interpreter)
    source = archive(tmp_path / "mirror" / "cpython-3.13.17+20261021-stand-in.tar.gz")
    pinned(monkeypatch, source, mirror)
    assert runtimes.find("macos-aarch64", own) is None
    assert main(["runtime", "--target", "macos-aarch64"]) == 0
    launcher, tar = map(Path, capsys.readouterr().out.split())
    with tarfile.open(tar) as opened:
        assert set(opened.getnames()) == set(SHIPPED)
    source.unlink()
    assert main(["runtime", "--target", "macos-aarch64"]) == 0
    found = runtimes.find("macos-aarch64", own)
    assert found is not None
    assert (found.platform, found.python) == ("arm64-apple-darwin", "3.13.17")
    assert [(file.path, file.open_name, file.main_program) for file in found.files] == [
        (launcher, launcher.name, True),
        (tar, "runtime.tar", False),
    ]


@pytest.mark.parametrize("local", [True, False], ids=["local file", "download"])
def test_another_archive_than_the_pinned_one_is_refused(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], local: bool
) -> None:
    monkeypatch.setenv("PYBOINC_CACHE", str(tmp_path / "cache"))
    source = archive(tmp_path / "mirror" / "cpython-3.13.17+1-stand-in.tar.gz")
    pinned(monkeypatch, source, mirror)
    with source.open("ab") as file:
        file.write(b"\0")
    command = ["runtime", "--from", "pbs", "--target", TARGET, *(["--archive", str(source)] if local else [])]
    assert main(command) == 1
    assert "is not what the recipe names: its SHA-256 is" in capsys.readouterr().err
    assert source.exists(), "somebody's file is not ours to delete"
    assert not [path for path in (tmp_path / "cache" / "runtime").iterdir() if not path.name.endswith(".lock")]


def test_an_archive_that_cannot_be_had_is_said(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYBOINC_CACHE", str(tmp_path / "cache"))
    source = archive(tmp_path / "cpython-3.13.17+1-stand-in.tar.gz")  # not where the server looks
    pinned(monkeypatch, source, mirror)
    assert main(["runtime", "--target", "macos-x86_64"]) == 1
    assert (
        f"cannot be had: HTTP Error 404: File not found; download it where the internet is and name the file: "
        f"--archive {source.name}" in capsys.readouterr().err
    )
    assert main(["runtime", "--target", "macos-x86_64", "--archive", str(tmp_path / "nowhere")]) == 1
    assert "nowhere cannot be read" in capsys.readouterr().err
    assert main(["runtime", "--from", "pbs", "--target", "windows-x86_64"]) == 1
    assert "there is no python-build-standalone for windows-x86_64 here" in capsys.readouterr().err


# The launcher.


@pytest.fixture(scope="session")
def compiler(lacking: Callable[[str], NoReturn]) -> str:
    try:
        return toolchain.find_zig()
    except toolchain.NoCompilerError as error:
        lacking(str(error))


@pytest.fixture(scope="session")
def launcher(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher of Macs, for this machine."""
    return launchers.make(TARGET, tmp_path_factory.mktemp("launcher"), cache.default())


@pytest.fixture
def slot(launcher: Path, client: FakeClient, tmp_path: Path) -> FakeClient:
    """A slot with the application's soft links and the files of the project beside it."""
    shutil.copy(launcher, client.project / "launcher")
    tar = made_tar(archive(tmp_path / "archive.tar.gz"), tmp_path / "tar")
    shutil.copy(tar, client.link("runtime.tar", tar.name))
    with zipfile.ZipFile(client.link("main.zip", "work_1.zip"), "w") as program:
        program.writestr("__main__.py", PROGRAM)
    return client


LAUNCH = ["../../projects/example.org/launcher", "one", "two words"]


def launch(slot: FakeClient, *before: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, *LAUNCH], cwd=slot.slot, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def project_tar(slot: FakeClient) -> Path:
    [tar] = slot.project.glob("*.tar")
    return tar


def cached(slot: FakeClient) -> list[str]:
    return sorted(path.name for path in (slot.project / "pb_cache").iterdir() if path.suffix != ".lock")


def replaced(slot: FakeClient, content: bytes) -> None:
    """Give the slot this tar, under the name that its content asks for, so that only its content is left to refuse."""
    project_tar(slot).unlink()
    slot.link("runtime.tar", f"pbrt_{hashlib.sha256(content).hexdigest()[:40]}.tar").write_bytes(content)


def test_the_launcher_unpacks_once_and_becomes_python(slot: FakeClient) -> None:
    done = launch(slot, PYTHONPATH="/evil", PYTHONHOME="/evil", PYTHONHASHSEED="0", HOME="/")
    assert done.returncode == ENDED, done.stderr
    folder = slot.project / "pb_cache" / project_tar(slot).stem
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.relative_to(folder).as_posix(): path.stat().st_mode & 0o777 for path in files} == SHIPPED
    said = (slot.slot / "out").read_text()
    assert said == ("['one', 'two words'] PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 PYTHONNOUSERSITE=1 PYTHONUTF8=1\n")
    before = {path: path.stat().st_ctime_ns for path in files}
    project_tar(slot).write_bytes(b"not even looked at again")
    assert launch(slot).returncode == ENDED
    assert {path: path.stat().st_ctime_ns for path in files} == before


def test_it_is_the_process_that_the_client_started(slot: FakeClient) -> None:
    """So that the client's signals and measures reach the supervisor."""
    with zipfile.ZipFile(slot.project / "work_1.zip", "w") as program:
        program.writestr("__main__.py", "import os; open('out', 'w').write(str(os.getpid()))")
    process = subprocess.Popen(LAUNCH, cwd=slot.slot)
    assert process.wait(60) == 0
    assert (slot.slot / "out").read_text() == str(process.pid)


def test_many_first_jobs_unpack_once(slot: FakeClient) -> None:
    jobs = [subprocess.Popen(LAUNCH, cwd=slot.slot) for _ in range(6)]
    assert [job.wait(120) for job in jobs] == [ENDED] * 6
    assert cached(slot) == [project_tar(slot).stem]


def test_what_a_killed_process_left_is_swept(slot: FakeClient) -> None:
    left = slot.project / "pb_cache" / f"{project_tar(slot).stem}.new"
    (left / "lib").mkdir(parents=True)
    (left / "lib" / "half").write_text("x")
    assert launch(slot).returncode == ENDED
    assert cached(slot) == [project_tar(slot).stem]
    assert not list((slot.project / "pb_cache").rglob("half"))


@pytest.mark.parametrize("place", [0, 700, -1])
def test_a_tampered_tar_is_refused(slot: FakeClient, place: int) -> None:
    data = bytearray(project_tar(slot).read_bytes())
    data[place] ^= 1
    project_tar(slot).write_bytes(data)
    refused(slot, "was tampered with")


def refused(slot: FakeClient, told: str, *before: str) -> None:
    done = launch(slot, *before)
    assert done.returncode == 206
    assert told in done.stderr
    assert cached(slot) == []
    assert not (slot.slot / "out").exists()


@pytest.mark.parametrize("length", range(118, 130))
def test_its_digest_is_right_at_every_length(slot: FakeClient, length: int) -> None:
    """The end of a hashed text is padded in one of two ways."""
    replaced(slot, b"x" * length)
    done = launch(slot)
    assert "tampered" not in done.stderr
    assert cached(slot) != []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data[:300_000], "ends too early"),
        (lambda data: b"nonsense" + data[8:], "is damaged"),
    ],
)
def test_a_damaged_tar_is_refused(slot: FakeClient, change: Callable[[bytes], bytes], told: str) -> None:
    replaced(slot, change(project_tar(slot).read_bytes()))
    refused(slot, told)


@pytest.mark.parametrize(
    "member",
    [
        info("../evil"),
        info("/evil"),
        info("a/../../evil"),
        info("a\\evil"),
        info("link", tarfile.SYMTYPE, "/etc/passwd"),
        info("link", tarfile.LNKTYPE, "../../evil"),
        info("folder", tarfile.DIRTYPE),
        info("device", tarfile.CHRTYPE),
    ],
    ids=lambda member: member.name,
)
def test_what_does_not_belong_into_the_tar_is_refused(slot: FakeClient, member: tarfile.TarInfo) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(member)
    replaced(slot, out.getvalue())
    refused(slot, "what does not belong there")


def test_a_full_disk_is_said_and_leaves_nothing(slot: FakeClient) -> None:
    refused(slot, "is the disk full?", "/bin/sh", "-c", "trap '' XFSZ; ulimit -f 20; exec \"$@\"", "sh")


def test_a_slot_without_its_files_is_said(slot: FakeClient) -> None:
    (slot.slot / "runtime.tar").unlink()
    done = launch(slot)
    assert (done.returncode, done.stderr) == (206, "pyboinc: the slot has no runtime.tar (No such file or directory)\n")


def commands(program: bytes) -> Iterator[tuple[int, bytes]]:
    """The load commands of a Mach-O file."""
    (count,) = struct.unpack_from("<I", program, 16)
    at = 32
    for _ in range(count):
        kind, size = struct.unpack_from("<II", program, at)
        yield kind, program[at : at + size]
        at += size


@pytest.mark.parametrize(
    ("target", "processor", "oldest"), [("macos-x86_64", 0x01000007, (10, 15)), ("macos-aarch64", 0x0100000C, (11, 0))]
)
def test_the_launcher_for_macs(
    compiler: str, tmp_path: Path, target: str, processor: int, oldest: tuple[int, int]
) -> None:
    """A Mach-O program for the processor and the oldest system, with no library but the system's; signed on arm64."""
    program = launchers.make(target, tmp_path, cache.default()).read_bytes()
    magic, cpu, _, kind = struct.unpack_from("<IIII", program)
    assert (magic, cpu, kind) == (0xFEEDFACF, processor, 2)
    found = dict(commands(program))
    libraries = [data[24:].split(b"\0")[0] for kind, data in commands(program) if kind in (0xC, 0x80000018)]
    assert libraries == [b"/usr/lib/libSystem.B.dylib"]
    system, version = struct.unpack_from("<II", found[0x32], 8)
    assert (system, version >> 16, version >> 8 & 0xFF) == (1, *oldest)
    if target == "macos-aarch64":
        assert 0x1D in found, "arm64 runs nothing that is not signed, be it by nobody in particular"
