"""A whole project in this process: the real service on real tables, computers of several kinds, a clock to be turned."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from boincserver.doctor import examine
from boincserver.files import FileStore
from boincserver.project import Project
from boincserver.protocol.documents import expected_outputs
from boincserver.protocol.reply import JobToSend, SchedulerReply
from boincserver.protocol.request import parse_request
from boincserver.records import Job
from boincserver.service import Service
from boincserver.testing.wire import Finished, RequestParts, format_request, format_upload
from boincserver.writer import Transaction

from .conftest import PLATFORM

T = TypeVar("T")
LINUX, WINDOWS = "Linux Debian", "Microsoft Windows 11"


@dataclass
class Computer:
    """One computer and what it holds."""

    key: str
    os_name: str = LINUX
    ncpus: int = 1
    fpops: float = 1e9
    cpid: str = field(default_factory=lambda: secrets.token_hex(16))
    hostid: int = 0
    held: dict[str, JobToSend] = field(default_factory=dict)
    finished: dict[str, Finished] = field(default_factory=dict)


def key(world: World, number: int) -> str:
    """An account's key, where the template keeps it."""
    return (world.directory / f"key{number}").read_text()


class World:
    """A copy of a project, served without a network; nothing happens but what a test lets happen."""

    def __init__(self, template: Path, directory: Path) -> None:
        shutil.copytree(template, directory)
        self.directory = directory
        self.ahead = 0.0
        self.runner = asyncio.Runner()
        self.service = self.run(self._start)

    async def _start(self) -> Service:
        service = Service(Project.open(self.directory), lambda: time.time() + self.ahead)
        await service.start()
        assert service._task is not None
        # The test says when the server looks at its clock.
        service._task.cancel()
        await asyncio.wait([service._task])
        return service

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.runner.run(function(*arguments))

    def change(self, operation: Callable[[Transaction], T]) -> T:
        async def write() -> T:
            return await self.service.writer.run(operation)

        done: T = self.run(write)
        return done

    def close(self) -> None:
        self.run(self.service.close)
        self.runner.close()
        shutil.rmtree(self.directory)

    def restart(self) -> None:
        """The server is stopped and started again."""
        self.run(self.service.close)
        self.service = self.run(self._start)

    @property
    def now(self) -> int:
        return int(self.service.clock())

    # --- the submitter ------------------------------------------------------------------------------------------------

    def create(self, *wanted: Job, app: str = "upper") -> int:
        submitter = self.service.submitter
        number = self.change(lambda tx: submitter.create_batch(tx, app, app, None, self.now))
        self.change(lambda tx: submitter.create_jobs(tx, number, wanted, self.now))
        return number

    def cancel(self, workunit: int) -> None:
        self.change(lambda tx: self.service.submitter.cancel(tx, [workunit], self.now))

    def fetch(self, batch: int) -> None:
        """The submitter takes every outcome that there is."""
        self.run(self.service.acknowledge, batch, 2**62)

    # --- time ---------------------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Then the server sees to deadlines, and to what it does once an hour."""
        self.ahead += seconds
        while self.change(lambda tx: self.service._transition_due(tx, self.now)):
            pass
        self.run(self.service._clean_up, self.now)

    # --- computers ----------------------------------------------------------------------------------------------------

    def contact(self, computer: Computer, *, want: int | None = None, forget: bool = False) -> SchedulerReply:
        """Report what is finished, ask for work for `want` CPUs (by default the idle ones)."""
        if forget:
            computer.held.clear()
        want = computer.ncpus - len(computer.held) if want is None else want
        parts = RequestParts(
            computer.key, computer.hostid, 0, computer.cpid, PLATFORM, computer.ncpus, float(want), float(want), "",
            list(computer.finished.values()), list(computer.held), fpops=computer.fpops, os_name=computer.os_name,
        )  # fmt: skip
        request = parse_request(format_request(parts))
        reply = self.change(lambda tx: self.service.scheduler.handle(tx, request, "127.0.0.1", self.service.clock()))
        computer.hostid = reply.hostid or computer.hostid
        for name in reply.acknowledged:
            computer.finished.pop(name, None)
        for name in (*reply.aborted, *reply.aborted_if_not_started):
            if computer.held.pop(name, None) is not None:
                computer.finished[name] = Finished(name, 6, 202)
        computer.held.update((job.result_name, job) for job in reply.jobs)
        return reply

    def finish(self, computer: Computer, name: str, value: bytes | None = b"right") -> None:
        """The computer ends a job, with this output or (None) a failure; it is reported with the next contact."""
        job = computer.held.pop(name)
        if value is None:
            computer.finished[name] = Finished(name, 3, 1)
            return
        files = []
        for output in expected_outputs(job.result_xml):
            if self.upload(output.name, value):
                files.append((output.name, len(value), hashlib.md5(value).hexdigest()))
        computer.finished[name] = Finished(name, 5, 0, files=tuple(files))

    def upload(self, name: str, value: bytes) -> bool:
        """Whether the server takes it."""

        async def body() -> AsyncIterator[bytes]:
            yield format_upload(name, value)

        async def send() -> bytes:
            return await self.service.uploads.handle(body())

        return b"<status>0</status>" in self.run(send)

    # --- looking ------------------------------------------------------------------------------------------------------

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.service.database.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def findings(self) -> list[str]:
        return list(examine(self.service.database, FileStore(self.directory / "upload")))
