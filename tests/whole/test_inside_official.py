"""Inside an official project: submitter, validator and assimilator on its own tables, with its own programs beside."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import errands
from tests.mariadb import MariaDB
from tests.official import LIMIT, OfficialHost, OfficialServer, Tamper

import pymw
from boincserver.official import Batches, OfficialProject, Settings, Tables
from boincserver.official.sweeping import Sweep
from boincserver.records import Job
from boincserver.testing import wait_until
from boincserver.testing.wire import Finished
from pymw import Master, envelope
from pymw.backends.boinc import packing
from pymw.cli import main
from pymw.outcome import Ending, Outcome
from pymw.volunteer import PROGRESS


@pytest.fixture(scope="module")
def mariadb(need: Callable[..., None]) -> Iterator[MariaDB]:
    need("mariadbd", "mariadb-install-db")
    with tempfile.TemporaryDirectory(prefix="mariadb-") as folder:
        server = MariaDB(Path(folder))
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))


@pytest.fixture
def bare(tmp_path: Path, mariadb: MariaDB) -> Iterator[OfficialServer]:
    """As `make_project` leaves it."""
    server = OfficialServer(tmp_path / "pi", mariadb)
    yield server
    server.close()


@pytest.fixture
def official(bare: OfficialServer) -> OfficialServer:
    """With our application."""
    bare.install()
    return bare


@pytest.fixture
def hosts(official: OfficialServer) -> Iterator[list[OfficialHost]]:
    """Three computers of three users."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(official.volunteer(name))) for name in ("ada", "bob", "cyd")]


def test_the_way_of_some_tasks_step_by_step(official: OfficialServer, hosts: list[OfficialHost]) -> None:
    with Master(official.backend) as master:
        future = master.submit(errands.double, 21)
        (workunit,) = official.sql("SELECT * FROM workunit")
        assert (workunit["need_validate"], workunit["assimilate_state"], workunit["error_mask"]) == (0, 0, 0)
        assert official.transition() == 1
        assert hosts[0].step(official) == 1
        official.transition()
        official.daemons_once()
        assert future.result(LIMIT) == 42
        workunit = official.one("workunit", "id", workunit["id"])
        (result,) = official.sql("SELECT * FROM result")
        assert (workunit["canonical_resultid"], workunit["assimilate_state"]) == (result["id"], 2)
        assert (result["validate_state"], result["granted_credit"] > 0) == (1, True)


def test_a_map_with_everything_running(official: OfficialServer, hosts: list[OfficialHost]) -> None:
    with official.running(*hosts), Master(official.backend) as master:
        assert list(master.map(errands.double, range(40), timeout=LIMIT)) == [2 * n for n in range(40)]


def states(official: OfficialServer, table: str, column: str) -> list[int]:
    return [row[column] for row in official.sql(f"SELECT {column} FROM {table} ORDER BY id")]


def said(value: object) -> Tamper:
    """What a computer sends that lets each call return this, whatever it computed."""

    def tamper(outputs: dict[str, bytes]) -> dict[str, bytes]:
        outcome = envelope.pack_outcome(Outcome(Ending.RETURNED, value=value))
        return {
            name: envelope.pack_outcomes([outcome] * len(envelope.unpack_outcomes(data)))
            for name, data in outputs.items()
        }

    return tamper


@contextlib.contextmanager
def computers(official: OfficialServer, *tampers: Tamper | None) -> Iterator[list[OfficialHost]]:
    """Everything runs, with a computer of a new user for each of these."""
    with contextlib.ExitStack() as stack:
        made = [official.volunteer(f"user{n}", tamper) for n, tamper in enumerate(tampers)]
        for each in made:
            stack.callback(each.close)
        with official.running(*made):
            yield made


