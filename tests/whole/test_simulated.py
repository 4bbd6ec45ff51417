"""`Master("boinc:DIR")` with simulated volunteers: the conformance suite, and what failed in 2009."""

from __future__ import annotations

import contextlib
import linecache
import pickle
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from tests import errands
from tests.pymw import conformance
from tests.served import Project, served

import pymw
from boincserver.control import Control
from boincserver.errors import ServerNotRunning
from boincserver.testing import SimulatedVolunteer, serving, wait_until
from pymw import Master, codec, envelope
from pymw.backends.boinc import collecting, packing
from pymw.outcome import Ending, Outcome
from pymw.volunteer import OUTCOMES, TASKS

LIMIT = 120.0


@pytest.fixture(scope="module")
def boinc(project: Project, volunteers: object) -> Iterator[Master]:
    with Master(project.backend) as master:
        yield master


class TestConformance(conformance.Suite):
    limit = LIMIT

    @pytest.fixture
    def master(self, boinc: Master) -> Master:
        return boinc

    def test_a_function_of_a_notebook_cell_in_its_newest_form(self, master: Master) -> None:
        cells: dict[str, Any] = {"__name__": "__main__"}

        def cell(number: int, text: str) -> None:
            name = f"<cell {number}>"
            linecache.cache[name] = (len(text), None, text.splitlines(True), name)
            exec(compile(text, name, "exec"), cells)

        cell(1, "def helper(x): return x + 1")
        cell(2, "def function(x): return helper(x)")
        assert master.submit(cells["function"], 1).result(LIMIT) == 2
        cell(3, "def helper(x): return x + 100")
        assert master.submit(cells["function"], 1).result(LIMIT) == 101

    def test_a_function_without_source_is_refused_with_what_to_do(self, master: Master) -> None:
        cells: dict[str, Any] = {"__name__": "__main__"}
        exec("def function(x): return x", cells)
        with pytest.raises(pymw.UnshippableError, match="define it in a script, a module or a notebook cell"):
            master.submit(cells["function"], 1)


def compute(job: Any) -> dict[str, bytes]:
    """Play the worker program, in this process."""
    items = envelope.unpack_job(job.inputs[TASKS]).items
    values = [2 * envelope.unpack_call(item.arguments, ())[0][0] for item in items]
    packed = [envelope.pack_outcome(Outcome(Ending.RETURNED, value=value)) for value in values]
    return {OUTCOMES: envelope.pack_outcomes(packed)}


def test_two_hundred_workunits_are_queued_at_once_and_collected_by_one_thread(tmp_path: Path) -> None:
    with served(tmp_path / "project") as project, Master(project.backend) as master:
        before = threading.active_count()
        results = master.map(errands.double, range(200), chunksize=1, timeout=LIMIT)
        assert threading.active_count() <= before + 1
        assert len(project.control.job_states(1)) == 200
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                volunteer = SimulatedVolunteer(project.url, project.account(), compute=compute)
                stack.enter_context(volunteer).start(pause=0.05)
            assert list(results) == [2 * n for n in range(200)]


def test_many_tasks_on_real_programs(boinc: Master) -> None:
    assert list(boinc.map(errands.double, range(200), timeout=LIMIT)) == [2 * n for n in range(200)]


def test_redundant_results_that_agree_become_one_value(boinc: Master, project: Project) -> None:
    first = boinc.options(quorum=2).submit(errands.unseeded)
    other = boinc.options(quorum=2).submit(errands.unseeded)
    assert first.result(LIMIT) != other.result(LIMIT)  # tasks differ in their random numbers, copies of one do not
    assert project.hosts_that_worked() >= 2


def test_results_that_never_agree_end_with_what_every_host_said(tmp_path: Path) -> None:
    def unlike(number: int) -> Callable[[Any], dict[str, bytes]]:
        def compute(job: Any) -> dict[str, bytes]:
            outcome = envelope.pack_outcome(Outcome(Ending.RETURNED, value=number))
            return {OUTCOMES: envelope.pack_outcomes([outcome])}

        return compute

    with served(tmp_path / "project") as project, contextlib.ExitStack() as stack:
        for number in range(10):
            liar = SimulatedVolunteer(project.url, project.account(), compute=unlike(number))
            stack.enter_context(liar).start()
        with Master(project.backend) as master:
            error = master.options(quorum=2).submit(errands.double, 1).exception(LIMIT)
    assert isinstance(error, pymw.WorkerLost)
    assert len(error.attempts) >= 3
    assert "did not agree" in str(error)


