"""What a job costs that does nothing: supervisor and child, with and without the sandbox, on each interpreter.

Two programs are measured. The child of the first checks the signature of the code that came with the job (RSA-3072, and
the bundle's SHA-256), as that of every job does, and no more. The second is PyMW's own worker, never without the
sandbox: it checks the same, unpacks and loads the code, calls a function that returns at once, and packs the outcome.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.util
import io
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from bench._nothing import nothing
from pyboinc import packages, sandbox
from pyboinc.package import application, build, cache, recipe, sources, wheels
from pyboinc.testing import FakeClient
from pymw import envelope
from pymw.backends.boinc.keys import SigningKey
from pymw.backends.boinc.worker_app import worker_program
from pymw.bundle import bundle
from pymw.volunteer import BUNDLE, OUTCOMES, SIGNATURE, TASKS, TRUSTED

ROUNDS = 15
CPU_TARGET = {"plain": 110, "sandbox": 140}
"""Milliseconds of CPU that an empty job may cost."""
START_TARGET = 20
"""The same for the interpreter alone."""
NUMPY = "numpy==2.2.6"
OURS_ALONE = "our interpreter alone"
PROJECT = "http://example.org/"

PROGRAM = f"""
import os, sys
if sys.argv[1:] != ["--child"]:
    from pyboinc.supervisor import supervise
    policy = None
    if os.environ.get("BENCH_SANDBOX"):
        from pyboinc.sandbox import Policy
        policy = Policy()
    sys.exit(supervise([sys.executable, sys.argv[0], "--child"], sandbox=policy))
import time, pyboinc
from pymw import signature
def read(name):
    with open(pyboinc.resolve(name), "rb") as file:
        return file.read()
signature.check(read({TRUSTED!r}), read({SIGNATURE!r}), {{{BUNDLE!r}: read({BUNDLE!r})}}, time.time())
pyboinc.fraction_done(0.5)
"""

Job = Callable[[], tuple[float, float]]


def main() -> None:
    """Print CPU and wall time per empty job, then the import of NumPy, then sizes."""
    with tempfile.TemporaryDirectory(prefix="bench-runtime-") as folder:
        _print_side_by_side(_jobs(Path(folder)))
        _print_import(Path(folder))
    _sandbox_setup()
    _sizes()


def _jobs(folder: Path) -> Mapping[str, Job]:
    """Each empty job by what it is."""
    files = _signed_job(SigningKey.of(folder))
    worker = _members(worker_program())
    checks = {**worker, "__main__.py": PROGRAM.encode()}
    found: dict[str, Job] = {}
    for interpreter, command in _interpreters().items():
        for label, members, kinds in (("", checks, CPU_TARGET), ("PyMW's worker, ", worker, ["sandbox"])):
            path = _compiled(members, Path(command[0]), folder)
            for kind in kinds:
                run = functools.partial(_empty_job, folder, [*command, str(path)], kind, files)
                found[f"{interpreter}: {label}{kind}"] = run
    for label, command in _others(folder).items():
        found[f"no supervisor: {label}"] = functools.partial(_cost, command, folder)
    return found


def _signed_job(key: SigningKey) -> Mapping[str, bytes]:
    """The files of a job that calls `nothing` once."""
    code = bundle(nothing).data
    statement = {BUNDLE: hashlib.sha256(code).hexdigest()}
    return {
        BUNDLE: code,
        SIGNATURE: key.sign(PROJECT, "bench", statement, int(time.time()) + 3600),
        TRUSTED: key.trusted(PROJECT),
        TASKS: envelope.pack_job(envelope.Job((envelope.Item("0", envelope.pack_call((), {})),))),
    }


def _members(program: bytes) -> Mapping[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(program)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _compiled(program: Mapping[str, bytes], python: Path, folder: Path) -> Path:
    """The program as bytecode of the interpreter that will run it."""
    stage = Path(tempfile.mkdtemp(dir=folder))
    for name, content in program.items():
        path = stage / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return application.compile_zip(stage, python, Path(tempfile.mkdtemp(dir=folder), "main.zip"))


def _runtime() -> Path | None:
    path = cache.default() / "runtime" / recipe.digest(recipe.X86_64) / build.name(recipe.X86_64)
    return path if path.exists() else None


def _interpreters() -> Mapping[str, list[str]]:
    host = {f"host's Python {sys.version_info.major}.{sys.version_info.minor}": [sys.executable, "-I", "-S"]}
    runtime = _runtime()
    if runtime is None:
        print("our interpreter is not built: make runtime")
        return host
    return {"our interpreter": [str(runtime)], **host}


def _empty_job(folder: Path, command: list[str], kind: str, files: Mapping[str, bytes]) -> tuple[float, float]:
    place = tempfile.mkdtemp(dir=folder)
    with FakeClient(place) as client:
        for name, content in files.items():
            client.link(name, f"wu_1_{name}").write_bytes(content)
        made = client.link(OUTCOMES, "wu_1_out")
        before, began = _cpu(), time.perf_counter()
        client.start(command, {"BENCH_SANDBOX": "1" if kind == "sandbox" else ""})
        if client.finish() != 0 or (made.exists() and not _returned(made.read_bytes())):
            raise RuntimeError(client.stderr())
        cost = _cpu() - before, time.perf_counter() - began
    shutil.rmtree(place)
    return cost


def _returned(outcomes: bytes) -> bool:
    return [envelope.unpack_outcome(each, []).ending.name for each in envelope.unpack_outcomes(outcomes)] == [
        "RETURNED"
    ]


def _others(folder: Path) -> Mapping[str, list[str]]:
    """An empty program by today's other ways, without any supervision."""
    found = {"host's Python alone": [sys.executable, "-I", "-S", "-c", "pass"]}
    if _runtime():
        found[OURS_ALONE] = [str(_runtime()), "-c", "pass"]
    program = folder / "empty.py"
    program.write_text("pass\n")
    if importlib.util.find_spec("PyInstaller") is None:
        print("PyInstaller is not installed, so it is not compared")
        return found
    for kind, name in (("onefile", "empty"), ("onedir", "empty/empty")):
        tool = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR", f"--{kind}", "empty.py"]
        subprocess.run([*tool, "--distpath", kind], cwd=folder, check=True, capture_output=True)
        found[f"PyInstaller --{kind}"] = [str(folder / kind / name)]
    return found