def test_a_liar_is_outvoted(official: OfficialServer) -> None:
    with computers(official, said("a lie"), None, None) as (liar, *honest), Master(official.backend) as master:
        results = master.options(quorum=2).map(errands.double, range(1, 5), chunksize=1, timeout=LIMIT)
        assert list(results) == [2, 4, 6, 8]
        wait_until(
            lambda: states(official, "workunit", "assimilate_state") == [2] * 4, timeout=LIMIT, what="all to be filed"
        )
    lies = [
        row["validate_state"]
        for row in official.sql("SELECT * FROM result WHERE hostid = %s AND outcome = 1", liar.host)
    ]
    assert lies
    assert set(lies) <= {0, 2}  # 0: came when all was over
    for host in honest:
        assert official.one("host", "id", host.host)["total_credit"] > 0
        assert official.one("user", "id", host.user)["total_credit"] > 0
    assert official.one("host", "id", liar.host)["total_credit"] == 0
    trust = {row["host_id"]: row["consecutive_valid"] for row in official.sql("SELECT * FROM host_app_version")}
    assert trust[liar.host] == 0
    assert max(trust.values()) > 0


def test_results_agree_by_the_users_own_rule(official: OfficialServer) -> None:
    near = [said({"energy": 1.0 + error}) for error in (0.0, 1e-12)]
    with computers(official, *near), Master(official.backend) as master:
        close = master.options(quorum=2, agree=pymw.close(rtol=1e-9)).submit(errands.double, 1)
        assert close.result(LIMIT)["energy"] == pytest.approx(1.0)


def test_results_agree_by_the_users_own_function(official: OfficialServer) -> None:
    with computers(official, None, said(errands.Measured(7.0))), Master(official.backend) as master:
        alike = master.options(quorum=2, agree=errands.same_sign).submit(errands.measure, 1.0)
        assert alike.result(LIMIT).energy > 0
        failing = master.options(quorum=2, agree=errands.undecided).submit(errands.measure, 2.0)
        with pytest.raises(pymw.BackendError, match="what is sameness"):
            failing.result(LIMIT)


def test_an_exception_comes_home_with_what_was_printed(official: OfficialServer) -> None:
    with computers(official, None, None), Master(official.backend) as master:
        error = master.submit(errands.fail, "no").exception(LIMIT)
        assert isinstance(error, ValueError)
        assert error.args == ("no", 42)
        shouted = master.submit(errands.shout, "hello")
        assert (shouted.result(LIMIT), shouted.stdout) == (5, "HELLO\n")
        assert shouted.worker.startswith("host ")


def test_what_no_host_brings_back_is_lost_with_what_each_did(official: OfficialServer) -> None:
    with (
        computers(official, lambda _: {}, said, lambda _: {"x": b"?"}, None) as hosts,
        Master(official.backend) as master,
    ):
        hosts[1].tamper = lambda outputs: dict.fromkeys(outputs, b"cos\nsystem\n(S'true'\ntR.")
        hosts[3].tamper = lambda _: {}
        error = master.submit(errands.double, 1).exception(LIMIT)
    assert isinstance(error, pymw.WorkerLost)
    assert len(error.attempts) == 3
    assert all(attempt.ending == "what it sent could not be read" for attempt in error.attempts)


