"""A supervised task under the stock client: everything that a volunteer or a machine can do to it.

The client runs in quick time, and so do the clocks of its tasks; CPU time is real.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pyboinc

pytest.importorskip("sqlalchemy", reason="the project server needs the extra 'server'")

from boincserver import project
from boincserver.control import AppFile, Job, JobOutcome
from boincserver.testing import StockClient, free_port, serving, wait_until
from boincserver.testing.serving import ServerProcess

pytestmark = pytest.mark.stock

SPEED = 8.0
LIMIT = 120.0
PLATFORM = "x86_64-pc-linux-gnu"

PROGRAM = """
import os, sys, time

def child():
    import pyboinc
    with open(pyboinc.resolve("in")) as file:
        word = file.read().strip()
    state = pyboinc.checkpoint.load()
    print("started with", state, file=sys.stderr, flush=True)

    def tell(result):
        with open(pyboinc.resolve("out"), "w") as file:
            file.write(result)

    def save(text):
        pyboinc.checkpoint.save(text)
        pyboinc.fraction_done(0.125)
        with open("saved", "w"):
            pass

    if word == "long C call":
        while time.process_time() < 3: pass
        save(b"before")
        sum(range(10**12))
    elif word == "crash":
        os.kill(os.getpid(), 9)
    elif word == "trickle" and state is None:
        pyboinc.trickle_up("progress", "<half/> a & b")
        pyboinc.checkpoint.save(b"trickled")
        pyboinc.temporary_exit(60, "the data is late", notice=True)
    elif word == "trickle":
        heard = []
        pyboinc.on_trickle_down(heard.append)
        with open("saved", "w"):
            pass
        while not heard:
            pyboinc.poll()
            time.sleep(0.1)
        tell(f"{state} {heard[0].strip()}")
        return
    elif word == "count":
        step = int(state or 0)
        began = step
        while step < 200:
            step += 1
            if step == 50:
                save(b"50")
            if step >= 50 and began == 0:
                # The first episode goes on until somebody ends it.
                step = 50
                if pyboinc.checkpoint.due():
                    pyboinc.checkpoint.save(b"60")
            time.sleep(0.05)
        tell(f"from {began} to {step}")
        return
    tell(f"{word} after {state}")

if "--child" in sys.argv:
    child()
else:
    from pyboinc import control
    from pyboinc.supervisor import supervise
    control.Control.__init__.__kwdefaults__["grace"] *= 8  # seconds go by as quickly as the client's
    sys.exit(supervise([sys.executable, sys.argv[0], "--child"]))
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The application as one file: this Python's path, then a zip of the runtime and the program."""
    path = tmp_path_factory.mktemp("program") / "work"
    source = Path(pyboinc.__file__).parent
    with path.open("wb") as file:
        file.write(f"#!{sys.executable}\n".encode())
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("__main__.py", PROGRAM)
            for module in source.glob("*.py"):
                archive.write(module, f"pyboinc/{module.name}")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("server") / "project"
    project.create(directory, f"http://127.0.0.1:{free_port()}/", name="Runtime test", open_accounts=True)
    with serving(directory) as running:
        yield running


class Volunteer:
    """A stock client and the jobs that it runs."""

    def __init__(self, server: ServerProcess, client: StockClient, batch: int) -> None:
        self.control, self.client, self.batch = server.control, client, batch
        self.url = self.control.info().url
        self.done: dict[str, JobOutcome] = {}
        self._after = 0

    def submit(self, **words: str) -> None:
        """Jobs by name, each with the word that tells the program what to do."""
        jobs = [
            Job(name, {"in": word.encode()}, {"out": 1000}, max_error_results=0, max_total_results=1, rsc_fpops_est=1e9)
            for name, word in words.items()
        ]
        self.control.create_jobs(self.batch, jobs)
        self.client.update(self.url)

    def outcome(self, name: str) -> JobOutcome:
        def there() -> bool:
            for outcome in self.control.outcomes(self.batch, after=self._after, wait=0.5):
                self.done[outcome.name], self._after = outcome, outcome.seq
            return name in self.done

        wait_until(there, timeout=LIMIT, what=f"the outcome of {name}")
        return self.done[name]

    def output(self, name: str) -> str:
        outcome = self.outcome(name)
        assert "out" in outcome.outputs, [attempt.stderr for attempt in outcome.attempts]
        return outcome.outputs["out"].decode()

    def task(self, name: str) -> dict[str, str]:
        """What `boinccmd --get_tasks` says of a job."""
        for block in self.client.command("--get_tasks").split("-----------\n"):
            pairs = dict(line.strip().partition(": ")[::2] for line in block.splitlines() if ": " in line)
            if pairs.get("WU name") == name:
                return pairs
        return {}

    def number(self, name: str, what: str) -> float:
        return float(self.task(name).get(what, "0") or "0")

    def tell(self, name: str, operation: str) -> None:
        """suspend, resume or abort."""
        self.client.task_command(self.url, self.task(name)["name"], operation)

    def slot(self, name: str) -> Path:
        """Where a job runs, once it has come to its first checkpoint."""

        def found() -> Path | None:
            for saved in self.client.directory.glob("slots/*/saved"):
                if f"<wu_name>{name}</wu_name>" in (saved.parent / "init_data.xml").read_text():
                    return saved.parent
            return None

        return wait_until(found, timeout=LIMIT, what=f"the first checkpoint of {name}") or Path()

    def processes(self, name: str) -> tuple[int, int]:
        """Supervisor and child of a job."""
        child = int((self.slot(name) / "pyboinc_child").read_text())
        status = Path(f"/proc/{child}/status").read_text()
        return int(status.partition("PPid:")[2].split()[0]), child


