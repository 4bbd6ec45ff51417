"""The client of remote job submission against answers as official servers give them, and against bad networks."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boincserver.errors import (
    BoincServerError,
    ConfigError,
    ControlError,
    ServerNotRunning,
    SubmissionRefused,
    UnusableUrl,
)
from boincserver.remote import RemoteServer, account_key
from boincserver.remote.replies import parse_reply
from boincserver.states import ErrorMask

KEY = "0123456789abcdef0123456789abcdef"

NOTICE = """<br />
<b>Deprecated</b>:  Creation of dynamic property BoincBatch::$x is deprecated in <b>/home/x/html/inc/db.inc</b> on line <b>12</b><br />
"""
HEAD = '<?xml version="1.0" encoding="ISO-8859-1" ?>\n'


def test_noise_of_html_within_xml_is_seen_through() -> None:
    text = f"{HEAD}{NOTICE}<submit_batch>\n{NOTICE}<batch_id>17</batch_id>\n        </submit_batch>\n{NOTICE}"
    assert parse_reply("submit_batch", text.encode(), "x").findtext("batch_id") == "17"


def test_tags_that_are_never_closed_hold_nothing() -> None:
    text = f"{HEAD}<abort_jobs>\n<aborted pi_1>\n<aborted pi_2>\n<success>1</success>\n        </abort_jobs>\n"
    assert parse_reply("abort_jobs", text.encode(), "x").findtext("success") == "1"


def test_a_reply_that_is_cut_off_after_what_matters() -> None:
    text = f"{HEAD}<query_batches>\n<batch><id>4</id><name>a&amp;b</name></batch>\n"
    reply = parse_reply("query_batches", text.encode(), "x")
    assert [batch.findtext("name") for batch in reply.findall("batch")] == ["a&b"]


def test_errors_in_every_form() -> None:
    inside = f"{HEAD}<create_batch>\n<error><error_num>-1</error_num><error_msg>no submit access</error_msg></error>\n"
    alone = f"{HEAD}<error>\n    <error_num>-1</error_num>\n    <error_msg>can't parse</error_msg>\n</error>\n"
    for text, words in ((inside, "no submit access"), (alone, "can't parse"), ("ERROR: no batch 7", "no batch 7")):
        with pytest.raises(SubmissionRefused, match=words):
            parse_reply("create_batch", text.encode(), "x")
    for text in ("", "<html><body>502 Bad Gateway</body></html>", "\x00\xff", "null"):
        with pytest.raises(ControlError, match="did not answer the call create_batch"):
            parse_reply("create_batch", text.encode("latin-1"), "x")


def test_a_warning_is_no_refusal() -> None:
    warning = (
        "<error>\n    <error_msg><![CDATA[Undefined array key <b>]]></error_msg>\n    <type>Warning</type></error>\n"
    )
    text = f"{HEAD}<create_batch>{warning}<batch_id>3</batch_id></create_batch>"
    assert parse_reply("create_batch", text.encode(), "x").findtext("batch_id") == "3"


def test_entities_are_never_expanded() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><ping><success>&b;</success></ping>'
    assert parse_reply("ping", bomb.encode(), "x").findtext("success") == "&b;"


@given(st.binary(max_size=300))
def test_whatever_comes_there_is_an_answer_or_an_error(body: bytes) -> None:
    for text in (body, b"<ping>" + body + b"</ping>", b"<ping><success>1</success>" + body):
        with contextlib.suppress(BoincServerError):
            assert parse_reply("ping", text, "x").tag in ("ping", "error")


# --- a server that behaves as it is told ----------------------------------------------------------------------------

Behaviour = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def odd_server(*behaviours: Behaviour) -> Iterator[tuple[str, list[str]]]:
    """Answers the first requests each in its own way, all later ones like the last; gives its URL and what was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(f"{self.command} {self.path} {body.decode('latin-1')}")
            behaviours[min(len(asked), len(behaviours)) - 1](self)

        do_GET = do_POST = handle_one

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/project", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def says(text: str, status: int = 200, **headers: str) -> Behaviour:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"content-length": str(len(text.encode())), "connection": "close", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(text.encode())

    return answer


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


PONG = says(f"{HEAD}<ping>\n<success>1</success>\n</ping>\n")
MADE = says(f"{HEAD}<create_batch>\n<batch_id>5</batch_id></create_batch>")


def test_what_may_be_asked_twice_is_asked_again() -> None:
    busy = says("busy", 503, retry_after="0")
    with odd_server(hangs_up, busy, hangs_up, PONG) as (url, asked):
        assert RemoteServer(url, KEY).ping() == ""
    assert len(asked) == 4
    assert asked[0].startswith("POST /project/submit_rpc_handler.php request=")


def test_what_may_not_be_asked_twice_is_not() -> None:
    with odd_server(hangs_up, MADE) as (url, asked):
        with pytest.raises(ServerNotRunning):
            RemoteServer(url, KEY).create_batch("app", "name")
    assert len(asked) == 1


def test_a_server_that_is_away_is_told_in_time() -> None:
    with odd_server(PONG) as (url, _):
        pass
    with pytest.raises(ServerNotRunning, match="does not answer"):
        RemoteServer(url, KEY, patience=0.3).ping()


