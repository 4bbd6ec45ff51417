"""A running service without its network side: trickles, assimilators, purge, what a restart takes up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from boincserver import assimilator, plugins, trickles
from boincserver.assimilator import FinishedJob
from boincserver.project import Project
from boincserver.records import Job
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.service import Service
from boincserver.testing import SimulatedJob, SimulatedVolunteer, serving, wait_until
from boincserver.testing.serving import ServerProcess

from .conftest import add_app, make_project


def shout(job: SimulatedJob) -> dict[str, bytes]:
    return {"out": job.inputs["in"].upper()}


def done_project(directory: Path, tmp_path: Path) -> None:
    """A project whose only job is over, fetched and deleted."""
    make_project(directory)
    with serving(directory) as server:
        control = server.control
        add_app(control, tmp_path)
        batch = control.create_batch("upper", "b")
        control.create_jobs(batch.id, [Job("j", {"in": b"x"}, {"out": 10})])
        with SimulatedVolunteer(control.info().url, control.create_account("v@example.org"), shout) as volunteer:
            volunteer.step()
            volunteer.contact()
        (outcome,) = control.outcomes(batch.id)
        control.acknowledge(batch.id, outcome.seq)


def within(directory: Path, clock: Callable[[], float], check: Callable[[Service], Awaitable[None]]) -> None:
    async def run() -> None:
        service = Service(Project.open(directory), clock)
        try:
            await service.start()
            await check(service)
        finally:
            await service.close()

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_what_is_over_for_long_leaves_the_tables(directory: Path, tmp_path: Path) -> None:
    done_project(directory, tmp_path)

    def count(service: Service) -> int:
        db = service.database.reader()
        return len(db.all(workunit_table.select())) + len(db.all(result_table.select()))

    async def stays(service: Service) -> None:
        await service.writer.run(lambda tx: None)
        assert count(service) == 2

    async def goes(service: Service) -> None:
        await until(lambda: count(service) == 0)

    within(directory, lambda: time.time() + 29 * 86400, stays)
    within(directory, lambda: time.time() + 31 * 86400, goes)


class Collector:
    """An assimilator that fails once."""

    seen: ClassVar[list[FinishedJob]] = []
    contents: ClassVar[list[bytes]] = []

    def assimilate(self, job: FinishedJob) -> None:
        self.seen.append(job)
        if len(self.seen) == 1:
            raise RuntimeError("not today")
        assert job.canonical is not None
        self.contents.append(job.canonical.read("out"))


class Entry:
    def __init__(self, name: str, kind: type[Any]) -> None:
        self.name, self.kind = name, kind

    def load(self) -> type[Any]:
        return self.kind


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Entry points as an installed distribution would bring them."""
    entries = {("boincserver.assimilators", "collector"): Collector, ("boincserver.trickle_handlers", "hello"): Greeter}

    def entry_points(group: str, name: str = "") -> list[Entry]:
        return [Entry(n, kind) for (g, n), kind in entries.items() if g == group and name in ("", n)]

    for module in (plugins, trickles):
        monkeypatch.setattr(module, "entry_points", entry_points)
    yield


def test_a_class_assimilates_and_is_asked_again_when_it_fails(directory: Path, tmp_path: Path, installed: None) -> None:
    make_project(directory)
    assert isinstance(assimilator.find_assimilator("collector"), Collector)
    with serving(directory) as server:
        prepare_collected(server, tmp_path)
    within(directory, time.time, collected)


def prepare_collected(server: ServerProcess, tmp_path: Path) -> None:
    """A job that is over and waits for an assimilator which this server does not have."""
    control = server.control
    add_app(control, tmp_path)
    batch = control.create_batch("upper", "b")
    control.create_jobs(batch.id, [Job("j", {"in": b"x"}, {"out": 10})])
    database = Project.open(server.directory).open_database()
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE boincserver_app SET assimilator = 'collector'")
    database.close()
    server.stop()
    with serving(server.directory) as again:
        key = again.control.create_account("v@example.org")
        with SimulatedVolunteer(again.control.info().url, key, shout) as volunteer:
            volunteer.step()
            volunteer.contact()
        assert again.control.job_states(batch.id)[0].state == "over"


async def collected(service: Service) -> None:
    await until(lambda: len(Collector.seen) == 1)
    # What is asked again after a minute is asked at once by the next start; here by hand.
    service.to_assimilate(1)
    await until(lambda: Collector.contents == [b"X"])
    state = workunit_table.select().with_only_columns(workunit_table.c.assimilate_state)
    await until(lambda: service.database.reader().value(state) == 2)


class Greeter:
    """Answers what programs say."""

    def handle(self, message: trickles.Message) -> str:
        return f"<text>hello {message.text.strip()}</text>"


def test_a_message_goes_up_once_and_the_answer_comes_down(directory: Path, tmp_path: Path, installed: None) -> None:
    make_project(directory)
    trickle = "<msg_from_host>\n<result_name>j_0</result_name>\n<time>17</time>\n<variety>hello</variety>\na & b\n</msg_from_host>\n"
    with serving(directory) as server:
        control = server.control
        add_app(control, tmp_path)
        batch = control.create_batch("upper", "b")
        control.create_jobs(batch.id, [Job("j", {"in": b"x"}, {"out": 10})])
        with SimulatedVolunteer(control.info().url, control.create_account("v@example.org"), shout) as volunteer:
            volunteer.contact()
            for _ in range(2):
                assert volunteer.contact(trickles=(trickle,)).trickles_received
            (message,) = trickles.pending(Project.open(directory).open_database().session(), 0, 10)
            assert (message.result_name, message.variety) == ("j_0", "hello")
            server.stop()
            within(directory, time.time, greeted)
            with serving(directory) as again:
                assert again.control.info()
                assert "<text>hello <variety>hello</variety>\na & b</text>" in volunteer.raw_contact()
                volunteer.work("j_0")
                assert "<trickle_down>" not in volunteer.raw_contact()


async def greeted(service: Service) -> None:
    await until(lambda: not trickles.pending(service.database.reader(), 0, 10))


def test_outcomes_arrive_soon_after_the_report(server: ServerProcess, upper: str, url: str) -> None:
    control = server.control
    batch = control.create_batch(upper, "b")
    control.create_jobs(batch.id, [Job("j", {"in": b"x"}, {"out": 10})])
    with SimulatedVolunteer(url, control.create_account("v@example.org"), shout) as volunteer:
        volunteer.step()
        volunteer.contact()
        reported = time.monotonic()
        assert wait_until(lambda: control.outcomes(batch.id), timeout=5)
        # The promise is 200 ms when idle; a loaded machine gets more.
        assert time.monotonic() - reported < 2.0
