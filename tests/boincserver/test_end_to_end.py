"""From a submitter through simulated volunteers and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from boincserver.control import Control, Job
from boincserver.errors import UnknownApp
from boincserver.states import ErrorMask, Outcome
from boincserver.testing import SimulatedVolunteer, wait_until

from .conftest import UPPER, add_app


def jobs(count: int, **options: object) -> list[Job]:
    return [
        Job(f"job{n}", {"in": f"text {n}\n".encode()}, {"out": 1_000_000}, copy_files=True, **options)  # type: ignore[arg-type]
        for n in range(count)
    ]


def test_twenty_jobs_run_in_real_slots_and_come_home(control: Control, upper: str, url: str) -> None:
    batch = control.create_batch(upper, "first")
    assert control.create_jobs(batch.id, jobs(20)) == 20
    assert control.create_jobs(batch.id, jobs(20)) == 0
    with SimulatedVolunteer(url, control.create_account("v@example.org"), ncpus=4) as volunteer:
        while volunteer.step() or volunteer.finished:
            pass
    outcomes = control.outcomes(batch.id)
    assert {o.name: o.outputs["out"] for o in outcomes} == {f"job{n}": f"TEXT {n}\n".encode() for n in range(20)}
    assert [o.seq for o in outcomes] == sorted(o.seq for o in outcomes)
    assert all(o.attempts[0].stderr == "working on text" for o in outcomes)
    control.acknowledge(batch.id, outcomes[-1].seq)
    assert control.outcomes(batch.id) == []
    upload = control.directory / "upload"
    wait_until(lambda: not [path for path in upload.rglob("*") if path.is_file()], timeout=60, what="files to go")
    assert control.status()["hosts"][0]["succeeded"] == 20


def test_two_users_agree(control: Control, upper: str, url: str) -> None:
    batch = control.create_batch(upper, "quorum")
    control.create_jobs(batch.id, jobs(3, min_quorum=2))
    volunteers = [SimulatedVolunteer(url, control.create_account(f"v{n}@example.org"), ncpus=4) for n in range(2)]
    for volunteer in volunteers:
        with volunteer:
            assert volunteer.step() == 3
            volunteer.contact()
    outcomes = control.outcomes(batch.id, wait=60)
    assert len(outcomes) == 3
    assert all(len(o.attempts) == 2 and o.outputs["out"] for o in outcomes)


def test_a_failing_job_among_good_ones(control: Control, upper: str, url: str) -> None:
    batch = control.create_batch(upper, "mixed")
    bad = Job("bad", {"in": b"fail\n"}, {"out": 1000}, copy_files=True, max_error_results=0)
    control.create_jobs(batch.id, [bad, *jobs(3)])
    with SimulatedVolunteer(url, control.create_account("v@example.org"), ncpus=4) as volunteer:
        volunteer.step()
        volunteer.contact()
    outcomes = {o.name: o for o in control.outcomes(batch.id)}
    assert len(outcomes) == 4
    assert outcomes["bad"].error_mask == ErrorMask.TOO_MANY_ERROR_RESULTS
    assert outcomes["bad"].attempts[0].outcome == Outcome.CLIENT_ERROR
    assert outcomes["bad"].attempts[0].exit_status == 3
    assert outcomes["job1"].outputs["out"] == b"TEXT 1\n"


def test_jobs_of_one_batch_for_two_applications(control: Control, upper: str, url: str, tmp_path: Path) -> None:
    add_app(control, tmp_path, "lower", UPPER.replace("tr a-z A-Z", "tr A-Z a-z"))
    batch = control.create_batch(upper, "both")
    (one, other) = jobs(2)
    control.create_jobs(batch.id, [one, other._replace(app="lower")])
    with pytest.raises(UnknownApp, match="'none'"):
        control.create_jobs(batch.id, [one._replace(name="x", app="none")])
    with SimulatedVolunteer(url, control.create_account("v@example.org"), ncpus=4) as volunteer:
        volunteer.step()
        volunteer.contact()
    assert {o.name: o.outputs["out"] for o in control.outcomes(batch.id)} == {"job0": b"TEXT 0\n", "job1": b"text 1\n"}
