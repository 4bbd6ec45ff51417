"""Remote job submission: the official calls, as any client may send them, and what strangers must not achieve."""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import random
import re
import socket
import time
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from boincserver.control import AppFile, Control
from boincserver.errors import ServerNotRunning, SubmissionRefused
from boincserver.protocol.templates import FileUse, format_input_template
from boincserver.remote import Inline, RemoteJob, RemoteServer, server
from boincserver.remote.transport import Answer, Transport
from boincserver.states import BatchState, ErrorMask, Outcome, ValidateState
from boincserver.testing import SimulatedJob, SimulatedVolunteer, configure, serving, wait_until
from boincserver.testing.serving import ServerProcess

from .conftest import PLATFORM, make_project

EMAIL = "ada@example.org"
ONE = {"min_quorum": 1, "target_nresults": 1}
OUTPUT = (
    "<output_template><file_info><name><OUTFILE_0/></name><generated_locally/><upload_when_present/>"
    "<max_nbytes>1e6</max_nbytes><url><UPLOAD_URL/></url></file_info>"
    "<result><file_ref><file_name><OUTFILE_0/></file_name><open_name>out</open_name></file_ref></result></output_template>"
)


def shout(job: SimulatedJob) -> dict[str, bytes]:
    if job.inputs["in"] == b"fail":
        raise RuntimeError("it < would & not ]]> work")
    return {"out": job.inputs["in"].upper()}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("submission") / "project"
    make_project(directory)
    with serving(directory) as server:
        program = directory.parent / "upper.sh"
        program.write_text("#!/bin/sh\n")
        server.control.ensure_app("upper")
        server.control.ensure_app_version("upper", PLATFORM, None, [AppFile(program, "upper.sh", main_program=True)])
        yield server


@pytest.fixture(scope="module")
def control(running: ServerProcess) -> Control:
    return running.control


@pytest.fixture(scope="module")
def url(control: Control) -> str:
    return control.info().url


@pytest.fixture(scope="module")
def key(control: Control) -> str:
    key = control.create_account(EMAIL)
    control.grant(EMAIL, "upper")
    return key


@pytest.fixture
def remote(url: str, key: str) -> Iterator[RemoteServer]:
    server = RemoteServer(url, key)
    yield server
    server.close()


@pytest.fixture
def volunteer(url: str, control: Control) -> Iterator[SimulatedVolunteer]:
    with SimulatedVolunteer(url, control.create_account("v@example.org"), shout, ncpus=8) as volunteer:
        yield volunteer


