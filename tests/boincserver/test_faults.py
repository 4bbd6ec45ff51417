"""What goes wrong: power cuts, lost replies, cloned hosts, damaged and unwanted uploads, hostile requests."""

from __future__ import annotations

import random
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from boincserver.control import Control, Job
from boincserver.doctor import examine
from boincserver.files import FileStore
from boincserver.project import Project
from boincserver.protocol import upload as upload_protocol
from boincserver.states import ErrorMask, Outcome
from boincserver.testing import SimulatedJob, SimulatedVolunteer, serving, wait_until
from boincserver.testing.serving import ServerProcess
from boincserver.testing.wire import Finished, format_upload, size_query

from .conftest import add_app, make_project


def findings(directory: Path) -> list[str]:
    database = Project.open(directory).open_database()
    try:
        return list(examine(database, FileStore(directory / "upload")))
    finally:
        database.close()


def shout(job: SimulatedJob) -> dict[str, bytes]:
    return {"out": job.inputs["in"].upper()}


@pytest.fixture
def volunteer(control: Control, upper: str, url: str) -> Iterator[SimulatedVolunteer]:
    with SimulatedVolunteer(url, control.create_account("v@example.org"), shout, ncpus=4) as one:
        yield one


def jobs(count: int, prefix: str = "j", **options: object) -> list[Job]:
    return [Job(f"{prefix}{n}", {"in": f"text {n}".encode()}, {"out": 20_000}, **options) for n in range(count)]  # type: ignore[arg-type]


# --- power cuts -------------------------------------------------------------------------------------------------------


def survive(directory: Path, tmp_path: Path, cuts: int) -> None:
    """Load, kill -9 at random moments, start again; in the end every job is done, once."""
    chance = random.Random(2009)
    made = make_project(directory)
    total = 60 * cuts
    volunteers: list[SimulatedVolunteer] = []
    try:
        for cut in range(cuts + 1):
            server = ServerProcess(directory, {})
            server.wait_ready()
            control = server.control
            if cut == 0:
                add_app(control, tmp_path)
                for n in range(4):
                    key = control.create_account(f"v{n}@example.org")
                    volunteers.append(SimulatedVolunteer(made.config.url, key, shout, ncpus=4).start(pause=0.05))
            batch = control.create_batch("upper", "b")
            creating = threading.Thread(target=create, args=(control, batch.id, total))
            creating.start()
            if cut < cuts:
                time.sleep(chance.uniform(0.05, 1.5))  # the moment of the cut, not a synchronisation
                server.kill()
                creating.join()
            else:
                creating.join()
                done = collect(control, batch.id, total)
                server.stop()
    finally:
        for volunteer in volunteers:
            volunteer.close()
    assert done == {f"j{n}": f"TEXT {n}".encode() for n in range(total)}
    assert findings(directory) == []


def create(control: Control, batch: int, total: int) -> None:
    try:
        control.create_jobs(batch, jobs(total, max_error_results=20, max_total_results=40))
    except Exception:
        return


def collect(control: Control, batch: int, total: int) -> dict[str, bytes]:
    done: dict[str, bytes] = {}
    after = 0

    def complete() -> bool:
        nonlocal after
        for outcome in control.outcomes(batch, after=after, wait=1.0):
            assert outcome.name not in done
            assert outcome.error_mask == ErrorMask.NONE, outcome
            done[outcome.name] = outcome.outputs["out"]
            after = outcome.seq
        return len(done) >= total

    wait_until(complete, timeout=120, what=f"{total} outcomes")
    return done


def test_three_power_cuts_lose_nothing(directory: Path, tmp_path: Path) -> None:
    survive(directory, tmp_path, 3)


@pytest.mark.soak
def test_thirty_power_cuts_lose_nothing(directory: Path, tmp_path: Path) -> None:
    survive(directory, tmp_path, 30)


def test_a_restart_keeps_what_was_uploaded(directory: Path, tmp_path: Path) -> None:
    made = make_project(directory)
    with SimulatedVolunteer(made.config.url, "", shout) as volunteer:
        with serving(directory) as server:
            add_app(server.control, tmp_path)
            batch = server.control.create_batch("upper", "b")
            server.control.create_jobs(batch.id, jobs(1))
            volunteer.authenticator = server.control.create_account("v@example.org")
            assert volunteer.step() == 1
        with serving(directory) as server:
            volunteer.contact()
            assert server.control.outcomes(batch.id)[0].outputs["out"] == b"TEXT 0"


