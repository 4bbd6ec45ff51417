"""The interpreter in one file: on a host that has nothing but the C library."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

import pyboinc
from pyboinc import packages
from pyboinc.package import build, cache, recipe, sources, wheels
from pyboinc.testing import FakeClient

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="built on Linux")

SOURCE = Path(pyboinc.__file__).parent
GLIBC = ("libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1")
MOST_COMPRESSED = 12e6

COVERAGE = r"""
import sys

def check_sqlite():
    import sqlite3
    db = sqlite3.connect("db")
    db.execute("create table t (name text, n integer)")
    db.executemany("insert into t values (?, ?)", [("a", 1), ("b", 2), ("a", 3)])
    db.commit()
    assert db.execute("select name, sum(n) from t group by name order by 1").fetchall() == [("a", 4), ("b", 2)]
    assert db.execute("select json_extract(?, '$.x'), sqrt(16)", ('{"x": 7}',)).fetchone() == (7, 4.0)
    db.execute("create virtual table texts using fts5(body)")
    db.execute("insert into texts values ('volunteers compute')")
    assert db.execute("select count(*) from texts where texts match 'volunteers'").fetchone() == (1,)

def check_ssl():
    import socket, ssl, threading
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for context in (server, client):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("PSK")
    server.set_psk_server_callback(lambda identity: b"secret")
    client.set_psk_client_callback(lambda hint: ("me", b"secret"))
    listener = socket.create_server(("127.0.0.1", 0))
    def serve():
        with listener.accept()[0] as plain, server.wrap_socket(plain, server_side=True) as secure:
            secure.sendall(secure.recv(100).upper())
    thread = threading.Thread(target=serve)
    thread.start()
    with socket.create_connection(listener.getsockname()) as plain, client.wrap_socket(plain) as secure:
        secure.sendall(b"hello")
        assert secure.recv(100) == b"HELLO"
    thread.join()

def check_ctypes():
    import ctypes
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 5)(5, 1, 4, 2, 3)
    ctypes.CDLL(None).qsort(numbers, 5, ctypes.sizeof(ctypes.c_int), kind(lambda a, b: a[0] - b[0]))
    assert list(numbers) == [1, 2, 3, 4, 5]

def check_compression():
    import bz2, lzma, zlib
    data = b"data" * 10000
    for module in (bz2, lzma, zlib):
        packed = module.compress(data)
        assert len(packed) < 1000 and module.decompress(packed) == data

def check_hashlib():
    import hashlib
    for name in ("md5", "sha256", "sha3_512", "blake2b"):
        assert getattr(hashlib, name)(b"x").digest() == hashlib.new(name, b"x").digest()
    assert len(hashlib.scrypt(b"p", salt=b"s", n=16, r=8, p=1)) == 64

def check_decimal():
    import decimal
    decimal.getcontext().prec = 50
    assert str(decimal.Decimal(2).sqrt()).startswith("1.41421356237309504880168872420969807856967187537")
    assert decimal.Decimal.__module__ == "decimal" and "_decimal" in sys.modules

def check_multiprocessing():
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, range(-3, 0)) == [3, 2, 1]

