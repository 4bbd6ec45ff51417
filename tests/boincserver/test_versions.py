"""Which version of an application goes to which computer: platforms, plan classes, numbers, beta, deprecated."""

from __future__ import annotations

from pathlib import Path

import pytest

from boincserver.control import AppFile, Control, Job
from boincserver.errors import BoincServerError
from boincserver.testing import SimulatedJob, SimulatedVolunteer
from boincserver.testing.wire import RequestParts, format_request

from .conftest import PLATFORM


def shout(job: SimulatedJob) -> dict[str, bytes]:
    return {"out": job.inputs["in"].upper()}


@pytest.fixture
def batch(control: Control, upper: str) -> int:
    """Twenty jobs of an application whose version is 1.00."""
    batch = control.create_batch(upper, "b")
    control.create_jobs(batch.id, [Job(f"j{n}", {"in": b"x"}, {"out": 10}) for n in range(20)])
    return batch.id


def add(control: Control, folder: Path, text: str, platform: str = PLATFORM, **options: object) -> int:
    path = folder / f"program-{len(list(folder.iterdir()))}"
    path.write_text(f"#!/bin/sh\n# {text}\n")
    file = AppFile(path, "upper.sh", main_program=True)
    return control.ensure_app_version("upper", platform, None, [file], **options).version_num  # type: ignore[arg-type]


def ask(control: Control, key: str, platform: str = PLATFORM, features: str = "fpu sse2", ncpus: int = 1) -> str:
    """The reply to a first request of a computer for one job."""
    url = control.info().url
    body = format_request(RequestParts(key, 0, 0, "", platform, ncpus, 1.0, 1.0, "", [], []))
    body = body.replace(b"<p_ncpus>", f"<p_features>{features}</p_features>\n    <p_ncpus>".encode())
    with SimulatedVolunteer(url, key) as volunteer:
        return volunteer.post(f"{url}scheduler", body).decode()


def version(reply: str) -> int:
    """The number of the version with which a job is sent; 0 for none."""
    _, found, rest = reply.partition("<version_num>")
    return int(rest.partition("<")[0]) if found else 0


@pytest.fixture
def key(control: Control) -> str:
    return control.create_account("v@example.org")


def test_the_newest_version_that_is_not_deprecated(control: Control, key: str, batch: int, tmp_path: Path) -> None:
    assert version(ask(control, key)) == 100
    assert add(control, tmp_path, "second") == 101
    assert add(control, tmp_path, "for others", "windows_x86_64") == 102
    assert version(ask(control, key)) == 101
    assert version(ask(control, key, "windows_x86_64")) == 102
    assert version(ask(control, key, "arm-android-linux-gnu")) == 0
    assert control.deprecate("upper", 101) == 2
    reply = ask(control, key)
    assert version(reply) == 0 and "no application for your computer type" in reply
    assert version(ask(control, key, "windows_x86_64")) == 102


def test_plan_classes_say_which_computers(control: Control, key: str, batch: int, tmp_path: Path) -> None:
    assert add(control, tmp_path, "quick", plan_class="avx2") == 101
    assert add(control, tmp_path, "parallel", plan_class="mt") == 102
    assert version(ask(control, key)) == 100
    assert version(ask(control, key, features="fpu sse2 avx avx2")) == 101
    assert version(ask(control, key, features="fpu sse2 avx25")) == 100
    reply = ask(control, key, ncpus=4)
    assert version(reply) == 102
    assert "<plan_class>mt</plan_class>" in reply and "<avg_ncpus>4.000000</avg_ncpus>" in reply
    with pytest.raises(BoincServerError, match=r"no plan class 'quantum'; installed are: avx, .*mt"):
        add(control, tmp_path, "strange", plan_class="quantum")


def test_beta_is_for_those_who_allow_it(control: Control, key: str, batch: int, tmp_path: Path) -> None:
    tester = control.create_account("tester@example.org")
    control.allow_beta("tester@example.org")
    (tmp_path / "new").write_text("#!/bin/sh\n# new\n")
    files = [AppFile(tmp_path / "new", "upper.sh", main_program=True)]
    assert control.ensure_app_version("upper", PLATFORM, None, files, beta=True).version_num == 101
    assert (version(ask(control, key)), version(ask(control, tester))) == (100, 101)
    again = control.ensure_app_version("upper", PLATFORM, None, files)  # released: the same files for everybody
    assert (again.version_num, again.created) == (101, False)
    assert version(ask(control, key)) == 101
    control.ensure_app("upper", beta=True)
    assert (version(ask(control, key)), version(ask(control, tester))) == (0, 101)
    control.allow_beta("tester@example.org", False)
    assert version(ask(control, tester)) == 0


def test_copies_stay_with_one_version_as_long_as_it_is_sent(
    control: Control, upper: str, url: str, tmp_path: Path
) -> None:
    control.ensure_app(upper, homogeneous_app_version=True)
    batch = control.create_batch(upper, "b")
    control.create_jobs(batch.id, [Job(f"j{n}", {"in": b"x"}, {"out": 10}, min_quorum=2) for n in range(2)])
    keys = [control.create_account(f"v{n}@example.org") for n in range(3)]
    with SimulatedVolunteer(url, keys[0], shout, ncpus=2) as first:
        assert first.step() == 2
        assert add(control, tmp_path, "newer") == 101
        with SimulatedVolunteer(url, keys[1], shout) as second:
            assert second.step() == 1  # with the version of the copy before
            second.contact(seconds=0, instances=0)
        first.contact(seconds=0, instances=0)
        assert version(second.last_reply.decode()) == 0
        (outcome,) = control.outcomes(batch.id)
        assert len(outcome.attempts) == 2
        # What is not sent any more binds nobody: the other job would wait for ever.
        control.deprecate(upper, 100)
        with SimulatedVolunteer(url, keys[2], shout) as third:
            assert third.step() == 1
            third.contact(seconds=0, instances=0)
    assert len(control.outcomes(batch.id)) == 2


def test_a_job_is_sent_with_the_version_that_its_copy_had(control: Control, upper: str, tmp_path: Path) -> None:
    control.ensure_app(upper, homogeneous_app_version=True)
    batch = control.create_batch(upper, "b")
    control.create_jobs(batch.id, [Job("j", {"in": b"x"}, {"out": 10}, min_quorum=2)])
    one, two = (control.create_account(f"v{n}@example.org") for n in range(2))
    assert version(ask(control, one)) == 100
    add(control, tmp_path, "newer")
    assert version(ask(control, two)) == 100
