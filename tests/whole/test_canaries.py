"""A new function goes to a few volunteers first: one that is broken for all of them costs no more than that."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests import errands
from tests.served import Project, served
from tests.whole.letting import let_in
from tests.whole.test_truth import Answer, joined

import pymw
from boincserver.control import Control
from boincserver.testing import SimulatedVolunteer, wait_until
from pymw import Master

LIMIT = 120.0
CANARIES = 7  # whose three attempts each make more than twenty


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))
    with served(tmp_path / "project") as project:
        yield project


def crash(n: int, args: tuple[Any, ...]) -> Any:
    raise RuntimeError("libfortran is missing")


@contextlib.contextmanager
def crowd(project: Project, answer: Answer | None = None, count: int = 5) -> Iterator[list[SimulatedVolunteer]]:
    """Computers that have joined, and do nothing yet."""
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(joined(project, answer or (lambda n, args: 2 * args[0]))) for _ in range(count)]
        for host in hosts:
            host.contact(seconds=0, instances=0)
        yield hosts


def jobs(project: Project) -> int:
    return sum(batch["jobs"] for batch in project.control.batches())


def work_in_turn(project: Project, hosts: list[SimulatedVolunteer]) -> None:
    """One computer after the other, until all is over; the master takes note of what one brought before the next goes."""

    def over() -> bool:
        return all(batch["over"] == batch["jobs"] for batch in project.control.batches())

    def noted() -> bool:
        return over() or not any(batch["to_fetch"] for batch in project.control.batches())

    end = time.monotonic() + LIMIT
    while not over():
        for host in hosts:
            host.step()
            wait_until(noted, timeout=LIMIT, what="the master to take the outcomes")
        assert time.monotonic() < end


@pytest.mark.parametrize("way", ["boinc:", "boinc+http:"])
def test_the_rest_waits_until_the_first_came_home(way: str, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = project.backend if way == "boinc:" else let_in(project, monkeypatch)
    with crowd(project) as hosts, Master(backend, rehearse=False) as master:
        first = master.submit(errands.double, 1)
        results = master.map(errands.double, range(200), chunksize=1, timeout=LIMIT)
        last = master.submit(errands.double, 2)
        assert jobs(project) == CANARIES
        assert "it waits here until the first task of this function came home" in last.explain()
        assert "195 tasks are held back until the first of their function came home" in str(master.status())
        hosts[0].step()
        hosts[0].contact(seconds=0, instances=0)
        assert first.result(LIMIT) == 2
        wait_until(lambda: jobs(project) == 202, timeout=LIMIT, what="the rest to be sent")
        assert "held back" not in str(master.status())
        for host in hosts:
            host.start()
        assert list(results) == [2 * n for n in range(200)]
        assert last.result(LIMIT) == 4


def test_what_is_broken_for_all_is_paused_and_goes_on_when_it_is_mended(project: Project) -> None:
    with crowd(project, crash) as hosts, Master(project.backend, run="mended", rehearse=False) as master:
        results = master.map(errands.double, range(300), chunksize=1, on_error="return", timeout=LIMIT)
        work_in_turn(project, hosts)
        kept = list(results)
        attempts = sum(host.jobs_done for host in hosts)
    assert attempts <= 3 * CANARIES + 5 * len(hosts)  # what was under way when it was noticed
    paused = [error for error in kept if isinstance(error, pymw.BackendError)]
    lost = [error for error in kept if isinstance(error, pymw.WorkerLost)]
    assert len(paused) + len(lost) == 300
    assert len(lost) <= CANARIES
    assert "paused: its first 2" in str(paused[0])
    assert "hosts failed alike, and none worked: failed there with exit status 1" in str(paused[0])
    assert "libfortran is missing" in str(paused[0])
    assert "options(canaries=False) sends it all the same" in str(paused[0])
    # What was not sent did not fail: it is computed now, also by who wants failures to be kept.
    with crowd(project) as hosts, Master(project.backend, run="mended", rehearse=False, retry_failed=False) as master:
        results = master.map(errands.double, range(300), chunksize=1, on_error="return", timeout=LIMIT)
        for host in hosts:
            host.start()
        again = list(results)
    assert [isinstance(value, Exception) for value in again] == [isinstance(error, pymw.WorkerLost) for error in kept]
    assert all(value == 2 * n for n, value in enumerate(again) if not isinstance(value, Exception))


def test_who_knows_better_sends_it_all_at_once_and_is_not_stopped(project: Project) -> None:
    def only_the_last(n: int, args: tuple[Any, ...]) -> Any:
        return "worked" if args[0] == 39 else crash(n, args)

    with crowd(project, only_the_last) as hosts, Master(project.backend, rehearse=False) as master:
        results = master.options(canaries=False).map(
            errands.double, range(40), chunksize=1, on_error="return", timeout=LIMIT
        )
        assert jobs(project) == 40
        for host in hosts:
            host.start()
        kept = list(results)
    assert kept[39] == "worked"
    assert all(isinstance(error, pymw.WorkerLost) for error in kept[:39])


def test_a_run_that_is_left_is_sent_whole_and_what_is_cancelled_is_not(project: Project) -> None:
    with crowd(project), contextlib.suppress(KeyboardInterrupt), Master(project.backend, run="left") as master:
        master.map(errands.double, range(30), chunksize=1)
        assert jobs(project) == CANARIES
        raise KeyboardInterrupt
    assert jobs(project) == 30
    with crowd(project), contextlib.suppress(RuntimeError), Master(project.backend, rehearse=False) as master:
        master.map(errands.double, range(30), chunksize=1)
        raise RuntimeError("leave")
    assert jobs(project) == 30 + CANARIES


def test_what_is_cancelled_while_it_is_created_is_cancelled_all_the_same(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, cancelled = Control.create_jobs, []

    def cancel_first(control: Control, batch: int, jobs: Sequence[Any]) -> int:
        if threading.current_thread().name == "pymw boinc collector" and not cancelled:
            cancelled.append((batch, jobs[-1].name))
            assert futures[-1].cancel()
        return create(control, batch, jobs)

    def over() -> bool:
        (batch, name), *_ = cancelled
        return any(job.name == name and job.state == "over" for job in project.control.job_states(batch))

    monkeypatch.setattr(Control, "create_jobs", cancel_first)
    with crowd(project) as hosts, Master(project.backend, rehearse=False) as master:
        futures = [master.submit(errands.double, n) for n in range(CANARIES + 3)]
        hosts[0].step()
        hosts[0].contact(seconds=0, instances=0)
        wait_until(lambda: cancelled and over(), timeout=LIMIT, what="the server to drop it")
        for host in hosts:
            host.start()
        assert [future.result(LIMIT) for future in futures[:-1]] == [2 * n for n in range(CANARIES + 2)]


def test_it_is_an_option_for_strangers_computers(project: Project) -> None:
    with Master("local", max_workers=1) as master, pytest.raises(pymw.UnsupportedOption, match="canaries"):
        master.options(canaries=False).submit(abs, -1)
    with pytest.raises(TypeError, match="canaries= is True or False"):
        pymw.TaskOptions(canaries=3)  # type: ignore[arg-type]
