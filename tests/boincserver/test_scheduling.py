"""Who is sent what, and what a host earns: quotas, trust, kinds of computers, credit, deadlines, delays."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boincserver import policy
from boincserver.config import CreditConfig, JobsConfig
from boincserver.control import Control, Job
from boincserver.credit import Account, amount, recent_average
from boincserver.crowd import Crowd
from boincserver.feeder import Entry, Feeder
from boincserver.homogeneous import COARSE, FINE, hr_class
from boincserver.lifecycle import Job as Life
from boincserver.lifecycle import Result, Workunit
from boincserver.policy import Permission, Wish
from boincserver.protocol.request import HostInfo, SchedulerRequest
from boincserver.states import Outcome, ServerState, ValidateState
from boincserver.testing import SimulatedJob, SimulatedVolunteer, configure, serving, wait_until
from boincserver.track import Track

from .conftest import add_app, make_project

DAY = 86400.0


def shout(job: SimulatedJob) -> dict[str, bytes]:
    return {"out": job.inputs["in"].upper()}


def jobs(count: int, **options: object) -> list[Job]:
    return [Job(f"j{n}", {"in": b"text"}, {"out": 1000}, **options) for n in range(count)]  # type: ignore[arg-type]


# --- pure -------------------------------------------------------------------------------------------------------------


def test_seconds_and_idle_cpus_are_filled() -> None:
    request = SchedulerRequest(cpu_req_secs=100, cpu_req_instances=3, host=HostInfo(p_fpops=1e9))
    wish, sent = Wish.of(request, 50), 0
    while wish.open:
        wish, sent = wish.less(30e9), sent + 1
    assert sent == 4  # three would fill the CPUs, four the hundred seconds


def test_room_limits_a_wish() -> None:
    request = SchedulerRequest(cpu_req_secs=1e6, host=HostInfo(p_fpops=1e9))
    assert not Wish.of(request, 0).open


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, True),
        ({"rsc_memory_bound": 9e9}, False),
        ({"rsc_memory_bound": 4.1e9}, False),  # the volunteer lets BOINC have half of his 8 GB
        ({"rsc_disk_bound": 2e10}, False),
        ({"rsc_fpops_est": 9e13}, False),  # longer than until the deadline
    ],
)
def test_what_a_host_cannot_do_it_is_not_sent(entry: dict[str, float], expected: bool) -> None:
    values = {"rsc_fpops_est": 1e9, "rsc_memory_bound": 1e9, "rsc_disk_bound": 1e9, "delay_bound": 86400, **entry}
    request = SchedulerRequest(
        host=HostInfo(m_nbytes=8e9, d_free=1e10, p_fpops=1e9),
        preferences={"ram_max_used_busy_pct": 50, "ram_max_used_idle_pct": 50},
    )
    assert policy.fits(Entry(1, "r", 1, 1, 0, **values), request, Wish.of(request, 1)) is expected  # type: ignore[arg-type]


def test_who_may_have_another_copy() -> None:
    rules = JobsConfig()
    sent = Result(1, "w_0", ServerState.IN_PROGRESS, hostid=1, userid=1)
    failed = Result(1, "w_0", ServerState.OVER, Outcome.CLIENT_ERROR, hostid=1, userid=1, received_time=100)
    waiting = Result(2, "w_1")

    def ask(first: Result, user: int, host: int, now: int = 100, per_user: bool = True) -> Permission:
        job = Life(Workunit(1, "w"), (first, waiting))
        return policy.may_take(job, user, host, now, JobsConfig(one_result_per_user=per_user))

    assert ask(sent, 1, 2) is Permission.NEVER
    assert ask(sent, 1, 2, per_user=False) is Permission.YES
    assert ask(sent, 1, 1, per_user=False) is Permission.NEVER
    assert ask(sent, 2, 2) is Permission.YES
    assert ask(failed, 1, 1) is Permission.LATER
    assert ask(failed, 1, 2) is Permission.YES
    assert ask(failed, 1, 1, now=100 + rules.retry_elsewhere) is Permission.YES


def test_delays_grow_with_the_quiet() -> None:
    delays = [policy.delay_until_next(quiet) for quiet in (0, 300, 599, 600, 3000, 36000, 1e9)]
    assert delays == sorted(delays)
    assert delays[0] == 5 and delays[-1] == 3600
    assert all(delay % 5 == 0 for delay in delays)
    assert all(policy.delay_until_next(quiet) >= 300 for quiet in range(600, 100_000, 77))


def test_a_job_starts_within_seconds_on_hosts_that_poll() -> None:
    """Clients look at their clocks every five seconds; a job for an idle host is there while somebody submits."""
    chance = random.Random(1)
    waits = []
    for _ in range(2000):
        came = phase = chance.uniform(0, 5)  # of the client's own clock
        submitted = chance.uniform(60, 120)
        while came < submitted:
            due = came + policy.delay_until_next(quiet=30)
            came = phase + 5 * math.ceil((due - phase) / 5)
        waits.append(came - submitted + 3)  # to fetch its arguments and start a Python
    waits.sort()
    assert waits[len(waits) // 2] <= 10
    assert waits[len(waits) * 95 // 100] <= 20


def test_a_hundred_thousand_hosts_leave_most_of_the_server_to_others() -> None:
    spent = itertools.count(step=0.003)  # three milliseconds a request
    crowd = Crowd(lambda: next(spent))
    for host in range(100_000):
        with crowd.serving():
            crowd.came(host, now=1000.0 + host / 100)
    assert crowd.cost == pytest.approx(0.003)
    delay = policy.delay_until_next(quiet=0, crowd=crowd.delay)
    assert 100_000 / delay * crowd.cost <= 0.2
    with crowd.serving():
        crowd.came(1, now=20_000.0)
    assert crowd.delay < 1  # the others have gone


def test_kinds_of_computers() -> None:
    amd = ("Linux Debian", "AuthenticAMD", "AMD EPYC [Family 25 Model 17 Stepping 1]")
    intel = ("Linux Debian", "GenuineIntel", "Intel(R) Core(TM) [Family 6 Model 85 Stepping 7]")
    assert hr_class(COARSE, *amd) == hr_class(COARSE, *intel) != 0
    assert hr_class(FINE, *amd) != hr_class(FINE, *intel)
    assert hr_class(COARSE, "Microsoft Windows 11", *amd[1:]) != hr_class(COARSE, *amd)
    assert hr_class(COARSE, "Plan 9", "?", "?") == 0


def test_a_host_that_fails_is_sent_less_and_recovers() -> None:
    work, sent = Workunit(1, "w"), Result(1, "r", ServerState.IN_PROGRESS)
    failed = Result(1, "r", ServerState.OVER, Outcome.CLIENT_ERROR, ValidateState.INVALID)
    done = Result(1, "r", ServerState.OVER, Outcome.SUCCESS)
    track = Track(5)
    for _ in range(9):
        track = track.after(sent, failed, work, 5)
    assert track.max_jobs_per_day == 1
    assert track.room(8) == 1 and track.sent().room(8) == 0
    track = track.after(sent, done, work, 5).after(sent, done, work, 5)
    assert track.max_jobs_per_day == 4
    assert track.after(sent, done, work, 5).max_jobs_per_day == 5


def test_a_host_whose_results_are_wrong_is_soon_sent_one_a_day() -> None:
    work, sent = Workunit(1, "w"), Result(1, "r", ServerState.IN_PROGRESS)
    done = Result(1, "r", ServerState.OVER, Outcome.SUCCESS)
    wrong = Result(1, "r", ServerState.OVER, Outcome.SUCCESS, ValidateState.INVALID)
    track = Track(10_000)
    for _ in range(14):
        track = track.after(sent, done, work, 10_000).after(done, wrong, work, 10_000)
    assert track.max_jobs_per_day == 1
    assert Track(100).after(done, wrong, work, 100).after(sent, done, work, 100).max_jobs_per_day == 50


def test_trust_comes_from_agreement_and_goes_with_one_failure() -> None:
    done = Result(1, "r", ServerState.OVER, Outcome.SUCCESS)
    valid = Result(1, "r", ServerState.OVER, Outcome.SUCCESS, ValidateState.VALID)
    wrong = Result(1, "r", ServerState.OVER, Outcome.SUCCESS, ValidateState.INVALID)
    alone, checked = Workunit(1, "w"), Workunit(1, "w", min_quorum=2)
    track = Track(100)
    for _ in range(30):
        track = track.after(done, valid, alone, 100)
    assert track.consecutive_valid == 0
    for _ in range(30):
        track = track.after(done, valid, checked, 100)
    chance = random.Random(1)
    trusted = sum(track.is_trusted(chance) for _ in range(1000))
    assert 940 < trusted < 990  # one in thirty is still checked
    assert track.after(done, wrong, checked, 100).consecutive_valid == 0


def test_credit_of_a_day_at_a_gigaflops_is_two_hundred() -> None:
    work = Workunit(1, "w", rsc_fpops_est=86400e9, rsc_fpops_bound=864000e9)
    result = Result(1, "r", elapsed_time=DAY)
    assert amount(CreditConfig(), work, result, 0) == pytest.approx(200)
    assert amount(CreditConfig("runtime"), work, result, 2e9) == pytest.approx(400)
    assert amount(CreditConfig("runtime"), work, Result(1, "r", elapsed_time=1e9), 1e9) == pytest.approx(2000)
    assert amount(CreditConfig("fixed", 7.0), work, result, 0) == 7
    assert amount(CreditConfig("none"), work, result, 0) == 0


def test_the_recent_average_halves_in_a_week() -> None:
    assert recent_average(100, 1e6, 0, 1e6 + 7 * DAY, 0) == pytest.approx(50)


@given(st.floats(0.1, 1e4), st.floats(60, 1e5))
def test_a_steady_worker_approaches_his_rate(per_day: float, step: float) -> None:
    account, now = Account(0, 0, 0), 1e6
    for _ in range(int(120 * DAY / step) if step > 5000 else 2000):
        now += step
        account = account.plus(per_day * step / DAY, now, now - step)
    if step > 5000:
        assert account.expavg_credit == pytest.approx(per_day, rel=0.2)
    assert account.expavg_credit >= 0


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.booleans()), max_size=60), st.integers(1, 20))
def test_the_feeder_gives_the_most_urgent_and_then_the_oldest(items: list[tuple[int, int, bool]], size: int) -> None:
    feeder = Feeder(size)
    feeder.refill(_Nothing())  # type: ignore[arg-type]
    kept: list[Entry] = []
    for number, (priority, app, take) in enumerate(items, start=1):
        entry = Entry(number, f"r{number}", number, app, priority, 1, 1, 1, 1)
        feeder.add([entry])
        kept.append(entry)
        if take and (first := next(feeder.candidates([app]), None)):
            feeder.take(first)
            kept.remove(first)
    inside = list(feeder.candidates([1, 2, 3]))
    assert len(inside) == len(feeder) <= size
    assert [entry.priority for entry in inside] == sorted((entry.priority for entry in inside), reverse=True)
    if feeder.complete:
        assert {entry.id for entry in inside} == {entry.id for entry in kept}


def full_feeder(priorities: list[int]) -> Feeder:
    """Holds copies that are numbered from zero."""
    feeder = Feeder(100)
    feeder.refill(_Nothing())  # type: ignore[arg-type]
    feeder.add(
        Entry(number, f"r{number}", number, 1, priority, 1, 1, 1, 1) for number, priority in enumerate(priorities)
    )
    assert len(feeder) == len(priorities)
    return feeder


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(0, 30))
def test_what_was_not_sent_after_all_has_its_place_again(priorities: list[int], count: int) -> None:
    feeder = full_feeder(priorities)
    before = list(feeder.candidates([1]))
    for entry in before[:count]:
        feeder.take(entry)
    for entry in reversed(before[:count]):
        feeder.put_back(entry)
    assert list(feeder.candidates([1])) == before


def test_a_copy_that_is_postponed_comes_after_the_others_of_its_priority() -> None:
    feeder = full_feeder([5, 5, 5, 0])
    feeder.postpone(next(feeder.candidates([1])))
    assert [entry.id for entry in feeder.candidates([1])] == [1, 2, 0, 3]


class _Nothing:
    def value(self, *_: object, **__: object) -> None:
        return None


def test_copies_made_anew_are_kept_for_reliable_hosts_for_a_while() -> None:
    rules = JobsConfig(keep_for_reliable=3600, reliable_turnaround=1000)
    failed = Result(1, "w_0", ServerState.OVER, Outcome.CLIENT_ERROR, hostid=1, userid=1, received_time=100)
    late = Result(2, "w_1", ServerState.OVER, Outcome.NO_REPLY, hostid=2, userid=2, report_deadline=500)
    waiting = Result(3, "w_2")

    def ask(*results: Result, reliable: bool, now: int) -> Permission:
        return policy.may_take(Life(Workunit(1, "w"), (*results, waiting)), 9, 9, now, rules, reliable=reliable)

    assert ask(reliable=False, now=101) is Permission.YES  # the first copy is for everybody
    assert ask(failed, reliable=False, now=101) is Permission.LATER
    assert ask(failed, reliable=True, now=101) is Permission.YES
    assert ask(failed, reliable=False, now=100 + 3600) is Permission.YES  # rather a slow host than none
    assert ask(failed, late, reliable=False, now=100 + 3600) is Permission.LATER


@pytest.mark.parametrize(
    ("track", "expected", "may"),
    [
        (Track(100), 50.0, True),  # nothing is known of him, and his processor says that he would be back by now
        (Track(100), 500.0, False),
        (Track(100, turnaround_n=5, turnaround_avg=80.0), 50.0, True),
        (Track(100, turnaround_n=5, turnaround_avg=3000.0), 50.0, False),  # a quick processor, switched off at night
        (Track(100, turnaround_n=4, turnaround_avg=3000.0), 50.0, True),  # too few to tell
        (Track(99, turnaround_n=5, turnaround_avg=80.0), 50.0, False),  # it failed lately
    ],
)
def test_what_is_late_goes_to_who_is_quick_and_does_not_fail(track: Track, expected: float, may: bool) -> None:
    slow = Result(1, "w_0", ServerState.IN_PROGRESS, hostid=1, userid=1, sent_time=1000)
    job = Life(Workunit(1, "w", target_nresults=2), (slow, Result(2, "w_1")))
    rules = JobsConfig(daily_quota=100)
    assert policy.may_rescue(job, track, expected, 1100, rules) is may
    much_later = policy.may_rescue(job, track, expected, 1000 + 86400, rules)
    assert much_later is (track.max_jobs_per_day == 100)  # rather a slow host than none, but none that fails


def test_a_patient_host_is_checked_as_often_as_the_operator_wants() -> None:
    patient = Track(100, consecutive_valid=10_000)
    chance = random.Random(1)
    assert sum(patient.is_trusted(chance, 0.1) for _ in range(1000)) == pytest.approx(900, abs=30)
    assert sum(patient.is_trusted(chance, 0.0) for _ in range(1000)) > 990
    assert not any(Track(100, consecutive_valid=9).is_trusted(chance, 0.0) for _ in range(100))


@pytest.mark.parametrize(
    ("patience", "spot_checks", "least", "most"),
    [(50, 0.0, 35, 70), (1000, 0.0, 700, 1400), (50, 0.1, 7, 11), (1000, 0.1, 7, 11), (1000, 0.3, 1.5, 3.5)],
)
def test_how_much_a_liar_gets_through_whose_patience_was_rewarded(
    patience: int, spot_checks: float, least: float, most: float
) -> None:
    """On the average of many, until the first check: (1 - p) / p, whatever the patience where the operator sets p."""
    chance = random.Random(2)
    proven = Track(100, consecutive_valid=patience)
    escaped = 0
    for _ in range(400):
        while proven.is_trusted(chance, spot_checks):
            escaped += 1
    assert least < escaped / 400 < most


def test_reliable_is_who_is_quick_and_does_not_fail() -> None:
    rules = JobsConfig(daily_quota=100, reliable_turnaround=1000)
    work, sent = Workunit(1, "w"), Result(1, "r", ServerState.IN_PROGRESS, sent_time=1000)

    def done(seconds: int) -> Result:
        return sent._replace(server_state=ServerState.OVER, outcome=Outcome.SUCCESS, received_time=1000 + seconds)

    track = Track(100)
    for n in range(5):
        assert not track.is_reliable(rules), f"after {n} results nothing is known"
        track = track.after(sent, done(500), work, 100)
    assert track.is_reliable(rules)
    assert track.turnaround_avg == pytest.approx(500)
    failed = sent._replace(server_state=ServerState.OVER, outcome=Outcome.CLIENT_ERROR)
    assert not track.after(sent, failed, work, 100).is_reliable(rules)
    assert track.after(sent, failed, work, 100).after(sent, done(500), work, 100).is_reliable(rules)
    for _ in range(5):
        track = track.after(sent, done(5000), work, 100)
    assert not track.is_reliable(rules)


def test_a_version_that_uses_many_processors_fills_many() -> None:
    request = SchedulerRequest(cpu_req_secs=100, cpu_req_instances=8, host=HostInfo(p_fpops=1e9, p_ncpus=8))
    wish = Wish.of(request, 50).less(200e9, 8)
    assert not wish.open
    entry = Entry(1, "r", 1, 1, 0, rsc_fpops_est=4e12, rsc_memory_bound=0, rsc_disk_bound=0, delay_bound=1000)
    assert not policy.fits(entry, request, Wish.of(request, 1))
    assert policy.fits(entry, request, Wish.of(request, 1), 8)


# --- through the wire -------------------------------------------------------------------------------------------------


def test_credit_is_granted_once_and_survives_a_restart(control: Control, upper: str, url: str) -> None:
    batch = control.create_batch(upper, "b")
    control.create_jobs(batch.id, jobs(5, rsc_fpops_est=86400e9 / 100, rsc_fpops_bound=1e16))
    with SimulatedVolunteer(url, control.create_account("v@example.org"), shout, ncpus=5) as volunteer:
        finished = []
        while volunteer.step() or volunteer.finished:
            finished += list(volunteer.finished.values())
        volunteer.finished.update({one.name: one for one in finished})
        volunteer.contact()
    (user,) = control.users()
    assert user["total_credit"] == pytest.approx(10)
    assert user["expavg_credit"] > 0


def test_urgent_jobs_go_first(control: Control, upper: str, url: str) -> None:
    batch = control.create_batch(upper, "b")
    control.create_jobs(batch.id, jobs(5))
    control.create_jobs(batch.id, [Job("urgent", {"in": b"x"}, {"out": 10}, priority=5)])
    with SimulatedVolunteer(url, control.create_account("v@example.org"), shout) as volunteer:
        volunteer.contact()
        assert list(volunteer.held) == ["urgent_0"]


def test_what_is_as_urgent_as_can_be_is_sent_after_a_restart(directory: Path) -> None:
    make_project(directory)
    with serving(directory) as server:
        add_app(server.control, directory.parent)
        batch = server.control.create_batch("upper", "b")
        server.control.create_jobs(batch.id, jobs(1))
        key, url = server.control.create_account("v@example.org"), server.control.info().url
    with contextlib.closing(sqlite3.connect(directory / "database.sqlite3")) as tables, tables:
        for table in ("result", "workunit"):
            tables.execute(f"UPDATE {table} SET priority = {2**31 - 1}")
    with serving(directory), SimulatedVolunteer(url, key, shout) as volunteer:
        volunteer.contact()
        assert len(volunteer.held) == 1


def test_only_trusted_hosts_go_unchecked(control: Control, upper: str, url: str) -> None:
    control.ensure_app(upper, target_nresults=2)
    batch = control.create_batch(upper, "b")
    control.create_jobs(batch.id, jobs(40))
    keys = [control.create_account(f"v{n}@example.org") for n in range(2)]
    with (
        SimulatedVolunteer(url, keys[0], shout, ncpus=4) as one,
        SimulatedVolunteer(url, keys[1], shout, ncpus=4) as two,
    ):
        while one.step() + two.step() or one.finished or two.finished:
            pass
    outcomes = control.outcomes(batch.id)
    counts = [len(outcome.attempts) for outcome in sorted(outcomes, key=lambda o: o.seq)]
    assert len(outcomes) == 40
    assert counts[:8] == [2] * 8  # nobody is known at first
    assert 1 in counts[-8:]  # and then most go unchecked


def test_what_a_trusted_host_holds_is_checked_when_it_is_caught_with_a_lie(directory: Path) -> None:
    """Otherwise a patient liar with a long queue gets all of it through."""
    lies: list[str] = []

    def patient(job: SimulatedJob) -> dict[str, bytes]:
        if job.name in lies:
            return {"out": b"a lie"}
        return shout(job)

    make_project(directory)
    configure(directory, spot_checks=0.5)
    with contextlib.ExitStack() as stack:
        control = stack.enter_context(serving(directory)).control
        add_app(control, directory.parent)
        control.ensure_app("upper", target_nresults=2)
        batch, url = control.create_batch("upper", "b"), control.info().url
        keys = [control.create_account(f"v{n}@example.org") for n in range(3)]
        liar, one, two = (
            stack.enter_context(SimulatedVolunteer(url, key, play, ncpus=4))
            for key, play in zip(keys, (patient, shout, shout), strict=True)
        )
        control.create_jobs(batch.id, jobs(40))
        while liar.step() + one.step() or liar.finished or one.finished:
            pass  # both are proven now
        control.create_jobs(batch.id, [Job(f"more{n}", {"in": b"x"}, {"out": 100}) for n in range(40)])
        liar.contact(seconds=1e9, instances=40)
        lies += liar.held
        unchecked = [name for name in lies if len(control.copies(batch.id, name.rpartition("_")[0])) == 1]
        checked = [name for name in lies if name not in unchecked]
        assert checked
        assert unchecked
        liar.work(checked[0])
        liar.contact(seconds=0, instances=0)
        while one.step() + two.step() or one.finished or two.finished:
            pass  # the lie is found out
        for name in list(liar.held):
            liar.work(name)
        liar.contact(seconds=0, instances=0)
        while one.step() + two.step() or one.finished or two.finished:
            pass
        outcomes = {outcome.name: outcome for outcome in control.outcomes(batch.id)}
    taken = [outcomes[name.rpartition("_")[0]] for name in lies]
    assert [outcome.outputs["out"] for outcome in taken] == [b"X"] * len(taken)


def test_copies_stay_with_one_kind_of_computer(control: Control, upper: str, url: str) -> None:
    control.ensure_app(upper, homogeneous_redundancy=COARSE)
    batch = control.create_batch(upper, "b")
    control.create_jobs(batch.id, jobs(1, min_quorum=2))
    kinds = ["Linux", "Microsoft Windows", "Linux"]
    keys = [control.create_account(f"v{n}@example.org") for n in range(3)]
    volunteers = [SimulatedVolunteer(url, key, shout, os_name=kind) for key, kind in zip(keys, kinds, strict=True)]
    try:
        assert [volunteer.step() for volunteer in volunteers] == [1, 0, 1]
    finally:
        for volunteer in volunteers:
            volunteer.close()


def test_a_batch_whose_submitter_is_gone_ends(control: Control, upper: str, url: str) -> None:
    leased = control.create_batch(upper, "leased")
    control.create_jobs(leased.id, jobs(1))
    kept = control.create_batch(upper, "kept")
    control.create_jobs(kept.id, [Job("kept", {"in": b"x"}, {"out": 10})])
    assert control.create_batch(upper, "leased", lease=2).id == leased.id
    wait_until(lambda: control.status()["jobs"]["failed"] == 1, timeout=60, what="the lease to end")
    assert control.job_states(kept.id)[0].state == "unsent"
