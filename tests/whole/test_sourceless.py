"""Which Python volunteers have: functions without source go to this very one alone, and new syntax to no old one."""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import errands
from tests.served import Project, served

import pymw
from boincserver.testing import SimulatedVolunteer
from pyboinc.package import recipe
from pyboinc.package.runtimes import File, Runtime
from pymw import Master
from pymw.backends.boinc import interpreters

LIMIT = 120.0
# Plays an interpreter made for volunteers: the program lies in the slot as main.zip; with arguments it is a Python.
LAUNCHER = """\
#!{python}
import os, re, runpy, sys
if not os.path.exists("main.zip"):
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
link = re.fullmatch(r"<soft_link>(.*)</soft_link>\\s*", open("main.zip").read())
sys.argv[0] = os.path.abspath(link[1])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with served(tmp_path / "project") as project:
        yield project


def with_interpreter(project: Project, folder: Path, version: str) -> None:
    """As `pymw boinc install-worker` does, with this environment's Python, said to be of that version."""
    launcher = folder / "python_linux"
    launcher.write_text(LAUNCHER.format(python=sys.executable))
    launcher.chmod(0o755)
    made = Runtime(recipe.X86_64.short, version, (File(launcher, launcher.name, main_program=True),))
    interpreters.install(project.control, [made])


def sourceless() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__", "errands": errands}
    exec("def f(x): return errands.double(x) + 1", names)
    exec("def fail(x): raise ValueError(x)", names)
    exec("def adder(n): return lambda x: x + n", names)
    return names


def test_it_runs_where_the_project_has_this_python_and_nothing_else_does(project: Project, tmp_path: Path) -> None:
    with_interpreter(project, tmp_path, platform.python_version())
    names = sourceless()
    with SimulatedVolunteer(project.url, project.account()).start(), Master(project.backend) as master:
        assert list(master.map(names["f"], range(4), timeout=LIMIT)) == [1, 3, 5, 7]
        assert master.submit(names["adder"](5), 1).result(LIMIT) == 6
        assert master.submit(functools.partial(names["f"], 3)).result(LIMIT) == 7
        with pytest.raises(ValueError, match="9"):
            master.submit(names["fail"], 9).result(LIMIT)
        assert master.submit(errands.double, 4).result(LIMIT) == 8  # with source: on any computer
    apps = {(app["name"], app["platform"]) for app in project.control.apps()}
    pinned = {name for name, _ in apps} - {"pymw", "pymw-adaptive"}
    assert len(pinned) == 1
    assert {where for name, where in apps if name in pinned} == {recipe.X86_64.platform}


@pytest.mark.parametrize("version", ["", "3.8.1"])
def test_it_is_refused_with_the_reason_where_that_is_not_so(project: Project, tmp_path: Path, version: str) -> None:
    if version:
        with_interpreter(project, tmp_path, version)
    minor = ".".join(platform.python_version_tuple()[:2])
    has = "interpreters of Python 3.8" if version else "no interpreters of its own"
    with Master(project.backend, rehearse=False) as master:
        for function in (sourceless()["f"], functools.partial(sourceless()["f"], 1), sourceless()["adder"](1)):
            with pytest.raises(pymw.UnshippableError, match="define it in a script") as refused:
                master.submit(function, 1)
            assert f"Byte code needs volunteers with Python {minor}, and this project has {has}" in str(refused.value)


def chosen(x: int) -> str:
    match x:
        case 0:
            return "none"
        case _:
            return "some"


def test_syntax_that_the_projects_interpreters_do_not_know_is_refused_at_the_call(
    project: Project, tmp_path: Path
) -> None:
    with_interpreter(project, tmp_path, "3.9.2")
    with Master(project.backend, rehearse=False) as master:
        with pytest.raises(
            pymw.BackendError, match=r"volunteers have Python 3.9, which cannot read .*: Pattern matching"
        ):
            master.submit(chosen, 1)
        master.submit(errands.double, 1).cancel()
