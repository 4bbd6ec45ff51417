"""What goes wrong on volunteers' computers ends as the right error, and is told truly at each moment."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import errands
from tests.served import Project, served
from tests.whole.letting import let_in

import pymw
from boincserver.states import ClientState
from boincserver.testing import SimulatedJob, SimulatedVolunteer, serving, wait_until
from boincserver.testing.wire import Finished
from pymw import Master, envelope
from pymw.backends.boinc import homecoming
from pymw.outcome import Ending, ExceptionData, Outcome
from pymw.volunteer import OUTCOMES, TASKS

LIMIT = 120.0
Answer = Callable[[int, tuple[Any, ...]], Any]


def playing(answer: Answer) -> Callable[[SimulatedJob], dict[str, bytes]]:
    """A program whose answer to item n with these arguments is `answer(n, args)`; an Outcome stands for itself."""

    def compute(job: SimulatedJob) -> dict[str, bytes]:
        packed = []
        for number, item in enumerate(envelope.unpack_job(job.inputs[TASKS]).items):
            args, _ = envelope.unpack_call(item.arguments, ["tests.errands"])
            said = answer(number, args)
            packed.append(envelope.pack_outcome(said if isinstance(said, Outcome) else Outcome(Ending.RETURNED, said)))
        return {OUTCOMES: envelope.pack_outcomes(packed)}

    return compute


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with served(tmp_path_factory.mktemp("truth") / "project") as project:
        yield project


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Project]:
    """A project that nobody else uses."""
    with served(tmp_path / "project") as project:
        yield project


def joined(project: Project, answer: Answer | None = None, key: str = "") -> SimulatedVolunteer:
    return SimulatedVolunteer(project.url, key or project.account(), compute=playing(answer) if answer else None)


def test_explain_tells_the_truth_at_each_moment(alone: Project) -> None:
    with Master(alone.backend, rehearse=False) as master, contextlib.ExitStack() as stack:
        future = master.options(quorum=2, deadline=6.5 * 86400).submit(errands.double, 1)
        assert "no host has joined the project yet" in future.explain()
        single = master.submit(errands.double, 1)
        assert single.explain().endswith(": no host has joined the project yet")  # and it needs no different users
        assert single.cancel()
        key = alone.account()
        first, twin = (stack.enter_context(joined(alone, lambda n, args: 1.25, key)) for _ in range(2))
        for volunteer in (first, twin):
            volunteer.contact(seconds=0, instances=0)
        assert "no host has taken it yet; it needs two different users, and one joined so far" in future.explain()
        first.contact()
        assert f"in progress on 1 of 2 hosts (host {first.hostid}), deadline in 6 days" in future.explain()
        assert "one more copy waits for a host of another user; it needs two different users" in future.explain()
        wait_until(future.running, timeout=LIMIT, what="the master to learn that a host has it")
        first.work(next(iter(first.held)))
        first.contact()
        assert "1 of 2 results here" in future.explain()
        other = stack.enter_context(joined(alone, lambda n, args: 1.31))
        other.step()
        other.contact(seconds=0, instances=0)
        wait_until(lambda: "two results differ: 1.25 vs 1.31" in future.explain(), timeout=LIMIT, what="the comparison")
        wait_until(lambda: "one more copy waits" in future.explain(), timeout=LIMIT, what="another copy")
        third = stack.enter_context(joined(alone, lambda n, args: 1.31))
        third.step()
        third.contact(seconds=0, instances=0)
        assert future.result(LIMIT) == 1.31
        assert "returned" in future.explain()


def test_copies_that_differ_in_one_task_cost_that_task_alone_and_say_where(alone: Project) -> None:
    def unlike(number: int) -> Answer:
        return lambda n, args: {"energies": [1.0, number]} if args[0] == 3 else 2 * args[0]

    with Master(alone.backend, rehearse=False) as master, contextlib.ExitStack() as stack:
        results = master.options(quorum=2).map(errands.double, range(6), chunksize=6, on_error="return", timeout=LIMIT)
        for number in range(10):
            stack.enter_context(joined(alone, unlike(number))).start()
        kept = list(results)
    lost = kept.pop(3)
    assert kept == [0, 2, 4, 8, 10]
    assert isinstance(lost, pymw.WorkerLost)
    assert "two results differ at ['energies'][1]: 0 vs 1" in str(lost) or "vs" in lost.attempts[0].ending


def test_a_crash_in_a_chunk_costs_its_task_alone_and_no_host_its_good_name(alone: Project) -> None:
    with Master(alone.backend, rehearse=False) as master, contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(joined(alone)).start()
        results = master.options(attempts=2).map(
            errands.segfault, range(200), [77] * 200, chunksize=50, on_error="return", timeout=LIMIT
        )
        kept = list(results)
        assert [n for n, value in enumerate(kept) if isinstance(value, Exception)] == [77]
        assert [attempt.ending for attempt in kept[77].attempts] == ["the child was killed by SIGSEGV"] * 2
        assert all("in segfault" in attempt.stderr for attempt in kept[77].attempts)
        hosts = alone.control.hosts()
        assert sum(host.failed for host in hosts) == 0  # a failed job would make the stock client back off
        assert sum(host.succeeded for host in hosts) == 5


def test_a_task_that_takes_too_long_is_ended_and_the_rest_of_its_chunk_is_not(project: Project) -> None:
    with joined(project).start(), Master(project.backend, rehearse=False) as master:
        limited = master.options(time_limit=8)
        kept = list(limited.map(errands.nap, [0, 600, 0], chunksize=3, on_error="return", timeout=LIMIT))
    assert (kept[0], kept[2]) == (0, 0)
    assert isinstance(kept[1], pymw.TimeLimitExceeded)
    assert "it ran longer than 8 seconds" in str(kept[1])


def test_a_task_that_takes_too_much_memory_is_ended_and_says_so(project: Project) -> None:
    with joined(project).start(), Master(project.backend, rehearse=False) as master:
        limited = master.options(memory=300 << 20, attempts=1)
        kept = list(limited.map(errands.hoard, [1, 500, 2], chunksize=3, on_error="return", timeout=LIMIT))
    assert (kept[0], kept[2]) == (1 << 20, 2 << 20)
    assert isinstance(kept[1], pymw.WorkerLost)
    assert "of memory; the job's bound is 315 MB" in kept[1].attempts[0].ending


def test_every_attempt_tells_its_host_its_exit_status_and_what_it_wrote(project: Project) -> None:
    def crash(n: int, args: tuple[Any, ...]) -> Any:
        raise RuntimeError("my disk is on fire")

    with Master(project.backend, rehearse=False) as master, contextlib.ExitStack() as stack:
        volunteers = [stack.enter_context(joined(project, crash)).start() for _ in range(3)]
        error = master.submit(errands.double, 1).exception(LIMIT)
    assert isinstance(error, pymw.WorkerLost)
    assert {attempt.worker for attempt in error.attempts} == {f"host {v.hostid}" for v in volunteers}
    for attempt in error.attempts:
        assert attempt.ending == "failed there with exit status 1"
        assert "my disk is on fire" in attempt.stderr
    assert str(error).count("my disk is on fire") == 3


def aborts(host: SimulatedVolunteer, name: str) -> None:
    del host.held[name]
    host.finished[name] = Finished(name, ClientState.ABORTED, 203, "not on my computer")


def cannot_fetch(host: SimulatedVolunteer, name: str) -> None:
    del host.held[name]
    host.finished[name] = Finished(name, ClientState.COMPUTE_ERROR, -186, "WU download error")


def leaves_no_output(host: SimulatedVolunteer, name: str) -> None:
    del host.held[name]
    host.finished[name] = Finished(name, ClientState.COMPUTE_ERROR, 0, "said all is well")


def leaves_the_project(host: SimulatedVolunteer, name: str) -> None:
    host.held.clear()
    host.hostid = 0  # it joins again, and knows of nothing


@pytest.mark.parametrize(
    ("event", "ending", "said"),
    [
        (aborts, "its user aborted it, exit status 203", "not on my computer"),
        (cannot_fetch, "a download failed there, exit status -186", "WU download error"),
        (leaves_no_output, "its output is missing, exit status 0", "said all is well"),
        (leaves_the_project, "the host left the project", ""),
    ],
)
def test_each_way_to_lose_a_task_is_told_as_what_it_was(
    project: Project, event: Callable[[SimulatedVolunteer, str], None], ending: str, said: str
) -> None:
    with Master(project.backend, rehearse=False) as master, joined(project) as host:
        future = master.options(attempts=1).submit(errands.double, 1)
        host.contact()
        event(host, next(iter(host.held)))
        host.contact(seconds=0, instances=0)
        error = future.exception(LIMIT)
    assert isinstance(error, pymw.WorkerLost)
    (attempt,) = error.attempts
    assert (attempt.ending, attempt.stderr) == (ending, said)
    assert attempt.worker.startswith("host ")


def test_a_host_that_is_never_heard_of_again_is_given_up(tmp_path: Path) -> None:
    with served(tmp_path / "project") as project, joined(project) as host:
        master = Master(project.backend, rehearse=False)
        future = master.options(attempts=1, deadline=100.0).submit(errands.double, 1)
        host.contact()
        assert host.held
    with contextlib.closing(sqlite3.connect(project.directory / "database.sqlite3")) as database:
        database.execute("UPDATE result SET report_deadline = report_deadline - 1000")  # so much time went by
        database.execute("UPDATE workunit SET transition_time = transition_time - 1000")
        database.commit()
    with serving(project.directory):
        error = future.exception(LIMIT)
        master.shutdown()
    assert isinstance(error, pymw.WorkerLost)
    (attempt,) = error.attempts
    assert attempt.ending == "no reply within its deadline"
    assert attempt.worker == f"host {host.hostid}"


def test_a_function_says_which_results_agree(project: Project) -> None:
    with Master(project.backend) as master, contextlib.ExitStack() as stack:
        for factor in (1, 2, -1):
            answer = lambda n, args, factor=factor: errands.Measured(args[0] * factor)  # noqa: E731
            stack.enter_context(joined(project, answer)).start()
        signs = master.options(quorum=2, agree=errands.same_sign)
        results = list(signs.map(errands.measure, [1.0, -2.0, 3.0], chunksize=1, timeout=LIMIT))
    assert [result.energy > 0 for result in results] == [True, False, True]
    assert all(isinstance(result, errands.Measured) for result in results)


@pytest.mark.parametrize(
    ("agree", "reason"),
    [
        (errands.undecided, "ValueError: what is sameness"),
        (errands.never_decides, "took longer than"),
        (errands.snoops, "PermissionError"),
    ],
)
def test_a_comparison_that_fails_is_an_error_of_the_run(agree: Any, reason: str, tmp_path: Path) -> None:
    secret = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".pymw-test-secret"  # what a process without $HOME takes for ~
    secret.write_text("secret")
    try:
        with served(tmp_path / "project") as project, contextlib.ExitStack() as stack:
            for value in (1.0, 2.0):
                answer = lambda n, args, value=value: errands.Measured(value)  # noqa: E731
                stack.enter_context(joined(project, answer)).start()
            with Master(project.backend, rehearse=False) as master:
                future = master.options(quorum=2, agree=agree).submit(errands.measure, 1.0)
                error = future.exception(LIMIT)
    finally:
        secret.unlink()
    assert isinstance(error, pymw.BackendError)
    assert "results cannot be compared" in str(error)
    assert reason in str(error)


def test_progress_comes_home_while_the_task_runs(alone: Project) -> None:
    """From the program's message to `future.progress`, and of other hosts' tasks nothing is believed."""

    def trickle(name: str, text: str) -> str:
        return (
            f"<msg_from_host>\n<result_name>{name}</result_name>\n<time>1</time>\n"
            f"<variety>boincserver.progress</variety>\n{text}\n</msg_from_host>\n"
        )

    with Master(alone.backend, rehearse=False) as master, contextlib.ExitStack() as stack:
        volunteer, liar = (stack.enter_context(joined(alone, lambda n, args: "done")) for _ in range(2))
        future = master.submit(errands.double, 1)
        volunteer.contact()
        name = next(iter(volunteer.held))
        wait_until(future.running, timeout=LIMIT, what="the master to learn that a host has it")
        liar.contact(seconds=0, instances=0, trickles=(trickle(name, "0 0.9000"),))
        for text in ("0 1e5", "7 0.5000", "<oh>", "0 0.2500"):
            volunteer.contact(seconds=0, instances=0, trickles=(trickle(name, text),))
        wait_until(lambda: future.progress, timeout=LIMIT, what="progress")
        assert future.progress == 0.25
        volunteer.work(name)
        volunteer.contact()
        assert future.result(LIMIT) == "done"


def test_what_fails_wherever_it_is_sent_is_sent_no_more_and_says_why(alone: Project) -> None:
    def crash(n: int, args: tuple[Any, ...]) -> Any:
        raise RuntimeError("libfortran is missing")

    with Master(alone.backend, rehearse=False) as master, contextlib.ExitStack() as stack:
        volunteers = [stack.enter_context(joined(alone, crash)).start() for _ in range(3)]
        results = master.map(errands.double, range(300), chunksize=1, on_error="return", timeout=LIMIT)
        kept = list(results)
        done = sum(volunteer.jobs_done for volunteer in volunteers)
    stopped = [error for error in kept if isinstance(error, pymw.BackendError)]
    assert all(isinstance(error, (pymw.WorkerLost, pymw.BackendError)) for error in kept)
    assert len(stopped) > 200
    assert "attempts on 3 hosts failed alike, and none worked: failed there with exit status 1" in str(stopped[0])
    assert "libfortran is missing" in str(stopped[0])
    assert done < 300  # of 900 that would have been tried


def test_jobs_take_what_hosts_measured_into_account_and_status_estimates_the_rest(alone: Project) -> None:
    created: list[int] = []

    def slow(n: int, args: tuple[Any, ...]) -> Any:
        return Outcome(Ending.RETURNED, 2 * args[0], seconds=100.0)

    create = type(alone.control).create_jobs

    def spy(control: Any, batch: int, jobs: Any) -> int:
        created.extend(len(envelope.unpack_job(job.inputs[TASKS]).items) for job in jobs)
        return create(control, batch, jobs)

    with pytest.MonkeyPatch.context() as patch, Master(alone.backend, rehearse=False) as master:
        patch.setattr(type(alone.control), "create_jobs", spy)
        quick = master.options(est_seconds=0.01)  # as its user believes
        with joined(alone, slow).start():
            assert list(quick.map(errands.double, range(160), timeout=LIMIT)) == [2 * n for n in range(160)]
        assert max(created) == 10
        created.clear()
        rest = quick.map(errands.double, range(159), timeout=LIMIT)
        assert set(created) == {3}  # of 100 seconds each
        assert "done in " in str(master.status())
        with joined(alone, slow).start():
            assert len(list(rest)) == 159


def test_an_exception_of_a_host_that_nobody_knows_is_confirmed_by_others(alone: Project) -> None:
    def broken(n: int, args: tuple[Any, ...]) -> Any:
        return Outcome(Ending.RAISED, exception=ExceptionData.of(ValueError("this computer is odd")))

    with Master(alone.backend, rehearse=False) as master, contextlib.ExitStack() as stack:
        odd = stack.enter_context(joined(alone, broken))
        others = [stack.enter_context(joined(alone)) for _ in range(2)]
        for volunteer in (odd, *others):
            volunteer.contact(seconds=0, instances=0)
        good, bad = master.submit(errands.double, 4), master.submit(errands.fail, "indeed")
        while odd.jobs_done < 2:
            odd.step()
        odd.contact(seconds=0, instances=0)
        for volunteer in others:
            volunteer.start()
        assert good.result(LIMIT) == 8
        error = bad.exception(LIMIT)
    assert type(error) is ValueError
    assert error.args == ("indeed", 42)


def test_a_projects_only_computer_is_believed(alone: Project) -> None:
    with Master(alone.backend, rehearse=False) as master, joined(alone).start():
        assert master.submit(errands.fail, "no").exception(LIMIT).args == ("no", 42)


@pytest.fixture(params=["boinc:", "boinc+http:"])
def way(request: pytest.FixtureRequest, alone: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The project in the directory, and the same one over the network."""
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))
    return alone.backend if request.param == "boinc:" else let_in(alone, monkeypatch)


