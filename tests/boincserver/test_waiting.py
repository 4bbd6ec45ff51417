"""Jobs that nobody who comes could take: each has an end, or a sentence that says why it waits and what to do."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from boincserver import cli, project, scheduler
from boincserver.control import AppFile, Control, Job
from boincserver.hindrance import hindrances
from boincserver.homogeneous import COARSE
from boincserver.project import Project
from boincserver.protocol.request import parse_request
from boincserver.service import Service
from boincserver.testing import SimulatedJob, SimulatedVolunteer, configure, free_port, serving, wait_until
from boincserver.testing.wire import Finished, RequestParts, format_request

from .conftest import PLATFORM, add_app, make_project
from .world import Computer, World, key

DAY = 86400
WINDOWS = "windows_x86_64"


def shout(job: SimulatedJob) -> dict[str, bytes]:
    return dict.fromkeys(job.output_names, b"X")


def change(directory: Path, *statements: str) -> None:
    """Change the tables of a project that is not served."""
    with closing(sqlite3.connect(directory / "database.sqlite3")) as database, database:
        for statement in statements:
            database.execute(statement)


def days_pass(directory: Path, days: int) -> None:
    """Everything in the tables happened so many days earlier."""
    change(
        directory,
        f"UPDATE host SET rpc_time = rpc_time - {days * DAY}",
        f"UPDATE result SET create_time = create_time - {days * DAY}",
    )


def why(directory: Path) -> list[str]:
    opened = Project.open(directory)
    database = opened.open_database()
    try:
        return hindrances(database.reader(), opened.config.jobs, time.time())
    finally:
        database.close()


@contextmanager
def volunteer(control: Control, name: str, **options: Any) -> Iterator[SimulatedVolunteer]:
    key = control.create_account(f"{name}@example.org")
    with SimulatedVolunteer(control.info().url, key, shout, host_cpid=name.ljust(32, "0"), **options) as found:
        yield found


def begin(control: Control, **options: Any) -> None:
    """A job with two copies, of which a Linux computer of user `a` does the first."""
    batch = control.create_batch("upper", "b")
    control.create_jobs(batch.id, [Job("j", {"in": b"x"}, {"out": 10}, min_quorum=2)])
    with volunteer(control, "a", **options) as first:
        assert first.step() == 1
        first.contact()


def done(control: Control) -> int:
    return int(control.status()["jobs"]["done"])


def test_a_job_is_not_for_ever_bound_to_computers_that_have_left(directory: Path, tmp_path: Path) -> None:
    make_project(directory)
    with serving(directory) as server:
        add_app(server.control, tmp_path)
        server.control.ensure_app("upper", homogeneous_redundancy=COARSE)
        begin(server.control)
        with volunteer(server.control, "b", os_name="Microsoft Windows") as other:
            assert other.step() == 0
    assert any("for the kind of computer that began them" in sentence for sentence in why(directory))
    days_pass(directory, 6)
    with serving(directory) as server, volunteer(server.control, "b", os_name="Microsoft Windows") as other:
        assert other.step() == 0  # its own kind may still come
    days_pass(directory, 2)
    with serving(directory) as server, volunteer(server.control, "b", os_name="Microsoft Windows") as other:
        wait_until(other.step, timeout=60, what="the copy to be for everybody")
        other.contact()
        assert done(server.control) == 1


@pytest.mark.parametrize("another_came", [True, False])
def test_nor_to_a_kind_of_which_one_user_alone_is_left(directory: Path, tmp_path: Path, another_came: bool) -> None:
    make_project(directory)
    with serving(directory) as server:
        add_app(server.control, tmp_path)
        server.control.ensure_app("upper", homogeneous_redundancy=COARSE)
        begin(server.control)
    days_pass(directory, 8)
    # Who has the first copy comes still; a computer of the same kind may take the second, if it is another user's.
    change(directory, f"UPDATE host SET rpc_time = {int(time.time())}")
    if another_came:
        change(
            directory,
            "INSERT INTO host (userid, rpc_time, os_name, p_vendor) SELECT 99, rpc_time, os_name, p_vendor FROM host",
        )
    with serving(directory) as server, volunteer(server.control, "c", os_name="Microsoft Windows") as other:
        if another_came:
            assert other.step() == 0
        else:
            wait_until(other.step, timeout=60, what="the copy to be for everybody")


def test_nor_to_a_version_whose_computers_have_left(directory: Path, tmp_path: Path) -> None:
    make_project(directory)
    with serving(directory) as server:
        control = server.control
        add_app(control, tmp_path)
        control.ensure_app("upper", homogeneous_app_version=True)
        files = [AppFile(tmp_path / "upper.sh", "upper.sh", main_program=True)]
        control.ensure_app_version("upper", WINDOWS, None, files)
        begin(control)
        with volunteer(control, "b", platform=WINDOWS) as other:
            assert other.step() == 0
    days_pass(directory, 8)
    with serving(directory) as server, volunteer(server.control, "b", platform=WINDOWS) as other:
        wait_until(other.step, timeout=60, what="the copy to be for everybody")
        other.contact()
        assert done(server.control) == 1


def test_an_operator_may_have_them_wait_and_is_told(directory: Path, tmp_path: Path) -> None:
    make_project(directory)
    configure(directory, gone_after_days=0)
    with serving(directory) as server:
        add_app(server.control, tmp_path)
        server.control.ensure_app("upper", homogeneous_redundancy=COARSE)
        begin(server.control)
    days_pass(directory, 100)
    with serving(directory) as server, volunteer(server.control, "b", os_name="Microsoft Windows") as other:
        assert other.step() == 0
        assert [sentence for sentence in why(directory) if "gone_after_days = 0" in sentence]


def test_each_reason_for_waiting_is_a_sentence(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_project(directory)
    with serving(directory) as server:
        control = server.control
        assert why(directory) == []
        control.ensure_app("none")
        control.create_jobs(control.create_batch("none", "n").id, [Job("n", {}, {})])
        assert why(directory) == ["1 copy waits for application none, which has no version: boincserver app add"]
        add_app(control, tmp_path)
        batch = control.create_batch("upper", "b")
        control.create_jobs(batch.id, [Job("j", {}, {"out": 10}, min_quorum=2)])
        assert why(directory)[1:] == ["2 copies wait, and no computer has come for 7 days"]
        with volunteer(control, "w", platform=WINDOWS) as other:
            other.step()
            assert f"whose versions ({PLATFORM}) no computer" in why(directory)[1]
            assert other.messages == [f"This project has no application for your computer type ({WINDOWS})"]
        with volunteer(control, "a") as first:
            assert first.step() == 1
            first.contact()
        assert len(why(directory)) == 1, "the owner of the other computer can still join in"
    change(directory, "DELETE FROM host WHERE domain_name = 'simulated' AND id = 1")
    assert (
        "1 job waits of application upper for another user than those seen lately; one_result_per_user"
        in why(directory)[1]
    )
    change(
        directory,
        "UPDATE workunit SET rsc_memory_bound = 1e15, rsc_disk_bound = 1e17, delay_bound = 60, rsc_fpops_est = 1e18",
    )
    sentences = why(directory)
    for part in ("rsc_memory_bound", "rsc_disk_bound", "delay_bound"):
        assert [s for s in sentences if part in s and "application upper" in s], sentences
    capsys.readouterr()
    assert cli.main(["doctor", str(directory), "--json"]) == 0, "such a project is healthy"
    told = json.loads(capsys.readouterr().out)
    assert told["findings"] == []
    assert [sentence for sentence in told["advice"] if sentence in sentences] == sentences
    assert cli.main(["status", str(directory)]) == 0
    assert "! 1 copy waits for application none, which has no version" in capsys.readouterr().out


def test_what_nobody_may_have_does_not_stand_before_what_somebody_may(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "_MOST_LOADED", 7)
    project.create(directory, f"http://127.0.0.1:{free_port()}/", open_accounts=True)
    configure(directory, feeder_size=20)
    with serving(directory) as server:
        add_app(server.control, tmp_path)
        batch = server.control.create_batch("upper", "b")
        # One user: the second copies of these wait for another one, more of them than there is room for in memory.
        server.control.create_jobs(batch.id, [Job(f"q{n}", {}, {}, min_quorum=2) for n in range(50)])
        server.control.create_jobs(batch.id, [Job(f"j{n}", {}, {}) for n in range(5)])
        key = server.control.create_account("v@example.org")
    assert asyncio.run(sent_to_one_user(directory, key)) == {f"q{n}" for n in range(50)} | {f"j{n}" for n in range(5)}


def test_a_host_that_may_have_nothing_puts_nobody_elses_jobs_off(directory: Path, tmp_path: Path) -> None:
    project.create(directory, f"http://127.0.0.1:{free_port()}/", open_accounts=True)
    configure(directory, feeder_size=10)
    with serving(directory) as server:
        add_app(server.control, tmp_path)
        batch = server.control.create_batch("upper", "b")
        server.control.create_jobs(batch.id, [Job(f"j{n}", {}, {}, rsc_fpops_est=1e15) for n in range(40)])
        (directory / "key0").write_text(server.control.create_account("v@example.org"))
    world = World(directory, tmp_path / "world")
    try:
        able, slow = Computer(key(world, 0), fpops=1e10), Computer(key(world, 0), fpops=1e9)
        sent = []
        for _ in range(40):
            world.ahead += 20
            assert world.contact(slow, want=1).jobs == ()
            sent += [job.workunit_name for job in world.contact(able, want=1).jobs]
            for name in list(able.held):
                world.finish(able, name)
        assert sent == [f"j{n}" for n in range(40)]
    finally:
        world.close()


class Clock:
    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


async def sent_to_one_user(directory: Path, key: str) -> set[str]:
    """The jobs that a computer gets until it gets nothing for a long time."""
    clock = Clock()
    service = Service(Project.open(directory), clock)
    found: set[str] = set()
    try:
        await service.start()
        host, in_vain, results = 0, 0, list[Finished]()
        while in_vain < 20:
            clock.ahead += 15
            parts = RequestParts(key, host, 0, "1" * 32, PLATFORM, 4, 4.0, 4.0, "", results, [])
            request = parse_request(format_request(parts))
            reply = await service.writer.run(
                lambda tx, r=request: service.scheduler.handle(tx, r, "127.0.0.1", clock())
            )  # type: ignore[misc]
            host = reply.hostid or host
            results = [Finished(job.result_name, 5, 0) for job in reply.jobs]
            found |= {job.workunit_name for job in reply.jobs}
            in_vain = 0 if reply.jobs else in_vain + 1
    finally:
        await service.close()
    return found