def post(url: str, page: str, request: str, **more: str) -> bytes:
    """As curl would."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    try:
        body = urlencode({"request": request, **more})
        connection.request("POST", f"/{page}", body, {"Content-Type": "application/x-www-form-urlencoded"})
        return connection.getresponse().read()
    finally:
        connection.close()


def call(url: str, request: str, page: str = "submit_rpc_handler.php") -> ET.Element:
    return ET.fromstring(post(url, page, request))


def job(name: str, file: str | Inline, **limits: float) -> RemoteJob:
    template = format_input_template([FileUse("in")], "", ONE | limits)
    return RemoteJob(name, [file], input_template=template, output_template=OUTPUT)


def work_off(volunteer: SimulatedVolunteer) -> None:
    while volunteer.step() or volunteer.finished:
        pass


def test_the_whole_way(remote: RemoteServer, control: Control, volunteer: SimulatedVolunteer) -> None:
    batch = remote.create_batch("upper", "whole way")
    assert remote.query_batch("whole way").state is BatchState.INIT
    names = remote.put_files([b"one", b"two", "é".encode()], batch)
    assert names[0] == f"jf_{hashlib.md5(b'one').hexdigest()}"
    assert remote.absent_files([*names, "jf_" + 32 * "0"]) == ["jf_" + 32 * "0"]
    jobs = [job(f"way_{n}", name) for n, name in enumerate(names)] + [job("way_3", Inline("<text> & more"))]
    assert remote.submit_batch("upper", jobs, batch) == batch
    told = remote.query_batch(batch, details=True)
    assert (told.state, told.njobs, told.fraction_done, told.app_name) == (BatchState.IN_PROGRESS, 4, 0.0, "upper")
    assert {each.status for each in told.jobs} == {"queued"}
    assert control.batches()[-1]["name"] == "whole way"
    assert remote.job_counts()["results_ready_to_send"] == 4

    volunteer.contact()
    assert {each.status for each in remote.query_batch(batch, details=True).jobs} == {"in_progress"}
    work_off(volunteer)
    told = remote.query_batch(batch, details=True, cpu_time=True)
    assert (told.state, told.fraction_done, told.nerror_jobs, told.total_cpu_time) == (BatchState.COMPLETE, 1.0, 0, 4.0)
    assert [batch.name for batch in remote.query_batches()] == ["whole way"]
    outputs = []
    for each in told.jobs:
        (copy,) = remote.query_job(each.id)
        assert copy.outcome == (Outcome.SUCCESS, ValidateState.VALID)
        assert (copy.id, copy.name, copy.host) == (each.canonical, each.canonical_name, volunteer.hostid)
        outputs.append(remote.output(copy.name))
        assert copy.sizes == (len(outputs[-1]),)
    assert outputs == [b"ONE", b"TWO", "é".encode().upper(), b"<TEXT> & MORE"]
    with zipfile.ZipFile(io.BytesIO(remote.batch_archive(batch))) as archive:
        assert archive.read("way_1_0/out") == b"TWO"
    ended = remote.query_completed_job("way_0")
    assert (ended.error_mask, ended.exit_status, ended.result) == (ErrorMask.NONE, 0, told.jobs[0].canonical)

    remote.retire_batch(batch)
    assert remote.query_batches() == []

    def gone() -> bool:
        try:
            remote.output(told.jobs[0].canonical_name)
        except SubmissionRefused as error:
            return "no such file" in str(error)
        return False

    wait_until(gone, timeout=60, what="files to be deleted")


def test_a_failed_job_tells_why(remote: RemoteServer, volunteer: SimulatedVolunteer) -> None:
    batch = remote.submit_batch("upper", [job("failing", Inline("fail"), max_error_results=0)], "will fail")
    work_off(volunteer)
    told = remote.query_batch(batch, details=True)
    assert (told.state, told.nerror_jobs, told.fraction_done) == (BatchState.COMPLETE, 1, 1.0)
    assert told.jobs[0].errors == ErrorMask.TOO_MANY_ERROR_RESULTS
    assert (told.jobs[0].status, told.jobs[0].exit_statuses) == ("error", (1,))
    ended = remote.query_completed_job("failing")
    assert ended.exit_status == 1
    assert "it < would & not ]]> work" in ended.stderr
    assert remote.query_job(told.jobs[0].id)[0].state == "Error while computing"
    with pytest.raises(SubmissionRefused, match=r"no canonical result|no such"):
        remote._download({"cmd": "workunit_file", "wu_name": "failing", "file_num": 0, "auth_str": remote._key})


def test_ending_batches_and_jobs(remote: RemoteServer, volunteer: SimulatedVolunteer) -> None:
    batch = remote.submit_batch("upper", [job(f"end_{n}", Inline(f"text {n}")) for n in range(4)], "to end")
    volunteer.contact(seconds=1, instances=1)
    (held,) = volunteer.held
    remote.abort_jobs([held.rpartition("_")[0], "end_3"])
    volunteer.contact(seconds=0, instances=0)
    assert volunteer.held == {}
    assert remote.query_batch(batch).nerror_jobs == 2
    remote.abort_batch(batch)
    told = remote.query_batch(batch, details=True)
    assert (told.state, told.nerror_jobs) == (BatchState.ABORTED, 4)
    assert all(each.errors == ErrorMask.CANCELLED for each in told.jobs)
    remote.retire_batch("to end")


def test_a_batch_expires_when_it_is_told_to(remote: RemoteServer) -> None:
    batch = remote.create_batch("upper", "brief", expire_time=time.time() + 3600)
    remote.submit_batch("upper", [job("brief_0", Inline("x"))], batch)
    assert remote.query_batch(batch).expire_time == pytest.approx(time.time() + 3600, abs=60)
    remote.set_expire_time(batch, time.time() - 1)
    wait_until(lambda: "brief" not in [b.name for b in remote.query_batches()], timeout=30, what="the batch to expire")


def test_bulk(remote: RemoteServer) -> None:
    jobs = [job(f"bulk_{n}", Inline("same text for all")) for n in range(2000)]
    batch = remote.submit_batch("upper", jobs, "bulk")
    assert remote.query_batch(batch).njobs == 2000
    reply = remote._call("query_batch2", "<batch_name>bulk</batch_name>", again=True)
    assert reply.findtext("batch_size") == "2000"
    assert {each.findtext("status") for each in reply.findall("job")} == {"UNSENT"}
    assert remote.estimate_batch("upper", [1e12, 2e12]) > 0
    remote.retire_batch(batch)


def test_templates_of_the_application(
    remote: RemoteServer, running: ServerProcess, volunteer: SimulatedVolunteer
) -> None:
    folder = running.directory / "templates"
    (folder / "upper_in").write_text(format_input_template([FileUse("in", copy=True)], "--from-template", ONE))
    (folder / "upper_out").write_text(OUTPUT)
    try:
        templates = remote._call("get_templates", "<app_name>upper</app_name>", again=True)[0]
        assert [child.tag for child in templates] == ["input_template", "output_template"]
        batch = remote.submit_batch("upper", [RemoteJob("by_template", [Inline("abc")])], "by template")
        volunteer.contact()
        (held,) = volunteer.held.values()
        assert held.command_line == "--from-template"
        work_off(volunteer)
        (told,) = remote.query_batch(batch).jobs
        assert remote.output(told.canonical_name) == b"ABC"
        with pytest.raises(SubmissionRefused, match="both the job and its template have a command_line"):
            remote.submit_batch("upper", [RemoteJob("twice", [Inline("abc")], "--own")], "twice")
        with pytest.raises(SubmissionRefused, match=r"wrong # of input files for job 0: need 1, got 0"):
            remote.submit_batch("upper", [RemoteJob("none")], "none")
    finally:
        (folder / "upper_in").unlink()
        (folder / "upper_out").unlink()


# --- forms, as they stand in the official interface -----------------------------------------------------------------


def test_replies_have_the_official_form(url: str, key: str) -> None:
    assert call(url, "<ping></ping>").findtext("success") == "1"
    refused = call(url, "<query_batches><authenticator>0000</authenticator></query_batches>")
    assert (refused.tag, refused.findtext("error/error_num")) == ("query_batches", "-1")
    assert refused.findtext("error/error_msg") == "bad authenticator"
    assert call(url, "no XML at all").tag == "error"
    assert "no such action" in call(url, "<mine></mine>").findtext("error/error_msg")
    made = call(url, f"<create_batch><authenticator>{key}</authenticator><app_name>upper</app_name></create_batch>")
    assert made.findtext("batch_id").isdecimal()
    told = call(url, f"<query_batch><authenticator>{key}</authenticator>{ET.tostring(made[0]).decode()}</query_batch>")
    assert [child.tag for child in told] == [
        "id", "create_time", "expire_time", "est_completion_time", "njobs", "fraction_done", "nerror_jobs", "state",
        "completion_time", "credit_estimate", "credit_canonical", "name", "app_name",
    ]  # fmt: skip


def test_allocation_priority_makes_whoever_asks_for_much_wait(remote: RemoteServer, url: str, key: str) -> None:
    def submit(name: str) -> int:
        one = job(name, Inline("x"), rsc_fpops_est=1e15)
        text = f"<job><name>{name}</name>{one.input_template}{one.output_template}<input_file><mode>inline</mode><source>x</source></input_file></job>"
        request = f"<submit_batch><authenticator>{key}</authenticator><batch><app_name>upper</app_name><batch_name>{name}</batch_name><allocation_priority/>{text}</batch></submit_batch>"
        return int(call(url, request).findtext("batch_id"))

    first, second = submit("allocated_1"), submit("allocated_2")
    assert first < second
    remote.retire_batch(first)
    remote.retire_batch(second)


# --- what must not be possible --------------------------------------------------------------------------------------


def test_rights(url: str, control: Control, remote: RemoteServer) -> None:
    stranger = RemoteServer(url, control.create_account("eve@example.org"))
    try:
        with pytest.raises(SubmissionRefused, match="no file access"):
            stranger.query_batches()
        control.ensure_app("other", validator="trivial")
        control.grant("eve@example.org", "other", max_jobs=2)
        with pytest.raises(SubmissionRefused, match="no submit access to upper"):
            stranger.create_batch("upper", "mine")
        with pytest.raises(SubmissionRefused, match="no app named nothing"):
            stranger.create_batch("nothing", "mine")
        with pytest.raises(SubmissionRefused, match="limit on jobs in progress"):
            stranger.submit_batch("other", [job(f"eve_{n}", Inline("x")) for n in range(3)], "eve")
        with pytest.raises(SubmissionRefused, match="limit on jobs in progress"):
            stranger.submit_batch("other", [job("eve", Inline("x"), target_nresults=3)], "eve")
        batch = remote.submit_batch("upper", [job("ada_0", Inline("x"))], "ada")
        number = remote.query_batch(batch).jobs[0].id
        for ask in (
            lambda: stranger.query_batch(batch), lambda: stranger.query_job(number), lambda: stranger.abort_batch(batch),
            lambda: stranger.retire_batch(batch), lambda: stranger.abort_jobs(["ada_0"]),
            lambda: stranger.query_completed_job("ada_0"), lambda: stranger.put_files([b"x"], batch),
            lambda: stranger.set_expire_time(batch, 1), lambda: stranger.submit_batch("other", [], batch),
            lambda: stranger.batch_archive(batch), lambda: stranger.output("ada_0_0"),
        ):  # fmt: skip
            with pytest.raises(SubmissionRefused, match=r"not owner|bad authenticator"):
                ask()
        with pytest.raises(SubmissionRefused, match="there is a job ada_0"):
            stranger.submit_batch("other", [job("ada_0", Inline("mine"))], "eve")
        assert control.rights() == [
            {"email": EMAIL, "apps": ["upper"], "max_jobs_in_progress": 0},
            {"email": "eve@example.org", "apps": ["other"], "max_jobs_in_progress": 2},
        ]
        control.revoke("eve@example.org")
        with pytest.raises(SubmissionRefused, match="no file access"):
            stranger.query_batches()
        remote.retire_batch(batch)
    finally:
        stranger.close()


def test_a_key_that_only_lets_hosts_join_does_not_submit(url: str, key: str, running: ServerProcess) -> None:
    from boincserver import accounts
    from boincserver.project import Project

    database = Project.open(running.directory).open_database()
    weak = accounts.authenticate(database.reader(), key).weak_authenticator
    database.close()
    server = RemoteServer(url, weak)
    with pytest.raises(SubmissionRefused, match="bad authenticator"):
        server.query_batches()
    server.close()


@pytest.mark.parametrize(
    "name",
    ["../../keys/code_sign_private", "/etc/passwd", ".hidden", "a" * 300, "a b", "0" * 40, "jf_x/..", "a..b", ""],
)
def test_names_of_files_that_lead_elsewhere_are_refused(remote: RemoteServer, name: str) -> None:
    with pytest.raises(SubmissionRefused, match="bad filename"):
        remote.absent_files([name])
    with pytest.raises(SubmissionRefused, match="bad filename"):
        remote._send([(name, b"content")], 0)
    with pytest.raises(SubmissionRefused, match=r"cannot name a file|there is no file"):
        remote.submit_batch("upper", [job("leads", name)], f"leads {len(name)}")


def test_a_file_never_changes(remote: RemoteServer) -> None:
    remote._send([("parameters.txt", b"first")], 0)
    remote._send([("parameters.txt", b"first")], 0)
    with pytest.raises(SubmissionRefused, match="file immutability violation for parameters"):
        remote._send([("parameters.txt", b"second")], 0)
    with pytest.raises(SubmissionRefused, match="its MD5 is"):
        remote._send([("jf_" + 32 * "1", b"poison")], 0)


def test_a_large_file_goes_on_where_it_broke_off(
    remote: RemoteServer, url: str, running: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PART", 100_000)
    large = tmp_path / "large"
    large.write_bytes(random.Random(1).randbytes(1_050_000))
    asked: list[int] = []
    request = Transport.request

    def breaks(self: Transport, method: str, page: str, body: object = None, headers: object = None, **more: object) -> Answer:  # fmt: skip
        if callable(body):
            asked.append(sum(map(len, body())))
            if len(asked) == 5:
                raise ServerNotRunning("the cable was pulled")
        return request(self, method, page, body, headers, **more)

    monkeypatch.setattr(Transport, "request", breaks)
    with pytest.raises(ServerNotRunning):
        remote.put_files([large])
    assert remote.absent_files([server.name_of(large)])
    (name,) = remote.put_files([large])
    assert len(asked) == 5 + 7  # four parts had arrived
    assert remote.absent_files([name]) == []
    assert max(asked) < 102_000
    parts = list((running.directory / "download").glob(".incoming*"))
    assert parts == []
    found = list((running.directory / "download").glob(f"*/{name}"))
    assert [path.read_bytes() for path in found] == [large.read_bytes()]


def part(remote: RemoteServer, name: str, content: bytes, nbytes: int, offset: int = 0) -> int:
    about = f"<phys_name>{name}</phys_name><nbytes>{nbytes}</nbytes><offset>{offset}</offset>"
    form = server._Form(remote._request_text("upload_part", about), [("part", content)])
    reply = remote._post("upload_part", "job_file.php", form.pieces, form.headers, again=True)
    return int(reply.findtext("size"))


def test_parts_that_do_not_belong_together(remote: RemoteServer, running: ServerProcess) -> None:
    content = b"first second"
    name = server.name_of(content)
    assert part(remote, name, b"first ", 12) == 6
    assert part(remote, name, b"first ", 12) == 6  # sent twice: it is not the next any more
    assert part(remote, name, b"d", 12, 99) == 6
    with pytest.raises(SubmissionRefused, match="longer than the file"):
        part(remote, name, b"second and more", 12, 6)
    assert part(remote, name, b"", 12, 6) < 12
    with pytest.raises(SubmissionRefused, match="is no file with this content"):
        part(remote, name, b"other!", 12, 6)
    assert part(remote, name, content, 12) == 12
    assert part(remote, name, b"anything", 12) == 12  # it is there
    for bad in ("../x", "free.txt", "jf_" + 32 * "g"):
        with pytest.raises(SubmissionRefused, match=r"bad filename|comes in parts is called"):
            part(remote, bad, b"x", 1)
    for size in (0, -1, 1 << 50):
        with pytest.raises(SubmissionRefused, match=r"larger than|must be"):
            part(remote, "jf_" + 32 * "2", b"x", size)
    for number in range(20):
        part(remote, f"jf_{number:032x}", b"x", 2)
    with pytest.raises(SubmissionRefused, match="20 files of this account are not complete"):
        part(remote, f"jf_{20:032x}", b"x", 2)
    for path in (running.directory / "download").glob(".incoming*"):
        os.utime(path, (0, 0))
    assert part(remote, f"jf_{20:032x}", b"x", 2) == 1  # old ones are given up
    assert len(list((running.directory / "download").glob(".incoming*"))) == 1


def test_files_and_names_must_be_as_many(remote: RemoteServer) -> None:
    text = remote._request_text("upload_files", "<phys_name>a1</phys_name><phys_name>a2</phys_name>")
    from boincserver.remote.server import _Form

    for files in ([("a1", b"x")], [("a1", b"x"), ("a2", b"y"), ("a3", b"z")]):
        form = _Form(text, files)
        with pytest.raises(SubmissionRefused, match=r"doesn't agree|more files than"):
            remote._post("upload_files", "job_file.php", form.pieces, form.headers, again=True)
    assert remote.absent_files(["a1", "a2"]) == ["a1", "a2"]


@pytest.mark.parametrize("mode", ["local", "semilocal", "sandbox", "remote", "odd"])
def test_no_file_of_the_server_and_no_url_is_read_for_a_stranger(url: str, key: str, mode: str) -> None:
    one = job("reads", "x")
    text = f"<job><name>reads</name>{one.input_template}{one.output_template}<input_file><mode>{mode}</mode><source>/etc/passwd</source></input_file></job>"
    request = f"<submit_batch><authenticator>{key}</authenticator><batch><app_name>upper</app_name>{text}</batch></submit_batch>"
    assert f"unsupported file mode: {mode}" in call(url, request).findtext("error/error_msg")


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><ping>&b;</ping>'
FILE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><ping>&a;</ping>'


@pytest.mark.parametrize(
    "text", [BOMB, FILE, "<ping", "<ping>" * 5000, "\0", "<ping>&#0;</ping>", "<a:ping xmlns:a='x'/>"]
)
def test_hostile_xml_gets_an_error_and_nothing_else(url: str, text: str) -> None:
    answer = post(url, "submit_rpc_handler.php", text)
    assert ET.fromstring(answer).find(".//error_msg") is not None
    assert b"root:" not in answer


def test_limits_that_make_no_sense_are_refused(remote: RemoteServer) -> None:
    for limits, words in (
        ({"min_quorum": 0}, "min_quorum is a whole number from 1"),
        ({"delay_bound": 1}, "delay_bound"),
        ({"rsc_fpops_est": float("inf")}, "cannot be inf"),
        ({"rsc_memory_bound": float("nan")}, "cannot be nan"),
        ({"priority": 1e12}, "cannot be 1"),
    ):
        with pytest.raises(SubmissionRefused, match=re.escape(words)):
            remote.submit_batch("upper", [job("senseless", Inline("x"), **limits)], f"senseless {words}")


def test_a_request_that_is_too_long_is_refused(url: str, control: Control, tmp_path: Path) -> None:
    directory = tmp_path / "project"
    made = make_project(directory)
    configure(directory, max_request_bytes=20000, max_file_bytes=1000, max_jobs=5)
    with serving(directory) as server:
        key = server.control.create_account(EMAIL)
        server.control.ensure_app("upper")
        server.control.grant(EMAIL, "all")
        remote = RemoteServer(made.config.url, key)
        try:
            assert b"longer than 20000 bytes" in post(made.config.url, "submit_rpc_handler.php", "x" * 100_000)
            with pytest.raises(SubmissionRefused, match="larger than the 1000 bytes"):
                remote.put_files([b"x" * 1001])
            with pytest.raises(SubmissionRefused, match="6 jobs are more than the 5"):
                remote.submit_batch("upper", [job(f"j{n}", Inline("x")) for n in range(6)], "many")
            assert list((directory / "download").glob(".incoming*")) == []
        finally:
            remote.close()


def test_a_strangers_large_call_is_not_taken_apart(url: str, remote: RemoteServer) -> None:
    """Its elements took thirty times its size, before the key was looked at."""
    text = f"<query_batches>{'<a/>' * 100_000}<authenticator>{'0' * 32}</authenticator></query_batches>"
    for request in (text, f"<query_batches>{'<a/>' * 100_000}"):
        assert b" authenticator</error_msg>" in post(url, "submit_rpc_handler.php", request)


def test_slow_strangers_take_nobodys_place(url: str, remote: RemoteServer) -> None:
    parts = urlsplit(url)
    head = (
        "POST /submit_rpc_handler.php HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        "Content-Length: 100000\r\n\r\nrequest="
    )
    with ExitStack() as stack:
        for _ in range(10):
            slow = stack.enter_context(socket.create_connection((parts.hostname or "", parts.port or 80), timeout=60.0))
            slow.sendall(head.encode())
        remote.query_batches()  # answers


def test_who_guesses_keys_is_made_to_wait(tmp_path: Path) -> None:
    made = make_project(tmp_path / "project")
    with serving(tmp_path / "project"):
        request = "<query_batches><authenticator>0123</authenticator></query_batches>"
        answers = [post(made.config.url, "submit_rpc_handler.php", request) for _ in range(25)]
    assert b"bad authenticator" in answers[0]
    assert b"try again in a minute" in answers[-1]