def test_results_that_are_close_agree_when_that_is_asked_for(tmp_path: Path) -> None:
    def near(error: float) -> Callable[[Any], dict[str, bytes]]:
        def compute(job: Any) -> dict[str, bytes]:
            value = {"energy": [1.0 + error], "n": 3}
            return {OUTCOMES: envelope.pack_outcomes([envelope.pack_outcome(Outcome(Ending.RETURNED, value=value))])}

        return compute

    with served(tmp_path / "project") as project, contextlib.ExitStack() as stack:
        for error in (0.0, 1e-12):
            volunteer = SimulatedVolunteer(project.url, project.account(), compute=near(error))
            stack.enter_context(volunteer).start()
        with Master(project.backend) as master:
            close = master.options(quorum=2, agree="close:1e-9").submit(errands.double, 1)
            assert close.result(LIMIT)["n"] == 3
            with pytest.raises(ValueError, match="agree='near' is none of"):
                master.options(quorum=2, agree="near").submit(errands.double, 1)


def test_a_liar_is_outvoted(tmp_path: Path) -> None:
    def lie(job: Any) -> dict[str, bytes]:
        count = len(envelope.unpack_job(job.inputs[TASKS]).items)
        return {OUTCOMES: envelope.pack_outcomes([envelope.pack_outcome(Outcome(Ending.RETURNED, value=0))] * count)}

    with served(tmp_path / "project") as project, contextlib.ExitStack() as stack:
        for compute in (lie, None, None):
            stack.enter_context(SimulatedVolunteer(project.url, project.account(), compute=compute)).start()
        with Master(project.backend) as master:
            results = master.options(quorum=2).map(errands.double, range(1, 7), chunksize=1, timeout=LIMIT)
            assert list(results) == [2, 4, 6, 8, 10, 12]


def test_a_dying_call_is_tried_elsewhere_and_then_lost_while_the_others_return(boinc: Master) -> None:
    kept = list(boinc.map(errands.vanish, range(10), [(3,)] * 10, on_error="return", chunksize=5, timeout=LIMIT))
    assert [value for value in kept if not isinstance(value, Exception)] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    lost = kept[3]
    assert isinstance(lost, pymw.WorkerLost)
    assert len(lost.attempts) == 3
    assert all("SIGKILL" in attempt.ending and "host" in attempt.worker for attempt in lost.attempts)