# --- hosts ------------------------------------------------------------------------------------------------------------


def test_a_lost_reply_is_sent_again(control: Control, volunteer: SimulatedVolunteer) -> None:
    batch = control.create_batch("upper", "b")
    control.create_jobs(batch.id, jobs(2))
    volunteer.contact(instances=0)
    lost = set(volunteer.held)
    volunteer.held.clear()
    control.directory.joinpath("x").touch()
    sent = volunteer_sent(control, batch.id)
    wait_until(lambda: int(time.time()) > sent + 1, timeout=60, what="the next second")
    volunteer.contact(seconds=0, instances=0)
    assert set(volunteer.held) == lost


def volunteer_sent(control: Control, batch: int) -> int:
    return max(state.deadline for state in control.job_states(batch)) - 7 * 86400


def test_a_cloned_state_file_becomes_a_host_of_its_own(control: Control, volunteer: SimulatedVolunteer) -> None:
    volunteer.contact()
    volunteer.contact()
    first, seqno = volunteer.hostid, volunteer.rpc_seqno
    volunteer.contact()
    volunteer.rpc_seqno = seqno - 1
    volunteer.contact()
    assert volunteer.hostid not in (0, first)
    second = volunteer.hostid
    volunteer.contact()
    assert volunteer.hostid == second


def test_a_host_that_attaches_again_is_recognised(control: Control, volunteer: SimulatedVolunteer) -> None:
    volunteer.contact()
    first = volunteer.hostid
    volunteer.hostid = volunteer.rpc_seqno = 0
    volunteer.contact()
    assert volunteer.hostid == first
    assert len(control.hosts()) == 1


def test_an_unknown_key_is_told_so(control: Control, url: str, upper: str) -> None:
    with SimulatedVolunteer(url, "0" * 32) as stranger:
        stranger.finished["x_0"] = Finished("x_0", 5, 0)
        reply = stranger.contact()
        assert reply.request_delay == 3600
        assert "Invalid or missing account key" in reply.messages[0]
        assert not stranger.finished and not stranger.hostid
    assert control.hosts() == []


def test_one_user_does_not_check_his_own_result(control: Control, volunteer: SimulatedVolunteer, url: str) -> None:
    batch = control.create_batch("upper", "b")
    control.create_jobs(batch.id, jobs(3, min_quorum=2))
    with SimulatedVolunteer(url, volunteer.authenticator, shout, ncpus=4) as second_computer:
        assert volunteer.step() == 3
        volunteer.contact()
        assert second_computer.step() == 0
    assert control.outcomes(batch.id) == []


# --- uploads ----------------------------------------------------------------------------------------------------------


def held_output(control: Control, volunteer: SimulatedVolunteer) -> tuple[str, str, str]:
    """A held job, and name and URL of its output."""
    batch = control.create_batch("upper", "b")
    control.create_jobs(batch.id, jobs(1))
    volunteer.contact()
    ((name, assignment),) = volunteer.held.items()
    output = assignment.outputs[0].file
    return name, output.name, output.urls[0]


def status(volunteer: SimulatedVolunteer, url: str, body: bytes) -> int:
    return upload_protocol.parse_status(volunteer.post(url, body))[0]


def test_uploads_that_nobody_asked_for_are_refused(control: Control, volunteer: SimulatedVolunteer) -> None:
    _, name, url = held_output(control, volunteer)
    stem = name.rpartition("_r")[0]
    for other in (
        f"{stem}_0",
        f"{stem}_r{'0' * 24}_0",
        f"{name}1",
        "../../project.toml",
        "x",
        name.replace("_0", "_1", 1),
    ):
        assert status(volunteer, url, format_upload(other, b"bad")) == upload_protocol.PERMANENT
    assert status(volunteer, url, format_upload(name, b"x" * 20_001)) == upload_protocol.PERMANENT
    assert status(volunteer, url, b"nonsense") == upload_protocol.PERMANENT
    assert status(volunteer, url, size_query("../x")) == upload_protocol.PERMANENT
    assert [path for path in (control.directory / "upload").rglob("*") if path.is_file()] == []


