"""A file of the project that was changed on its way: the stock client refuses it, and nothing of the job is run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.served import Project, served

from boincserver.control import AppFile, Job
from boincserver.testing import StockClient, wait_until
from pyboinc.package import recipe

pytestmark = pytest.mark.stock
LIMIT = 120.0
# Leaves word that it ran, and ends as BOINC's programs do.
PROGRAM = "#!/bin/sh\n# honest interpreter of {name}\necho ran >> {word}\necho 0 > boinc_finish_called\n"
FILES = {"interpreter": "", "supervisor": "main.zip", "package": "packages/numpy.tar"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, need: Callable[..., None]) -> Iterator[Project]:
    need("boinc", "boinccmd", "faketime")
    with served(tmp_path_factory.mktemp("tampered") / "project") as project:
        yield project


def offered(project: Project, name: str, folder: Path, word: Path) -> int:
    """An application of several signed files, and a job for it with its code as an input; the job's batch."""
    files = []
    for kind, open_name in FILES.items():
        path = folder / f"{name}_{kind}"
        path.write_text(PROGRAM.format(word=word, name=name) if kind == "interpreter" else f"honest {kind} of {name}\n")
        path.chmod(0o755)
        files.append(AppFile(path, open_name, main_program=kind == "interpreter"))
    project.control.ensure_app(name)
    project.control.ensure_app_version(name, recipe.X86_64.platform, None, files)
    batch = project.control.create_batch(name, name).id
    job = Job(
        name,
        {"code": f"honest bundle of {name}".encode()},
        {},
        max_error_results=0,
        max_total_results=1,
        rsc_fpops_est=1e9,
    )
    project.control.create_jobs(batch, [job])
    return batch


def tamper(project: Project, what: str, name: str) -> None:
    """Change a file where it is downloaded from; its length stays."""
    [path] = [
        path
        for path in (project.directory / "download").rglob("*")
        if path.is_file() and f"honest {what} of {name}".encode() in path.read_bytes()
    ]
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data.replace(b"honest", b"forged"))


@pytest.mark.parametrize("what", [*FILES, "bundle", ""])
def test_a_changed_file_is_refused(project: Project, tmp_path: Path, what: str) -> None:
    name, word = f"{what or 'nothing'}_changed", tmp_path / "word"
    batch = offered(project, name, tmp_path, word)
    if what:
        tamper(project, what, name)
    with StockClient(speed=20.0) as client:
        client.attach(project.url, project.account())
        outcomes = wait_until(
            lambda: project.control.outcomes(batch, wait=0.5), timeout=LIMIT, what=f"the end of {name}"
        )
    [attempt] = outcomes[0].attempts
    assert word.exists() == (not what)
    if what:
        assert attempt.exit_status != 0
        assert re.search("MD5 check failed|signature verification failed", attempt.stderr), attempt
    else:
        assert attempt.exit_status == 0
