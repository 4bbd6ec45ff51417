"""A fake client with a slot of its own, and short programs for it to run."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pyboinc
from pyboinc.testing import FakeClient

SOURCE = Path(pyboinc.__file__).parents[1]
MAIN = """
import sys
from pyboinc import supervisor
from pyboinc.supervisor import Limits, supervise
supervisor.FINISH_PATIENCE = 60  # this client may stand still for a while
sys.exit(supervise([sys.executable, {child!r}, *sys.argv[1:]]{options}))
"""
PLAIN = {"PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}

Start = Callable[..., FakeClient]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FakeClient]:
    with FakeClient(tmp_path) as client:
        yield client


@pytest.fixture
def start(client: FakeClient, tmp_path: Path) -> Start:
    """start(child's source, supervise's options as source): the fake client runs that as a task."""

    def start(child: str, options: str = "", *, main: str = MAIN, arguments: tuple[str, ...] = ()) -> FakeClient:
        program = tmp_path / "child.py"
        program.write_text("import os, sys, time, pyboinc\n" + textwrap.dedent(child))
        source = main.format(child=str(program), options=f", {options}" if options else "")
        (tmp_path / "main.py").write_text(textwrap.dedent(source))
        client.start([sys.executable, str(tmp_path / "main.py"), *arguments], PLAIN)
        return client

    return start


def state(pid: int) -> str:
    """One letter for what a process does, as in /proc; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """gone(pid): the process has ended; one that nobody has waited for yet counts as ended."""
    return lambda pid: state(pid) in ("", "Z")


@pytest.fixture
def stands() -> Callable[[int], bool]:
    """stands(pid): the process is stopped."""
    return lambda pid: state(pid) == "T"


@pytest.fixture
def pid_file(tmp_path: Path, client: FakeClient) -> Callable[[str], int]:
    """pid_file(name): the number in a file that a child writes into its slot, once it is whole."""

    def read(name: str = "pid") -> int:
        path = client.slot / name
        client.until(lambda: path.exists() and path.read_text().endswith("\n"))
        return int(path.read_text())

    return read
