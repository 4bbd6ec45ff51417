"""What the doctor finds around a project: each finding is provoked, and a healthy project has none."""

from __future__ import annotations

import http.server
import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, insert

from boincserver import checkup, cli, project
from boincserver.checkup import Finding
from boincserver.database import Database
from boincserver.followup import FollowUp
from boincserver.logfile import LogFile, path_of
from boincserver.logline import LineFormatter
from boincserver.project import Project
from boincserver.reachable import reachable
from boincserver.schema import host, msg_from_host, result, workunit
from boincserver.shard import Shard
from boincserver.states import NEVER, AssimilateState, FileDeleteState, ServerState
from boincserver.testing import SimulatedVolunteer, configure, free_port, serving, wait_until
from boincserver.testing.stock import faketime_library

from .conftest import make_project
from .test_password_reset import certificate

LIMIT = 60.0
NOW = 1_800_000_000
WELL = {"looked": 1.0, "waiting": 0.0, "doing": None}


@pytest.fixture
def database(directory: Path) -> Iterator[Database]:
    make_project(directory)
    opened = Project.open(directory).open_database()
    yield opened
    opened.close()


def put(database: Database, table: Table, *rows: dict[str, Any]) -> None:
    with database.engine.begin() as connection:
        connection.execute(insert(table), list(rows))


def texts(found: Iterator[Finding], *, grave: bool) -> list[str]:
    findings = list(found)
    assert [each for each in findings if each.grave is not grave] == []
    return [each.text for each in findings]


