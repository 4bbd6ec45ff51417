"""The stock client against the server, under libfaketime."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from boincserver import cli
from boincserver.control import AppFile, Control, Job, JobOutcome
from boincserver.project import Project
from boincserver.states import ErrorMask, Outcome
from boincserver.testing import StockClient, serving, wait_until
from boincserver.testing.serving import ServerProcess
from boincserver.testing.stock import faketime_library

from .conftest import PLATFORM, UPPER, add_app, make_project

pytestmark = pytest.mark.stock

SPEED = 20.0
LIMIT = 90.0
SHORT = {"rsc_fpops_est": 1e10, "copy_files": True}


@pytest.fixture(autouse=True)
def programs(need: Callable[..., None]) -> None:
    need("boinc", "boinccmd", "faketime")


def collect(control: Control, batch: int, count: int, timeout: float = LIMIT) -> dict[str, JobOutcome]:
    found: dict[str, JobOutcome] = {}
    after = 0

    def complete() -> bool:
        nonlocal after
        for outcome in control.outcomes(batch, after=after, wait=1.0):
            found[outcome.name] = outcome
            after = outcome.seq
        return len(found) >= count

    wait_until(complete, timeout=timeout, what=f"{count} outcomes")
    return found


def test_attach_by_key_run_upload_report_acknowledge(control: Control, upper: str, url: str) -> None:
    batch = control.create_batch(upper, "b")
    control.create_jobs(batch.id, [Job(f"j{n}", {"in": f"n {n}\n".encode()}, {"out": 1000}, **SHORT) for n in range(5)])
    with StockClient(speed=SPEED, ncpus=2) as client:
        client.attach(url, control.create_account("v@example.org"))
        outcomes = collect(control, batch.id, 5)
        assert {o.outputs["out"] for o in outcomes.values()} == {f"N {n}\n".encode() for n in range(5)}
        wait_until(lambda: not client.tasks(), timeout=LIMIT, what="the client to forget what was acknowledged")


def test_a_client_that_cannot_start_leaves_nothing() -> None:
    client = StockClient(speed=SPEED)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", client.port))
        with pytest.raises(RuntimeError, match=f"bind to port {client.port} failed"), client:
            pass
    assert not client.directory.exists()


def test_a_program_travels_compressed(control: Control, url: str, tmp_path: Path) -> None:
    """The client fetches the compressed form, and only that, expands it and finds it as it was signed."""
    path = tmp_path / "upper.sh"
    path.write_text(UPPER + "# and so on\n" * 10_000)
    control.ensure_app("upper")
    sent = control.send(path, compressed=True)
    control.ensure_app_version("upper", PLATFORM, None, [AppFile(sent, "upper.sh", main_program=True)])
    batch = control.create_batch("upper", "b")
    control.create_jobs(batch.id, [Job("j", {"in": b"hello\n"}, {"out": 1000}, **SHORT)])
    plain = next((control.directory / "download").glob(f"*/{sent.name}"))
    plain.rename(plain.with_suffix(".away"))  # so that only the compressed one can be had
    with StockClient(speed=SPEED) as client:
        client.attach(url, control.create_account("v@example.org"))
        assert collect(control, batch.id, 1)["j"].outputs["out"] == b"HELLO\n"


def test_attach_by_creating_an_account_from_boinccmd(control: Control, upper: str, url: str) -> None:
    batch = control.create_batch(upper, "b")
    control.create_jobs(batch.id, [Job("j", {"in": b"hello\n"}, {"out": 1000}, **SHORT)])
    with StockClient(speed=SPEED) as client:
        key = client.create_account(url, "Alice@example.org", "secret1", "Alice Müller")
        assert client.lookup_account(url, "alice@example.org", "secret1") == key
        client.attach(url, key)
        assert collect(control, batch.id, 1)["j"].outputs["out"] == b"HELLO\n"


def test_a_failure_is_tried_again_and_then_an_error(control: Control, upper: str, url: str) -> None:
    batch = control.create_batch(upper, "b")
    bad = Job("bad", {"in": b"fail\n"}, {"out": 1000}, max_error_results=0, **SHORT)
    control.create_jobs(batch.id, [bad, Job("good", {"in": b"ok\n"}, {"out": 1000}, **SHORT)])
    with StockClient(speed=SPEED) as client:
        client.attach(url, control.create_account("v@example.org"))
        outcomes = collect(control, batch.id, 2)
    assert outcomes["bad"].error_mask == ErrorMask.TOO_MANY_ERROR_RESULTS
    assert outcomes["bad"].attempts[0].exit_status == 3
    assert "working on fail" in outcomes["bad"].attempts[0].stderr
    assert outcomes["good"].outputs["out"] == b"OK\n"


def test_quorum_of_two_hosts(control: Control, upper: str, url: str) -> None:
    batch = control.create_batch(upper, "b")
    control.create_jobs(
        batch.id, [Job(f"j{n}", {"in": b"same\n"}, {"out": 1000}, min_quorum=2, **SHORT) for n in range(4)]
    )
    with StockClient(speed=SPEED, name="one") as one, StockClient(speed=SPEED, name="two") as two:
        one.attach(url, control.create_account("one@example.org"))
        two.attach(url, control.create_account("two@example.org"))
        outcomes = collect(control, batch.id, 4)
    assert all(len({a.host_id for a in o.attempts}) == 2 for o in outcomes.values())


def test_cancel_while_running(control: Control, upper: str, url: str) -> None:
    batch = control.create_batch(upper, "b")
    control.create_jobs(batch.id, [Job("j", {"in": b"sleep 100000\n"}, {"out": 1000}, **SHORT)])
    with StockClient(speed=SPEED) as client:
        client.attach(url, control.create_account("v@example.org"))
        wait_until(
            lambda: [t for t in client.tasks() if t.active_state == "EXECUTING"], timeout=LIMIT, what="the job to run"
        )
        assert control.job_states(batch.id)[0].state == "in progress"
        assert control.cancel_jobs(batch.id) == 1
        assert collect(control, batch.id, 1)["j"].error_mask == ErrorMask.CANCELLED
        wait_until(lambda: not client.tasks(), timeout=LIMIT, what="the client to abort and report the job")


def test_an_upload_goes_on_where_it_stopped(server: ServerProcess, upper: str, url: str) -> None:
    control = server.control
    size = 20_000_000
    batch = control.create_batch(upper, "b")
    control.create_jobs(batch.id, [Job("j", {"in": f"big {size}\n".encode()}, {"out": size}, **SHORT)])
    uploads = control.directory / "upload"

    def partial() -> Path | None:
        return next((path for path in uploads.rglob("j_0_*") if path.stat().st_size > 100_000), None)

    with StockClient(speed=SPEED) as client:
        client.limit_upload(50_000)
        client.attach(url, control.create_account("v@example.org"))
        path = wait_until(partial, timeout=LIMIT, what="the upload to begin", interval=0.01)
        client.kill()
        assert path.stat().st_size < size
        client.limit_upload(0)
        client.start()
        outcome = collect(control, batch.id, 1)["j"]
    assert outcome.outputs["out"] == b"x" * size
    assert f"upload-goes-on file={path.name} at=" in server.log.read_text()


def test_a_copy_that_misses_its_deadline_goes_to_another_host(directory: Path, tmp_path: Path) -> None:
    make_project(directory)
    with serving(directory) as server, StockClient(speed=SPEED, name="sleeper") as sleeper:
        control = server.control
        add_app(control, tmp_path)
        batch = control.create_batch("upper", "b")
        control.create_jobs(batch.id, [Job("j", {"in": b"hello\n"}, {"out": 1000}, **SHORT)])
        url = control.info().url
        sleeper.limit_upload(1)  # it can never bring its result home
        sleeper.attach(url, control.create_account("sleeper@example.org"))
        wait_until(lambda: control.job_states(batch.id)[0].hosts, timeout=LIMIT, what="the job to be sent")
    with (
        serving(directory, LD_PRELOAD=faketime_library(), FAKETIME="+8d") as server,
        StockClient(speed=SPEED) as client,
    ):
        control = server.control
        client.attach(url, control.create_account("v@example.org"))
        outcome = collect(control, batch.id, 1)["j"]
    assert outcome.outputs["out"] == b"HELLO\n"
    assert [a.outcome for a in outcome.attempts] == [Outcome.NO_REPLY, Outcome.SUCCESS]


def test_a_failed_copy_is_tried_on_another_host(directory: Path, tmp_path: Path) -> None:
    make_project(directory)
    with serving(directory) as server:
        control = server.control
        # Fails where the file `broken` lies beside the client's folders.
        add_app(control, tmp_path, program="#!/bin/sh\n[ -e ../../broken ] && exit 9\n" + UPPER.partition("\n")[2])
        batch = control.create_batch("upper", "b")
        url = control.info().url
        with StockClient(speed=SPEED, name="broken") as broken, StockClient(speed=SPEED, name="sound") as sound:
            (broken.directory / "broken").touch()
            broken.attach(url, control.create_account("broken@example.org"))
            sound.attach(url, control.create_account("sound@example.org"))
            control.create_jobs(batch.id, [Job(f"j{n}", {"in": b"hello\n"}, {"out": 1000}, **SHORT) for n in range(4)])
            outcomes = collect(control, batch.id, 4)
    assert all(outcome.outputs["out"] == b"HELLO\n" for outcome in outcomes.values())
    assert all(outcome.attempts[-1].outcome == Outcome.SUCCESS for outcome in outcomes.values())


def test_a_new_signing_key_is_accepted_by_the_old_ones_signature(directory: Path, tmp_path: Path) -> None:
    made = make_project(directory)
    with StockClient(speed=SPEED) as client:
        with serving(directory) as server:
            add_app(server.control, tmp_path)
            batch = server.control.create_batch("upper", "b")
            server.control.create_jobs(batch.id, [Job("before", {"in": b"a\n"}, {"out": 1000}, **SHORT)])
            client.attach(made.config.url, server.control.create_account("v@example.org"))
            collect(server.control, batch.id, 1)
        before = Project.open(directory).public_key
        assert cli.main(["keys", "rotate", str(directory)]) == 0
        assert Project.open(directory).public_key != before
        with serving(directory) as server:
            add_app(server.control, tmp_path, program=f"{UPPER}# another version\n")
            server.control.create_jobs(batch.id, [Job("after", {"in": b"b\n"}, {"out": 1000}, **SHORT)])
            client.update(made.config.url)
            assert collect(server.control, batch.id, 2)["after"].outputs["out"] == b"B\n"
        assert "validate" not in client.log()