def _cost(command: list[str], folder: Path) -> tuple[float, float]:
    before, began = _cpu(), time.perf_counter()
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    return _cpu() - before, time.perf_counter() - began


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _print_side_by_side(jobs: Mapping[str, Job]) -> None:
    """Each job in turn, round after round."""
    costs: dict[str, list[tuple[float, float]]] = {label: [] for label in jobs}
    for _ in range(ROUNDS):
        for label, run in jobs.items():
            costs[label].append(run())
    for label, found in costs.items():
        cpu, wall = ([1000 * cost[which] for cost in found] for which in (0, 1))
        target = START_TARGET if label.endswith(OURS_ALONE) else CPU_TARGET.get(label.rpartition(" ")[2])
        middle = statistics.median(cpu)
        goal = f"  (target {target} ms: {'met' if middle < target else 'MISSED'})" if target else ""
        print(f"{label:48} CPU {middle:5.0f} ms, least {min(cpu):4.0f}; wall least {min(wall):5.0f} ms{goal}")


def _print_import(folder: Path) -> None:
    """NumPy as tasks get it, and in a virtual environment of the host's Python: CPU time beyond an empty program's."""
    runtime = _runtime()
    if runtime is None:
        return
    minor = recipe.PYTHON_VERSION.rpartition(".")[0]
    try:
        made = wheels.resolve([NUMPY], recipe.X86_64.short, minor, runtime, folder / "wheels")
    except (wheels.PackagingError, sources.SourceError) as error:
        print(f"the import of NumPy is not measured: {error}")
        return
    places = [packages.unpack(str(package.path)) for package in made]
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", NUMPY]
    subprocess.run(pip, check=True)
    use = f"import sys; sys.path += {places}; "
    runs = {
        "task": [str(runtime), "-c", use + "import numpy"],
        "empty task": [str(runtime), "-c", use],
        "venv": [str(venv / "bin" / "python"), "-c", "import numpy"],
        "empty venv": [str(venv / "bin" / "python"), "-c", ""],
    }
    cpu: dict[str, list[float]] = {label: [] for label in runs}
    for _ in range(ROUNDS):
        for label, command in runs.items():
            cpu[label].append(_cost(command, folder)[0])
    ratios = [
        (task - empty) / (venv_ - bare)
        for task, empty, venv_, bare in zip(*(cpu[label] for label in runs), strict=True)
    ]
    task, venv_ms = (
        1000 * (statistics.median(cpu[label]) - statistics.median(cpu[f"empty {label}"])) for label in ("task", "venv")
    )
    print(
        f"import numpy: {task:.0f} ms of CPU in a task, {venv_ms:.0f} in a venv of Python {sys.version_info.major}."
        f"{sys.version_info.minor}; ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


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