def test_code_that_no_host_can_load_fails_with_what_each_of_them_said(
    project: Project, volunteers: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as home:
        home.setenv("PYMW_TEST_HOME", "1")
        from tests import unloadable
    with Master(project.backend, rehearse=False) as master:
        error = master.submit(unloadable.answer).exception(LIMIT)
        with pytest.raises(pymw.UnshippableError, match="only at home"):
            Master(project.backend).submit(unloadable.answer)
    assert isinstance(error, pymw.WorkerLost)
    assert len(error.attempts) == 3
    assert all("only at home" in attempt.stderr for attempt in error.attempts)


def test_an_unsendable_result_is_refused_before_anything_is_sent(boinc: Master) -> None:
    with pytest.raises(pymw.UnshippableError, match=r"result\['a'\]\[0\]: object cannot be sent"):
        boinc.submit(errands.unsendable)


def test_what_a_task_printed_and_where_it_ran_is_told(boinc: Master) -> None:
    future = boinc.submit(errands.shout, "hello")
    assert future.result(LIMIT) == 5
    assert (future.stdout, future.stderr, future.log) == ("HELLO\n", "hello\n", ("said hello",))
    assert boinc.capabilities.output and boinc.capabilities.logs
    assert future.worker.startswith("host ")


def test_data_files_go_along_and_come_back(boinc: Master, tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("one two three")
    with_file = boinc.options(files={"words/text.txt": text}, outputs=["counted.txt"])
    futures = [with_file.submit(errands.count_words, factor) for factor in (1, 2)]
    assert [future.result(LIMIT) for future in futures] == [
        (3, ["counted.txt", "words"]),
        (6, ["counted.txt", "words"]),
    ]
    assert futures[0].files == {"counted.txt": b"three two one"}
    with pytest.raises(FileNotFoundError, match=r"the function left no file other.txt"):
        boinc.options(files={"words/text.txt": text}, outputs=["other.txt"]).submit(errands.count_words, 1).result(
            LIMIT
        )
    many = boinc.options(files={"words/text.txt": text}, outputs=["counted.txt"], into=tmp_path / "counted")
    assert [count for count, _ in many.map(errands.count_words, [1, 2], timeout=LIMIT)] == [3, 6]
    assert [(tmp_path / "counted" / str(i) / "counted.txt").read_text() for i in range(2)] == ["three two one"] * 2


class Spy:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_nothing_that_a_volunteer_sends_is_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "unpickled"
    sent = pickle.dumps(Spy(mark))
    with served(tmp_path / "project") as project, contextlib.ExitStack() as stack:
        for _ in range(3):
            liar = SimulatedVolunteer(project.url, project.account(), compute=lambda job: {OUTCOMES: sent})
            stack.enter_context(liar).start()
        with Master(project.backend) as master:
            error = master.submit(errands.double, 1).exception(LIMIT)
    assert isinstance(error, pymw.WorkerLost)
    assert "could not be read" in str(error)
    assert not mark.exists()


def test_a_value_that_cannot_be_read_costs_its_own_task_alone(tmp_path: Path) -> None:
    def lie(job: Any) -> dict[str, bytes]:
        named = codec.encode(codec.Limits()).replace(b"pymw.codec.wire:Limits", b"subprocess:Popen\0\0\0\0\0\0")
        good = envelope.pack_outcome(Outcome(Ending.RETURNED, value="fine"))
        bad = codec.encode({**codec.decode(good), "value": named})
        return {OUTCOMES: envelope.pack_outcomes([good, bad, good])}

    with served(tmp_path / "project") as project:
        liar = SimulatedVolunteer(project.url, project.account(), compute=lie)
        with liar.start(), Master(project.backend) as master:
            kept = list(master.map(errands.double, range(3), on_error="return", chunksize=3, timeout=LIMIT))
    assert kept[0] == kept[2] == "fine"
    assert isinstance(kept[1], pymw.UnshippableError)
    assert "not of a module that was shipped" in str(kept[1])


def test_a_cancelled_task_is_taken_back_and_explained_before(tmp_path: Path) -> None:
    with served(tmp_path / "project") as project, Master(project.backend) as master:
        future = master.options(quorum=2).submit(errands.creep, 0.1)
        assert "no host has" in future.explain()
        assert future.cancel()
        assert future.cancelled()


def test_the_master_outlasts_a_restart_of_the_server(tmp_path: Path) -> None:
    with served(tmp_path / "project") as project:
        key = project.account()
    with contextlib.ExitStack() as stack:
        with serving(project.directory):
            master = stack.enter_context(Master(project.backend))
            future = master.submit(errands.double, 21)
        with serving(project.directory), SimulatedVolunteer(project.url, key).start():
            assert future.result(LIMIT) == 42


def test_a_task_is_sent_again_even_if_the_server_is_away_just_then(
    project: Project, volunteers: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, failed = Control.create_jobs, []

    def away_once(control: Control, batch: int, jobs: Any) -> int:
        if threading.current_thread().name == "pymw boinc collector" and not failed:
            failed.append(jobs)
            monkeypatch.delenv("ERRANDS_DIE")
            raise ServerNotRunning("killed just now")
        return create(control, batch, jobs)

    monkeypatch.setattr(Control, "create_jobs", away_once)
    monkeypatch.setenv("ERRANDS_DIE", "1")  # read on the volunteers' computers, where no file outside tells anything
    with Master(project.backend, rehearse=False) as master:
        futures = [master.submit(errands.die_if_told, n) for n in range(2)]
        assert [future.result(LIMIT) for future in futures] == [0, 1]
    assert failed


@pytest.mark.parametrize("question", ["hosts", "copies"])
def test_a_task_ends_even_if_the_server_is_away_when_it_is_asked_about_it(
    question: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About an exception that others may have to confirm, or about copies that do not agree."""
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))
    ask, failed = getattr(Control, question), []

    def away_once(control: Control, *args: Any) -> Any:
        if threading.current_thread().name == "pymw boinc collector" and not failed:
            failed.append(args)
            raise ServerNotRunning("killed just now")
        return ask(control, *args)

    def differ(job: Any) -> dict[str, bytes]:
        (item,) = envelope.unpack_job(job.inputs[TASKS]).items
        (number,), _ = envelope.unpack_call(item.arguments, ())
        outcome = Outcome(Ending.RETURNED, value=number if number else job.name)
        return {OUTCOMES: envelope.pack_outcomes([envelope.pack_outcome(outcome)])}

    monkeypatch.setattr(Control, question, away_once)
    with served(tmp_path / "project") as project, contextlib.ExitStack() as stack:
        for _ in range(1 if question == "hosts" else 10):
            compute = None if question == "hosts" else differ
            volunteer = SimulatedVolunteer(project.url, project.account(), compute=compute)
            stack.enter_context(volunteer).start()
        with Master(project.backend, run="asked") as master:
            if question == "hosts":
                assert isinstance(master.submit(errands.fail, "no").exception(LIMIT), ValueError)
            else:
                careful = master.options(quorum=2)
                good, bad = careful.submit(errands.double, 1), careful.submit(errands.double, 0)
                assert isinstance(bad.exception(LIMIT), pymw.WorkerLost)
                assert good.result(LIMIT) == 1
    assert failed


def test_a_server_that_stays_away_ends_every_task_and_no_new_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "OUTAGE", 1.0)
    with served(tmp_path / "project") as project:
        master = Master(project.backend)
        future = master.submit(errands.double, 1)
    assert isinstance(future.exception(LIMIT), pymw.BrokenBackend)
    with pytest.raises(pymw.BrokenBackend, match="has not answered"):
        master.submit(errands.double, 2)
    master.shutdown()


def test_a_lease_outlives_the_servers_absence_and_work_that_was_given_up_is_told(tmp_path: Path) -> None:
    def expire() -> None:
        with contextlib.closing(sqlite3.connect(project.directory / "database.sqlite3")) as database:
            database.execute("UPDATE batch SET expire_time = 1 WHERE expire_time > 0")
            database.commit()

    with served(tmp_path / "project") as project:
        master = Master(project.backend)
        future = master.submit(errands.double, 21)
        key = project.account()
    expire()
    with serving(project.directory), SimulatedVolunteer(project.url, key).start():
        assert future.result(LIMIT) == 42
    with serving(project.directory) as server:
        late = master.submit(errands.double, 1)
        batch = server.control.create_batch("pymw", "other", lease=600.0).id - 1
        server.control.cancel_jobs(batch)
        error = late.exception(LIMIT)
        assert isinstance(error, pymw.BackendError) and not isinstance(error, pymw.WorkerLost)  # none was lost
        assert "was cancelled at the project" in str(error)
    master.shutdown()


def test_who_waits_for_what_a_left_block_cancels_is_told_that_it_was_cancelled(tmp_path: Path) -> None:
    with served(tmp_path / "project") as project:
        with contextlib.suppress(KeyError), Master(project.backend) as master:
            futures = [master.submit(errands.double, n) for n in range(3)]
            raise KeyError
        for future in futures:
            with pytest.raises(CancelledError):
                future.result(LIMIT)


def test_code_and_data_that_the_server_has_let_go_are_put_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(statement: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(project.directory / "database.sqlite3")) as database, database:
            return database.execute(statement).fetchall()

    def old() -> set[Any]:
        return {name for (name,) in run("SELECT name FROM boincserver_file WHERE create_time = 1")}

    text = tmp_path / "text.txt"
    text.write_text("one two three")
    monkeypatch.setattr(packing, "PUT_AGAIN", 0.0, raising=False)  # as if hours had passed between the two
    with served(tmp_path / "project") as project, Master(project.backend) as master:
        offered = {name for (name,) in run("SELECT name FROM boincserver_file")}
        reader = master.options(files={"words/text.txt": text}, outputs=["counted.txt"])
        future = reader.submit(errands.count_words, 1)
        run("UPDATE boincserver_file SET create_time = 1")
        with SimulatedVolunteer(project.url, project.account()).start():
            assert future.result(LIMIT)[0] == 3
            wait_until(lambda: old() <= offered, timeout=LIMIT, what="the server to delete what no job uses")
            assert reader.submit(errands.count_words, 2).result(LIMIT)[0] == 6


def test_a_result_that_cannot_even_be_shown_costs_its_own_task_alone(tmp_path: Path) -> None:
    def lie(job: Any) -> dict[str, bytes]:
        good = codec.decode(envelope.pack_outcome(Outcome(Ending.RETURNED, value="fine")))
        huge = {**good, "seconds": 10**400}
        odd = {"module": "builtins", "qualname": "UnicodeDecodeError", "args": None, "state": codec.encode({})}
        odd |= {"message": "\0", "bases": [("\0", "\0")], "notes": ["\0"], "traceback": "", "suppress_context": False}
        odd |= {"cause": None, "context": None, "exceptions": []}
        group = {**odd, "qualname": "ExceptionGroup", "exceptions": [{**odd, "qualname": "KeyboardInterrupt"}]}
        fields = [good, huge, *({**good, "ending": "raised", "exception": each} for each in (odd, group))]
        return {OUTCOMES: envelope.pack_outcomes([codec.encode(each) for each in fields])}

    with served(tmp_path / "project") as project:
        liar = SimulatedVolunteer(project.url, project.account(), compute=lie)
        with liar.start(), Master(project.backend) as master:
            kept = list(master.map(errands.double, range(4), on_error="return", chunksize=4, timeout=LIMIT))
            assert master.submit(errands.double, 1).cancel() in (True, False)  # the master is still at work
    assert kept[0] == "fine"
    assert isinstance(kept[1], pymw.UnshippableError)
    assert all(isinstance(error, Exception) for error in kept[2:])


def test_at_most_once_means_one_copy(project: Project) -> None:
    created: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Control, "create_jobs", lambda control, batch, jobs: created.extend(jobs))
        with Master(project.backend, rehearse=False) as master:
            master.options(attempts=1).submit(errands.double, 1)
            master.options(attempts=3).submit(errands.double, 1)
            master.shutdown(wait=False, cancel_futures=True)
    once, thrice = created
    assert (once.max_total_results, once.max_error_results) == (1, 0)
    assert thrice.max_error_results == 2


def test_a_future_tells_that_a_host_has_its_task(project: Project, volunteers: object) -> None:
    with Master(project.backend) as master:
        future = master.submit(errands.creep, 8)
        wait_until(lambda: future.running() or future.done(), timeout=LIMIT, what="the future to be running")
        assert future.worker.startswith("host ")
        assert future.result(LIMIT) == 20


def test_a_project_that_is_not_served_or_none_is_told(tmp_path: Path, project: Project) -> None:
    with pytest.raises(pymw.BackendError, match="boincserver create"):
        Master(f"boinc:{tmp_path}")
    with pytest.raises(pymw.BackendError, match="boinc:DIR"):
        Master("boinc:")
    with served(tmp_path / "project") as other:
        pass
    with pytest.raises(pymw.BackendError, match="start it: boincserver serve"):
        Master(other.backend)


def test_closing_leaves_no_work_behind(project: Project) -> None:
    with contextlib.suppress(RuntimeError), Master(project.backend) as master:
        master.options(quorum=2).map(errands.double, range(5), chunksize=1)
        raise RuntimeError("leave")

    def nothing_waits() -> bool:
        counts = project.control.status()
        return counts["copies"]["unsent"] == 0

    wait_until(nothing_waits, timeout=60, what="the server to drop the work")
