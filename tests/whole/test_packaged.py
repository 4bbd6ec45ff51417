"""`Master("boinc:DIR")` on stock clients whose computers have no Python: the project's own interpreter runs the tasks."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from tests import errands
from tests.served import Project, served
from tests.standin import SHIPPED, archive, pinned

import pymw
from boincserver.testing import SimulatedVolunteer, StockClient, wait_until
from pyboinc.package import cache, recipe, runtimes
from pymw import Master
from pymw.backends.boinc import worker_app
from pymw.cli import main

pytestmark = pytest.mark.stock
LIMIT = 240.0


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, interpreter: Path) -> Iterator[Project]:
    with served(tmp_path_factory.mktemp("packaged") / "project") as project:
        assert main(["boinc", "install-worker", str(project.directory), "--target", recipe.X86_64.short]) == 0
        yield project


@pytest.fixture(scope="module")
def client(
    project: Project, need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StockClient]:
    """A stock client that finds no program but its own: no python3, no shell."""
    need("boinc", "boinccmd", "faketime")
    programs = tmp_path_factory.mktemp("programs")
    for program in ("boinc", "boinccmd"):
        (programs / program).symlink_to(shutil.which(program) or "")
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", str(programs))
            client = stack.enter_context(StockClient(speed=20.0, ncpus=2))
        client.attach(project.url, project.account())
        yield client


def versions(project: Project) -> list[str]:
    return [app["version"] for app in project.control.apps() if app["platform"] == recipe.X86_64.platform]


def test_tasks_run_on_a_computer_without_a_python(project: Project, client: StockClient) -> None:
    with Master(project.backend) as master:
        executable, version, filtered, four = master.submit(errands.about_the_interpreter).result(LIMIT)
    assert Path(executable).parent.parent.name == "projects"
    assert Path(executable).parent.is_relative_to(client.directory)
    assert (version, filtered, four) == (recipe.PYTHON_VERSION, True, 4.0)


def test_the_same_worker_is_registered_once(project: Project, client: StockClient) -> None:
    before = versions(project)
    assert main(["boinc", "install-worker", str(project.directory), "--target", recipe.X86_64.short]) == 0
    with Master(project.backend):
        pass
    assert versions(project) == before


def test_a_fix_in_the_supervisor_needs_no_new_interpreter_and_may_come_while_jobs_run(
    project: Project, client: StockClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old version's job goes on, the next one gets the new version, and the client fetches one small file."""
    before = versions(project)
    with Master(project.backend) as old:
        running = old.submit(errands.creep, 12)
        wait_until(lambda: running.running() or running.done(), timeout=LIMIT, what="a job of the old version to run")
        monkeypatch.setattr(worker_app, "MAIN", worker_app.MAIN + "# a fix\n")
        fetched = client.log().count("Started download of")
        with Master(project.backend) as new:
            assert versions(project) > before
            assert new.submit(errands.about_the_interpreter).result(LIMIT)[1] == recipe.PYTHON_VERSION
        assert running.result(LIMIT) == 20
    log = client.log().split("Started download of")[fetched + 1 :]
    names = [line.split()[0] for line in log]
    assert [name for name in names if "pymw-worker" in name]
    assert not [name for name in names if "linux" in name], names


def test_the_interpreter_travels_compressed_and_once(project: Project, client: StockClient) -> None:
    fetched = [line.split()[0] for line in client.log().split("Started download of")[1:]]
    interpreters = [name for name in fetched if "linux" in name]
    assert len(interpreters) == 1
    stored = next((project.directory / "download").glob(f"*/{interpreters[0].removesuffix('.gz')}"))
    assert stored.stat().st_size > 15e6


def test_packages_of_the_index_are_there_for_tasks_that_ask(project: Project, client: StockClient) -> None:
    """On a computer without Python: fetched once, unpacked once, also for another master and another set of tasks."""
    with Master(project.backend) as master:
        numeric = master.options(packages=["numpy==2.2.6"], quorum=1)
        solutions = list(numeric.map(errands.solved, [3, 4], timeout=LIMIT))
        for n, (version, file, solution) in zip([3, 4], solutions, strict=True):
            assert version == "2.2.6"
            assert Path(file).is_relative_to(client.directory / "projects")
            assert solution == [float(i) for i in range(1, n + 1)]
        with pytest.raises(ModuleNotFoundError, match="numpy"):  # who does not ask has none
            master.submit(errands.solved, 3).result(LIMIT)
    [cache] = client.directory.glob("projects/*/pb_cache")
    unpacked = {path: path.stat().st_ino for path in cache.iterdir()}
    fetched = client.log().count("Started download of")
    with Master(project.backend) as again:
        assert again.options(packages=["numpy==2.2.6"]).submit(errands.solved, 5).result(LIMIT)[0] == "2.2.6"
    assert {path: path.stat().st_ino for path in cache.iterdir()} == unpacked
    new = client.log().split("Started download of")[fetched + 1 :]
    assert not [line for line in new if ".tar" in line.split()[0]]


