"""A new process takes the place of the one that serves: nobody is refused, cut off or forgotten."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boincserver import cli, project
from boincserver.control import Job, connect
from boincserver.doctor import examine
from boincserver.errors import ServerNotRunning
from boincserver.files import FileStore
from boincserver.logfile import lines, path_of
from boincserver.logline import read
from boincserver.project import Project
from boincserver.restarting import restart
from boincserver.states import ClientState
from boincserver.testing import SimulatedJob, SimulatedVolunteer, configure, free_port, serving, wait_until
from boincserver.testing.wire import Finished, format_upload

from .conftest import add_app, make_project

LIMIT = 120.0


def shout(job: SimulatedJob) -> dict[str, bytes]:
    return {"out": job.inputs["in"].upper()}


class Crowd:
    """Threads that ask for something all the time, over new connections, and remember what went wrong."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.answers: dict[str, int] = {}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, what: str, ask: Callable[[], object]) -> None:
        def run() -> None:
            while not self._stop.is_set():
                try:
                    ask()
                except Exception as error:
                    self.problems.append(f"{what}: {type(error).__name__}: {error}")
                    return
                self.answers[what] = self.answers.get(what, 0) + 1

        self._threads.append(threading.Thread(target=run))

    def answered_again(self) -> Callable[[], bool]:
        """Whether everybody was answered since this call, or somebody gave up."""
        before = dict(self.answers)
        return lambda: bool(self.problems) or all(self.answers.get(w, 0) > before.get(w, 0) + 2 for w in before)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            wait_until(
                lambda: self.problems or len(self.answers) == len(self._threads), timeout=LIMIT, what="all to begin"
            )
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()