def test_an_upload_in_pieces(control: Control, volunteer: SimulatedVolunteer) -> None:
    result, name, url = held_output(control, volunteer)
    data = bytes(range(256)) * 70
    whole = format_upload(name, data)
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 80)) as connection:
        head = f"POST {parts.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(whole)}\r\n\r\n"
        connection.sendall(head.encode() + whole[: len(whole) // 2])
        wait_until(lambda: size(volunteer, url, name) > 0, timeout=60, what="the first half")
    kept = size(volunteer, url, name)
    assert 0 < kept < len(data)
    assert status(volunteer, url, format_upload(name, data, kept + 1)) == upload_protocol.TRANSIENT
    assert status(volunteer, url, format_upload(name, data, kept)) == 0
    assert size(volunteer, url, name) == len(data)
    del volunteer.held[result]
    digest = __import__("hashlib").md5(data).hexdigest()
    volunteer.finished[result] = Finished(result, 5, 0, files=((name, len(data), digest),))
    volunteer.contact(seconds=0, instances=0)
    assert control.outcomes(1)[0].outputs["out"] == data
    assert status(volunteer, url, format_upload(name, b"afterwards")) == upload_protocol.PERMANENT


def size(volunteer: SimulatedVolunteer, url: str, name: str) -> int:
    return upload_protocol.parse_status(volunteer.post(url, size_query(name)))[1] or 0


def test_a_damaged_upload_is_not_kept(control: Control, volunteer: SimulatedVolunteer) -> None:
    _, name, url = held_output(control, volunteer)
    body = format_upload(name, b"right").replace(b"<data>\nright", b"<data>\nwrong")
    assert status(volunteer, url, body) == upload_protocol.TRANSIENT
    assert size(volunteer, url, name) == 0


@pytest.mark.parametrize("claim", ["nothing", "another digest", "another size"])
def test_a_success_without_its_output_is_none(control: Control, volunteer: SimulatedVolunteer, claim: str) -> None:
    result, name, url = held_output(control, volunteer)
    files = {
        "nothing": (),
        "another digest": ((name, 4, "0" * 32),),
        "another size": ((name, 5, "098f6bcd4621d373cade4e832627b4f6"),),
    }[claim]
    assert status(volunteer, url, format_upload(name, b"test")) == 0
    del volunteer.held[result]
    volunteer.finished[result] = Finished(result, 5, 0, files=files)
    volunteer.contact(seconds=0, instances=0)
    assert control.job_states(1)[0].state == "unsent"
    assert control.status()["copies"]["unsent"] == 1


def test_a_result_of_another_user_cannot_be_reported(control: Control, volunteer: SimulatedVolunteer, url: str) -> None:
    result, _, _ = held_output(control, volunteer)
    with SimulatedVolunteer(url, control.create_account("thief@example.org"), shout) as thief:
        thief.finished[result] = Finished(result, 3, 1)
        thief.contact(seconds=0, instances=0)
        assert not thief.finished  # acknowledged, and ignored
    assert control.job_states(1)[0].state == "in progress"


def test_a_report_twice_counts_once(control: Control, volunteer: SimulatedVolunteer) -> None:
    result, _, _ = held_output(control, volunteer)
    finished = volunteer.work(result)
    for _ in range(3):
        volunteer.finished[result] = finished
        volunteer.contact(seconds=0, instances=0)
    (outcome,) = control.outcomes(1)
    assert [attempt.outcome for attempt in outcome.attempts] == [Outcome.SUCCESS]


# --- disks and databases ----------------------------------------------------------------------------------------------


def test_a_full_disk_is_a_reason_to_come_again(control: Control, volunteer: SimulatedVolunteer) -> None:
    result, name, url = held_output(control, volunteer)
    path = FileStore(control.directory / "upload").path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/dev/full")  # opens, and then there is no space left on the device
    code, _ = upload_protocol.parse_status(answer := volunteer.post(url, format_upload(name, b"x")))
    assert code == upload_protocol.TRANSIENT and b"No space left" in answer
    path.unlink()
    volunteer.work(result)
    volunteer.contact(seconds=0, instances=0)
    assert control.outcomes(1)[0].outputs["out"] == b"TEXT 0"


@pytest.mark.parametrize("seconds", [2.0, pytest.param(30.0, marks=pytest.mark.soak)])
def test_a_locked_database_is_waited_for(control: Control, volunteer: SimulatedVolunteer, seconds: float) -> None:
    result, _, _ = held_output(control, volunteer)
    finished = volunteer.work(result)
    other = sqlite3.connect(control.directory / "database.sqlite3", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(seconds, other.execute, ("ROLLBACK",))
    release.start()
    volunteer.contact(seconds=0, instances=0)
    release.join()
    other.close()
    assert finished.name not in volunteer.finished
    assert control.outcomes(1)[0].outputs["out"] == b"TEXT 0"
