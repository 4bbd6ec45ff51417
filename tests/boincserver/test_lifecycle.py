"""The life of a job: single rules, and a model that looks for a job that gets stuck."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from boincserver import lifecycle, validator
from boincserver.errors import InvalidResult
from boincserver.lifecycle import Job, Report, Verdict, Workunit
from boincserver.states import (
    AssimilateState,
    ClientState,
    ErrorMask,
    FileDeleteState,
    Outcome,
    ServerState,
    ValidateState,
)

SUCCESS = Report(ClientState.UPLOADED, 0)
FAILURE = Report(ClientState.COMPUTE_ERROR, 1)
ABORTED = Report(ClientState.ABORTED, 203)
UNUSABLE = Report(ClientState.UPLOADED, 0, usable=False)
DAY = 86400
LINUX, WINDOWS, MACINTOSH = 1, 2, 3


class Life:
    """A job with what its hosts computed, and numbers for its results as the database gives them."""

    def __init__(self, **options: int) -> None:
        options.setdefault("target_nresults", options.get("min_quorum", 1))
        self.now = 1000
        self.values: dict[str, object] = {}
        self.kinds: dict[str, int] = {}
        """Of what kind the computer is that has a copy, since the job was last unbound."""
        self.job = Job(Workunit(1, "wu", delay_bound=DAY, batch=1, **options))
        self.settle()

    def judge(self, job: Job) -> Verdict:
        values = {r.id: self.values[r.name] for r in lifecycle.viable(job)}
        workunit = job.workunit
        return validator.judge(
            values, lambda a, b: a == b, min_quorum=workunit.min_quorum, canonical=workunit.canonical_resultid
        )

    def settle(self) -> None:
        job = lifecycle.settle(self.job, self.now, judge=self.judge)
        if job.workunit.assimilate_state == AssimilateState.READY:
            job = lifecycle.settle(lifecycle.assimilated(job, held=True), self.now, judge=self.judge)
        self.job = job._replace(results=tuple(r._replace(id=n) for n, r in enumerate(job.results, start=1)))

    def send(self, name: str, user: int = 1, kind: int = 0) -> None:
        self.job = lifecycle.send(self.job, name, self.now, hostid=user, userid=user, version=(1, 100), hr_class=kind)
        self.kinds[name] = kind
        self.settle()

    def unbind(self) -> None:
        self.job = lifecycle.unbind(self.job)
        self.kinds.clear()
        self.settle()

    def report(self, name: str, report: Report = SUCCESS, value: object = "right") -> None:
        self.values.setdefault(name, value)
        kind = self.kinds.get(name, 0)
        self.job = lifecycle.report(self.job, name, replace(report, hr_class=kind), self.now)
        if kind != self.job.workunit.hr_class:
            # Late: others of another kind are under way already.
            self.kinds.pop(name, None)
        self.settle()

    def wait(self, seconds: int) -> None:
        self.now += seconds
        if self.job.workunit.transition_time <= self.now:
            self.settle()

    def names(self, state: ServerState) -> list[str]:
        return [r.name for r in self.job.results if r.server_state == state]

    def outcome(self, name: str) -> tuple[int, int]:
        result = self.job.result(name)
        assert result is not None
        return result.outcome, result.validate_state


def test_a_job_that_is_late_gets_one_copy_more_once() -> None:
    job = lifecycle.transition(Job(Workunit(1, "w")), 0)
    assert lifecycle.spare(job) is job  # no host has it yet
    sent = lifecycle.send(job, "w_0", 10, hostid=1, userid=1, version=(1, 100))
    assert not lifecycle.is_spare(sent)
    twice = lifecycle.transition(lifecycle.spare(sent), 20)
    assert [result.name for result in twice.results] == ["w_0", "w_1"]
    assert lifecycle.is_spare(twice)
    assert lifecycle.spare(twice) is twice
    once = sent.with_workunit(max_total_results=1)
    assert lifecycle.spare(once) is once  # at most once


def test_quorum_of_one() -> None:
    life = Life()
    life.send("wu_0")
    assert life.job.workunit.transition_time == 1000 + DAY
    life.report("wu_0")
    assert life.job.workunit.canonical_resultid == 1
    assert life.job.workunit.assimilate_state == AssimilateState.DONE
    assert life.job.workunit.file_delete_state == FileDeleteState.INIT
    life.job = lifecycle.released(life.job)
    life.settle()
    assert life.job.workunit.file_delete_state == FileDeleteState.READY
    assert life.job.results[0].file_delete_state == FileDeleteState.READY


def test_two_that_differ_call_for_a_third_which_decides() -> None:
    life = Life(min_quorum=2)
    for name, value in (("wu_0", "wrong"), ("wu_1", "right")):
        life.send(name)
        life.report(name, value=value)
    assert life.outcome("wu_0")[1] == life.outcome("wu_1")[1] == ValidateState.INCONCLUSIVE
    assert life.names(ServerState.UNSENT) == ["wu_2"]
    life.send("wu_2")
    life.report("wu_2")
    assert life.job.workunit.canonical_resultid == 2
    assert [r.validate_state for r in life.job.results] == [
        ValidateState.INVALID,
        ValidateState.VALID,
        ValidateState.VALID,
    ]


def test_a_missed_deadline_makes_a_new_copy_and_the_late_result_still_counts() -> None:
    life = Life()
    life.send("wu_0")
    life.wait(DAY)
    assert life.outcome("wu_0")[0] == Outcome.NO_REPLY
    assert life.names(ServerState.UNSENT) == ["wu_1"]
    life.report("wu_0")
    assert life.job.workunit.canonical_resultid == 1
    assert life.outcome("wu_1")[0] == Outcome.DIDNT_NEED


def test_too_many_errors_end_the_job_but_aborts_by_hand_do_not_count() -> None:
    life = Life(max_error_results=1)
    for report in (ABORTED, FAILURE, UNUSABLE):
        name = life.names(ServerState.UNSENT)[0]
        life.send(name)
        life.report(name, report)
    assert life.job.workunit.error_mask == ErrorMask.TOO_MANY_ERROR_RESULTS
    assert life.job.workunit.assimilate_state == AssimilateState.DONE


def test_results_that_all_differ_end_the_job() -> None:
    life = Life(min_quorum=2, max_success_results=3)
    while names := life.names(ServerState.UNSENT):
        life.send(names[0])
        life.report(names[0], value=names[0])
    assert life.job.workunit.error_mask == ErrorMask.TOO_MANY_SUCCESS_RESULTS
    assert len(life.job.results) == 4


def test_a_result_that_comes_when_the_canonical_output_is_gone_is_too_late() -> None:
    life = Life(min_quorum=1, target_nresults=2)
    life.send("wu_0")
    life.send("wu_1")
    life.wait(DAY)
    for name in life.names(ServerState.UNSENT):
        life.send(name)
        life.report(name)
    life.job = lifecycle.released(life.job)
    life.settle()
    life.job = lifecycle.files_deleted(life.job)
    life.report("wu_0")
    assert life.outcome("wu_0") == (Outcome.SUCCESS, ValidateState.TOO_LATE)


def test_a_report_of_what_is_over_changes_nothing() -> None:
    life = Life()
    life.send("wu_0")
    life.report("wu_0")
    before = life.job
    life.report("wu_0", FAILURE)
    life.report("wu_7")
    assert life.job == before


def test_cancelled_jobs_need_no_more_copies() -> None:
    life = Life(min_quorum=2)
    life.send("wu_0")
    life.job = lifecycle.cancel(life.job)
    life.settle()
    assert life.outcome("wu_1")[0] == Outcome.DIDNT_NEED
    assert life.names(ServerState.IN_PROGRESS) == ["wu_0"]
    life.report("wu_0", Report(ClientState.ABORTED, 202))
    assert life.job.workunit.error_mask == ErrorMask.CANCELLED


@pytest.mark.parametrize("quorum", [1, 2, 3, 4])
def test_a_majority_of_the_quorum_decides(quorum: int) -> None:
    need = quorum // 2 + 1
    agreeing = dict.fromkeys(range(1, need + 1), "a") | {n: n for n in range(need + 1, quorum + 1)}
    verdict = validator.judge(agreeing, lambda a, b: a == b, min_quorum=quorum)
    assert (verdict.canonical, verdict.valid) == (1, frozenset(range(1, need + 1)))
    if quorum > 1:
        short = {**agreeing, 1: "alone"}
        assert validator.judge(short, lambda a, b: a == b, min_quorum=quorum).canonical == 0


def test_a_result_that_cannot_be_right_counts_as_an_error() -> None:
    life = Life()
    life.send("wu_0")
    life.report("wu_0", value=InvalidResult("no such format"))
    assert life.outcome("wu_0") == (Outcome.VALIDATE_ERROR, ValidateState.INVALID)
    assert life.names(ServerState.UNSENT) == ["wu_1"]


class JobMachine(RuleBasedStateMachine):
    """Hosts, clocks and submitters do what they like, in any order."""

    @initialize(
        quorum=st.integers(1, 3),
        extra=st.integers(0, 2),
        errors=st.integers(0, 3),
        total=st.integers(0, 4),
        successes=st.integers(0, 3),
    )
    def create(self, quorum: int, extra: int, errors: int, total: int, successes: int) -> None:
        self.life = Life(
            min_quorum=quorum,
            target_nresults=quorum + extra,
            max_error_results=errors,
            max_total_results=quorum + extra + total,
            max_success_results=quorum + successes,
        )

    def pick(self, state: ServerState, choice: int) -> str | None:
        names = self.life.names(state)
        return names[choice % len(names)] if names else None

    @rule(choice=st.integers(0, 9), kind=st.sampled_from([LINUX, LINUX, WINDOWS]))
    def send(self, choice: int, kind: int) -> None:
        name = self.pick(ServerState.UNSENT, choice)
        if name and self.life.job.workunit.hr_class in (0, kind):
            self.life.send(name, kind=kind)

    @rule()
    def nobody_of_that_kind_comes_any_more(self) -> None:
        self.life.unbind()

    @rule(
        choice=st.integers(0, 9),
        report=st.sampled_from([SUCCESS, SUCCESS, SUCCESS, FAILURE, ABORTED, UNUSABLE]),
        value=st.sampled_from(["right", "right", "wrong", "odd", InvalidResult("broken")]),
    )
    def report(self, choice: int, report: Report, value: object) -> None:
        if name := self.pick(ServerState.IN_PROGRESS, choice):
            self.life.report(name, report, value)

    @rule(choice=st.integers(0, 9), value=st.sampled_from(["right", "wrong"]))
    def report_late_or_twice(self, choice: int, value: str) -> None:
        if name := self.pick(ServerState.OVER, choice):
            self.life.report(name, SUCCESS, value)

    @rule(choice=st.integers(0, 9))
    def detach(self, choice: int) -> None:
        if name := self.pick(ServerState.IN_PROGRESS, choice):
            self.life.job = lifecycle.detach(self.life.job, name, self.life.now)
            self.life.settle()

    @rule(seconds=st.sampled_from([1, DAY // 2, DAY, 11 * DAY]))
    def time_passes(self, seconds: int) -> None:
        self.life.wait(seconds)

    @rule()
    def cancel(self) -> None:
        self.life.job = lifecycle.cancel(self.life.job)
        self.life.settle()

    @precondition(lambda self: self.life.job.held)
    @rule()
    def fetch(self) -> None:
        self.life.job = lifecycle.released(self.life.job)
        self.life.settle()

    @rule()
    def delete_files(self) -> None:
        self.life.job = lifecycle.files_deleted(self.life.job)
        self.life.settle()

    @invariant()
    def states_fit_together(self) -> None:
        job, workunit = self.life.job, self.life.job.workunit
        assert len(job.results) <= workunit.max_total_results
        assert len({r.name for r in job.results}) == len(job.results)
        if lifecycle.is_over(workunit):
            assert not self.life.names(ServerState.UNSENT)
            assert workunit.assimilate_state != AssimilateState.INIT
        else:
            waiting = self.life.names(ServerState.UNSENT) + self.life.names(ServerState.IN_PROGRESS)
            assert waiting, "nobody is going to do anything about this job"
        if workunit.canonical_resultid:
            canonical = job.results[workunit.canonical_resultid - 1]
            assert (canonical.outcome, canonical.validate_state) == (Outcome.SUCCESS, ValidateState.VALID)
        if job.held:
            assert workunit.file_delete_state == FileDeleteState.INIT
        of_use = [r for r in job.results if r.server_state == ServerState.IN_PROGRESS or r.is_success]
        kinds = {self.life.kinds[r.name] for r in of_use if r.name in self.life.kinds}
        if not lifecycle.is_over(workunit) and kinds:
            assert kinds == {workunit.hr_class}, "copies that are to be compared are on computers of different kinds"
        for name in self.life.names(ServerState.IN_PROGRESS):
            result = job.result(name)
            assert result is not None
            assert workunit.transition_time <= result.report_deadline

    @invariant()
    def settling_again_changes_nothing(self) -> None:
        self.life.settle()  # moves the safety net along with the time
        before = self.life.job
        assert lifecycle.transition(before, self.life.now) == before
        self.life.settle()
        assert self.life.job == before

    def teardown(self) -> None:
        """From wherever it is, a job ends when hosts do their work and time goes on: here all but one kind have left."""
        if not hasattr(self, "life"):
            return
        life = self.life
        for _ in range(100):
            for name in life.names(ServerState.UNSENT):
                if life.job.workunit.hr_class not in (0, MACINTOSH):
                    life.unbind()
                life.send(name, kind=MACINTOSH)
            for name in life.names(ServerState.IN_PROGRESS):
                life.report(name)
            life.job = lifecycle.files_deleted(lifecycle.released(life.job))
            life.settle()
            if life.job.workunit.file_delete_state == FileDeleteState.DONE:
                break
        else:
            raise AssertionError(f"the job never ends: {life.job}")
        assert lifecycle.is_over(life.job.workunit)
        assert all(r.file_delete_state in (FileDeleteState.DONE, FileDeleteState.READY) for r in life.job.results), (
            life.job
        )


JobMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestJobMachine = JobMachine.TestCase


@pytest.mark.soak
class TestJobMachineAtLength(JobMachine.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=5000, stateful_step_count=60, deadline=None)
