"""`Master("boinc+http://...")`: the scientist's laptop and the project know each other by HTTP alone."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import random
import re
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests import errands
from tests.served import Project, served
from tests.whole.conftest import SPEED
from tests.whole.letting import EMAIL, let_in
from tests.whole.test_kills import Victims
from tests.whole.test_runs import Counting, queued

import pymw
from boincserver.control import Control
from boincserver.remote import RemoteProject, RemoteServer
from boincserver.remote.transport import Answer, Transport
from boincserver.testing import SimulatedVolunteer, StockClient, wait_until
from boincserver.web.runs import Standing
from pymw import Master, close
from pymw.cli import main

LIMIT = 120.0

SCRIPT = """
from pymw import Master, progress

def area(start, stop):
    progress(0.5)
    return sum((4 if i % 2 == 0 else -4) / (2 * i + 1) for i in range(start, stop))

with Master() as master:
    print(round(sum(master.map(area, range(0, 1000, 100), range(100, 1100, 100))), 6))
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))


@pytest.fixture
def remote(project: Project, volunteers: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The volunteers work; each test has a key of its own."""
    return let_in(project, monkeypatch)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Project, str]]:
    """A project without volunteers."""
    with served(tmp_path / "project") as project:
        yield project, let_in(project, monkeypatch)


def batches(control: Control) -> list[int]:
    return [batch["jobs"] - batch["over"] for batch in control.batches() if "." in batch["name"]]


def test_the_same_script_runs_here_and_there(project: Project, remote: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    told = [
        subprocess.run(
            [sys.executable, str(script)], env=os.environ | {"PYMW_BACKEND": backend},
            capture_output=True, text=True, timeout=LIMIT, check=True,
        ).stdout
        for backend in ("local", project.backend, remote)
    ]  # fmt: skip
    assert told == ["3.140593\n"] * 3


def test_results_files_and_failures_come_home(remote: str, tmp_path: Path) -> None:
    data = tmp_path / "text.txt"
    data.write_text("one two three")
    with Master(remote) as master:
        assert list(master.map(errands.double, range(30), chunksize=7, timeout=LIMIT)) == list(range(0, 60, 2))
        reader = master.options(files={"words/text.txt": data}, outputs=["counted.txt"], into=tmp_path / "out")
        future = reader.submit(errands.count_words, 2)
        failing = master.submit(errands.fail, "no luck")
        dying = master.options(attempts=2).map(errands.vanish, [0, 1], [[1], [1]], timeout=LIMIT)
        assert future.result(LIMIT)[0] == 6
        assert (tmp_path / "out" / "counted.txt").read_text() == "three two one"
        with pytest.raises(ValueError, match="no luck"):
            failing.result(LIMIT)
        assert next(dying) == 0
        with pytest.raises(pymw.WorkerLost) as told:
            next(dying)
        assert len(told.value.attempts) == 2
        assert all("host" in attempt.worker for attempt in told.value.attempts)


def test_copies_are_compared(remote: str) -> None:
    with Master(remote) as master:
        careful = master.options(quorum=2, agree=close(rtol=1e-9))
        assert careful.submit(errands.double, 1.5).result(LIMIT) == 3.0
        with pytest.raises(pymw.UnsupportedOption, match="a function runs only where the project is"):
            master.options(quorum=2, agree=lambda a, b: a == b).submit(errands.double, 1)


def test_a_run_goes_on_without_its_master_and_nothing_is_computed_twice(alone: tuple[Project, str]) -> None:
    project, backend = alone
    compute = Counting()
    with contextlib.suppress(KeyboardInterrupt), Master(backend, run="doubles") as master:
        master.map(errands.double, range(20), chunksize=4)
        master.submit(errands.double, 20)
        raise KeyboardInterrupt  # as Ctrl-C does
    assert queued(project) == 6
    assert batches(project.control) == [6]  # one batch, whatever the number of calls
    with SimulatedVolunteer(project.url, project.account(), compute=compute).start():
        wait_until(lambda: queued(project) == 0, timeout=LIMIT, what="the volunteer to do it all")
    with Master(backend, run="doubles") as master:
        results = master.map(errands.double, range(20), chunksize=3, timeout=LIMIT)
        assert list(results) == [2 * n for n in range(20)]
        assert master.submit(errands.double, 20).result(LIMIT) == 40
    assert sorted(compute.computed) == list(range(21))
    wait_until(lambda: project.control.status()["queues"] == 0, timeout=LIMIT, what="files of retired jobs to go")


def test_outcomes_that_the_server_was_not_told_of_are_not_asked_for_again(
    alone: tuple[Project, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the journal and the server."""
    project, backend = alone
    compute = Counting()
    retired: list[object] = []
    retire = RemoteProject.acknowledge
    with SimulatedVolunteer(project.url, project.account(), compute=compute).start():
        monkeypatch.setattr(RemoteProject, "acknowledge", lambda *_: retired.append(1))
        with Master(backend, run="doubles") as master:
            assert master.submit(errands.double, 1).result(LIMIT) == 2
        assert retired
        monkeypatch.setattr(RemoteProject, "acknowledge", retire)
        with Master(backend, run="doubles") as master:
            assert master.submit(errands.double, 1).result(LIMIT) == 2
            assert master.submit(errands.double, 2).result(LIMIT) == 4
    assert sorted(compute.computed) == [1, 2]


def test_a_task_that_failed_is_tried_again_by_the_next(remote: str, tmp_path: Path) -> None:
    for _ in range(2):
        with Master(remote, run="again") as master, pytest.raises(ValueError, match="no luck"):
            master.submit(errands.fail, "no luck").result(LIMIT)


def test_cancelling_ends_jobs_on_hosts(alone: tuple[Project, str]) -> None:
    project, backend = alone
    with Master(backend) as master, SimulatedVolunteer(project.url, project.account(), compute=Counting()) as host:
        futures = [master.submit(errands.double, n) for n in range(3)]
        host.contact()
        assert len(host.held) == 3
        for future in futures[1:]:
            future.cancel()
        host.contact(seconds=0, instances=0)
        assert len(host.held) == 1
        while not futures[0].done():
            host.step()
        assert futures[0].result(LIMIT) == 0


def test_cancelling_a_run_from_another_process(alone: tuple[Project, str]) -> None:
    project, backend = alone
    with contextlib.suppress(KeyboardInterrupt), Master(backend, run="doubles") as master:
        master.map(errands.double, range(20), chunksize=4)
        raise KeyboardInterrupt
    assert main(["cancel", "doubles"]) == 0
    assert queued(project) == 0


def test_a_run_is_watched_from_both_sides(alone: tuple[Project, str]) -> None:
    project, backend = alone
    with (
        SimulatedVolunteer(project.url, project.account(), compute=Counting()) as host,
        Master(backend, run="watched") as master,
    ):
        host.contact(seconds=0, instances=0)
        future = master.submit(errands.double, 1)
        wait_until(lambda: "no host has taken it yet" in future.explain(), timeout=LIMIT, what="the job to be there")
        (batch,) = project.control.batches()
        assert batch["name"].startswith("watched_")
        assert (batch["jobs"], batch["over"]) == (1, 0)
        host.contact(seconds=1, instances=1)
        wait_until(lambda: future.state is pymw.TaskState.RUNNING, timeout=LIMIT, what="the master to learn of it")
        assert f"in progress on 1 of 1 host (host {host.hostid}), deadline in 6 days" in future.explain()
        assert f"1 hosts with {host.ncpus} cores" in str(master.status())
        while not future.done():
            host.step()
        assert future.result(LIMIT) == 2
        with pymw.open_run("watched") as view:
            assert view.counts()["returned"] == 1


@pytest.mark.parametrize("begun", ["here", "far away"])
def test_a_run_that_began_on_one_side_is_seen_and_goes_on_on_the_other(
    begun: str, alone: tuple[Project, str], capsys: pytest.CaptureFixture[str]
) -> None:
    project, remote = alone
    ways = (project.backend, remote) if begun == "here" else (remote, project.backend)
    compute = Counting()
    with contextlib.suppress(KeyboardInterrupt), Master(ways[0], run="both") as master:
        master.map(errands.double, range(20), chunksize=2)
        raise KeyboardInterrupt
    with SimulatedVolunteer(project.url, project.account(), compute=compute, ncpus=4) as volunteer:
        volunteer.contact(seconds=0, instances=4)
        for name in list(volunteer.held):
            volunteer.work(name)
        volunteer.contact(seconds=0, instances=0)  # a part of it is done, and nobody has fetched it
        for way in ways:
            capsys.readouterr()
            assert main(["runs", "--backend", way]) == 0
            assert capsys.readouterr().out == "both: 4 of 10 workunits over\n"
            assert main(["runs", "--backend", way, "--json"]) == 0
            assert json.loads(capsys.readouterr().out) == [{"name": "both", "jobs": 10, "over": 4, "failed": 0}]
        volunteer.contact(seconds=0, instances=4)  # and a part is under way
        with Master(ways[1], run="both") as master:
            results = master.map(errands.double, range(20), chunksize=2, timeout=LIMIT)
            volunteer.start()
            assert list(results) == [2 * n for n in range(20)]
            assert master.submit(errands.double, 20).result(LIMIT) == 40
        with Master(ways[0], run="both") as master:  # and back again
            assert master.submit(errands.double, 21).result(LIMIT) == 42
    assert sorted(compute.computed) == list(range(22))  # nothing twice
    wait_until(lambda: project.control.status()["queues"] == 0, timeout=LIMIT, what="files of retired jobs to go")


@pytest.mark.parametrize("way", ["boinc:", "boinc+http:"])
def test_a_run_has_a_page_that_nobody_else_finds(way: str, alone: tuple[Project, str]) -> None:
    project, remote = alone

    def read(url: str) -> str:
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.headers["refresh"] == "10"
            return answer.read().decode()

    host = SimulatedVolunteer(project.url, project.account(), compute=Counting())
    with host, Master(project.backend if way == "boinc:" else remote, run="shown") as master:
        results = master.map(errands.double, range(6), chunksize=2, timeout=LIMIT)
        (link,) = re.findall(r"on the web: (\S+)", str(master.status()))
        host.contact(seconds=0, instances=0)
        page = read(link)
        assert "<h1>Run shown</h1>" in page
        assert "0 of 3 workunits are over" in page
        assert "Nothing came home yet" in page
        host.contact(seconds=0, instances=1)
        (name,) = host.held
        said = "<variety>boincserver.progress</variety>\n1 0.2500\n"
        message = f"<msg_from_host>\n<result_name>{name}</result_name>\n<time>1</time>\n{said}</msg_from_host>\n"
        host.contact(seconds=0, instances=0, trickles=(message,))
        wait_until(lambda: "<td>task 2: 25%</td>" in read(link), timeout=LIMIT, what="the progress to be shown")
        assert f"<td>{name.rpartition('_')[0]}</td><td>{host.hostid}</td>" in read(link)
        host.work(name)
        host.contact(seconds=0, instances=1)
        host.work(next(iter(host.held)))
        host.contact(seconds=0, instances=0)
        page = read(link)
        assert "2 of 3 workunits are over" in page
        assert '<progress max="3" value="2">' in page
        for wrong in (link[:-1] + "x", link.partition("&")[0], link.replace("shown", "other"), project.url + "run.php"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                read(wrong)
        host.start()
        assert list(results) == [0, 2, 4, 6, 8, 10]
        wait_until(lambda: "All is over." in read(link), timeout=LIMIT, what="the page to say so")


def test_the_page_estimates_by_the_pace_and_at_first_by_what_a_job_takes() -> None:
    assert Standing(10, 10).left(4) == 0
    assert Standing(10, 2).left(4) is None
    assert Standing(10, 2, lately=1, span=0.0, seconds=60.0).left(4) == 120
    assert Standing(10, 2, lately=2, span=100.0, seconds=60.0).left(4) == 400
    both = Standing(10, 2, 1, 2, 100.0, 60.0).plus(Standing(4, 4, 0, 2, 50.0, 30.0))
    assert both == Standing(14, 6, 1, 4, 100.0, 45.0)


def test_what_another_submitter_calls_like_a_run_is_not_taken_for_a_part_of_it(
    alone: tuple[Project, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, _ = alone
    batch = project.control.create_batch("pymw", "mine").id
    stranger = project.control.create_account("eve@example.org")
    project.control.grant("eve@example.org", "all")
    with contextlib.closing(RemoteServer(project.url, stranger)) as server:
        server.create_batch("pymw", "mine.too")
    for key in ("", os.environ["BOINC_ACCOUNT_KEY"]):
        assert project.control.gather_batch(batch, key) == 0
    assert [each["name"] for each in project.control.batches()] == ["mine", "mine.too"]


def test_code_of_somebody_who_is_not_trusted_does_not_run(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "stranger"))
    with Master(remote) as master, pytest.raises(pymw.WorkerLost, match="a key that this project does not trust"):
        master.options(attempts=1).submit(errands.double, 1).result(LIMIT)


def test_who_may_not_submit_is_told_what_to_do(alone: tuple[Project, str], monkeypatch: pytest.MonkeyPatch) -> None:
    project, backend = alone
    project.control.revoke(EMAIL)
    with pytest.raises(pymw.BackendError, match="boincserver user grant"):
        Master(backend)
    monkeypatch.delenv("BOINC_ACCOUNT_KEY")
    monkeypatch.setenv("BOINC_ACCOUNT_KEYS", str(project.directory / "none"))
    with pytest.raises(pymw.BackendError, match="BOINC_ACCOUNT_KEY, or write a line"):
        Master(backend)
    monkeypatch.setenv("BOINC_ACCOUNT_KEY", 32 * "0")
    with pytest.raises(pymw.BackendError, match="use https://"):
        Master("boinc+http://boinc.example.org/pi/")
    assert main(["boinc", "trust", str(project.directory), "abcdef"]) == 1


NOTICE = b"<br />\n<b>Deprecated</b>:  Creation of dynamic property is deprecated in <b>/home/x.inc</b> on line <b>12</b><br />\n"
OF_OURS = re.compile(rb"<(software|canonical_instance_name|canonical_hostid|hostid|exit_status|deadline)>[^<]*</\1>\n?")


def as_official(answer: Answer) -> Answer:
    """With the noise of an official server, its tags that are never closed, and nothing that it does not tell."""
    body = answer.body
    if b"</query_changes>" in body or b"</query_hosts>" in body:
        body = b"<error><error_num>-1</error_num><error_msg>no such action</error_msg></error>"
    elif "content-disposition" not in answer.headers:
        body = re.sub(rb"<aborted>([^<]*)</aborted>", rb"<aborted \1>", OF_OURS.sub(b"", body))
        body = re.sub(rb"(<(query|submit|create|abort|retire|upload)_\w+>)", rb"\1\n" + NOTICE, body, count=1)
    return Answer(answer.status, answer.headers, body)


def test_an_official_server_is_served_as_well(alone: tuple[Project, str], monkeypatch: pytest.MonkeyPatch) -> None:
    project, backend = alone
    request = Transport.request
    monkeypatch.setattr(Transport, "request", lambda *given, **named: as_official(request(*given, **named)))
    with (
        SimulatedVolunteer(project.url, project.account()) as host,
        Master(backend, run="official") as master,
    ):
        first = master.submit(errands.double, 1)
        second = master.map(errands.vanish, [0, 2], [[2], [2]], timeout=LIMIT)
        third = master.submit(errands.double, 3)
        assert "in workunit" in first.explain()
        assert len(batches(project.control)) == 3  # such a server takes no more jobs for a batch that has some
        with pytest.raises(pymw.UnsupportedOption, match="its operator has chosen"):
            master.options(quorum=2, agree=close(rtol=1e-9)).submit(errands.double, 1)
        with pytest.raises(pymw.UnsupportedOption, match=r"quorum=: .*ask for quorum=2"):
            master.options(quorum="adaptive").submit(errands.double, 1)
        assert third.cancel()
        host.start()
        assert first.result(LIMIT) == 2
        assert next(second) == 0
        with pytest.raises(pymw.WorkerLost):
            next(second)
    wait_until(lambda: project.control.status()["queues"] == 0, timeout=LIMIT, what="files of retired jobs to go")


def test_master_and_server_may_be_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(Victims):
        def _script(self) -> subprocess.Popen[str]:
            if self.project.backend.startswith("boinc:"):
                self.project.backend = let_in(self.project, monkeypatch)
            return super()._script()

    compute, tasks = Counting(), 40
    with contextlib.ExitStack() as stack:
        victims = Elsewhere(tmp_path, tasks, stack)
        volunteer = SimulatedVolunteer(victims.project.url, victims.project.account(), compute=compute, ncpus=1)
        stack.enter_context(volunteer)
        for number, whom in enumerate(["master", "server", "master", "server"]):

            def done(number: int = number) -> bool:
                with contextlib.suppress(OSError):  # the server may be away
                    volunteer.step()
                return len(compute.computed) >= 8 * number

            wait_until(done, timeout=LIMIT, what=f"{8 * number} tasks to be done")
            victims.kill(whom, random.Random(1))
        volunteer.start()
        out, error = victims.master.communicate(timeout=LIMIT)
        assert victims.master.returncode == 0, error
        assert [int(word) for word in out.split()] == [2 * n for n in range(tasks)]
        assert sorted(set(compute.computed)) == list(range(tasks))
        assert sum(batch["jobs"] for batch in victims.server.control.batches()) == tasks // 2  # none was made twice


def certificate(folder: Path) -> Path:
    """For `localhost`, by nobody else; with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "localhost.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM) + plain)
    return path


@contextlib.contextmanager
def encrypted(port: int, certificate: Path) -> Iterator[int]:
    """A port for TLS in front of one without, as a web server would be."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop = asyncio.new_event_loop()
    ready: Future[tuple[int, asyncio.Event]] = Future()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, away = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, away), copy(there, writer))

    async def serve() -> None:
        over = asyncio.Event()
        server = await asyncio.start_server(join, "127.0.0.1", 0, ssl=context)
        async with server:
            ready.set_result((server.sockets[0].getsockname()[1], over))
            await over.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others, timeout=30) if others else None

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    found, over = ready.result(30)
    try:
        yield found
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def test_the_way_is_encrypted_and_the_server_known(
    alone: tuple[Project, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, _ = alone
    made = certificate(tmp_path)
    with encrypted(int(project.url.split(":")[2].strip("/")), made) as port:
        with pytest.raises(pymw.BackendError, match=r"certificate .* is not to be trusted.*SSL_CERT_FILE"):
            Master(f"boinc+https://localhost:{port}")
        monkeypatch.setenv("SSL_CERT_FILE", str(made))
        with (
            SimulatedVolunteer(project.url, project.account()).start(),
            Master(f"boinc+https://localhost:{port}") as master,
        ):
            assert master.submit(errands.double, 4).result(LIMIT) == 8


@pytest.mark.stock
def test_a_stock_client_works_for_somebody_far_away(alone: tuple[Project, str], need: Callable[..., None]) -> None:
    need("boinc", "boinccmd", "faketime")
    project, backend = alone
    with StockClient(speed=SPEED) as client, Master(backend) as master:
        client.attach(project.url, project.account())
        results = master.map(errands.double, range(8), chunksize=2, timeout=240)
        assert list(results) == list(range(0, 16, 2))
