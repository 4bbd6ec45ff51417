"""The interpreter in one file: on a host that has nothing but the C library."""

from __future__ import annotations

import os
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
from pyboinc.package import cache, recipe, runtimes, sources, wheels
from pyboinc.testing import FakeClient

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="built on Linux")

SOURCE = Path(pyboinc.__file__).parent
GLIBC = ("libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1")
MOST_COMPRESSED = 12e6
Run = Callable[..., subprocess.CompletedProcess[str]]

COVERAGE = Path(__file__).with_name("library_checks.py")
CHECKS = sorted(
    line[4:].partition("(")[0] for line in COVERAGE.read_text().splitlines() if line.startswith("def check_")
)
LOADERS = {recipe.X86_64: "lib64/ld-linux-x86-64.so.2", recipe.AARCH64: "lib/ld-linux-aarch64.so.1"}


@pytest.fixture(scope="session")
def runtime(interpreter: Path) -> Path:
    return interpreter


@pytest.fixture(params=[recipe.X86_64, pytest.param(recipe.AARCH64, marks=pytest.mark.soak)], ids=lambda it: it.short)
def target(request: pytest.FixtureRequest) -> recipe.Target:
    found: recipe.Target = request.param
    return found


@pytest.fixture
def built(target: recipe.Target, request: pytest.FixtureRequest, lacking: Callable[[str], NoReturn]) -> Path:
    """The interpreter of each kind of machine."""
    if target == recipe.X86_64:
        own: Path = request.getfixturevalue("runtime")
        return own
    found = runtimes.find(target.short, cache.default())
    if found is None:
        lacking(f"the interpreter of this recipe is not built: make runtime TARGET={target.short} (some minutes, once)")
    return found.files[0].path


@pytest.fixture
def bare(target: recipe.Target, built: Path, tmp_path: Path, need: Callable[..., None]) -> Run:
    """bare(arguments): the interpreter in a root with the C library's six files and nothing else, no environment.

    For another machine these are Debian's, and qemu stands beside them.
    """
    need("bwrap")
    root, folder, system, emulator = tmp_path / "root", Path("lib", target.gnu), Path("/"), []
    for name in ("lib64", "app", "proc", "dev", "tmp", folder):
        (root / name).mkdir(parents=True)
    if target != recipe.X86_64:
        need("qemu-aarch64-static")
        system = sources.fetch_binary("libc6", "arm64", cache.default() / "binaries")
        shutil.copy(shutil.which("qemu-aarch64-static") or "", root / "app" / "emulator")
        emulator = ["/app/emulator"]
    shutil.copy(system / LOADERS[target], root / LOADERS[target])
    for name in GLIBC:
        shutil.copy(system / folder / name, root / folder)
    shutil.copy(built, root / "app" / "python")
    shutil.copy(COVERAGE, root / "app")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        bwrap = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", str(root), "/", "--proc", "/proc"]
        bwrap += ["--dev", "/dev", "--tmpfs", "/tmp", "--chdir", "/tmp", "--clearenv", *emulator]
        return subprocess.run(
            [*bwrap, "/app/python", *arguments], capture_output=True, text=True, timeout=240, check=False
        )

    return run


def test_the_standard_library_on_a_bare_host(bare: Run, target: recipe.Target) -> None:
    # Without help from this machine's kernel a program under qemu cannot start itself.
    left_out = [] if target == recipe.X86_64 else ["check_starting_itself"]
    done = bare("/app/library_checks.py", *left_out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [name for name in CHECKS if name not in left_out]


def test_it_needs_no_younger_c_library(built: Path, target: recipe.Target, need: Callable[..., None]) -> None:
    need("objdump")
    symbols = subprocess.run(["objdump", "-T", built], capture_output=True, text=True, check=True).stdout
    wanted = {tuple(map(int, version.split("."))) for version in re.findall(r"GLIBC_([\d.]+)", symbols)}
    assert wanted
    assert max(wanted) <= tuple(map(int, recipe.GLIBC.split(".")))
    needed = subprocess.run(["objdump", "-p", built], capture_output=True, text=True, check=True).stdout
    libraries = {line.split()[1] for line in needed.splitlines() if "NEEDED" in line}
    assert libraries <= {*GLIBC, Path(LOADERS[target]).name}


def test_it_is_small_enough_to_send(built: Path) -> None:
    packed = subprocess.run(["gzip", "-9", "-c", built], stdout=subprocess.PIPE, check=True).stdout
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
    runtime: Path, target: recipe.Target, bare: Run, tmp_path: Path, lacking: Callable[[str], NoReturn]
) -> None:
    """As jobs get it: the wheel made ready, and the libraries that this host lacks, each an archive that is unpacked."""
    name, number, _ = NUMPY
    minor = recipe.PYTHON_VERSION.rpartition(".")[0]
    try:
        made = wheels.resolve([f"{name}=={number}"], target.short, minor, runtime, tmp_path / "made")
        libraries = wheels.compat(target.short, cache.default(), tmp_path / "made")
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


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another cache, where everything is made again from the sources."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.mark.soak
def test_two_builds_are_the_same(built: Path, target: recipe.Target, elsewhere: Path) -> None:
    """Also one with another priority, in which CPython's configure once found another `nice`."""
    command = ["nice", "-n", "19", sys.executable, "-m", "pyboinc.package", "runtime", "--target", target.short]
    environment = os.environ | {"PYBOINC_CACHE": str(elsewhere)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stderr
    (again,) = map(Path, done.stdout.split())
    assert again.read_bytes() == built.read_bytes()
