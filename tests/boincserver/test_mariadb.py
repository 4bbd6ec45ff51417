"""The same server on MariaDB: a real `mariadbd`, started by the test on a socket of its own."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy

from boincserver import project
from boincserver.doctor import examine
from boincserver.files import FileStore
from boincserver.project import Project
from boincserver.records import Job
from boincserver.testing import SimulatedJob, SimulatedVolunteer, free_port, serving, wait_until

from .conftest import add_app


def shout(job: SimulatedJob) -> dict[str, bytes]:
    return {"out": job.inputs["in"].upper()}


@pytest.fixture(scope="module")
def database_url(need: Callable[..., None]) -> Iterator[str]:
    need("mariadbd", "mariadb-install-db")
    with tempfile.TemporaryDirectory(prefix="mariadb-") as folder:
        data = Path(folder) / "data"
        socket = Path(folder) / "s"
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--user=root"],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        with (Path(folder) / "log").open("wb") as log:
            server = subprocess.Popen(
                [
                    "mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={socket}", "--skip-networking",
                    "--user=root", "--innodb-flush-log-at-trx-commit=1", f"--pid-file={folder}/pid",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        try:
            root = f"mysql+pymysql://root@localhost/%s?unix_socket={socket}&charset=utf8mb4"
            engine = sqlalchemy.create_engine(root % "")
            # The driver leaves its socket open when nobody answers, so it is not asked before somebody can.
            wait_until(socket.exists, timeout=60, what="mariadbd to listen")
            with engine.connect() as connection:
                connection.exec_driver_sql("CREATE DATABASE project CHARACTER SET utf8mb4")
            engine.dispose()
            yield root % "project"
        finally:
            server.terminate()
            server.wait(30)


def test_the_whole_way_on_mariadb(database_url: str, tmp_path: Path) -> None:
    directory = tmp_path / "project"
    made = project.create(directory, f"http://127.0.0.1:{free_port()}/", database=database_url)
    with serving(directory) as server:
        control = server.control
        add_app(control, tmp_path)
        batch = control.create_batch("upper", "b")
        wanted = [Job(f"j{n}", {"in": f"text {n} é".encode()}, {"out": 1000}, min_quorum=2) for n in range(20)]
        assert control.create_jobs(batch.id, wanted) == 20
        assert control.create_jobs(batch.id, wanted) == 0
        keys = [control.create_account(f"v{n}@example.org", "Jürgen 🚀") for n in range(2)]
        with SimulatedVolunteer(made.config.url, keys[0], shout, ncpus=4) as one:
            with SimulatedVolunteer(made.config.url, keys[1], shout, ncpus=4) as two:
                while one.step() + two.step() or one.finished or two.finished:
                    pass
        outcomes = control.outcomes(batch.id)
        assert {o.name: o.outputs["out"] for o in outcomes} == {
            f"j{n}": f"text {n} é".encode().upper() for n in range(20)
        }
        control.acknowledge(batch.id, outcomes[-1].seq)
        assert control.users()[0]["name"] == "Jürgen 🚀"
        assert control.status()["jobs"]["done"] == 20
        server.kill()
    database = Project.open(directory).open_database()
    try:
        assert list(examine(database, FileStore(directory / "upload"))) == []
    finally:
        database.close()
