"""No request's cost grows with what is over: each statement that a request runs finds its rows by an index."""

from __future__ import annotations

import asyncio
from pathlib import Path

from boincserver import jobs
from boincserver.control import Job
from boincserver.project import Project
from boincserver.protocol.request import parse_request
from boincserver.service import Service
from boincserver.testing import configure, serving
from boincserver.testing.wire import Finished, RequestParts, format_request

from .conftest import PLATFORM, add_app, make_project

# Tables that keep what is over; `boincserver_file` holds only what is there, and is swept once an hour.
GROWING = {
    "result", "workunit", "host", "user", "host_app_version", "msg_from_host", "msg_to_host",
    "boincserver_file_use", "boincserver_outbox",
}  # fmt: skip


def test_no_request_reads_a_table_through(directory: Path, tmp_path: Path) -> None:
    make_project(directory)
    configure(directory, statistics_hours=0)  # these are of all that there is
    with serving(directory) as server:
        add_app(server.control, tmp_path)
        key = server.control.create_account("v@example.org")
        batch = server.control.create_batch("upper", "b")
        server.control.create_jobs(batch.id, [Job(f"j{n}", {"in": b"x"}, {}, min_quorum=1) for n in range(5)])
    texts = asyncio.run(statements(directory, key))
    assert any(text.startswith("UPDATE result") for text in texts)
    assert any("msg_from_host" in text for text in texts)
    assert any("boincserver_file_use" in text for text in texts)
    database = Project.open(directory).open_database()
    try:
        with database.engine.connect() as connection:
            for text in texts:
                plan = connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {text}", tuple(0 for _ in range(text.count("?")))
                )
                for *_, detail in plan:
                    # A partial index holds only what is still to be done.
                    words = detail.split()
                    through = words[0] == "SCAN" and words[1] in GROWING and "USING" not in words
                    assert not through, f"{detail}: {text}"
    finally:
        database.close()


async def statements(directory: Path, key: str) -> list[str]:
    """The text of every statement that the life of a few jobs takes."""
    service = Service(Project.open(directory))
    try:
        await service.start()
        # What a start reads is read once.
        service.database.prepared.clear()
        host = 0
        finished: list[Finished] = []
        for _ in range(7):
            host = await ask(service, key, host, finished)
            finished = [Finished(name, 5, 0) for name in await held(service, host)]
        await service.writer.run(lambda tx: None)
        return [prepared.text for prepared in service.database.prepared.values()]
    finally:
        await service.close()


async def ask(service: Service, key: str, host: int, finished: list[Finished]) -> int:
    """A request of a computer with something of everything; returns the computer's number."""
    trickle = (
        "<msg_from_host>\n<result_name>j0_0</result_name>\n<time>17</time>\n<variety>v</variety>\n</msg_from_host>\n"
    )
    parts = RequestParts(key, host, 0, "1" * 32, PLATFORM, 1, 1.0, 1.0, "", finished, ["j4_0", "other_0"], (trickle,))
    request = parse_request(format_request(parts))
    reply = await service.writer.run(lambda tx: service.scheduler.handle(tx, request, "127.0.0.1", service.clock()))
    return reply.hostid or host


async def held(service: Service, host: int) -> list[str]:
    """Results in progress on the computer."""

    def find(tx: object) -> list[str]:
        db = service.database.reader()
        found = [jobs.read(db, number) for number in range(1, 6)]
        return [r.name for job in found if job for r in job.results if r.hostid == host and r.server_state == 4]

    return await service.writer.run(find)
