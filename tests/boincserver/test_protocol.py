"""Wire formats: real requests of the stock client as golden files, and a fuzzer over them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boincserver.protocol import documents, upload
from boincserver.protocol.reply import JobToSend, Message, SchedulerReply, format_reply
from boincserver.protocol.request import OutputFile, is_name, parse_request
from boincserver.testing.wire import Finished, RequestParts, format_request, parse_reply

CAPTURES = sorted((Path(__file__).parent / "captures").glob("*.xml"))


def capture(name: str) -> bytes:
    return (Path(__file__).parent / "captures" / f"{name}.req.xml").read_bytes()


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_every_capture_says_who_and_what(path: Path) -> None:
    request = parse_request(path.read_bytes())
    assert request.complete
    assert request.authenticator == "0123456789abcdef0123456789abcdef"
    assert request.platforms == ("x86_64-pc-linux-gnu",)
    assert request.client_version == (7, 20, 5)
    assert request.host.p_vendor == "AuthenticAMD"
    assert request.host.os_name == "Linux Debian"
    assert request.host.m_nbytes > 1e9
    assert request.preferences["ram_max_used_busy_pct"] == 95


def test_first_contact() -> None:
    request = parse_request(capture("first-contact"))
    assert (request.hostid, request.rpc_seqno, request.code_sign_key) == (0, 0, "")
    assert (request.cpu_req_secs, request.cpu_req_instances, request.wants_work) == (1.0, 0.0, True)
    assert request.results == () and request.other_results == ()


def test_a_success_with_another_job_under_way() -> None:
    request = parse_request(capture("success-with-other"))
    assert (request.hostid, request.rpc_seqno) == (1, 27)
    assert not request.wants_work
    assert request.other_results == ("te2_0",)
    (result,) = request.results
    assert (result.name, result.state, result.exit_status) == ("te1_0", 5, 0)
    assert result.cpu_time == 20.10277
    assert result.files == (OutputFile("te1_0_0", 8, "b77e16646df4b6ae0ccbec041b1ab9b6"),)
    assert result.stderr.startswith("<stderr_txt>\n04:37:25 (1842) supervisor up")
    assert "<text>\\n<hello/>" in result.stderr
    assert request.code_sign_key.startswith("1024\nd3921d07")


def test_two_failures() -> None:
    results = parse_request(capture("two-failures")).results
    assert [(r.name, r.state, r.exit_status, r.files) for r in results] == [
        ("lc1_0", 6, 203, ()),
        ("lc2_0", 6, 203, ()),
    ]
    assert "aborted by user" in results[0].stderr


def test_a_trickle() -> None:
    (trickle,) = parse_request(capture("trickle-up")).trickles
    assert (trickle.result_name, trickle.time, trickle.variety) == ("j1_1", 1795320322, "progress")
    assert "<i>8</i>" in trickle.text


NASTY = [
    "]]>",
    "</stderr_out>",
    "</result>",
    "</result>\n<result>",
    "<name>other_0</name>",
    "]]>\n</stderr_out>\n<exit_status>0</exit_status>",
    "\x00\x01\x1b[31m",
    '&#195;&#169; <!DOCTYPE x [<!ENTITY a "aaaa">]> &a;',
]


@pytest.mark.parametrize("text", NASTY)
def test_what_a_program_prints_does_not_break_its_report(text: str) -> None:
    finished = Finished("job_0", 3, 7, text, files=(("job_0_0", 5, "0" * 32),))
    body = format_request(RequestParts("k", 1, 1, "", "p", 1, 0, 0, "", [finished, Finished("b_0", 5, 0)], ["c_0"]))
    results = {result.name: result for result in parse_request(body).results}
    assert set(results) >= {"job_0", "b_0"}
    assert (results["job_0"].state, results["job_0"].exit_status) == (3, 7)
    assert results["job_0"].files[0].nbytes == 5


def test_bytes_of_a_program_are_restored() -> None:
    finished = Finished("job_0", 5, 0, "caf&#195;&#169; &#255; &lt; &#65;")
    body = format_request(RequestParts("k", 1, 1, "", "p", 1, 0, 0, "", [finished], []))
    assert "café \N{REPLACEMENT CHARACTER} &lt; &#65;" in parse_request(body).results[0].stderr


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_mutation_of_a_request_raises(data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from([path.read_bytes() for path in CAPTURES])))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(body)))
        cut = data.draw(st.integers(0, 300))
        body[at : at + cut] = data.draw(
            st.binary(max_size=30)
            | st.sampled_from([b"<result>\n", b"</result>\n", b"<", b"]]>", b"\xff", b"1e999", b"nan"])
        )
    request = parse_request(bytes(body))
    assert all(is_name(result.name) for result in request.results)
    assert all(0 <= result.cpu_time <= 1e10 for result in request.results)
    assert 0 <= request.hostid < 2**31


@given(st.binary(max_size=2000))
def test_no_bytes_raise(body: bytes) -> None:
    parse_request(body)
    upload.parse_header(body)


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a b", "x" * 255, "a..b", "<b>", "a'--", "a\n"])
def test_names_that_mean_something_elsewhere_are_none(name: str) -> None:
    assert not is_name(name)


def test_a_long_request_is_read_in_linear_time() -> None:
    for part in (b"<result>\n" * 20_000, b"<a>" * 50_000, b"<msg_from_host>\n" * 20_000, b"&#200;" * 50_000):
        parse_request(b"<scheduler_request>\n" + part + b"</scheduler_request>\n")


def test_reply_as_the_client_reads_it() -> None:
    job = JobToSend(
        result_name="wu_0",
        result_xml=documents.result_document(
            documents.template_for_copies(
                documents.output_template([documents.OutputSpec("sub/out", 77, copy=True)]), "http://h/up"
            ),
            "wu_0_rabc",
        ),
        workunit_name="wu",
        workunit_xml=documents.workunit_document(
            [documents.FileInfo("f1", "http://h/f1", "d" * 32, 3)], [documents.FileRef("f1", "in")], "--a 'b c' <&>"
        ),
        app_name="app",
        version_num=101,
        platform="p",
        plan_class="",
        report_deadline=99,
        rsc_fpops_est=1e9,
        rsc_fpops_bound=1e12,
        rsc_memory_bound=1e8,
        rsc_disk_bound=1e8,
    )
    app = "<app>\n<name>app</name>\n</app>\n" + documents.app_version_document(
        "app", 101, "p", "", "7.5.0",
        [documents.FileInfo("prog", "http://h/prog", "e" * 32, 9, "00\n.\n", executable=True)],
        [documents.FileRef("prog", "prog", main_program=True)],
    )  # fmt: skip
    text = format_reply(
        SchedulerReply(
            "Nom é",
            "http://h/",
            hostid=7,
            userid=1,
            user_name="A <b> & C",
            messages=(Message("1 < 2", "notice"),),
            acknowledged=("x_0",),
            aborted=("y_0",),
            app_documents=(app,),
            jobs=(job,),
            next_rpc_delay=5,
        )
    )
    assert all(len(line) < 256 for line in text.splitlines())
    reply = parse_reply(text)
    assert (reply.hostid, reply.acknowledged, reply.aborted) == (7, ("x_0",), ("y_0",))
    assert reply.messages == ("1 < 2",)
    (got,) = reply.assignments
    assert got.command_line == "--a 'b c' <&>"
    assert (got.outputs[0].file.name, got.outputs[0].file.max_nbytes) == ("wu_0_rabc_0", 77)
    assert (got.outputs[0].open_name, got.outputs[0].copy) == ("sub/out", True)
    assert got.program[0].main_program and got.program[0].file.executable
    assert documents.expected_outputs(job.result_xml)[0].max_nbytes == 77


def test_upload_headers() -> None:
    body = (
        b"<data_server_request>\n    <core_client_major_version>7</core_client_major_version>\n<file_upload>\n<file_info>\n"
        b"<name>a_0_r1_0</name>\n<xml_signature>\n00\n.\n</xml_signature>\n<max_nbytes>9</max_nbytes>\n</file_info>\n"
        b"<nbytes>6.000000</nbytes>\n<md5_cksum>" + b"a" * 32 + b"</md5_cksum>\n<offset>2</offset>\n<data>\n<data>"
    )
    for end in range(body.index(b"<data>\n") + 6):
        assert upload.parse_header(body[:end]) is None
    parsed = upload.parse_header(body)
    assert parsed is not None
    header, start = parsed
    assert header == upload.UploadHeader("a_0_r1_0", 6, 2, "a" * 32)
    assert body[start:] == b"<data>"
    assert upload.parse_header(b"x" * (upload.MAX_HEADER + 1)) == (None, 0)
    assert upload.parse_status(upload.format_reply(0, file_size=12)) == (0, 12)
