"""The whole way: a project that is served, and volunteers, simulated or stock, who work for it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.served import Project, served

from boincserver.testing import SimulatedVolunteer, StockClient, wait_until

SPEED = 20.0  # of the stock clients' clocks: their polls are compiled in


@pytest.fixture(scope="session", autouse=True)
def python_of_volunteers() -> Iterator[None]:
    """Volunteers' computers find this environment's Python as python3."""
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{before}"
    yield
    os.environ["PATH"] = before


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with served(tmp_path_factory.mktemp("whole") / "project") as project:
        yield project


@pytest.fixture(scope="module")
def volunteers(project: Project) -> Iterator[list[SimulatedVolunteer]]:
    """Three simulated computers of three users: as many as a task may fail on."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(SimulatedVolunteer(project.url, project.account()).start()) for _ in range(3)]


@pytest.fixture(scope="module")
def stock_clients(project: Project, need: Callable[..., None]) -> Iterator[list[StockClient]]:
    """Two stock BOINC clients of two users, attached."""
    need("boinc", "boinccmd", "faketime")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(StockClient(speed=SPEED, name=f"stock{n}")) for n in range(2)]
        for client in clients:
            client.attach(project.url, project.account())
        wait_until(lambda: len(project.control.hosts()) == 2, timeout=120, what="both clients to join")
        yield clients
