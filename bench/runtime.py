"""What a job costs that does nothing: supervisor and child, with and without the sandbox, on each interpreter."""

from __future__ import annotations

import gzip
import importlib.util
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import pyboinc
from pyboinc import sandbox
from pyboinc.package import build, cache, recipe
from pyboinc.testing import FakeClient

ROUNDS = 15
CPU_TARGET = {"plain": 110, "sandbox": 140}
"""Milliseconds of CPU that an empty job may cost."""

MAIN = """
import os, sys
if sys.argv[1:] != ["--child"]:
    from pyboinc.supervisor import supervise
    policy = None
    if os.environ.get("BENCH_SANDBOX"):
        from pyboinc.sandbox import Policy
        policy = Policy()
    sys.exit(supervise([sys.executable, sys.argv[0], "--child"], sandbox=policy))
import pyboinc
pyboinc.fraction_done(0.5)
"""


def main() -> None:
    """Print CPU and wall time per empty job, then sizes."""
    with tempfile.TemporaryDirectory(prefix="bench-runtime-") as folder:
        for label, command in _interpreters(Path(folder)).items():
            for kind in ("plain", "sandbox"):
                _report(f"{label}, {kind}", _empty_jobs(Path(folder), command, kind), CPU_TARGET[kind])
        for label, command in _others(Path(folder)).items():
            _report(label, [_cost(command, Path(folder)) for _ in range(ROUNDS)])
    _sandbox_setup()
    _sizes()


def _application(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", MAIN)
        source = Path(pyboinc.__file__).parent
        for module in [*source.glob("*.py"), *source.glob("sandbox/*.py")]:
            name = f"pyboinc/{module.relative_to(source)}"
            archive.writestr(name + "c", _bytecode(module, name))
    return path


def _bytecode(module: Path, name: str) -> bytes:
    from pyboinc.package.stdlib import bytecode

    return bytecode(module.read_bytes(), name)


def _runtime() -> Path | None:
    path = cache.default() / "runtime" / recipe.digest(recipe.X86_64) / build.name(recipe.X86_64)
    return path if path.exists() else None


def _interpreters(folder: Path) -> dict[str, list[str]]:
    """Commands that run the application in a slot; each compiles it for itself first."""
    found = {}
    runtime = _runtime()
    if runtime:
        found["our interpreter"] = [str(runtime), str(_compiled_by(runtime, folder / "runtime.zip"))]
    else:
        print("our interpreter is not built: make runtime")
    host = Path(sys.executable)
    found[f"host's Python {sys.version_info.major}.{sys.version_info.minor}"] = [
        str(host), "-I", "-S", str(_compiled_by(host, folder / "host.zip")),
    ]  # fmt: skip
    return found


def _compiled_by(python: Path, into: Path) -> Path:
    if python == Path(sys.executable):
        return _application(into)
    source = Path(pyboinc.__file__).parents[1]
    code = f"import sys; sys.path[:0] = [{str(source)!r}, {str(Path(__file__).parents[1])!r}]; "
    code += f"from bench.runtime import _application; from pathlib import Path; _application(Path({str(into)!r}))"
    subprocess.run([str(python), "-c", code], check=True)
    return into


def _empty_jobs(folder: Path, command: list[str], kind: str) -> list[tuple[float, float]]:
    costs = []
    for _ in range(ROUNDS):
        place = tempfile.mkdtemp(dir=folder)
        with FakeClient(place) as client:
            before, began = _cpu(), time.perf_counter()
            client.start(command, {"BENCH_SANDBOX": "1" if kind == "sandbox" else ""})
            if client.finish() != 0:
                raise RuntimeError(client.stderr())
            costs.append((_cpu() - before, time.perf_counter() - began))
        shutil.rmtree(place)
    return costs


def _others(folder: Path) -> dict[str, list[str]]:
    """An empty program by today's other ways, without any supervision."""
    found = {"no supervisor: host's Python alone": [sys.executable, "-I", "-S", "-c", "pass"]}
    if _runtime():
        found["no supervisor: our interpreter alone"] = [str(_runtime()), "-c", "pass"]
    program = folder / "empty.py"
    program.write_text("pass\n")
    if importlib.util.find_spec("PyInstaller") is None:
        print("PyInstaller is not installed, so it is not compared")
        return found
    for kind, name in (("onefile", "empty"), ("onedir", "empty/empty")):
        tool = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR", f"--{kind}", "empty.py"]
        subprocess.run([*tool, "--distpath", kind], cwd=folder, check=True, capture_output=True)
        found[f"no supervisor: PyInstaller --{kind}"] = [str(folder / kind / name)]
    return found


def _cost(command: list[str], folder: Path) -> tuple[float, float]:
    before, began = _cpu(), time.perf_counter()
    subprocess.run(command, check=True, cwd=folder)
    return _cpu() - before, time.perf_counter() - began


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _report(label: str, costs: list[tuple[float, float]], target: float = 0) -> None:
    cpu, wall = ([1000 * cost[which] for cost in costs] for which in (0, 1))
    middle = statistics.median(cpu)
    goal = f"  (target {target} ms: {'met' if middle < target else 'MISSED'})" if target else ""
    print(f"{label:44} CPU {middle:5.0f} ms, least {min(cpu):4.0f}; wall least {min(wall):5.0f} ms{goal}")


_TIMED = """
import time
from pyboinc import sandbox
from pyboinc.sandbox import rlimits
sandbox.available()
began = time.perf_counter()
sandbox.apply(sandbox.Policy(write=["."]))
print(1e6 * (time.perf_counter() - began))
"""


def _sandbox_setup() -> None:
    """Microseconds from the call to the last layer, its modules imported."""
    command = [sys.executable, "-c", _TIMED]
    runs = [float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(ROUNDS)]
    level = sandbox.available()
    print(f"applying the sandbox ({level}): {min(runs):.0f} us at least, {statistics.median(runs):.0f} in the middle")


def _sizes() -> None:
    for target in recipe.TARGETS.values():
        path = cache.default() / "runtime" / recipe.digest(target) / build.name(target)
        if path.exists():
            data = path.read_bytes()
            print(f"{path.name}: {len(data) / 1e6:.1f} MB, to send {len(gzip.compress(data, 9)) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
