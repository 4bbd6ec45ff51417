"""What is learned of a function from the hosts that run it: no processes, no clock."""

from __future__ import annotations

import pytest

from pymw.backends.boinc.chunks import chunk_size
from pymw.backends.boinc.experience import Experience, Rate
from pymw.outcome import Attempt


def attempts(count: int, hosts: int, ending: str = "failed there with exit status 1") -> list[Attempt]:
    return [Attempt(f"host {n % hosts}", ending, stderr="no such library") for n in range(count)]


@pytest.mark.parametrize(("tries", "hosts", "hopeless"), [(20, 3, True), (19, 3, False), (20, 2, False), (60, 3, True)])
def test_twenty_attempts_on_three_hosts_that_fail_alike_are_enough(tries: int, hosts: int, hopeless: bool) -> None:
    experience = Experience()
    for attempt in attempts(tries, hosts):
        experience.failed(attempt)
    assert bool(experience.hopeless) is hopeless
    if hopeless:
        assert f"its first {tries} attempts on 3 hosts failed alike" in experience.hopeless
        assert "no such library" in experience.hopeless


def test_one_that_works_or_failures_that_differ_are_no_reason_to_stop() -> None:
    experience = Experience()
    for attempt in attempts(15, 3) + attempts(15, 3, "the child was killed by SIGSEGV"):
        experience.failed(attempt)
    assert not experience.hopeless
    experience.ended(1.0)
    for attempt in attempts(30, 3):
        experience.failed(attempt)
    assert not experience.hopeless


def test_times_are_believed_when_there_are_some_and_a_liar_changes_little() -> None:
    experience = Experience()
    for seconds in (2.0, 2.1, 2.2, 1e9):
        experience.ended(seconds)
    assert experience.seconds is None
    experience.ended(2.0)
    assert experience.seconds == 2.1


def test_a_job_lasts_minutes_and_every_core_gets_some() -> None:
    assert chunk_size(100_000, seconds=1.0, cores=16) == 300
    assert chunk_size(100_000, seconds=600.0, cores=16) == 1
    assert chunk_size(1_000_000, seconds=0.001, cores=16) == 1024  # what they return may be large
    assert chunk_size(1_000_000, seconds=0.001, cores=16, nbytes=50) == 10_000
    assert chunk_size(1_000_000, seconds=0.001, cores=16, nbytes=4 << 20) == 4
    assert chunk_size(160, seconds=0.001, cores=10) == 4


def test_the_rest_is_estimated_from_what_came_home_and_at_first_from_how_long_a_call_takes() -> None:
    rate = Rate()
    assert rate.left(100, None, 4, now=0.0) is None
    assert rate.left(100, 2.0, 4, now=0.0) == 50.0
    for minute in range(6):
        rate.ended(30, now=60.0 * minute)
    assert rate.left(100, 2.0, 4, now=300.0) == pytest.approx(200.0)
    assert rate.left(100, 2.0, 4, now=2000.0) == 50.0  # nothing came for so long that it says nothing of now
    rate.begun(now=2000.0)
    rate.begun(now=2100.0)
    rate.ended(20, now=2200.0)  # all that came came at once
    assert rate.left(100, None, 4, now=2200.0) == pytest.approx(1000.0)
