"""Strangers: broken, huge, slow, forged and repeated requests, and texts that mean something to XML, SQL, HTML or paths."""

from __future__ import annotations

import asyncio
import random
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from boincserver import project
from boincserver.body import PatientProtocol, read
from boincserver.control import Control, Job
from boincserver.http_server import HttpServer, listener
from boincserver.protocol.request import parse_request
from boincserver.states import Outcome
from boincserver.testing import SimulatedJob, SimulatedVolunteer, configure, free_port, serving, wait_until
from boincserver.testing.serving import ServerProcess
from boincserver.testing.wire import Finished, RequestParts, format_request, format_upload, parse_reply

from .conftest import PLATFORM, add_app

CAPTURES = [path.read_bytes() for path in sorted((Path(__file__).parent / "captures").glob("*.xml"))]


def shout(job: SimulatedJob) -> dict[str, bytes]:
    return {"out": job.inputs["in"].upper()}


@pytest.fixture
def volunteer(control: Control, upper: str, url: str) -> Iterator[SimulatedVolunteer]:
    with SimulatedVolunteer(url, control.create_account("v@example.org"), shout, ncpus=4) as one:
        yield one


def held(control: Control, volunteer: SimulatedVolunteer, **options: object) -> str:
    """The name of a result that the volunteer holds."""
    batch = control.create_batch("upper", "b")
    control.create_jobs(batch.id, [Job("j0", {"in": b"text"}, {"out": 20_000}, **options)])  # type: ignore[arg-type]
    volunteer.contact()
    (name,) = volunteer.held
    return name


def memory(server: ServerProcess) -> int:
    """Bytes that the server has in memory."""
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096


# --- broken -----------------------------------------------------------------------------------------------------------


def raw(url: str, data: bytes, timeout: float = 60.0) -> bytes:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=timeout) as connection:
        try:
            connection.sendall(data)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        except (ConnectionResetError, BrokenPipeError):
            return b""
        return answer


def post(path: str, body: bytes) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )


def test_mutations_of_real_requests_never_make_a_500(server: ServerProcess, upper: str, url: str) -> None:
    chance = random.Random(7)
    key = server.control.create_account("v@example.org").encode()
    pieces = [
        b"<result>\n",
        b"</result>\n",
        b"]]>",
        b"\xff\xfe",
        b"<!ENTITY a 'b'>",
        b"&a;",
        b"%s",
        b"' OR 1=1 --",
        b"9" * 400,
        b"\0",
    ]
    for _ in range(150):
        body = bytearray(chance.choice(CAPTURES).replace(b"0123456789abcdef0123456789abcdef", key))
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(body))
            body[at : at + chance.choice([0, 0, 1, 30, 2000])] = chance.choice(pieces)
        answer = raw(url, post("/scheduler", bytes(body)))
        assert answer.startswith(b"HTTP/1.1 200"), answer[:300]
        assert b"<scheduler_reply>" in answer
    assert "Traceback" not in server.log.read_text()


def test_a_flood_of_messages_costs_what_they_are_and_no_more(control: Control, url: str, upper: str) -> None:
    """Each was compared with all others of the host, while everybody else waited."""
    key = control.create_account("v@example.org")
    trickles = [
        f"<msg_from_host>\n<result_name>r_{n}</result_name>\n<time>1</time>\n<variety>odd</variety>\n<text>{n}</text>\n"
        "</msg_from_host>\n"
        for n in range(5000)
    ]
    parts = RequestParts(key, 0, 0, "a" * 32, PLATFORM, 1, 0.0, 0.0, "", [], [], trickles)
    assert len(parse_request(format_request(parts)).trickles) == 1000
    for _ in range(2):  # the reply was lost
        assert b"<message_ack/>" in raw(url, post("/scheduler", format_request(parts)))
    with closing(sqlite3.connect(control.directory / "database.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM msg_from_host").fetchall() == [(1000,)]


def test_who_says_that_it_holds_more_than_any_host_does_is_not_believed() -> None:
    held = "".join(f"<other_result>\n<name>r_{n}</name>\n</other_result>\n" for n in range(20_001))
    body = f"<scheduler_request>\n<other_results>\n{held}</other_results>\n</scheduler_request>\n".encode()
    assert parse_request(body).other_results is None


def test_large_requests_at_once_take_no_more_than_there_is_room_for(server: ServerProcess, url: str) -> None:
    parts = urlsplit(url)
    body = b"x" * (15 << 20)

    def begun() -> socket.socket:
        """A request of which the end does not come."""
        connection = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=60.0)
        connection.sendall(post("/scheduler", body + b"x" * 1000)[:-1000])
        return connection

    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(begun())
        wait_until(lambda: memory(server) > 60 << 20, timeout=60.0, what="the four to be there")

        def refused() -> bool:
            raw(url, post("/scheduler", body))  # which may lose the answer: it comes while the body is still being sent
            return "status=503" in server.log.read_text()

        wait_until(refused, timeout=60.0, what="a fifth to be told to come again")
        assert raw(url, post("/scheduler", b"<scheduler_request>\n</scheduler_request>\n")).startswith(b"HTTP/1.1 200")
    wait_until(lambda: raw(url, post("/scheduler", body)).startswith(b"HTTP/1.1 200"), timeout=60.0, what="room again")