def test_data_files_go_once_to_each_computer_and_come_back(official: OfficialServer, tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("one two three")
    with computers(official, None) as (host,):
        with Master(official.backend) as master:
            with_file = master.options(files={"words/text.txt": text}, outputs=["counted.txt"])
            futures = [with_file.submit(errands.count_words, factor) for factor in (1, 2)]
            assert [future.result(LIMIT)[0] for future in futures] == [3, 6]
            assert futures[0].files == {"counted.txt": b"three two one"}
        shared = set(Batches(official.directory).shared())
        assert sorted(host.fetched.count(name) for name in shared) == [1] * len(shared)
        deleted = (
            "SELECT 1 FROM workunit WHERE file_delete_state < 2 UNION SELECT 1 FROM result WHERE file_delete_state < 2"
        )
        wait_until(lambda: not official.sql(deleted), timeout=LIMIT, what="the file deleter to be through")
    assert list((official.directory / "upload").glob("*/*")) == []
    left = {path.name for path in (official.directory / "download").glob("*/*")}
    programs = {path.name for path in (official.directory / "apps").glob("*/*/*/*") if path.name != "version.xml"}
    assert left == shared | programs
    # A day later nobody needs them.
    assert main(["boinc", "assimilate", str(official.directory), "--one-pass"]) == 0
    assert {path.name for path in (official.directory / "download").glob("*/*")} == left
    with contextlib.closing(Tables(Settings.read(official.directory))) as tables:
        Sweep(tables, Batches(official.directory), clock=lambda: time.time() + 2 * 86400).sweep()
    assert {path.name for path in (official.directory / "download").glob("*/*")} == programs
    assert Batches(official.directory).known() == set()


def test_what_is_cancelled_stops_on_hosts_too(official: OfficialServer, capsys: pytest.CaptureFixture[str]) -> None:
    with computers(official, None):
        with contextlib.suppress(KeyboardInterrupt), Master(official.backend, run="left") as master:
            running, waiting = (master.submit(errands.creep, seconds) for seconds in (600, 601))
            wait_until(lambda: "in progress on" in running.explain(), timeout=LIMIT, what="a host to take it")
            assert "no host has taken it yet" in waiting.explain()
            raise KeyboardInterrupt  # the run goes on
        assert main(["cancel", "left"]) == 0
        assert "left: cancelled" in capsys.readouterr().out
        wait_until(
            lambda: states(official, "workunit", "assimilate_state") == [2, 2], timeout=LIMIT, what="both to end"
        )
        wait_until(lambda: states(official, "result", "server_state") == [5, 5], timeout=LIMIT, what="the host to stop")
    assert states(official, "workunit", "error_mask") == [16, 16]
    assert sorted(states(official, "result", "outcome")) == [3, 5]  # one was stopped, one never sent


def test_progress_is_told_and_leaves_no_messages(official: OfficialServer) -> None:
    with (
        contextlib.closing(official.volunteer("ada")) as host,
        contextlib.suppress(KeyboardInterrupt),
        Master(official.backend) as master,
    ):
        future = master.submit(errands.double, 1)
        official.transition()
        assert official.send(host.host, host.user) is not None
        (copy,) = official.sql("SELECT * FROM result")
        for number, fraction in ((host.host, "0.25"), (host.host + 1, "0.75")):  # the second is somebody else's word
            xml = f"<result_name>{copy['name']}</result_name>\n<time>1.0</time>\n0 {fraction}\n"
            official.insert("msg_from_host", create_time=1, hostid=number, variety=PROGRESS, xml=xml)
        assert main(["boinc", "assimilate", str(official.directory), "--one-pass"]) == 0
        assert official.sql("SELECT * FROM msg_from_host") == []
        wait_until(lambda: future.progress == 0.25, timeout=LIMIT, what="progress to arrive")
        assert future.worker == f"host {host.host}"
        raise KeyboardInterrupt


def test_a_master_that_was_killed_loses_nothing(official: OfficialServer, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from tests import errands\nfrom pymw import Master\nimport sys\n"
        "with Master(sys.argv[1], run='killed') as master:\n"
        "    for value in master.map(errands.double, range(8), chunksize=2):\n"
        "        print(value, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script), official.backend]
    with computers(official, None):
        child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        wait_until(
            lambda: states(official, "workunit", "assimilate_state") == [2] * 4, timeout=LIMIT, what="all to be done"
        )
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert [int(line) for line in done.stdout.split()] == [2 * n for n in range(8)]
    assert len(official.sql("SELECT id FROM workunit")) == 4
    assert len(official.sql("SELECT id FROM result")) == 4


def test_two_runs_at_once_keep_apart(official: OfficialServer) -> None:
    with computers(official, None, None), Master(official.backend, run="one") as one, Master(official.backend) as other:
        first = one.map(errands.double, range(6), chunksize=2, timeout=LIMIT)
        second = other.map(errands.double, range(100, 106), chunksize=2, timeout=LIMIT)
        assert list(first) == [2 * n for n in range(6)]
        assert list(second) == [2 * n for n in range(100, 106)]
    assert len(official.sql("SELECT id FROM batch WHERE njobs = 3")) == 2


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # the driver's, when nobody answers
def test_all_go_on_when_the_database_was_away(official: OfficialServer, mariadb: MariaDB) -> None:
    with Master(official.backend) as master:
        future = master.submit(errands.double, 21)
        official.transition()
        processes = [
            subprocess.Popen(official.command(name, "--sleep_interval", "0.2"), stderr=subprocess.PIPE, text=True)
            for name in ("pymw_validator", "pymw_assimilator")
        ]

        def say(told: str) -> bool:
            return all(any(told in line for line in process.stderr or ()) for process in processes)

        try:
            assert say("begins, for")
            official.close()
            mariadb.stop()
            assert say("does not answer")
        finally:
            mariadb.start()
            official.root = official._connect(official.database)
        with contextlib.closing(official.volunteer("ada")) as host:
            host.step(official)
        official.transition()
        assert future.result(LIMIT) == 42
        for process, number in zip(processes, (signal.SIGHUP, signal.SIGTERM), strict=True):
            process.send_signal(number)
        assert [process.communicate(timeout=LIMIT) and process.returncode for process in processes] == [0, 0]
    gc.collect()


def test_work_whose_master_is_gone_is_ended(official: OfficialServer) -> None:
    master = Master(official.backend)
    try:
        master.submit(errands.double, 1)
        assert official.one("batch", "id", 1)["expire_time"] > time.time()
        official.sql("UPDATE batch SET expire_time = 1")
        official.transition()
        for _ in range(2):
            assert main(["boinc", "assimilate", str(official.directory), "--one-pass"]) == 0
            official.transition()
        assert states(official, "workunit", "error_mask") == [16]
        assert states(official, "batch", "state") == [4]
        assert Batches(official.directory).known() == set()
    finally:
        master.shutdown(wait=False, cancel_futures=True)


def test_jobs_that_came_by_remote_submission_are_left_for_who_fetches_them(official: OfficialServer) -> None:
    app = official.one("app", "name", "pymw")["id"]
    official.insert(
        "workunit", appid=app, name="theirs", batch=77, assimilate_state=1, error_mask=16, transition_time=2**31 - 1
    )
    assert main(["boinc", "assimilate", str(official.directory), "--one-pass"]) == 0
    assert states(official, "workunit", "assimilate_state") == [1]


def refusal(backend: str) -> str:
    with pytest.raises(pymw.BackendError) as caught:
        Master(backend)
    return str(caught.value)


def test_a_project_without_our_application_says_what_to_do(bare: OfficialServer) -> None:
    assert f"{bare.directory} has no application 'pymw'; for one of its project.xml say bin/xadd there" in refusal(
        bare.backend
    )
    assert main(["boinc", "install-app", str(bare.directory)]) == 0
    bare.xadd()
    assert "then bin/xadd and bin/update_versions" in refusal(bare.backend)
    bare.update_versions()
    with Master(bare.backend):
        pass


def test_a_key_that_volunteers_do_not_trust_is_refused(
    official: OfficialServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYMW_SIGNING_KEY", str(tmp_path / "another.pem"))
    told = refusal(official.backend)
    assert "do not run code that is signed with your key" in told
    official.install("--trust", re.search(r"--trust ([0-9a-f]+)", told)[1])  # type: ignore[index]
    with Master(official.backend):
        pass


def test_a_database_that_is_not_as_expected_is_refused_by_name(
    official: OfficialServer, capsys: pytest.CaptureFixture[str]
) -> None:
    config = official.directory / "config.xml"
    good = config.read_text()

    def with_config(before: str, after: str) -> str:
        assert before in good
        config.write_text(good.replace(before, after))
        try:
            assert main(["boinc", "validate", str(official.directory), "--one-pass"]) == 1
            told = refusal(official.backend)
            assert told in capsys.readouterr().err
            return told
        finally:
            config.write_text(good)

    assert "refuses 'boincadm' as config.xml has it" in with_config("secret &lt;", "wrong")
    assert "secret" not in with_config("<db_user>boincadm", "<db_user>nobody")
    assert "refuses 'boincadm'" in with_config(f"<db_name>{official.database}", "<db_name>other")
    config.write_text(good.replace("/s</db_socket>", "/nobody</db_socket>"))
    # The driver leaves its socket open when nobody answers; a process of its own takes it along.
    done = subprocess.run(
        official.command("pymw_validator", "--one_pass"), capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    official.sql("ALTER TABLE workunit DROP COLUMN transitioner_flags")
    assert "its table workunit lacks transitioner_flags" in with_config("<host>", "<host>")
    official.sql(
        "ALTER TABLE workunit ADD COLUMN transitioner_flags TINYINT NOT NULL, ADD COLUMN from_tomorrow INT NOT NULL"
    )
    with Master(official.backend) as master:  # what a later version adds is 0 or empty, as its own programs begin with
        future = master.submit(errands.double, 1)
        assert states(official, "workunit", "from_tomorrow") == [0]
        assert future.cancel()
    official.sql("DROP TABLE batch")
    assert "has no table batch: is it the one of a BOINC project?" in with_config("<host>", "<host>")


def test_proven_computers_go_unchecked(official: OfficialServer) -> None:
    with (
        Master(official.backend) as master,
        pytest.raises(pymw.UnsupportedOption, match="needs a target_nresults of 2"),
    ):
        master.options(quorum="adaptive").submit(errands.double, 1)
    official.sql("UPDATE app SET target_nresults = 2 WHERE name = 'pymw-adaptive'")  # the administrator
    with computers(official, None, None), Master(official.backend) as master:
        adaptive = master.options(quorum="adaptive")
        assert adaptive.submit(errands.double, 1).result(LIMIT) == 2
        assert states(official, "result", "validate_state") == [1, 1]
        official.sql("UPDATE host_app_version SET consecutive_valid = 1000000000")
        assert adaptive.submit(errands.double, 2).result(LIMIT) == 4
    assert states(official, "workunit", "target_nresults") == [2, 1]
    assert sorted(row["consecutive_valid"] for row in official.sql("SELECT * FROM host_app_version")) == [10**9, 10**9]


def test_results_that_never_agree_end_with_where_they_differ(
    official: OfficialServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "SPARE_RESULTS", 0)
    with computers(official, *(said({"energy": n}) for n in (1, 2, 3))), Master(official.backend) as master:
        error = master.options(quorum=2).submit(errands.double, 1).exception(LIMIT)
    assert isinstance(error, pymw.WorkerLost)
    assert len(error.attempts) == 3
    assert all("two results differ at ['energy']" in attempt.ending for attempt in error.attempts)
    assert states(official, "workunit", "error_mask") == [4]
    assert states(official, "result", "validate_state") == [3, 3, 3]


def test_what_comes_late_is_compared_with_what_was_taken(official: OfficialServer, hosts: list[OfficialHost]) -> None:
    with contextlib.closing(OfficialProject.open(official.directory)) as project:
        batch = project.create_batch("pymw", "late").id
        with Master(official.backend) as master:
            future = master.submit(errands.double, 21)
            (job,) = official.sql("SELECT * FROM workunit")
            assert project.create_jobs(batch, [Job(job["name"])]) == 0  # that name is taken
            official.transition()
            sent = official.send(hosts[0].host, hosts[0].user)
            assert sent is not None
            for _ in range(2):
                project.hurry(job["batch"], [job["name"]])  # the second time nothing is left to be done
                official.transition()
            assert [hosts[1].step(official), hosts[2].step(official)] == [1, 0]
            official.transition()
            official.daemons_once()
            assert future.result(LIMIT) == 42
        (taken,) = official.sql("SELECT * FROM result WHERE hostid = %s", hosts[1].host)
        official.transition()
        official.delete_files()
        assert official.one("workunit", "id", job["id"])["file_delete_state"] == 0  # one is still out
        for reference in sent[1].outputs:
            official.receive(reference.file.name, official.read_upload(taken["name"]))
        official.report(sent[0], Finished(sent[1].name, 5, 0))
        official.transition()
        official.daemons_once()
        late = official.one("result", "id", sent[0])
        assert (late["validate_state"], late["granted_credit"]) == (1, taken["granted_credit"])
        official.transition()
        official.delete_files()
    assert states(official, "workunit", "file_delete_state") == [2]
    assert list((official.directory / "upload").glob("*/*")) == []