@pytest.fixture
def volunteer(
    need: Callable[..., None], server: ServerProcess, program: Path, request: pytest.FixtureRequest
) -> Iterator[Volunteer]:
    need("boinc", "boinccmd", "faketime")
    name = request.node.name
    server.control.ensure_app(name)
    server.control.ensure_app_version(name, PLATFORM, None, [AppFile(program, "work", main_program=True)])
    client = StockClient(speed=SPEED, ncpus=4)
    # Without this preference a suspended task is told to quit.
    preferences = client.directory / "global_prefs_override.xml"
    opening = "<global_preferences>"
    preferences.write_text(
        preferences.read_text().replace(opening, f"{opening}<leave_apps_in_memory>1</leave_apps_in_memory>")
    )
    with client:
        found = Volunteer(server, client, server.control.create_batch(name, name).id)
        client.attach(found.url, server.control.create_account(f"{name}@example.org"))
        yield found


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def until_gone(*pids: int) -> None:
    wait_until(lambda: all(state(pid) in ("", "Z") for pid in pids), timeout=LIMIT, what="the processes to end")


def cpu_clock(pid: int) -> float:
    return time.clock_gettime((~pid << 3) | 2)


def settled_cpu_clock(pid: int) -> float:
    """The CPU clock of a stopped process once it stands: it is shown as stopped a moment before it leaves the CPU."""

    def stands() -> bool:
        before = cpu_clock(pid)
        time.sleep(0.1)
        return cpu_clock(pid) == before

    wait_until(stands, timeout=LIMIT, what="the CPU clock to stand")
    return cpu_clock(pid)


def test_inside_one_long_c_call(volunteer: Volunteer) -> None:
    """Progress and CPU time in boinccmd; suspend, resume, abort; beside it a child that is killed."""
    volunteer.submit(long="long C call", crash="crash")
    supervisor, child = volunteer.processes("long")
    wait_until(lambda: volunteer.number("long", "fraction done") == 0.125, timeout=LIMIT, what="the fraction")
    wait_until(
        lambda: volunteer.number("long", "CPU time at last checkpoint") > 0, timeout=LIMIT, what="the checkpoint"
    )
    cpu = volunteer.number("long", "current CPU time")
    wait_until(lambda: volunteer.number("long", "current CPU time") > cpu, timeout=LIMIT, what="CPU time to grow")

    volunteer.tell("long", "suspend")
    wait_until(lambda: state(child) == "T", timeout=LIMIT, what="the child to stand still")
    wait_until(lambda: volunteer.task("long")["active_task_state"] == "SUSPENDED", timeout=LIMIT, what="suspension")
    frozen = settled_cpu_clock(child)
    time.sleep(1)
    assert cpu_clock(child) == frozen
    volunteer.tell("long", "resume")
    wait_until(lambda: cpu_clock(child) > frozen, timeout=LIMIT, what="the child to go on")

    volunteer.tell("long", "abort")
    until_gone(supervisor, child)
    assert volunteer.outcome("long").attempts[0].exit_status == 203
    crashed = volunteer.outcome("crash").attempts[0]
    assert crashed.exit_status == 195
    assert "killed by SIGKILL" in crashed.stderr


def test_quit_and_restart(volunteer: Volunteer) -> None:
    volunteer.submit(quit="count")
    pids = volunteer.processes("quit")
    volunteer.client.stop()
    until_gone(*pids)
    volunteer.client.start()
    assert volunteer.output("quit") == "from 60 to 200"


def test_the_supervisor_is_killed(volunteer: Volunteer) -> None:
    volunteer.submit(orphan="count")
    supervisor, child = volunteer.processes("orphan")
    os.kill(supervisor, signal.SIGKILL)
    until_gone(supervisor, child)
    assert volunteer.output("orphan") in ("from 50 to 200", "from 60 to 200")  # it may have had time for another state


def test_the_client_is_killed(volunteer: Volunteer) -> None:
    volunteer.submit(alone="count")
    supervisor, child = volunteer.processes("alone")
    client = volunteer.client._process
    assert client is not None
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    until_gone(supervisor, child)
    volunteer.client.start()
    assert volunteer.output("alone") == "from 60 to 200"


def test_trickles_both_ways_and_a_temporary_exit(volunteer: Volunteer) -> None:
    volunteer.submit(trickle="trickle")
    volunteer.slot("trickle")  # the second episode, after the temporary exit
    assert "the data is late" in volunteer.client.log()
    with sqlite3.connect(volunteer.control.directory / "database.sqlite3", timeout=30) as database:
        sent = "select variety, xml, hostid from msg_from_host"
        wait_until(lambda: database.execute(sent).fetchone(), timeout=LIMIT, what="the trickle to arrive")
        variety, xml, host = database.execute(sent).fetchone()
        assert variety == "progress"
        assert "<half/> a & b" in xml
        lines = ["<trickle_down>", f"<result_name>{volunteer.task('trickle')['name']}</result_name>", "<time>1</time>"]
        down = "\n".join([*lines, "<steer>left</steer>", "</trickle_down>", ""])
        values = (0, host, "", 0, down)
        database.execute(
            "insert into msg_to_host (create_time, hostid, variety, handled, xml) values (?, ?, ?, ?, ?)", values
        )
    database.close()
    volunteer.client.update(volunteer.url)
    assert volunteer.output("trickle") == "b'trickled' <steer>left</steer>"