def check_starting_itself():
    import asyncio, multiprocessing
    for method in ("spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(abs, range(-3, 0)) == [3, 2, 1], method
    async def shout():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('hi')", stdout=-1)
        return (await process.communicate())[0]
    assert asyncio.run(shout()) == b"hi\n"

def check_asyncio():
    import asyncio
    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
    async def talk():
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hi\n")
            assert await reader.readline() == b"hi\n"
            writer.close()
    asyncio.run(talk())

def check_zoneinfo():
    import datetime, zoneinfo
    summer = datetime.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Stockholm"))
    assert summer.utcoffset() == datetime.timedelta(hours=2)
    assert len(zoneinfo.available_timezones()) > 400

def check_texts():
    import locale, unicodedata, xml.etree.ElementTree
    assert sys.flags.utf8_mode and sys.getfilesystemencoding() == "utf-8"
    assert unicodedata.normalize("NFD", "\u00e9") == "e\u0301" and "\u00e9".encode("cp1252").decode("latin-1") == "\u00e9"
    assert xml.etree.ElementTree.fromstring("<a><b>1</b></a>").findtext("b") == "1"
    assert "\u4f60".encode("gb18030").decode("gb18030") == "\u4f60"

def check_everything_imports():
    import importlib, sysconfig
    gone = {"antigravity", "this", "idlelib", "tkinter", "turtle", "turtledemo", "ensurepip", "venv", "pydoc_data", "curses",
            "readline", "msvcrt", "winreg", "winsound", "nt", "ntpath", "_winapi", "lib2to3", "test"}
    for name in sorted(sys.stdlib_module_names - gone):
        if not name.startswith("_"):
            importlib.import_module(name)
    assert sysconfig.get_config_var("EXT_SUFFIX").endswith(".so")

if __name__ == "__main__":
    for name in sorted(name for name in globals() if name.startswith("check_")):
        if name not in sys.argv:
            globals()[name]()
            print(name)
"""
CHECKS = sorted(line[4:].partition("(")[0] for line in COVERAGE.splitlines() if line.startswith("def check_"))


@pytest.fixture(scope="session")
def runtime(interpreter: Path) -> Path:
    return interpreter


@pytest.fixture
def bare(runtime: Path, tmp_path: Path, need: Callable[..., None]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """bare(arguments): the interpreter in a root with the C library's six files and nothing else, no environment."""
    need("bwrap")
    root, folder = tmp_path / "root", Path("lib/x86_64-linux-gnu")
    for name in ("lib64", "app", "proc", "dev", "tmp", folder):
        (root / name).mkdir(parents=True)
    shutil.copy("/lib64/ld-linux-x86-64.so.2", root / "lib64")
    for name in GLIBC:
        shutil.copy(Path("/") / folder / name, root / folder)
    shutil.copy(runtime, root / "app" / "python")
    (root / "app" / "coverage.py").write_text(COVERAGE)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        bwrap = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", str(root), "/", "--proc", "/proc"]
        bwrap += ["--dev", "/dev", "--tmpfs", "/tmp", "--chdir", "/tmp", "--clearenv"]
        return subprocess.run(
            [*bwrap, "/app/python", *arguments], capture_output=True, text=True, timeout=120, check=False
        )

    return run


def test_the_standard_library_on_a_bare_host(bare: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = bare("/app/coverage.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == CHECKS


def test_the_other_machine(tmp_path: Path, need: Callable[..., None]) -> None:
    """aarch64, by qemu, with the C library that Debian has for it."""
    path = cache.default() / "runtime" / recipe.digest(recipe.AARCH64) / build.name(recipe.AARCH64)
    if not path.exists():
        pytest.skip(
            "the interpreter of this recipe is not built: make runtime TARGET=linux-aarch64 (some minutes, once)"
        )
    need("qemu-aarch64-static")
    library = sources.fetch_binary("libc6", "arm64", cache.default() / "binaries")
    (tmp_path / "coverage.py").write_text(COVERAGE)
    # Without help from this machine's kernel a program under qemu cannot start itself.
    command = ["qemu-aarch64-static", "-L", library, path, "coverage.py", "check_starting_itself"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [name for name in CHECKS if name != "check_starting_itself"]
    assert younger_symbols(path) == set()


def younger_symbols(path: Path) -> set[str]:
    """What it wants of a C library younger than the promised one."""
    symbols = subprocess.run(["objdump", "-T", path], capture_output=True, text=True, check=True).stdout
    wanted = set(re.findall(r"GLIBC_[\d.]+", symbols))
    promised = tuple(map(int, recipe.GLIBC.split(".")))
    assert wanted
    return {version for version in wanted if tuple(map(int, version[6:].split("."))) > promised}


def test_it_needs_no_younger_c_library(runtime: Path, need: Callable[..., None]) -> None:
    need("objdump")
    assert younger_symbols(runtime) == set()
    needed = subprocess.run(["objdump", "-p", runtime], capture_output=True, text=True, check=True).stdout
    libraries = {line.split()[1] for line in needed.splitlines() if "NEEDED" in line}
    assert libraries <= {*GLIBC, "ld-linux-x86-64.so.2"}


def test_it_is_small_enough_to_send(runtime: Path) -> None:
    packed = subprocess.run(["gzip", "-9", "-c", runtime], stdout=subprocess.PIPE, check=True).stdout
    assert len(packed) < MOST_COMPRESSED


def test_the_hosts_python_settings_do_not_count(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    hostile = {
        "PYTHONPATH": str(tmp_path),
        "PYTHONHOME": str(tmp_path),
        "PYTHONINSPECT": "1",
        "PYTHONSTARTUP": "/x",
        "LC_ALL": "C",
    }
    code = "import json, sys; print('\\u00e9', json.loads('1'), sys.flags.inspect)"
    done = subprocess.run([runtime, "-c", code], env=hostile, capture_output=True, check=True, cwd="/")
    assert done.stdout.decode() == "\u00e9 1 0\n"


def test_the_hash_seed_can_be_fixed(runtime: Path) -> None:
    def once(**environment: str) -> bytes:
        return subprocess.run(
            [runtime, "-c", "print(hash('x'))"], env=environment, capture_output=True, check=True
        ).stdout

    assert once(PYTHONHASHSEED="0") == once(PYTHONHASHSEED="0")
    assert once() != once()


NUMPY = ("numpy", "2.2.6", "1bc23a79bfabc5d056d106f9befb8d50c31ced2fbc70eedb8155aec74a45798f")
DLOPEN = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy
matrix = numpy.arange(9.0).reshape(3, 3) + numpy.eye(3)
assert numpy.allclose(numpy.linalg.inv(matrix) @ matrix, numpy.eye(3))
print(numpy.__version__)
"""


def test_a_numpy_wheel_loads(runtime: Path, tmp_path: Path) -> None:
    """Its modules are shared objects that want the interpreter's C API from this executable."""
    version = "".join(recipe.PYTHON_VERSION.split(".")[:2])
    name, number, digest = NUMPY
    options = ["--python-version", version, "--implementation", "cp", "--platform", "manylinux2014_x86_64"]
    try:
        wheel = sources.fetch_wheel(name, number, digest, cache.default() / "sources", *options)
    except sources.SourceError as error:
        pytest.skip(f"no wheel of {name} {number}: {str(error).splitlines()[-1]}")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "wheel")
    command = [runtime, "-c", DLOPEN, tmp_path / "wheel"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env={})
    assert done.stdout == f"{number}\n", done.stderr


IMPORTED = """
import sys
sys.path.insert(0, "/app")
from pyboinc import packages
packages.use(sys.argv[1:])
import numpy
matrix = numpy.arange(9.0).reshape(3, 3) + numpy.eye(3)
assert numpy.allclose(numpy.linalg.inv(matrix) @ matrix, numpy.eye(3))
loaded = [module for module in sys.modules.values() if "numpy" in module.__name__ and getattr(module, "__cached__", None)]
assert loaded and not [module for module in loaded if not module.__cached__.endswith(".pyc")]
print(numpy.__version__, numpy.__file__)
"""


def test_a_package_is_imported_on_a_bare_host(
    runtime: Path,
    bare: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    lacking: Callable[[str], NoReturn],
) -> None:
    """As jobs get it: the wheel made ready, and the libraries that this host lacks, each an archive that is unpacked."""
    name, number, _ = NUMPY
    minor = recipe.PYTHON_VERSION.rpartition(".")[0]
    target = recipe.X86_64.short
    try:
        made = wheels.resolve([f"{name}=={number}"], target, minor, runtime, tmp_path / "made")
        libraries = wheels.compat(target, cache.default(), tmp_path / "made")
    except (wheels.PackagingError, sources.SourceError) as error:
        lacking(f"no wheel of {name} {number}: {error}")
    assert libraries is not None
    [package] = made
    assert (package.name, package.version, package.native) == (name, number, True)
    app = tmp_path / "root" / "app"
    folders = [Path(packages.unpack(str(path), str(app))) for path in (package.path, libraries)]
    assert not list(folders[0].rglob("tests"))
    (app / "pyboinc").mkdir()
    for module in ("__init__.py", "packages.py"):
        shutil.copy(SOURCE / module, app / "pyboinc")
    (app / "imported.py").write_text(IMPORTED)
    places = [f"/app/{folder.name}" for folder in folders]
    without = bare("/app/imported.py", places[0])
    assert "cannot open shared object file" in without.stderr, "this root is not bare"
    done = bare("/app/imported.py", *places)
    assert done.stdout == f"{number} {places[0]}/numpy/__init__.py\n", done.stderr


MAIN = """
import os, subprocess, sys
if sys.argv[1:] == ["--child"]:
    import pyboinc
    assert sys.executable == os.path.realpath("/proc/self/exe")
    with open("out", "w") as out:
        plain = [sys.executable, "-c", "print('a plain Python')"]
        out.write(pyboinc.init_data().result_name + "\\n" + subprocess.run(plain, stdout=-1, text=True).stdout)
else:
    assert sys.argv[1:] == ["--from", "the job"], sys.argv
    from pyboinc.supervisor import supervise
    sys.exit(supervise([sys.executable, sys.argv[0], "--child"]))
"""


@pytest.mark.parametrize("linked", [True, False], ids=["soft link", "copy"])
def test_it_runs_the_application_in_its_slot(runtime: Path, client: FakeClient, linked: bool) -> None:
    path = client.link("main.zip", "work_1.zip") if linked else client.slot / "main.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", MAIN)
        for module in SOURCE.glob("*.py"):
            archive.write(module, f"pyboinc/{module.name}")
    shutil.copy(runtime, client.project / "python_1")
    client.start(["../../projects/example.org/python_1", "--from", "the job"])
    assert client.finish() == 0, client.stderr()
    assert (client.slot / "out").read_text() == "wu_1_0\na plain Python\n"


@pytest.mark.soak
def test_two_builds_are_the_same(runtime: Path, tmp_path: Path) -> None:
    """Everything again from the sources, elsewhere."""
    again = build.build(recipe.X86_64, tmp_path / "elsewhere")
    assert again.read_bytes() == runtime.read_bytes()