def address_of(url: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(url)
    return parts.hostname or "", parts.port or 0


def get(url: str) -> None:
    connection = http.client.HTTPConnection(*address_of(url), timeout=LIMIT)
    connection.request("GET", "/get_project_config.php")
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    assert reply.status == 200, reply.status
    assert body.endswith(b"</project_config>\n")


def get_in_pieces(url: str, pause: Callable[[], object]) -> None:
    """Connect, and ask a little later: the server that accepted may be about to end."""
    with socket.create_connection(address_of(url), timeout=LIMIT) as connection:
        pause()
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        pause()
        connection.sendall(b"Connection: close\r\n\r\n")
        reply = b""
        while piece := connection.recv(65536):
            reply += piece
    assert reply.startswith(b"HTTP/1.1 200 "), reply[:100]


class Upload:
    """A large file that is on its way for as long as the test wants."""

    def __init__(self, url: str, volunteer: SimulatedVolunteer, size: int = 3_000_000) -> None:
        self.volunteer = volunteer
        (self.job,) = volunteer.contact(seconds=1, instances=1).assignments
        self.data = os.urandom(size)
        body = format_upload(self.job.outputs[0].file.name, self.data)
        self._rest = body[len(body) // 2 :]
        self._connection = socket.create_connection(address_of(url), timeout=LIMIT)
        head = f"POST /file_upload_handler HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        self._connection.sendall(head.encode() + body[: len(body) // 2])

    def finish_without_report(self) -> None:
        """Send the rest."""
        self._connection.sendall(self._rest)
        reply = b""
        while piece := self._connection.recv(65536):
            reply += piece
        self._connection.close()
        assert reply.startswith(b"HTTP/1.1 200 ") and b"<status>0</status>" in reply, reply

    def finish(self) -> None:
        """Send the rest, and report."""
        self.finish_without_report()
        self.volunteer.held.clear()
        file = (self.job.outputs[0].file.name, len(self.data), hashlib.md5(self.data).hexdigest())
        self.volunteer.finished[self.job.name] = Finished(self.job.name, ClientState.UPLOADED, 0, files=(file,))
        self.volunteer.contact(seconds=0, instances=0)
        assert not self.volunteer.finished


def begun(directory: Path, count: int) -> Callable[[], bool]:
    """Whether so many uploads have reached the disk in part."""
    return lambda: (
        sum(1 for each in (directory / "upload").rglob("*") if each.is_file() and each.stat().st_size > 1_000_000)
        >= count
    )


def findings(directory: Path) -> list[str]:
    database = Project.open(directory).open_database()
    try:
        return list(examine(database, FileStore(directory / "upload")))
    finally:
        database.close()


def events(directory: Path) -> list[str]:
    return [line.event for line in read(lines(path_of(directory))) if line is not None]


def pids(directory: Path) -> list[int]:
    return [
        line.fields["pid"] for line in read(lines(path_of(directory))) if line is not None and line.event == "serving"
    ]


def through_two_restarts(directory: Path, folder: Path, processes: int = 1) -> None:
    """Everybody asks for everything while the server is replaced twice."""
    configure(directory, patience=600)  # for files whose second half comes after both
    with serving(directory) as server:
        control, url = server.control, server.control.info().url
        add_app(control, folder)
        keys = [control.create_account(f"v{n}@example.org") for n in range(4)]
        large = control.create_batch("upper", "large")
        control.create_jobs(large.id, [Job(f"large{n}", {"in": b"x"}, {"out": 10_000_000}) for n in range(2)])
        with (
            SimulatedVolunteer(url, keys[2], shout) as first,
            SimulatedVolunteer(url, keys[3], shout) as second,
            SimulatedVolunteer(url, keys[0], shout, ncpus=4) as one,
            SimulatedVolunteer(url, keys[1], shout, ncpus=4) as two,
        ):
            uploads = [Upload(url, first), Upload(url, second)]
            wait_until(begun(directory, 2), timeout=LIMIT, what="both uploads to be half here")
            batch = control.create_batch("upper", "small")
            crowd, created = Crowd(), iter(range(1_000_000))

            def create() -> None:
                number = next(created)
                assert (
                    connect(directory).create_jobs(batch.id, [Job(f"j{number}", {"in": b"text"}, {"out": 1000})]) == 1
                )

            crowd.add("a client", lambda: get(url))
            crowd.add("a slow client", lambda: get_in_pieces(url, lambda: threading.Event().wait(0.02)))
            crowd.add("a host", one.step)
            crowd.add("another host", two.step)
            crowd.add("a submitter", create)
            # Held open until there is an outcome, or the server ends.
            crowd.add("a waiting submitter", lambda: connect(directory).outcomes(batch.id, after=2**40, wait=0.3))
            with crowd.at_work():
                for _ in range(2):
                    restart(Project.open(directory))
                    wait_until(crowd.answered_again(), timeout=LIMIT, what="everybody to be answered by the new server")
            assert crowd.problems == []
            for upload in uploads:
                upload.finish()
            while one.step() + two.step() or one.finished or two.finished:
                pass
        control = connect(directory)
        assert {o.outputs["out"] for o in control.outcomes(large.id)} == {upload.data for upload in uploads}
        total = next(created)
        taken: set[str] = set()
        after = 0
        while outcomes := control.outcomes(batch.id, after=after, limit=1000):
            taken |= {outcome.name for outcome in outcomes if outcome.outputs == {"out": b"TEXT"}}
            after = outcomes[-1].seq
        assert taken == {f"j{n}" for n in range(total)}
        assert server.process.poll() is None
        assert server.stop() == 0
    assert findings(directory) == []
    told = events(directory)
    assert told.count("serving") == 3 * processes
    assert "request-cut" not in told
    assert len(set(pids(directory))) == 3 * processes
    assert not [number for number in pids(directory) if Path(f"/proc/{number}").exists()]


def test_two_restarts_cost_nobody_anything(directory: Path, tmp_path: Path) -> None:
    make_project(directory)
    through_two_restarts(directory, tmp_path)


@pytest.mark.parametrize("processes", [2])
def test_the_same_with_two_processes_on_mariadb(database_url: str, tmp_path: Path, processes: int) -> None:
    directory = tmp_path / "project"
    project.create(directory, f"http://127.0.0.1:{free_port()}/", database=database_url)
    configure(directory, processes=processes)
    through_two_restarts(directory, tmp_path, processes)


def test_what_cannot_begin_changes_nothing(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_project(directory)
    assert cli.main(["restart", str(directory)]) == 1
    assert "no server runs" in capsys.readouterr().err
    with made.lock():
        assert cli.main(["restart", str(directory)]) == 1
        assert "another command works on" in capsys.readouterr().err
    settings = (directory / "project.toml").read_text()
    with serving(directory) as server:
        for broken, words in (("max_per_request = 1.5", "max_per_request must be int"), ("nonsense", "project.toml")):
            (directory / "project.toml").write_text(settings.replace("max_per_request = 10", broken))
            assert cli.main(["restart", str(directory)]) == 1
            assert words in capsys.readouterr().err
        (directory / "project.toml").write_text(settings)
        configure(directory, listen=f"127.0.0.1:{free_port()}")
        assert cli.main(["restart", str(directory)]) == 1
        assert "listen in project.toml is another now: that takes a stop and a start" in capsys.readouterr().err
        (directory / "project.toml").write_text(settings)
        # The tables are opened by the new process alone; before that it loads everything, here a broken key.
        key = (directory / "keys" / "code_sign_public").read_text()
        (directory / "keys" / "code_sign_public").write_text("broken")
        assert cli.main(["restart", str(directory)]) == 1
        assert "the new process cannot begin, so the old one goes on" in capsys.readouterr().err
        (directory / "keys" / "code_sign_public").write_text(key)
        assert pids(directory) == [server.process.pid]
        assert server.control.info().url == made.config.url
        # And then a setting that makes sense.
        configure(directory, name="Renamed")
        assert cli.main(["restart", str(directory)]) == 0
        assert "A new process serves" in capsys.readouterr().out
        assert server.control.info().name == "Renamed"
        assert len(pids(directory)) == 2


def test_a_server_that_took_over_is_looked_after(directory: Path) -> None:
    made = make_project(directory)
    with serving(directory) as server:
        # As `systemctl reload` does.
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(pids(directory)) == 2, timeout=LIMIT, what="a new process to serve")
        os.kill(pids(directory)[-1], signal.SIGKILL)
        wait_until(lambda: len(pids(directory)) == 3, timeout=LIMIT, what="the next one to serve")
        get(made.config.url)
        # However the first process ends, none is left behind.
        server.kill()
        wait_until(lambda: not Path(f"/proc/{pids(directory)[-1]}").exists(), timeout=LIMIT, what="the last one to end")
    assert findings(directory) == []


@pytest.mark.parametrize("ignored", [False, True])
def test_the_end_of_its_terminal_ends_a_server_unless_nohup_has_it_go_on(directory: Path, ignored: bool) -> None:
    make_project(directory)
    ours, terminal = os.openpty()
    try:
        command = ["nohup"] * ignored + [sys.executable, "-m", "boincserver", "serve", str(directory)]
        server = subprocess.Popen(
            command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # these tests may run under nohup themselves
        )  # fmt: skip
        try:
            wait_until(lambda: alive(directory), timeout=LIMIT, what="the server to begin")
            server.send_signal(signal.SIGHUP)
            if ignored:
                assert alive(directory)
                server.send_signal(signal.SIGTERM)
            assert server.wait(LIMIT) == 0
        finally:
            server.kill()
            server.communicate()
    finally:
        os.close(ours)
        os.close(terminal)


def alive(directory: Path) -> bool:
    try:
        return bool(connect(directory).info().url)
    except ServerNotRunning:
        return False


def test_a_server_that_carries_a_file_to_its_end_can_be_stopped(directory: Path, tmp_path: Path) -> None:
    make_project(directory)
    with serving(directory) as server:
        control, url = server.control, server.control.info().url
        add_app(control, tmp_path)
        batch = control.create_batch("upper", "large")
        control.create_jobs(batch.id, [Job("large", {"in": b"x"}, {"out": 10_000_000})])
        with SimulatedVolunteer(url, control.create_account("v@example.org"), shout) as volunteer:
            upload = Upload(url, volunteer)
            wait_until(begun(directory, 1), timeout=LIMIT, what="the upload to be half here")
            restart(Project.open(directory))
            server.process.terminate()
            upload.finish_without_report()
            assert server.process.wait(LIMIT) == 0


def test_a_socket_of_systemds_is_served(directory: Path) -> None:
    """As a .socket unit passes it: connections that come before the server is there wait."""
    made = make_project(directory)
    start = (
        "import os, sys\n"
        "os.dup2(int(sys.argv[1]), 3)\n"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'boincserver', 'serve', sys.argv[2]])\n"
    )
    with socket.socket() as listening:
        listening.bind(address_of(made.config.url))
        listening.listen(16)
        with socket.create_connection(address_of(made.config.url), timeout=LIMIT) as early:
            early.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            command = [sys.executable, "-c", start, str(listening.fileno()), str(directory)]
            with subprocess.Popen(command, pass_fds=(listening.fileno(),), stdout=subprocess.PIPE) as server:
                assert early.recv(20).startswith(b"HTTP/1.1 200 ")
                restart(Project.open(directory))
                get(made.config.url)
                server.terminate()
                assert server.wait(LIMIT) == 0
