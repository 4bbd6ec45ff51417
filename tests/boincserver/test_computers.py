"""What the operator sees of volunteers' computers, and one that he sends no more work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from boincserver import cli, computers, project
from boincserver.control import Control, Job
from boincserver.errors import BoincServerError
from boincserver.testing import SimulatedJob, SimulatedVolunteer, free_port, serving

from .conftest import add_app
from .world import Computer, World, key


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    directory = tmp_path / "project"
    project.create(directory, f"http://127.0.0.1:{free_port()}/", open_accounts=True)
    with serving(directory) as server:
        add_app(server.control, tmp_path)
        for number in range(2):
            (directory / f"key{number}").write_text(server.control.create_account(f"v{number}@example.org"))
    made = World(directory, tmp_path / "world")
    yield made
    made.close()


def jobs(count: int) -> list[Job]:
    return [Job(f"j{n}", {"in": b"x"}, {"out": 1000}) for n in range(count)]


def set_blocked(world: World, computer: Computer, blocked: bool = True) -> None:
    world.change(lambda tx: computers.block(tx.db, computer.hostid, blocked))


def test_a_blocked_computer_finishes_what_it_has_and_gets_no_more(world: World) -> None:
    world.create(*jobs(3))
    bad, good = Computer(key(world, 0)), Computer(key(world, 1))
    world.contact(bad)
    (name,) = bad.held
    set_blocked(world, bad)
    world.finish(bad, name)
    reply = world.contact(bad)
    assert reply.jobs == ()
    assert reply.acknowledged == (name,)
    assert [(message.priority, "sends no work to this computer" in message.text) for message in reply.messages] == [
        ("notice", True)
    ]
    assert world.rows(f"SELECT outcome, validate_state FROM result WHERE name = '{name}'") == [(1, 1)]
    assert world.contact(good).jobs
    assert world.contact(bad).jobs == ()
    set_blocked(world, bad, False)
    assert world.contact(bad).jobs


def test_what_a_blocked_computer_lost_goes_to_another(world: World) -> None:
    world.create(*jobs(1))
    bad, good = Computer(key(world, 0)), Computer(key(world, 1))
    world.contact(bad)
    set_blocked(world, bad)
    world.ahead += 60
    assert world.contact(bad, forget=True).jobs == ()
    assert [job.workunit_name for job in world.contact(good).jobs] == ["j0"]
    assert world.findings() == []


def test_a_computer_that_joins_again_stays_blocked(world: World) -> None:
    """Its client forgets the number that it had; the project knows the machine."""
    world.create(*jobs(1))
    bad = Computer(key(world, 0))
    world.contact(bad, want=0)
    set_blocked(world, bad)
    again = Computer(bad.key, cpid=bad.cpid)
    assert world.contact(again).jobs == ()
    assert again.hostid == bad.hostid


def test_what_a_blocked_computer_has_is_checked_though_it_was_trusted(control: Control, upper: str, url: str) -> None:
    def shout(job: SimulatedJob) -> dict[str, bytes]:
        return dict.fromkeys(job.output_names, b"X")

    control.ensure_app(upper, target_nresults=2)
    batch = control.create_batch(upper, "b")
    keys = [control.create_account(f"v{n}@example.org") for n in range(2)]
    with (
        SimulatedVolunteer(url, keys[0], shout, ncpus=4) as one,
        SimulatedVolunteer(url, keys[1], shout, ncpus=4) as two,
    ):
        control.create_jobs(batch.id, jobs(40))
        while one.step() + two.step() or one.finished or two.finished:
            pass  # both are proven now
        control.create_jobs(batch.id, [Job(f"more{n}", {"in": b"x"}, {"out": 1000}) for n in range(40)])
        one.contact(seconds=1e9, instances=40)

        def copies(name: str) -> int:
            return len(control.copies(batch.id, name.rpartition("_")[0]))

        unchecked = [name for name in one.held if copies(name) == 1]
        assert unchecked
        control.block_host(one.hostid)
        for name in list(one.held):
            one.work(name)
        one.contact(seconds=0, instances=0)
        assert {copies(name) for name in unchecked} == {2}


def test_a_computer_that_there_is_not(world: World) -> None:
    with pytest.raises(BoincServerError, match="there is no host 77; see: boincserver host list DIR"):
        world.change(lambda tx: computers.block(tx.db, 77, True))
    with pytest.raises(BoincServerError, match="there is no host 77"):
        computers.described(world.service.database.reader(), 77)


def test_computers_are_looked_at_and_blocked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(tmp_path / "p")
    assert cli.main(["create", directory, "--url", f"http://127.0.0.1:{free_port()}/"]) == 0

    def said(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert cli.main(["host", *arguments]) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    with serving(directory) as server:
        control = server.control
        add_app(control, tmp_path)
        batch = control.create_batch("upper", "b")
        control.create_jobs(batch.id, jobs(2))
        with SimulatedVolunteer(control.info().url, control.create_account("v@example.org"), ncpus=1) as volunteer:
            volunteer.contact()
            (first,) = list(volunteer.held)
            volunteer.work(first)
            volunteer.contact()
            (second,) = list(volunteer.held)
            number = str(volunteer.hostid)
            told = json.loads(said("show", directory, number, "--json"))
            assert (told["blocked"], told["in_progress"], told["ncpus"]) == (False, 1, 1)
            assert [copy["name"] for copy in told["copies"]] == [second, first]
            assert [(v["app"], v["version"], v["jobs_today"]) for v in told["versions"]] == [("upper", "1.00", 2)]
            lines = said("show", directory, number).splitlines()
            assert lines[0].startswith(f"host {number}: ")
            assert any(line.split()[:3] == [second, "in", "progress"] for line in lines)
            assert said("block", directory, number) == (
                f"Host {number} is sent no more work; what it has it may finish.\n"
            )
            assert said("show", directory, number).splitlines()[0].endswith(", blocked")
            assert said("list", directory).splitlines()[1].endswith(", blocked")
            assert [host.blocked for host in control.hosts()] == [True]
            assert json.loads(said("unblock", directory, number, "--json")) == {"host": int(number), "blocked": False}
            assert [host.blocked for host in control.hosts()] == [False]
        assert "there is no host 99" in said("show", directory, "99", code=1)
        assert "there is no host 99" in said("block", directory, "99", code=1)
