"""A running service without its network side: trickles, assimilators, purge, what a restart takes up."""

from __future__ import annotations

import asyncio
import time
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from boincserver import accounts, assimilator, outbox, plugins, trickles
from boincserver.assimilator import FinishedJob
from boincserver.database import Session
from boincserver.project import Project
from boincserver.protocol.reply import SchedulerReply
from boincserver.protocol.request import parse_request
from boincserver.records import Job
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.service import Service
from boincserver.submission.files import FileCalls
from boincserver.testing import SimulatedJob, SimulatedVolunteer, serving, wait_until
from boincserver.testing.serving import ServerProcess
from boincserver.testing.wire import Finished, RequestParts, format_request
from boincserver.validator import ResultFiles
from boincserver.writer import _Group

from .conftest import PLATFORM, add_app, make_project
from .world import Computer, World


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
        # Rows leave the tables after their files, which are deleted soon after this.
        wait_until(lambda: control.status()["queues"] == 0, timeout=60, what="files to be deleted")


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
    async with asyncio.timeout(60):
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
    entries = {
        ("boincserver.assimilators", "collector"): Collector,
        ("boincserver.assimilators", "keeper"): Keeper,
        ("boincserver.validators", "anything"): Anything,
        ("boincserver.trickle_handlers", "hello"): Greeter,
    }

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


class Anything:
    """A validator that reads files, in its own time."""

    closed: ClassVar[list[str]] = []

    def load(self, result: ResultFiles) -> int:
        return len(result.paths)

    def agree(self, first: int, second: int) -> bool:
        return first == second

    def close(self) -> None:
        self.closed.append("anything")


class Keeper:
    """An assimilator that takes what comes."""

    seen: ClassVar[list[str]] = []
    closed: ClassVar[list[str]] = []

    def assimilate(self, job: FinishedJob) -> None:
        self.seen.append(job.name)

    def close(self) -> None:
        self.closed.append("keeper")
        raise OSError("the disk is full")  # which keeps no server from ending


@pytest.mark.parametrize(
    ("validator", "assimilator"), [("bitwise", "outbox"), ("anything", "outbox"), ("anything", "keeper")]
)
def test_a_report_alone_brings_its_outcome(
    directory: Path, tmp_path: Path, installed: None, validator: str, assimilator: str
) -> None:
    """It wakes whatever is to follow: nothing looks from time to time whether there is something to do."""
    make_project(directory)
    with serving(directory) as server:
        add_app(server.control, tmp_path)
        batch = server.control.create_batch("upper", "b").id
        server.control.create_jobs(batch, [Job("j", {}, {}, min_quorum=2, target_nresults=2)])
        keys = [server.control.create_account(f"v{n}@example.org") for n in range(2)]
    database = Project.open(directory).open_database()
    with database.engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE boincserver_app SET validator = '{validator}', assimilator = '{assimilator}'"
        )
    database.close()
    for used in (Keeper.seen, Keeper.closed, Anything.closed):
        used.clear()

    async def reported(service: Service) -> None:
        def outcomes() -> bool:
            return bool(outbox.waiting(service.database.reader(), batch, 0, 1))

        assert service._task is not None
        service._task.cancel()
        await asyncio.wait([service._task])
        submitter = asyncio.create_task(service.wait_for_outcome(batch, outcomes, 3600))
        await until(lambda: batch in service._waiters)
        for key in keys:
            reply = await contact(service, key, [])
            await contact(service, key, [Finished(job.result_name, 5, 0) for job in reply.jobs], reply.hostid)
        if (validator, assimilator) == ("bitwise", "outbox"):
            assert outcomes(), "the report's own transaction holds its outcome"
        if assimilator == "outbox":
            async with asyncio.timeout(30):
                await submitter
            assert outcomes()
        else:
            await until(lambda: Keeper.seen == ["j"])
            submitter.cancel()

    within(directory, time.time, reported)
    assert [*Anything.closed, *Keeper.closed] == [
        name for name in (validator, assimilator) if name in ("anything", "keeper")
    ]


async def contact(service: Service, key: str, results: list[Finished], hostid: int = 0) -> SchedulerReply:
    parts = RequestParts(key, hostid, 0, "1" * 32, PLATFORM, 1, float(not results), float(not results), "", results, [])
    request = parse_request(format_request(parts))
    return await service.writer.run(lambda tx: service.scheduler.handle(tx, request, "127.0.0.1", service.clock()))


# --- changes that are run again because another one failed ------------------------------------------------------------


@pytest.fixture
def every_change_is_run_twice(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """No group of changes comes through at once: it is undone and run again, as behind one that fails."""
    undone: list[object] = []
    end = _Group.end

    def ends(group: _Group, session: Session) -> None:
        end(group, session)
        if not group.apart:
            undone.append(group)
            raise ValueError("not at once")

    monkeypatch.setattr(_Group, "end", ends)
    yield undone


def test_a_job_whose_every_change_is_run_twice_ends_as_any_other(
    every_change_is_run_twice: list[object], directory: Path, tmp_path: Path
) -> None:
    done_project(directory, tmp_path)
    # The directory of a project that was served and is not now.
    world = World(directory, tmp_path / "world")
    try:
        computer = Computer(world.change(lambda tx: accounts.find_by_email(tx.db, "v@example.org")).authenticator)
        batch = world.create(*(Job(f"w{n}", {"in": b"x"}, {"out": 1000}) for n in range(4)))
        for _ in range(4):
            world.contact(computer)
            world.finish(computer, next(iter(computer.held)))
        world.contact(computer, want=0)
        world.fetch(batch)

        async def deleted() -> None:
            await until(lambda: world.service.backlog == 0 and not world.service.writer._busy)

        world.run(deleted)
        assert world.rows("SELECT DISTINCT assimilate_state, file_delete_state FROM workunit") == [(2, 2)]
        assert world.rows("SELECT DISTINCT server_state, outcome, file_delete_state FROM result") == [(5, 1, 2)]
        assert world.rows("SELECT total_credit > 0 FROM host ORDER BY id DESC LIMIT 1") == [(1,)]
        assert world.findings() == []
        assert not [path for path in (world.directory / "upload").rglob("*_r*") if path.is_file()]
        assert len(every_change_is_run_twice) > 8
    finally:
        world.close()


def test_what_is_absent_is_told_once_though_the_question_is_asked_again(
    every_change_is_run_twice: list[object], directory: Path, tmp_path: Path
) -> None:
    make_project(directory)
    with serving(directory) as server:
        add_app(server.control, tmp_path)
        key = server.control.create_account("s@example.org")
        server.control.grant("s@example.org", "upper")

    async def check(service: Service) -> None:
        call = ET.fromstring(
            f"<query_files><authenticator>{key}</authenticator><batch_id>0</batch_id><phys_name>jf_one</phys_name>"
            "<phys_name>jf_two</phys_name></query_files>"
        )
        reply = await FileCalls(service).query_files(call)
        assert reply == "<absent_files>\n<file>0</file><file>1</file>\n</absent_files>\n"

    within(directory, time.time, check)
