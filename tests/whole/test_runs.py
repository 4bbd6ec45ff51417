"""Named runs on BOINC: they outlive their master, and nothing is computed twice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from tests import errands
from tests.served import Project, served

import pymw
from boincserver.testing import SimulatedVolunteer, serving, wait_until
from pymw import Master, envelope
from pymw.cli import main
from pymw.outcome import Ending, Outcome
from pymw.volunteer import OUTCOMES, TASKS

LIMIT = 120.0


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))


class Counting:
    """Volunteers that count how often each call was computed."""

    def __init__(self) -> None:
        self.computed: list[int] = []

    def __call__(self, job: Any) -> dict[str, bytes]:
        packed = []
        for item in envelope.unpack_job(job.inputs[TASKS]).items:
            (number,), _ = envelope.unpack_call(item.arguments, ())
            self.computed.append(number)
            packed.append(envelope.pack_outcome(Outcome(Ending.RETURNED, value=2 * number)))
        return {OUTCOMES: envelope.pack_outcomes(packed)}


def queued(project: Project) -> int:
    copies = project.control.status()["copies"]
    return int(copies["unsent"]) + int(copies["in_progress"])


def test_a_run_goes_on_without_its_master_and_is_collected_by_the_next(tmp_path: Path) -> None:
    compute = Counting()
    with served(tmp_path / "project") as project:
        with contextlib.suppress(KeyboardInterrupt), Master(project.backend, run="doubles") as master:
            master.map(errands.double, range(20), chunksize=4)
            raise KeyboardInterrupt  # as Ctrl-C does
        assert queued(project) == 5  # nothing was taken back
        with SimulatedVolunteer(project.url, project.account(), compute=compute).start():
            wait_until(lambda: queued(project) == 0, timeout=LIMIT, what="the volunteer to do it all")
        for _ in range(2):  # from the server, then from the journal
            with Master(project.backend, run="doubles") as master:
                results = master.map(errands.double, range(20), chunksize=4, timeout=LIMIT)
                assert list(results) == [2 * n for n in range(20)]
    assert sorted(compute.computed) == list(range(20))


def test_other_chunks_and_more_items_attach_to_what_is_under_way(tmp_path: Path) -> None:
    compute = Counting()
    with served(tmp_path / "project") as project:
        with contextlib.suppress(KeyboardInterrupt), Master(project.backend, run="doubles") as master:
            master.map(errands.double, range(10), chunksize=5)
            raise KeyboardInterrupt
        with SimulatedVolunteer(project.url, project.account(), compute=compute) as volunteer:
            with Master(project.backend, run="doubles") as master:
                singles = [master.submit(errands.double, n) for n in (7, 3)]
                results = master.map(errands.double, [n for n in range(14) if n not in (7, 3)], timeout=LIMIT)
                volunteer.start()
                assert [future.result(LIMIT) for future in singles] == [14, 6]
                assert list(results) == [2 * n for n in range(14) if n not in (7, 3)]
    assert sorted(compute.computed) == list(range(14))


def test_a_master_that_was_killed_loses_nothing(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from tests import errands\nfrom pymw import Master\nimport sys\n"
        "with Master(sys.argv[1], run='killed') as master:\n"
        "    for value in master.map(errands.double, range(30), chunksize=3):\n"
        "        print(value, flush=True)\n"
    )
    compute = Counting()
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    with served(tmp_path / "project") as project:
        command = [sys.executable, str(script), project.backend]
        with SimulatedVolunteer(project.url, project.account(), compute=compute).start():
            for _ in range(3):
                child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
                assert child.stdout is not None
                child.stdout.readline()
                os.kill(child.pid, signal.SIGKILL)
                child.communicate()
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert [int(line) for line in done.stdout.split()] == [2 * n for n in range(30)]
    assert sorted(compute.computed) == list(range(30))


def test_failed_tasks_are_tried_again_by_the_next_run(tmp_path: Path) -> None:
    with served(tmp_path / "project") as project, contextlib.ExitStack() as stack:
        stack.enter_context(SimulatedVolunteer(project.url, project.account()).start())
        for attempt in range(2):
            with Master(project.backend, run="fails") as master:
                error = master.submit(errands.fail, "no").exception(LIMIT)
                assert isinstance(error, ValueError), attempt
        with Master(project.backend, run="fails", retry_failed=False) as master:
            assert isinstance(master.submit(errands.fail, "no").exception(LIMIT), ValueError)
        assert project.control.status()["jobs"]["total"] == 2


def test_cancelled_work_of_a_run_is_taken_back(tmp_path: Path) -> None:
    with served(tmp_path / "project") as project, Master(project.backend, run="cancelled") as master:
        future = master.submit(errands.double, 1)
        assert future.cancel()
        wait_until(lambda: queued(project) == 0, timeout=LIMIT, what="the server to drop it")


def test_a_run_that_nobody_holds_is_cancelled_on_the_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(tmp_path / "project") as project:
        with contextlib.suppress(KeyboardInterrupt), Master(project.backend, run="left") as master:
            master.map(errands.double, range(6), chunksize=2)
            raise KeyboardInterrupt
        assert queued(project) == 3
        assert main(["cancel", "left"]) == 0
        assert "left: cancelled; 6 tasks were not over; 0 of 6 tasks done" in capsys.readouterr().out
        assert queued(project) == 0
        compute = Counting()
        with SimulatedVolunteer(project.url, project.account(), compute=compute).start():
            with Master(project.backend, run="left") as master:  # it can be gone on with
                assert list(master.map(errands.double, range(6), chunksize=2, timeout=LIMIT)) == [0, 2, 4, 6, 8, 10]
        assert sorted(compute.computed) == list(range(6))
        assert main(["cancel", "left"]) == 0
        assert "nothing was under way" in capsys.readouterr().out


def test_what_is_cancelled_while_the_server_is_away_ends_when_it_is_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.ExitStack() as stack:
        with served(tmp_path / "project") as project:
            master = stack.enter_context(Master(project.backend, run="away"))
            futures = [master.submit(errands.double, n) for n in range(3)]
        assert futures[0].cancel()
        with serving(project.directory):
            wait_until(lambda: queued(project) == 2, timeout=LIMIT, what="the master to cancel it again")
        for future in futures[1:]:
            assert future.cancel()
        capsys.readouterr()
        master.shutdown()
        assert "2 cancelled workunits of run 'away' are still there" in capsys.readouterr().err
        with serving(project.directory):
            assert queued(project) == 2
            assert main(["cancel", "away"]) == 0
            assert queued(project) == 0


def test_a_run_that_another_process_cancels_records_no_failures(tmp_path: Path) -> None:
    with served(tmp_path / "project") as project, Master(project.backend, run="ended") as master:
        futures = [master.submit(errands.double, n) for n in range(3)]
        cancel = [sys.executable, "-m", "pymw", "cancel", "ended"]
        told = subprocess.run(cancel, capture_output=True, text=True, timeout=LIMIT, check=True).stdout
        assert "0 of 3 tasks done" in told
        assert "failed" not in told
        for future in futures:
            with pytest.raises(CancelledError):
                future.result(LIMIT)
        assert queued(project) == 0
    with pymw.open_run("ended") as view:
        assert view.counts()["failed"] == 0


def test_what_an_operator_cancels_counts_as_not_tried(tmp_path: Path) -> None:
    with served(tmp_path / "project") as project:
        with Master(project.backend, run="stopped") as master:
            future = master.submit(errands.double, 1)
            (batch,) = project.control.batches()
            project.control.cancel_jobs(batch["id"])
            with pytest.raises(pymw.BackendError, match="was cancelled at the project"):
                future.result(LIMIT)
        with SimulatedVolunteer(project.url, project.account(), compute=Counting()).start():
            with Master(project.backend, run="stopped", retry_failed=False) as master:
                assert master.submit(errands.double, 1).result(LIMIT) == 2


def test_a_run_has_one_writer(tmp_path: Path) -> None:
    with served(tmp_path / "project") as project, Master(project.backend, run="held"):
        with pytest.raises(pymw.RunBusy):
            Master(project.backend, run="held")
