"""Inside an official project: submitter, validator and assimilator on its own tables, with its own programs beside."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import errands
from tests.mariadb import MariaDB
from tests.official import LIMIT, OfficialHost, OfficialServer

from pymw import Master


@pytest.fixture(scope="module")
def mariadb(need: Callable[..., None]) -> Iterator[MariaDB]:
    need("mariadbd", "mariadb-install-db")
    with tempfile.TemporaryDirectory(prefix="mariadb-") as folder:
        server = MariaDB(Path(folder))
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))


@pytest.fixture
def bare(tmp_path: Path, mariadb: MariaDB) -> Iterator[OfficialServer]:
    """As `make_project` leaves it."""
    server = OfficialServer(tmp_path / "pi", mariadb)
    yield server
    server.close()


@pytest.fixture
def official(bare: OfficialServer) -> OfficialServer:
    """With our application."""
    bare.install()
    return bare


@pytest.fixture
def hosts(official: OfficialServer) -> Iterator[list[OfficialHost]]:
    """Three computers of three users."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(official.volunteer(name))) for name in ("ada", "bob", "cyd")]


def test_the_way_of_some_tasks_step_by_step(official: OfficialServer, hosts: list[OfficialHost]) -> None:
    with Master(official.backend) as master:
        future = master.submit(errands.double, 21)
        (workunit,) = official.sql("SELECT * FROM workunit")
        assert (workunit["need_validate"], workunit["assimilate_state"], workunit["error_mask"]) == (0, 0, 0)
        assert official.transition() == 1
        assert hosts[0].step(official) == 1
        official.transition()
        official.daemons_once()
        assert future.result(LIMIT) == 42
        workunit = official.one("workunit", "id", workunit["id"])
        (result,) = official.sql("SELECT * FROM result")
        assert (workunit["canonical_resultid"], workunit["assimilate_state"]) == (result["id"], 2)
        assert (result["validate_state"], result["granted_credit"] > 0) == (1, True)


def test_a_map_with_everything_running(official: OfficialServer, hosts: list[OfficialHost]) -> None:
    with official.running(*hosts), Master(official.backend) as master:
        assert list(master.map(errands.double, range(40), timeout=LIMIT)) == [2 * n for n in range(40)]
