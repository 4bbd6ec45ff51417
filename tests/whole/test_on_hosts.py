"""What becomes of tasks and files on the stock client: sent once, kept, cancelled, gone on from a checkpoint."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import errands
from tests.served import Project, served

from boincserver.testing import SimulatedVolunteer, StockClient, serving, wait_until
from pymw import Master, TaskState

LIMIT = 240.0


@pytest.fixture(scope="module")
def client(project: Project, need: Callable[..., None]) -> Iterator[StockClient]:
    """The project's only host."""
    need("boinc", "boinccmd", "faketime")
    with StockClient(speed=20.0, name="host") as client:
        client.attach(project.url, project.account())
        wait_until(project.control.hosts, timeout=LIMIT, what="the client to join")
        yield client


def files_on(client: StockClient, content: bytes) -> list[Path]:
    return [
        path
        for path in client.directory.glob("projects/*/*")
        if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content
    ]


@pytest.mark.stock
def test_progress_comes_home_and_a_task_goes_on_from_its_checkpoint(project: Project, client: StockClient) -> None:
    with Master(project.backend) as master:
        future = master.submit(errands.count_up, 60, 0.4)
        wait_until(lambda: 0 < future.progress < 1, timeout=LIMIT, what="progress from the host")
        client.stop()
        client.start()
        start, starts = future.result(LIMIT)
    assert start > 0
    assert starts == 2


@pytest.mark.stock
def test_a_suspended_task_goes_on(project: Project, client: StockClient) -> None:
    with Master(project.backend) as master:
        future = master.submit(errands.creep, 40)

        def begun() -> list[str]:
            return [task.name for task in client.tasks() if task.fraction_done > 0]

        (name,) = wait_until(begun, timeout=LIMIT, what="it to run")
        client.task_command(project.url, name, "suspend")
        assert not future.done()
        client.task_command(project.url, name, "resume")
        assert future.result(LIMIT) == 20


@pytest.mark.stock
def test_what_is_cancelled_stops_on_the_host_and_frees_its_files(project: Project, client: StockClient) -> None:
    def running() -> list[str]:
        return [task.name for task in client.tasks() if task.active_state == "EXECUTING"]

    with Master(project.backend) as master:
        future = master.submit(errands.nap, 100_000)
        wait_until(running, timeout=LIMIT, what="the host to run it")
        # Also when the master knows that it has begun.
        wait_until(lambda: future.state is TaskState.RUNNING, timeout=LIMIT, what="the master to learn of it")
        assert future.running()
        assert future.cancel()
        assert not future.running()
        wait_until(lambda: not client.tasks(), timeout=LIMIT, what="the host to drop it")
        with contextlib.closing(sqlite3.connect(project.directory / "database.sqlite3")) as database:
            left = "SELECT COUNT(*) FROM workunit WHERE error_mask > 0 AND file_delete_state <> 2"
            wait_until(lambda: database.execute(left).fetchone() == (0,), timeout=LIMIT, what="its files to go")
        assert master.submit(errands.double, 2).result(LIMIT) == 4  # the host is none the worse for it


@pytest.mark.stock
def test_a_data_file_is_sent_once_kept_and_gone_when_the_project_has_it_no_more(
    tmp_path: Path, need: Callable[..., None]
) -> None:
    need("boinc", "boinccmd", "faketime")
    content = os.urandom(300_000)
    (tmp_path / "data").write_bytes(content)
    with contextlib.ExitStack() as stack:
        with served(tmp_path / "project") as project:
            client = stack.enter_context(StockClient(speed=20.0, name="keeper"))
            client.attach(project.url, project.account())
            seen = set()
            for _ in range(2):  # two runs, with no job in between
                with Master(project.backend) as master:
                    call = master.options(files={"data": tmp_path / "data"}).submit(errands.digest_of, "data")
                    assert call.result(LIMIT) == hashlib.sha256(content).hexdigest()
                wait_until(lambda: not client.tasks(), timeout=LIMIT, what="the host to report")
                (kept,) = files_on(client, content)
                seen.add((kept.stat().st_ino, kept.stat().st_mtime_ns))
            assert len(seen) == 1
        with contextlib.closing(sqlite3.connect(project.directory / "database.sqlite3")) as database:
            database.execute("UPDATE boincserver_file SET create_time = 1")  # as after a day in which nobody used it
            database.commit()
        with serving(project.directory):
            wait_until(lambda: not files_on(client, content), timeout=LIMIT, what="the host to delete it")
        assert not [path for path in (project.directory / "download").rglob("*") if path.name.startswith(kept.name)]


def peak(process: int | str) -> int:
    """Kilobytes of memory."""
    return int(Path(f"/proc/{process}/status").read_text().partition("VmHWM:")[2].split()[0])


def a_large_file(folder: Path, megabytes: int) -> None:
    """Through master and server, neither of which ever holds more than a third of it."""
    piece = os.urandom(1 << 20)
    data, digest = folder / "data", hashlib.sha256()
    with data.open("wb") as file:
        for number in range(megabytes):
            file.write(number.to_bytes(8, "little") + piece[8:])
            digest.update(number.to_bytes(8, "little") + piece[8:])
    with served(folder / "project") as project, Master(project.backend) as master:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: earlier tests had theirs
        before = peak("self")
        call = master.options(files={"data": data}).submit(errands.digest_of, "data")
        mine = peak("self") - before
        assert mine < megabytes * 1024 // 3
        with SimulatedVolunteer(project.url, project.account()).start():
            assert call.result(LIMIT) == digest.hexdigest()
        assert peak(project.pid) < (100 + megabytes // 3) * 1024


def test_a_large_file_takes_no_memory(tmp_path: Path) -> None:
    a_large_file(tmp_path, 150)


@pytest.mark.soak
def test_a_gigabyte_takes_no_memory(tmp_path: Path) -> None:
    a_large_file(tmp_path, 1000)


def test_an_endless_input_is_queued_in_part_only(tmp_path: Path) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    with served(tmp_path / "project") as project, Master(project.backend) as master:
        before = threading.active_count()
        results = master.map(errands.double, endless(), timeout=LIMIT)
        with SimulatedVolunteer(project.url, project.account()).start():
            assert [next(results) for _ in range(10)] == [2 * n for n in range(1, 11)]
        assert threading.active_count() <= before + 2
        assert taken < 20_000
        master.shutdown(wait=False, cancel_futures=True)