@pytest.mark.parametrize(
    ("packages", "told"),
    [
        (["numpy"], "'numpy' does not name one version"),
        (["numpy==2.2.6; rm -rf"], "does not name one version"),
        (["--index-url=http://example.org"], "does not name one version"),
        (["numpy==0.0.0"], "numpy==0.0.0 cannot be had for linux-x86_64"),
    ],
)
def test_packages_that_cannot_be_had_are_refused_at_the_call(project: Project, packages: list[str], told: str) -> None:
    with Master(project.backend) as master, pytest.raises(pymw.BackendError, match=re.escape(told)):
        master.options(packages=packages).submit(errands.solved, 3)


def test_what_cannot_be_installed_is_said(project: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["boinc", "install-worker", str(project.directory), "--target", "amiga"]) == 1
    assert "there is no kind of machine 'amiga'; there are: linux-aarch64, linux-x86_64" in capsys.readouterr().err
    assert main(["boinc", "install-worker", str(tmp_path)]) == 1
    assert "is not a project" in capsys.readouterr().err
    assert main(["boinc", "install-worker", str(project.directory), "--target", recipe.X86_64.short, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {recipe.X86_64.platform: recipe.PYTHON_VERSION}


def test_a_ready_made_interpreter_does_as_well(
    need: Callable[..., None],
    interpreter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One of python-build-standalone, here a stand-in: its launcher and its tar are sent, unpacked, and run the task."""
    need("boinc", "boinccmd", "faketime")
    own = tmp_path / "cache"
    monkeypatch.setenv("PYBOINC_CACHE", str(own))
    built = own / "runtime" / recipe.digest(recipe.X86_64)
    built.mkdir(parents=True)
    (built / interpreter.name).symlink_to(interpreter)
    source = archive(tmp_path / "cpython-3.13.17+20261021-stand-in.tar.gz")
    pinned(monkeypatch, source, "https://example.org")
    with served(tmp_path / "project") as project, StockClient(speed=20.0) as client:
        install = ["boinc", "install-worker", str(project.directory), "--from", "pbs"]
        assert main(install) == 1
        assert "--from pbs wants a --target" in capsys.readouterr().err
        assert main([*install, "--target", recipe.X86_64.short, "--archive", str(source)]) == 0
        assert f"{recipe.X86_64.platform}: Python 3.13.17" in capsys.readouterr().out
        client.attach(project.url, project.account())
        with Master(project.backend) as master:
            assert master.submit(errands.double, 21).result(LIMIT) == 42
        [unpacked] = [path for path in client.directory.glob("projects/*/pb_cache/*") if path.is_dir()]
        assert {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()} == set(SHIPPED)


def suffixes(project: Project, name: str) -> set[str]:
    """Kinds of compiled modules in a file that clients fetch."""
    [path] = (project.directory / "download").glob(f"*/{name}")
    with tarfile.open(path) as tar:
        return {Path(member).suffix for member in tar.getnames()} & {".so", ".pyd"}


def test_each_platform_gets_its_own_files(
    tmp_path: Path, interpreter: Path, lacking: Callable[[str], NoReturn]
) -> None:
    if runtimes.find("windows-x86_64", cache.default()) is None:
        lacking("the Windows runtime is not built: make runtime TARGET=windows-x86_64")
    targets = ["linux-x86_64", "windows-x86_64"]
    with served(tmp_path / "project") as project:
        named = [word for target in targets for word in ("--target", target)]
        assert main(["boinc", "install-worker", str(project.directory), *named]) == 0
        with Master(project.backend) as master:
            program: dict[str, dict[str, str]] = {}
            for target in targets:
                master.options(packages=["markupsafe==3.0.2"], quorum=1).submit(errands.escaped, "<")
                platform = runtimes.TARGETS[target]
                with SimulatedVolunteer(project.url, project.account(), platform=platform) as volunteer:
                    [job] = wait_until(lambda: volunteer.contact().assignments, timeout=LIMIT, what="a job", interval=7)
                    program[target] = {
                        "" if file.main_program else file.open_name: file.file.name for file in job.program
                    }
            master.shutdown(wait=False, cancel_futures=True)
        linux, windows = (program[target] for target in targets)
        package = next(name for name in windows if name.startswith("packages/"))
        assert linux.keys() - windows.keys() == {"packages/system-libraries.tar"}
        assert windows.keys() - linux.keys() == {"runtime.tar"}
        assert linux[""] != windows[""]
        assert suffixes(project, linux[package]) == {".so"}
        assert suffixes(project, windows[package]) == {".pyd"}
        assert suffixes(project, windows["runtime.tar"]) == {".pyd"}
        assert linux["main.zip"] == windows["main.zip"]