def doctor(directory: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[list[str], list[str]]:
    code = cli.main(["doctor", str(directory), "--json", *options])
    document = json.loads(capsys.readouterr().out)
    assert code == (1 if document["findings"] else 0)
    return document["findings"], document["advice"]


def test_a_healthy_project_that_is_served(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_project(directory)
    _, advice = doctor(directory, capsys)
    assert "no server runs this project" in advice
    with serving(directory) as server:
        key = server.control.create_account("a@example.org")
        with SimulatedVolunteer(made.config.url, key) as volunteer:
            volunteer.contact()
        findings, advice = doctor(directory, capsys)
        assert findings == []
        assert [text for text in advice if "clock right" not in text] == []  # of this machine, whatever it is
        assert cli.main(["doctor", str(directory)]) == 0
        assert capsys.readouterr().out.strip().splitlines()[-1] in ("All is well.", "Nothing is wrong.")


def test_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    def space(free: int, files: int = 50) -> os.statvfs_result:
        return os.statvfs_result((4096, 4096, 1 << 24, free, free, 100, files, files, 0, 255))

    assert list(checkup.disk(tmp_path, space(1 << 23))) == []
    (text,) = texts(checkup.disk(tmp_path, space(1 << 19)), grave=True)  # 2 GB of 64
    assert "2.1 GB of the disk are free (3%)" in text
    (text,) = texts(checkup.disk(tmp_path, space(1 << 23, files=2)), grave=True)
    assert "2 files can still be made" in text
    # A file system that counts no files, as btrfs does.
    counts_none = os.statvfs_result((4096, 4096, 1 << 24, 1 << 23, 1 << 23, 0, 0, 0, 0, 255))
    assert list(checkup.disk(tmp_path, counts_none)) == []
    assert list(checkup.disk(tmp_path, os.statvfs(tmp_path))) == [] or os.statvfs(tmp_path).f_bavail < 1 << 20


def test_secrets_that_others_may_read(directory: Path) -> None:
    made = make_project(directory)
    assert list(checkup.secrets(made)) == []
    for name in ("code_sign_private", "upload_secret"):
        path = directory / "keys" / name
        path.chmod(0o640)
        (text,) = texts(checkup.secrets(made), grave=True)
        assert text.endswith(f"say: chmod 600 {path}")
        path.chmod(0o600)
    (directory / "keys").chmod(0o755)
    (text,) = texts(checkup.secrets(made), grave=True)
    assert text.endswith(f"say: chmod 700 {directory / 'keys'}")
    (directory / "keys").chmod(0o700)
    (directory / "database.sqlite3").chmod(0o644)
    (text,) = texts(checkup.secrets(made), grave=True)
    assert "others may read volunteers' addresses and keys" in text
    (directory / "database.sqlite3").chmod(0o600)
    (directory / "project.toml").chmod(0o644)
    assert list(checkup.secrets(made)) == []
    configure(directory, database="mysql+pymysql://pi:secret@db/pi")
    (text,) = texts(checkup.secrets(Project.open(directory)), grave=True)
    assert "with the database's password" in text
    configure(directory, database="", url="https://pi.example.org/")
    (text,) = texts(checkup.secrets(Project.open(directory)), grave=False)
    assert "keep it on another machine" in text
    (directory / "keys" / "code_sign_private").unlink()
    assert list(checkup.secrets(Project.open(directory))) == []


def test_a_clock_that_is_wrong(database: Database) -> None:
    db = database.reader()
    put(database, host, {"userid": 1, "rpc_time": NOW + 30})
    assert list(checkup.clock(db, NOW, synchronised=True)) == []
    put(database, host, {"userid": 1, "rpc_time": NOW + 3600})
    (text,) = texts(checkup.clock(db, NOW, synchronised=True), grave=True)
    assert text == "the clock is wrong, or was: host 2 came 60 minutes from now"
    (text,) = texts(checkup.clock(db, NOW + 7200, synchronised=False), grave=False)
    assert "keeps this machine's clock right" in text
    assert checkup.is_synchronised() in (True, False)


def test_a_database_whose_clock_is_another(database_url: str, tmp_path: Path, need: Callable[..., None]) -> None:
    need("faketime")
    library = faketime_library()
    directory = tmp_path / "project"
    project.create(directory, f"http://127.0.0.1:{free_port()}/", database=database_url)
    command = [sys.executable, "-m", "boincserver", "doctor", str(directory), "--json"]
    for ahead, count in (("+0", 0), ("+3600", 1)):
        environment = {**os.environ, "LD_PRELOAD": library, "FAKETIME": ahead}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
        findings = json.loads(done.stdout)["findings"]
        assert len([text for text in findings if "the clock of the database's machine differs by -36" in text]) == count


def test_what_does_not_get_on(database: Database) -> None:
    db = database.reader()

    def found(**health: Any) -> list[str]:
        return texts(checkup.progress({**WELL, **health}, db, NOW), grave=True)

    assert found() == []
    assert texts(checkup.progress(None, db, NOW), grave=False) == ["no server runs this project"]
    assert "nobody has looked for deadlines for 20 minutes" in found(looked=1200.0)[0]
    assert "the database has taken no change for 90 seconds" in found(waiting=90.0)[0]
    assert found(doing=["validate", 7, 599.0]) == []
    assert "to validate workunit 7 takes 15 minutes" in found(doing=["validate", 7, 900.0])[0]
    put(
        database, workunit,
        {"name": "now", "transition_time": NOW - 5}, {"name": "never", "transition_time": NEVER},
        {"name": "late", "transition_time": NOW - 1800}, {"name": "later", "transition_time": NOW - 700},
    )  # fmt: skip
    assert found() == ["2 jobs were to be looked at 30 minutes ago, and nobody did"]


def test_what_the_server_says_of_itself(directory: Path) -> None:
    make_project(directory)
    with serving(directory) as server:

        def nothing_waits() -> bool:
            """Soon, not always: the server has changes of its own."""
            return server.control.health()["waiting"] == 0.0

        wait_until(nothing_waits, timeout=LIMIT)
        wait_until(lambda: server.control.health()["doing"] is None, timeout=LIMIT, what="nothing to follow")
        assert server.control.health()["looked"] < LIMIT
        with closing(sqlite3.connect(directory / "database.sqlite3")) as other:
            other.execute("BEGIN IMMEDIATE")
            asking = threading.Thread(target=server.control.create_account, args=("a@example.org",))
            asking.start()
            wait_until(lambda: server.control.health()["waiting"] > 0.3, timeout=LIMIT, what="a change to wait")
            other.rollback()
        asking.join(LIMIT)
        wait_until(nothing_waits, timeout=LIMIT)


def test_a_validator_that_does_not_come_back_is_seen(database: Database) -> None:
    follow_up = FollowUp(database, None, None, Shard(), lambda: NOW, print, print)  # type: ignore[arg-type]
    began, end = threading.Event(), threading.Event()

    def hang(_number: int) -> None:
        began.set()
        end.wait(LIMIT)

    assert follow_up.doing is None
    follow_up._queue("validate", hang, 7)
    assert began.wait(LIMIT)
    doing = follow_up.doing
    assert doing is not None
    assert doing[:2] == ("validate", 7)
    wait_until(lambda: (follow_up.doing or (0, 0, 0.0))[2] > doing[2], timeout=LIMIT, what="its time to go on")
    end.set()
    follow_up.close()
    assert follow_up.doing is None


def test_what_piles_up(database: Database) -> None:
    db = database.reader()
    assert list(checkup.backlog(db, NOW)) == []
    put(database, workunit, *({"name": f"v{n}", "need_validate": 1} for n in range(1001)))
    put(database, workunit, *({"name": f"a{n}", "assimilate_state": int(AssimilateState.READY)} for n in range(1002)))
    put(database, workunit, *({"name": f"d{n}", "file_delete_state": int(FileDeleteState.READY)} for n in range(1003)))
    put(database, msg_from_host, *({"hostid": 1, "variety": "v"} for n in range(1004)))
    assert texts(checkup.backlog(db, NOW), grave=False) == [
        "1001 jobs wait for their results to be compared",
        "1002 jobs wait for their assimilator",
        "1003 jobs wait for their files to be deleted",
        "1004 messages of running programs have not been handled: is their class installed?",
    ]


def test_work_that_nobody_fetches(database: Database) -> None:
    db = database.reader()
    unsent = {"server_state": int(ServerState.UNSENT)}
    put(database, result, {"name": "new", "create_time": NOW - 3600, **unsent})
    assert list(checkup.backlog(db, NOW)) == []
    put(database, result, {"name": "old", "create_time": NOW - 90000, **unsent})
    (text,) = texts(checkup.backlog(db, NOW), grave=False)
    assert text == "2 copies wait for a day or longer, and no host came"
    put(database, host, {"userid": 1, "rpc_time": NOW - 3600})
    assert list(checkup.backlog(db, NOW)) == []


def test_errors_of_the_last_day(directory: Path) -> None:
    make_project(directory)
    writer = LogFile(path_of(directory), 0, 0)
    writer.setFormatter(LineFormatter("json"))

    def tell(event: str, level: int, ago: float) -> None:
        record = logging.LogRecord("x", level, "f", 1, event, None, None)
        record.created, record.fields = NOW - ago, {}
        writer.handle(record)

    tell("commit-failed", logging.ERROR, 90000)
    tell("clock-jumped", logging.WARNING, 10)
    assert list(checkup.errors(directory, NOW)) == []
    for _ in range(2):
        tell("assimilation-failed", logging.ERROR, 3600)
    tell("commit-failed", logging.ERROR, 10)
    writer.close()
    (text,) = texts(checkup.errors(directory, NOW), grave=False)
    assert text.startswith("errors of the last day: assimilation-failed (2), commit-failed (1); see: boincserver log")


def test_backups_of_long_ago(directory: Path) -> None:
    made = make_project(directory)
    now = time.time()
    assert list(checkup.backups(made, now)) == []  # the project itself is new
    (text,) = texts(checkup.backups(made, now + 8 * 86400), grave=False)
    assert "holds no backup of the last week" in text
    (directory / "backups").mkdir()
    backup = directory / "backups" / "backup-1.tar.gz"
    backup.touch()
    os.utime(backup, (now, now + 3 * 86400))
    assert list(checkup.backups(made, now + 8 * 86400)) == []


# --- the URL ----------------------------------------------------------------------------------------------------------


@contextmanager
def answering(answer: bytes, status: int = 200, context: Any = None, port: int = 0) -> Iterator[str]:
    """Somebody who says the same to everybody; yields host and port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, *_arguments: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", port), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def at(directory: Path, url: str, **settings: object) -> Project:
    configure(directory, url=url, **settings)
    return Project.open(directory)


def test_what_answers_at_the_url(directory: Path) -> None:
    made = make_project(directory)
    (text,) = texts(reachable(made), grave=True)
    assert "nobody answers there" in text
    with answering(b"<html>It works!</html>") as somebody:
        (text,) = texts(reachable(at(directory, f"http://{somebody}/")), grave=True)
        assert "something else answers there (HTTP 200)" in text
    with answering(b"", 502) as somebody:
        (text,) = texts(reachable(at(directory, f"http://{somebody}/")), grave=True)
        assert "something else answers there (HTTP 502)" in text
    config = b"<project_config>\n<master_url>%s</master_url>\n</project_config>\n"
    with answering(config % b"http://pi.example.org/") as somebody:
        (text,) = texts(reachable(at(directory, f"http://{somebody}/")), grave=True)
        assert "the project http://pi.example.org/ answers there" in text


def test_a_certificate(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(directory)
    context, port = certificate(tmp_path), free_port()
    url = f"https://127.0.0.1:{port}/"
    # What a client wants to read in the answers to both questions.
    answer = f"<project_config>\n<master_url>{url}</master_url>\n</project_config>\n<data_server_reply>".encode()
    with answering(answer, context=context, port=port):
        (text,) = texts(reachable(at(directory, url, proxies=1)), grave=True)
        assert "clients do not trust its certificate" in text
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        (text,) = texts(reachable(Project.open(directory)), grave=True)
        assert text == f"{url}: its certificate ends in 1 days"