def test_pages_that_are_not_the_interface() -> None:
    with odd_server(says("gone", 404), says("", 301, location="https://new.example.org/"), says("oh", 500)) as (url, _):
        server = RemoteServer(url, KEY, patience=0.1)
        for words in ("takes no remote jobs", "has moved to https://new.example.org/", "status 500: oh"):
            with pytest.raises(ControlError, match=words):
                server.ping()


def test_outputs_are_files_and_everything_else_is_an_error() -> None:
    file = says("ERROR: is how this file begins", content_disposition="attachment; filename=x")
    with odd_server(says("ERROR: no such file"), says("<html>bad command"), file) as (url, _):
        server = RemoteServer(url, KEY)
        for words in ("no such file", "bad command"):
            with pytest.raises(SubmissionRefused, match=words):
                server.output("job_0")
        assert server.output("job_0") == b"ERROR: is how this file begins"


def test_what_an_official_server_tells_of_a_batch() -> None:
    text = f"""{HEAD}<query_batch>{NOTICE}
        <id>3</id>
        <create_time>1766000000</create_time>
        <expire_time>0</expire_time>
        <est_completion_time>0</est_completion_time>
        <njobs>2</njobs>
        <fraction_done>0.5</fraction_done>
        <nerror_jobs>1</nerror_jobs>
        <state>1</state>
        <completion_time>0</completion_time>
        <credit_estimate>0</credit_estimate>
        <credit_canonical>0</credit_canonical>
        <name>first</name>
        <app_name>pymw</app_name>
        <job>
        <id>9</id>
        <name>pi_0</name>
        <canonical_instance_id>0</canonical_instance_id>
   <error>too_many_error_results</error>
   <error>cancelled</error>
            <exit_status>-197</exit_status>
            <status>error</status>
        </job>
        <job>
        <id>10</id>
        <name>pi_1</name>
        <canonical_instance_id>77</canonical_instance_id>
            <cpu_time>1.5</cpu_time>
            <status>done</status>
        </job>
</query_batch>
"""
    with odd_server(says(text)) as (url, _):
        told = RemoteServer(url, KEY).query_batch(3, details=True)
    assert (told.id, told.name, told.njobs, told.fraction_done, told.nerror_jobs) == (3, "first", 2, 0.5, 1)
    failed, done = told.jobs
    assert failed.errors == ErrorMask.TOO_MANY_ERROR_RESULTS | ErrorMask.CANCELLED
    assert (failed.exit_statuses, done.canonical, done.status) == ((-197,), 77, "done")


def test_text_is_escaped() -> None:
    with odd_server(MADE) as (url, asked):
        RemoteServer(url, KEY).create_batch("app", "a < b & \x00c")
    assert "a+%26lt%3B+b+%26amp%3B+%EF%BF%BDc" in asked[0]


def test_uploads_of_many_files_go_in_portions() -> None:
    absent = "".join(f"<file>{n}</file>" for n in range(45))
    query = says(f"<query_files><absent_files>{absent}</absent_files></query_files>")
    stored = says("<upload_files><success/></upload_files>")
    with odd_server(query, stored) as (url, asked):
        names = RemoteServer(url, KEY).put_files([f"file {n}".encode() for n in range(45)])
    assert len(names) == len(set(names)) == 45
    assert [text.count("filename=") for text in asked] == [0, 20, 20, 5]


# --- keys and addresses ---------------------------------------------------------------------------------------------


def test_the_key_of_an_account(tmp_path: Path) -> None:
    url = "https://boinc.example.org/pi/"
    assert account_key(url, {"BOINC_ACCOUNT_KEY": KEY}) == KEY
    path = tmp_path / "keys"
    environment = {"BOINC_ACCOUNT_KEYS": str(path)}
    with pytest.raises(ConfigError, match="BOINC_ACCOUNT_KEY, or write a line"):
        account_key(url, environment)
    path.write_text(f"https://other.example.org/ ffffffff\n{url.rstrip('/')} {KEY}\nhttps://bad.example.org/ nokey\n")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        account_key(url, environment)
    path.chmod(0o600)
    assert account_key(url, environment) == KEY
    with pytest.raises(ConfigError, match=r"has no line for https://third\.example\.org/"):
        account_key("https://third.example.org/", environment)
    with pytest.raises(ConfigError, match="holds no account key"):
        account_key("https://bad.example.org/", environment)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=rf"the account keys in {re.escape(str(path))} cannot be read: 'utf-8'"):
        account_key(url, environment)
    with pytest.raises(
        ConfigError, match=rf"the account keys in {re.escape(str(tmp_path))} cannot be read: .*directory"
    ):
        account_key(url, {"BOINC_ACCOUNT_KEYS": str(tmp_path)})


def test_a_key_never_travels_unencrypted() -> None:
    with pytest.raises(UnusableUrl, match="unencrypted"):
        RemoteServer("http://boinc.example.org/pi/", KEY)
    for url in ("http://localhost:1/", "http://127.0.0.1:1/", "http://[::1]:1/", "https://boinc.example.org/"):
        assert RemoteServer(url, KEY).url == url
    for url in (
        "ftp://x/",
        "boinc.example.org",
        "https://user@x/",
        "https:///",
        "https://x:99999/",
        "https://x:abc/",
        "https://[::1",
    ):
        with pytest.raises(UnusableUrl, match=re.escape(url)):
            RemoteServer(url, KEY)
