"""A wall clock that jumps: nothing is given up that is wanted, nothing waits for a time that is far away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy import select

from boincserver import doctor
from boincserver.clock import JumpWatch
from boincserver.files import FileStore
from boincserver.project import Project
from boincserver.protocol.reply import SchedulerReply
from boincserver.protocol.request import parse_request
from boincserver.records import Job
from boincserver.schema import result as result_table
from boincserver.schema import user as user_table
from boincserver.schema import workunit as workunit_table
from boincserver.service import Service
from boincserver.states import ErrorMask, Outcome, ServerState
from boincserver.testing import serving
from boincserver.testing.wire import Finished, RequestParts, format_request

from .conftest import PLATFORM, add_app, make_project

DAY = 86400
YEAR = 365 * DAY


def test_only_a_jump_is_a_jump() -> None:
    wall, steady = [1e9], [5.0]
    watch = JumpWatch(lambda: wall[0], lambda: steady[0])
    for seconds, jump in ((100, 0), (30, 40), (0, -3600), (1, YEAR), (1, 0)):
        steady[0] += seconds
        wall[0] += seconds + jump
        assert watch.look() == (wall[0], jump if abs(jump) > 60 else 0)


class Clock:
    """A wall clock with a hand to turn it."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def jumping(directory: Path, tmp_path: Path, check: Callable[[Service, Clock], Awaitable[None]]) -> None:
    """A project with one job, of a batch with a lease, and a service whose clock can be set."""
    make_project(directory)
    with serving(directory) as server:
        add_app(server.control, tmp_path)
        server.control.create_account("v@example.org")
        batch = server.control.create_batch("upper", "b", lease=3600)
        server.control.create_jobs(batch.id, [Job("j", {"in": b"x"}, {}, delay_bound=7 * DAY)])

    async def run() -> None:
        clock = Clock()
        service = Service(Project.open(directory), clock)
        try:
            await service.start()
            await check(service, clock)
        finally:
            await service.close()

    asyncio.run(run())
    database = Project.open(directory).open_database()
    try:
        assert list(doctor.examine(database, FileStore(directory / "upload"))) == []
    finally:
        database.close()


class Computer:
    """A volunteer's computer that speaks with the scheduler itself."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.hostid = 0
        row = service.database.reader().first(select(user_table.c.authenticator))
        assert row is not None
        self.key = row[0]

    async def contact(self, results: list[Finished] = [], held: list[str] = []) -> SchedulerReply:  # noqa: B006
        parts = RequestParts(self.key, self.hostid, 0, "1" * 32, PLATFORM, 1, 1.0, 1.0, "", results, held)
        request = parse_request(format_request(parts))
        scheduler, clock = self.service.scheduler, self.service.clock
        reply = await self.service.writer.run(lambda tx: scheduler.handle(tx, request, "127.0.0.1", clock()))
        self.hostid = reply.hostid or self.hostid
        return reply


async def look(service: Service) -> None:
    """Have the service look at the clock, and return when it has."""
    seen = asyncio.Event()
    look_once = service._jumps.look

    def watched() -> tuple[float, float]:
        seen.set()
        return look_once()

    service._jumps.look = watched  # type: ignore[method-assign]
    service.due(0)
    async with asyncio.timeout(60):
        await seen.wait()
    service._jumps.look = look_once  # type: ignore[method-assign]
    # Whatever it found to do is in the writer's queue before this.
    for _ in range(3):
        await service.writer.run(lambda tx: None)


def results(service: Service) -> list[tuple[int, int, int]]:
    columns = (result_table.c[name] for name in ("server_state", "outcome", "report_deadline"))
    return [(state, outcome, deadline) for state, outcome, deadline in service.database.reader().all(select(*columns))]


def error_mask(service: Service) -> int:
    mask: int = service.database.reader().value(select(workunit_table.c.error_mask))
    return mask


def test_a_jump_ahead_gives_nothing_up(directory: Path, tmp_path: Path) -> None:
    async def check(service: Service, clock: Clock) -> None:
        computer = Computer(service)
        assert [job.result_name for job in (await computer.contact()).jobs] == ["j_0"]
        clock.ahead = YEAR
        await look(service)
        assert error_mask(service) == ErrorMask.NONE  # nobody could renew the lease in that year
        assert [row[:2] for row in results(service)] == [
            (ServerState.OVER, Outcome.NO_REPLY),
            (ServerState.UNSENT, Outcome.INIT),
        ]
        clock.ahead = 0
        await computer.contact([Finished("j_0", 5, 0)])
        assert [row[1] for row in results(service)] == [Outcome.SUCCESS, Outcome.DIDNT_NEED]

    jumping(directory, tmp_path, check)


def test_what_was_sent_while_the_clock_was_ahead_has_a_deadline_all_the_same(directory: Path, tmp_path: Path) -> None:
    async def check(service: Service, clock: Clock) -> None:
        clock.ahead = YEAR
        await look(service)
        computer = Computer(service)
        assert len((await computer.contact()).jobs) == 1
        assert results(service)[0][2] > time.time() + YEAR
        clock.ahead = 0
        await look(service)
        assert abs(results(service)[0][2] - (time.time() + 7 * DAY)) < 600
        clock.ahead = 8 * DAY
        await look(service)
        assert results(service)[0][1] == Outcome.NO_REPLY
        assert [job.result_name for job in (await computer.contact(held=["j_0"])).jobs] == ["j_1"]
        await computer.contact([Finished("j_1", 5, 0)])
        assert error_mask(service) == ErrorMask.NONE

    jumping(directory, tmp_path, check)


def test_a_lost_reply_is_sent_again_also_when_the_clock_went_back(directory: Path, tmp_path: Path) -> None:
    async def check(service: Service, clock: Clock) -> None:
        clock.ahead = DAY
        computer = Computer(service)
        assert len((await computer.contact()).jobs) == 1
        clock.ahead = 0
        async with asyncio.timeout(60):
            # Not what was sent within this very second, which may be on its way.
            while [job.result_name for job in (await computer.contact()).jobs] != ["j_0"]:
                await asyncio.sleep(0.1)

    jumping(directory, tmp_path, check)
