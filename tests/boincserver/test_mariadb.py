"""The same server on MariaDB: a real `mariadbd`, started by the test on a socket of its own."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path

import pytest
import sqlalchemy
from tests.mariadb import MariaDB

from boincserver import cli, project
from boincserver.control import connect
from boincserver.doctor import examine
from boincserver.errors import ConfigError, ControlError, ServerNotRunning
from boincserver.files import FileStore
from boincserver.project import Project
from boincserver.records import Job
from boincserver.serve import serve
from boincserver.shard import Shard, ShardLock
from boincserver.states import ErrorMask
from boincserver.testing import SimulatedJob, SimulatedVolunteer, configure, free_port, serving, wait_until
from boincserver.testing.serving import ServerProcess

from .conftest import add_app


def shout(job: SimulatedJob) -> dict[str, bytes]:
    return {"out": job.inputs["in"].upper()}


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
    assert findings(directory) == []


def findings(directory: Path) -> list[str]:
    database = Project.open(directory).open_database()
    try:
        return list(examine(database, FileStore(directory / "upload")))
    finally:
        database.close()


# --- several processes ------------------------------------------------------------------------------------------------


def make_shared(directory: Path, database_url: str, processes: int = 2) -> Project:
    """A project that so many processes serve."""
    project.create(directory, f"http://127.0.0.1:{free_port()}/", database=database_url)
    configure(directory, processes=processes)
    return Project.open(directory)


def members(server: ServerProcess) -> list[int]:
    """The processes that serve, by their number."""
    pid = server.process.pid
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    lines = {child: Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0") for child in found}
    return sorted((child for child in found if b"--number" in lines[child]), key=lambda c: lines[c].index(b"--number"))


def volunteers(url: str, keys: Sequence[str], computers: int) -> Iterator[SimulatedVolunteer]:
    for n in range(computers):
        yield SimulatedVolunteer(url, keys[n % len(keys)], shout, ncpus=4, name=f"computer{n}")


def survive(directory: Path, database_url: str, tmp_path: Path, kills: int) -> None:
    """Two of everything under load, one of them killed at random moments; in the end every job is done, once."""
    chance = random.Random(1969)
    made = make_shared(directory, database_url)
    total = 80 * kills
    done: dict[str, bytes] = {}
    with serving(directory) as server, contextlib.ExitStack() as stack:
        control = server.control
        add_app(control, tmp_path)
        wait_until(lambda: len(members(server)) == 2, timeout=60, what="two processes")
        keys = [control.create_account(f"v{n}@example.org") for n in range(3)]
        crowd = [stack.enter_context(one) for one in volunteers(made.config.url, keys, 6)]
        batch = control.create_batch("upper", "b")
        options = {"min_quorum": 2, "max_error_results": 20, "max_total_results": 40, "max_success_results": 20}
        wanted = [Job(f"j{n}", {"in": f"text {n}".encode()}, {"out": 1000}, **options) for n in range(total)]
        assert control.create_jobs(batch.id, wanted) == total
        for one in crowd:
            one.start(pause=0.02)
        after = 0

        def collect(enough: int) -> bool:
            nonlocal after
            try:
                outcomes = connect(directory).outcomes(batch.id, after=after, wait=0.2)
            except (ServerNotRunning, ControlError, OSError, HTTPException):
                return False
            for outcome in outcomes:
                assert outcome.name not in done
                assert outcome.error_mask == ErrorMask.NONE, outcome
                done[outcome.name], after = outcome.outputs["out"], outcome.seq
            return len(done) >= enough

        for kill in range(kills):
            # Both are at it: what is not done yet is more than what either holds.
            wait_until(lambda enough=total * kill // (kills + 1): collect(enough), timeout=120, what="progress")
            time.sleep(chance.uniform(0, 0.5))  # the moment of the kill, not a synchronisation
            os.kill(chance.choice(members(server)), signal.SIGKILL)
        wait_until(lambda: collect(total), timeout=240, what=f"{total} outcomes")
    assert done == {f"j{n}": f"TEXT {n}".encode() for n in range(total)}
    assert findings(directory) == []
    assert sent_twice(directory) == []


def sent_twice(directory: Path) -> list[str]:
    """Workunits of which a user has more copies that count than one."""
    database = Project.open(directory).open_database()
    try:
        with database.engine.connect() as connection:
            return list(connection.scalars(sqlalchemy.text(
                "SELECT w.name FROM result r JOIN workunit w ON w.id = r.workunitid WHERE r.outcome = 1 "
                "GROUP BY w.name, r.userid HAVING COUNT(*) > 1"
            )))  # fmt: skip
    finally:
        database.close()


def test_two_processes_of_which_one_is_killed(directory: Path, database_url: str, tmp_path: Path) -> None:
    survive(directory, database_url, tmp_path, 3)


@pytest.mark.soak
def test_two_processes_of_which_one_is_killed_thirty_times(directory: Path, database_url: str, tmp_path: Path) -> None:
    survive(directory, database_url, tmp_path, 30)


# --- the database goes away -------------------------------------------------------------------------------------------


def outage(
    mariadb: MariaDB, directory: Path, database_url: str, tmp_path: Path, seconds: float, processes: int
) -> None:
    """The database is stopped while volunteers work; the server waits for it, and nothing is lost."""
    made = make_shared(directory, database_url, processes)
    total = 60
    with serving(directory) as server, contextlib.ExitStack() as stack:
        control = server.control
        add_app(control, tmp_path)
        crowd = [
            stack.enter_context(one)
            for one in volunteers(made.config.url, [control.create_account("v@example.org")], 3)
        ]
        batch = control.create_batch("upper", "b")
        control.create_jobs(batch.id, [Job(f"j{n}", {"in": f"text {n}".encode()}, {"out": 1000}) for n in range(total)])
        for one in crowd:
            one.start(pause=0.1)
        wait_until(lambda: control.outcomes(batch.id), timeout=60, what="the first outcome")
        mariadb.stop()
        time.sleep(seconds)  # how long it is away
        assert server.process.poll() is None
        mariadb.start()

        def complete() -> bool:
            try:
                return len(connect(directory).outcomes(batch.id)) == total
            except (ServerNotRunning, ControlError, OSError, HTTPException):
                return False

        wait_until(complete, timeout=120, what="all outcomes")
        assert {one.name: one.outputs["out"] for one in connect(directory).outcomes(batch.id)} == {
            f"j{n}": f"TEXT {n}".encode() for n in range(total)
        }
    assert findings(directory) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_a_database_that_goes_away_is_waited_for(
    mariadb: MariaDB, directory: Path, database_url: str, tmp_path: Path, processes: int
) -> None:
    outage(mariadb, directory, database_url, tmp_path, 1.0, processes)


@pytest.mark.soak
@pytest.mark.parametrize("processes", [1, 2])
def test_a_database_that_is_away_for_half_a_minute(
    mariadb: MariaDB, directory: Path, database_url: str, tmp_path: Path, processes: int
) -> None:
    outage(mariadb, directory, database_url, tmp_path, 30.0, processes)


# --- what one process does the other learns ------------------------------------------------------------------------------


def test_an_application_is_known_to_every_process(directory: Path, database_url: str, tmp_path: Path) -> None:
    made = make_shared(directory, database_url, 3)
    with serving(directory) as server:
        control = server.control
        wait_until(lambda: len(members(server)) == 3, timeout=60, what="three processes")
        add_app(control, tmp_path)
        batch = control.create_batch("upper", "b")
        names = [f"j{n}" for n in range(30)]
        control.create_jobs(batch.id, [Job(name, {"in": b"text"}, {"out": 1000}) for name in names])
        with SimulatedVolunteer(made.config.url, control.create_account("v@example.org"), shout, ncpus=2) as one:
            # Each contact is a connection of its own, taken by any of the processes.
            wait_until(lambda: one.step() + len(one.finished) == 0 and one.jobs_done == 30, timeout=60, what="30 jobs")
            hosts = control.hosts()
        assert [host.succeeded for host in hosts] == [30]
        assert sorted(outcome.name for outcome in control.outcomes(batch.id)) == sorted(names)


def test_two_processes_of_one_shard_do_not_serve_together(directory: Path, database_url: str, tmp_path: Path) -> None:
    make_shared(directory, database_url, 1)
    database = Project.open(directory).open_database()
    try:
        ShardLock(database, Shard(0, 1)).take()
        second = ShardLock(database, Shard(0, 1))
        assert not second.held()
        other = ShardLock(database, Shard(1, 2))
        other.take()
        assert other.held()
    finally:
        database.close()


def test_several_processes_on_sqlite_are_refused(directory: Path) -> None:
    project.create(directory, f"http://127.0.0.1:{free_port()}/")
    configure(directory, processes=2)
    with pytest.raises(ConfigError, match="MariaDB"):
        serve(Project.open(directory))


def test_a_backup_is_the_way_there_and_back(mariadb: MariaDB, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("sqlite", "mariadb", "back"))
    project.create(first, f"http://127.0.0.1:{free_port()}/", name="Test")
    with serving(first) as server:
        add_app(server.control, tmp_path)
        key = server.control.create_account("v@example.org")
        batch = server.control.create_batch("upper", "b").id
        server.control.create_jobs(batch, [Job(f"j{n}", {"in": b"x"}, {"out": 10}) for n in range(6)])
        volunteer = SimulatedVolunteer(server.control.info().url, key, shout)
        volunteer.contact()
        assert cli.main(["backup", str(first), str(tmp_path / "1.tar.gz")]) == 0
    keys = ["--keys", str(first / "keys")]
    assert cli.main(["restore", str(second), str(tmp_path / "1.tar.gz"), "--database", mariadb.create(), *keys]) == 0
    with serving(second) as server, volunteer:
        # What the volunteer was sent before counts after the move, and backups of MariaDB are made while it is served.
        while volunteer.step() or volunteer.finished:
            pass
        assert {each.name for each in server.control.outcomes(batch)} == {f"j{n}" for n in range(6)}
        assert cli.main(["backup", str(second), str(tmp_path / "2.tar.gz")]) == 0
    assert cli.main(["restore", str(third), str(tmp_path / "2.tar.gz"), "--database", "sqlite", *keys]) == 0
    with serving(third) as server:
        assert len(server.control.outcomes(batch)) == 6
    assert cli.main(["doctor", str(third)]) == 0


def test_a_url_without_a_driver(database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = database_url.replace("mysql+pymysql://", "mysql://")
    assert plain != database_url
    create = ["create", str(tmp_path / "p"), "--url", f"http://127.0.0.1:{free_port()}/", "--database"]
    assert cli.main([*create, "mysql+nothing://user:secret@127.0.0.1/x"]) == 1
    told = capsys.readouterr().err
    assert "mysql+nothing://user:***@127.0.0.1/x' cannot be used" in told
    assert "secret" not in told
    assert cli.main([*create, plain]) == 0
    assert cli.main(["status", str(tmp_path / "p")]) == 0
