"""A project, served; the standard library's `sh` plays the application."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.mariadb import MariaDB

from boincserver import project
from boincserver.control import AppFile, Control
from boincserver.testing import free_port, serving
from boincserver.testing.serving import ServerProcess

PLATFORM = "x86_64-pc-linux-gnu"

UPPER = """#!/bin/sh
# Writes its input in capitals; does what the first word of the input says.
read -r word rest < in
echo "working on $word" >&2
case "$word" in
    fail) exit 3 ;;
    sleep) sleep "$rest" ;;
    big) head -c "$rest" /dev/zero | tr '\\0' x > out ;;
esac
[ -s out ] || tr a-z A-Z < in > out
echo 0 > boinc_finish_called
"""


def make_project(directory: Path, database: str = "") -> project.Project:
    url = f"http://127.0.0.1:{free_port()}/"
    return project.create(directory, url, name="Test project", open_accounts=True, database=database)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "project"


@pytest.fixture
def server(directory: Path) -> Iterator[ServerProcess]:
    make_project(directory)
    with serving(directory) as running:
        yield running


@pytest.fixture
def control(server: ServerProcess) -> Control:
    return server.control


@pytest.fixture
def url(control: Control) -> str:
    return control.info().url


def add_app(
    control: Control, folder: Path, name: str = "upper", program: str = UPPER, validator: str = "bitwise"
) -> None:
    path = folder / f"{name}.sh"
    path.write_text(program)
    control.ensure_app(name, validator=validator)
    control.ensure_app_version(name, PLATFORM, None, [AppFile(path, "upper.sh", main_program=True)])


@pytest.fixture
def upper(control: Control, tmp_path: Path) -> str:
    """An application that is a shell script."""
    add_app(control, tmp_path)
    return "upper"


@pytest.fixture(scope="module")
def mariadb(need: Callable[..., None]) -> Iterator[MariaDB]:
    need("mariadbd", "mariadb-install-db")
    with tempfile.TemporaryDirectory(prefix="mariadb-") as folder:
        server = MariaDB(Path(folder))
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def database_url(mariadb: MariaDB) -> str:
    return mariadb.create()