ODD_PATHS = [
    "/download/../../project.toml",
    "/download/..%2f..%2fproject.toml/x",
    "/download/0/..%2f..%2fproject.toml",
    "/download/0/.." + "%2f" * 3 + "etc%2fpasswd",
    "/download/0/" + "a" * 5000,
    "/download/0/%00",
    "/lookup_account.php?email_addr=' OR 1=1 --&passwd_hash=x",
    "/lookup_account.php?email_addr=%00&passwd_hash=" + "f" * 32,
    "/create_account.php?email_addr=a%40b.org&passwd_hash=zz&user_name=x",
    "/create_account.php?email_addr=<b>%40b.org&passwd_hash=" + "f" * 32,
    "/create_account.php",
    "/scheduler",
    "/nothing",
]


def test_odd_addresses_are_refused_calmly(server: ServerProcess, url: str) -> None:
    for path in ODD_PATHS:
        answer = raw(url, f"GET {path.replace(' ', '%20')} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        code = answer.split()[1]
        assert code in (b"200", b"400", b"404", b"405"), answer[:300]
        assert b"name = " not in answer and b"root:" not in answer
        if code == b"200":
            assert b"<error_num>-" in answer
    assert "Traceback" not in server.log.read_text()


def test_half_a_request_changes_nothing(control: Control, url: str, upper: str) -> None:
    key = control.create_account("v@example.org").encode()
    body = (Path(__file__).parent / "captures" / "first-contact.req.xml").read_bytes()
    body = body.replace(b"0123456789abcdef0123456789abcdef", key)
    answer = raw(url, post("/scheduler", body[: len(body) // 2]))
    assert b"only a part" in answer
    assert control.hosts() == []


def test_mutations_of_uploads_never_make_a_500(control: Control, volunteer: SimulatedVolunteer) -> None:
    chance = random.Random(8)
    name = held(control, volunteer)
    output = volunteer.held[name].outputs[0].file
    whole = format_upload(output.name, b"text" * 100)
    pieces = [
        b"<data>\n",
        b"</file_info>",
        b"-1",
        b"9" * 400,
        b"\0\xff",
        b"../../",
        b"<offset>7</offset>\n",
        b"nan",
        b"",
    ]
    for _ in range(150):
        body = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(300)
            body[at : at + chance.choice([0, 1, 30, 200])] = chance.choice(pieces)
        answer = raw(output.urls[0], post("/file_upload_handler", bytes(body)))
        assert answer.startswith(b"HTTP/1.1 200") and b"<status>" in answer, answer[:300]
    volunteer.work(name)
    volunteer.contact(seconds=0, instances=0)
    assert control.outcomes(1)[0].outputs["out"] == b"TEXT"
    assert [path.name for path in (control.directory / "upload").rglob("*") if path.is_file()] == [output.name]


PRINTED = [
    "]]>\n</stderr_out>\n</result>\n and on",
    "]]>\n</stderr_out>\n<exit_status>0</exit_status>\n<state>5</state>\n]]>",
    "<result>\n<name>j0_0</name>\n<exit_status>0</exit_status>\n<state>5</state>\n</result>\n.",
]


def test_what_a_program_prints_is_kept_and_means_nothing(control: Control, volunteer: SimulatedVolunteer) -> None:
    name = held(control, volunteer, max_error_results=0)
    del volunteer.held[name]
    volunteer.finished[name] = Finished(name, 3, 7, "\n".join(PRINTED))
    volunteer.contact(seconds=0, instances=0)
    (outcome,) = control.outcomes(1)
    (attempt,) = outcome.attempts
    assert (attempt.outcome, attempt.exit_status) == (Outcome.CLIENT_ERROR, 7)
    assert attempt.stderr == "\n".join(PRINTED)


BOMB = "<!DOCTYPE b [<!ENTITY a0 'ha'>" + "".join(f"<!ENTITY a{n} '&a{n - 1};&a{n - 1};'>" for n in range(1, 40)) + "]>"


def test_entities_stay_what_they_are(server: ServerProcess, upper: str, url: str) -> None:
    key = server.control.create_account("v@example.org")
    before = memory(server)
    body = request(key, domain_name="&a39;").decode()
    bomb = f'<?xml version="1.0"?>\n{BOMB}\n{body}&a39;\n<!ENTITY x SYSTEM "file:///etc/passwd">'
    answer = raw(url, post("/scheduler", bomb.encode()))
    assert b"<scheduler_reply>" in answer and b"root:" not in answer
    assert [host.domain_name for host in server.control.hosts()] == ["&a39;"]
    assert memory(server) < before + 20e6


def request(key: str, hostid: int = 0, seqno: int = 0, results: list[Finished] | None = None, **more: object) -> bytes:
    parts = RequestParts(
        key, hostid, seqno, "0" * 32, "x86_64-pc-linux-gnu", 4, 0.0, 0.0, "", results or [], [], **more  # type: ignore[arg-type]
    )  # fmt: skip
    return format_request(parts)


# --- huge and slow ----------------------------------------------------------------------------------------------------


def test_a_request_of_a_gigabyte_is_cut_off(control: Control, server: ServerProcess, upper: str, url: str) -> None:
    start = b"POST /scheduler HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    told = start + b"Content-Length: 1000000000\r\n\r\n" + b"x" * (17 << 20)
    untold = start + b"Transfer-Encoding: chunked\r\n\r\n" + (b"100000\r\n" + b"x" * 0x100000 + b"\r\n") * 17
    for data in (told, untold):
        answer = raw(url, data)
        assert answer == b"" or b"413" in answer
    with SimulatedVolunteer(url, control.create_account("v@example.org"), shout) as volunteer:
        output = volunteer.held[held(control, volunteer)].outputs[0].file
        head = format_upload(output.name, b"").replace(b"<nbytes>0.000000", b"<nbytes>1000000000")
        path = urlsplit(output.urls[0]).path.encode()
        start = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000000000\r\n\r\n"
        answer = raw(url, start + head + b"x" * (1 << 20))
        assert answer == b"" or b"<status>-1<" in answer
    assert memory(server) < 400e6


def test_a_head_without_an_end_is_cut_off(server: ServerProcess, url: str) -> None:
    assert raw(url, b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 1000_000) == b""
    assert raw(url, b"GET /" + b"x" * 1000_000) == b""
    assert memory(server) < 400e6


SLOW = [
    b"",
    b"POST /sched",
    b"POST /scheduler HTTP/1.1\r\nX: ",
    b"POST /scheduler HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n<sched",
    b"POST /file_upload_handler HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n<data_server_",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTT",
]


def test_whoever_dawdles_is_cut_off_and_keeps_nobody_waiting(directory: Path, tmp_path: Path) -> None:
    made = project.create(directory, f"http://127.0.0.1:{free_port()}/")
    configure(directory, patience=2)
    parts = urlsplit(made.config.url)
    with serving(directory) as server, ExitStack() as stack:
        add_app(server.control, tmp_path)
        volunteer = stack.enter_context(
            SimulatedVolunteer(made.config.url, server.control.create_account("v@example.org"), shout)
        )
        crowd = [
            stack.enter_context(socket.create_connection((parts.hostname or "", parts.port or 0))) for _ in range(300)
        ]
        for n, one in enumerate(crowd):
            with suppress(ConnectionError):  # cut off already
                one.sendall(SLOW[n % len(SLOW)])
            one.settimeout(60)
        batch = server.control.create_batch("upper", "b")
        server.control.create_jobs(batch.id, [Job("j0", {"in": b"text"}, {"out": 20_000})])
        # As a client does it comes again, should this machine stand still for longer than the server's patience.
        volunteer.start(pause=0.05)
        assert server.control.outcomes(batch.id, wait=60)[0].outputs["out"] == b"TEXT"
        dripping = [one for n, one in enumerate(crowd) if n % len(SLOW) in (2, 3)][:20]

        def drip() -> bool:
            for one in list(dripping):
                try:
                    one.sendall(b"x")
                except OSError:
                    dripping.remove(one)
            return not dripping

        # A byte now and then does not help them; at 64 bytes a second this takes no more than the patience.
        wait_until(drip, timeout=60, interval=0.1, what="those that drip to be cut off")
        for one in crowd:
            try:
                while one.recv(65536):
                    pass
            except ConnectionError:
                pass


def test_whoever_waits_for_this_server_to_read_on_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[bool] = []
    read_on = asyncio.Event()
    look = PatientProtocol._look

    def counted(self: PatientProtocol) -> None:
        looks.append(self.flow.read_paused)
        if looks.count(True) == 2:
            read_on.set()
        look(self)

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await read_on.wait()
        body = await read(Request(scope, receive), 4 << 20)
        await Response(str(len(body)))(scope, receive, send)

    async def run() -> bytes:
        own = listener("127.0.0.1", 0)
        server = HttpServer(slow, 2.0, 10, lambda _path: False)
        serving = asyncio.create_task(server.serve([own]))
        reader, writer = await asyncio.open_connection(*own.getsockname())
        writer.write(b"POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000)
        answer = await reader.read()
        writer.close()
        server.leave(0)
        await serving
        return answer

    monkeypatch.setattr(PatientProtocol, "_look", counted)
    assert asyncio.run(asyncio.wait_for(run(), 60)).endswith(b"\r\n\r\n2000000")
    assert looks.count(True) >= 2


# --- forged and repeated ----------------------------------------------------------------------------------------------


def test_a_repeated_request_earns_nothing(control: Control, volunteer: SimulatedVolunteer, url: str) -> None:
    name = held(control, volunteer, rsc_fpops_est=86400e9, rsc_fpops_bound=864000e9)
    finished = volunteer.work(name)
    recorded = request(volunteer.authenticator, volunteer.hostid, volunteer.rpc_seqno + 1, [finished])
    for _ in range(3):
        reply = parse_reply(volunteer.post(f"{url}scheduler", recorded))
        assert reply.acknowledged == (name,)
    assert control.users()[0]["total_credit"] == pytest.approx(200)
    assert len(control.outcomes(1)) == 1


@pytest.mark.parametrize("kind", ["estimate", "runtime"])
def test_claims_earn_no_more_than_a_job_can_be_worth(directory: Path, tmp_path: Path, kind: str) -> None:
    made = project.create(directory, f"http://127.0.0.1:{free_port()}/")
    configure(directory, kind=kind)
    with serving(directory) as server:
        control = server.control
        add_app(control, tmp_path)
        with SimulatedVolunteer(made.config.url, control.create_account("v@example.org"), shout) as volunteer:
            name = held(control, volunteer, rsc_fpops_est=86400e9 / 100, rsc_fpops_bound=86400e9 / 50)
            honest = volunteer.work(name)
            claim = "<claimed_credit>1e30</claimed_credit>\n<granted_credit>1e30</granted_credit>\n<fpops_cumulative>1e30</fpops_cumulative>"
            forged = Finished(name, 5, 0, elapsed=1e9, cpu=1e9, files=honest.files)
            body = request(volunteer.authenticator, volunteer.hostid, 9, [forged], fpops=1e30)
            volunteer.post(
                f"{made.config.url}scheduler",
                body.replace(b"    <exit_status>", claim.encode() + b"\n    <exit_status>"),
            )
        (user,) = control.users()
        assert 0 < user["total_credit"] <= 4.0001  # by the bound; 2 by the estimate
        assert len(control.outcomes(1)) == 1


# --- texts with a meaning ---------------------------------------------------------------------------------------------


ODD_TEXTS = [
    "'; DROP TABLE user; --",
    '" OR ""="',
    "<script>alert(1)</script>",
    "%s %d {0} ${x} $(id) `id`",
    "../../../etc/passwd",
    "\\'); DELETE FROM host WHERE 1=1; /*",
    "caf\u00e9 \u05e9\u05dc\u05d5\u05dd \U0001f600",
]


def test_odd_texts_are_texts(control: Control, upper: str, url: str, server: ServerProcess) -> None:
    for number, text in enumerate(ODD_TEXTS):
        with SimulatedVolunteer(
            url, control.create_account(f"v{number}@example.org", f"{number} {text[:30]}")
        ) as volunteer:
            # A client escapes nothing but markup, and that as a volunteer's computer calls itself.
            written = text.replace("&", "&amp;").replace("<", "&lt;")
            body = request(volunteer.authenticator, domain_name=written, os_name=f"Linux {written}")
            answer = volunteer.post(f"{url}scheduler", body)
            assert b"<script>" not in answer and parse_reply(answer).hostid
    assert [host.domain_name for host in control.hosts()] == ODD_TEXTS
    assert [user["name"] for user in control.users()] == [f"{n} {text[:30]}" for n, text in enumerate(ODD_TEXTS)]
    for text in ODD_TEXTS:
        reply = parse_reply(raw(url, post("/scheduler", request(text))).partition(b"\r\n\r\n")[2])
        assert not reply.hostid and "Invalid or missing account key" in reply.messages[0]
    assert len(control.hosts()) == len(ODD_TEXTS)
    assert "Traceback" not in server.log.read_text()


def test_text_of_volunteers_is_escaped_where_it_is_sent_back(control: Control, url: str) -> None:
    name = "<script>alert(1)</script>"
    with SimulatedVolunteer(url, control.create_account("v@example.org", name)) as volunteer:
        answer = volunteer.contact()
        assert answer.hostid
    assert control.hosts()[0].user_name == name