def test_the_last_tasks_of_a_slow_host_are_sent_to_a_quick_one_too(
    way: str, alone: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homecoming, "LATE_AFTER", 1.0)
    with Master(way, rehearse=False) as master, contextlib.ExitStack() as stack:
        slow = stack.enter_context(joined(alone))
        quick = master.options(est_seconds=0.1)
        future = quick.submit(errands.double, 21)
        slow.contact()
        assert slow.held  # and nothing more is heard of it
        name = next(iter(slow.held)).rpartition("_")[0]
        wait_until(lambda: len(alone.control.copies(1, name)) == 2, timeout=LIMIT, what="a second copy to be made")
        for fpops in (1e5, 1e4):  # minutes and quarters of an hour for what is expected to take a tenth of a second
            tardy = stack.enter_context(joined(alone))
            tardy.fpops = fpops
            tardy.contact()
            assert not tardy.held
        stack.enter_context(joined(alone)).start()
        assert future.result(LIMIT) == 42
        slow.work(next(iter(slow.held)))  # it comes too late, which harms nobody
        slow.contact()
        assert slow.finished == {}


def test_the_estimate_follows_what_hosts_bring_home(way: str, alone: Project) -> None:
    with Master(way, rehearse=False) as master, joined(alone, lambda n, args: 2 * args[0]) as host:
        results = master.map(errands.double, range(40), chunksize=1, timeout=LIMIT)
        assert "no host has joined yet" in str(master.status())
        host.contact(seconds=0, instances=0)
        wait_until(lambda: f"1 hosts with {host.ncpus} cores" in str(master.status()), timeout=LIMIT, what="the host")
        begun = time.monotonic()
        host.contact()
        # The pace is known from when the master hears that somebody began.
        wait_until(lambda: "1 tasks running" in str(master.status()), timeout=LIMIT, what="the first to be under way")
        for _ in range(20):
            host.step()
        host.contact(seconds=0, instances=0)
        wait_until(lambda: "20 waiting" in str(master.status()), timeout=LIMIT, what="half of them to be home")
        took = time.monotonic() - begun
        told = re.search(r"done in (\d+) (seconds|minutes)", str(master.status()))
        assert told is not None
        # As many again, at the pace that they came at: no sooner than at once, and not much later than so far.
        assert int(told[1]) * (60 if told[2] == "minutes" else 1) <= 2 * took + 60
        host.start()
        assert len(list(results)) == 40
