"""Backups while the server works, restores, and clients that went on meanwhile."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, select, text
from tests.mariadb import MariaDB

from boincserver import backup, cli, migrations, password_reset
from boincserver.control import AppFile, Job
from boincserver.deletion import DeletionLock
from boincserver.doctor import examine
from boincserver.errors import BackupError, ProjectExists, RestoreError, SchemaError, SigningKeyMissing
from boincserver.files import FileStore
from boincserver.project import Project
from boincserver.restore import restore
from boincserver.schema import consent_type, result, user
from boincserver.testing import SimulatedJob, SimulatedVolunteer, StockClient, serving, wait_until

from .conftest import PLATFORM, add_app, make_project
from .test_stock_client import LIMIT, SHORT, SPEED, collect

PASSPHRASE = "correct horse"


def shout(job: SimulatedJob) -> dict[str, bytes]:
    return {"out": job.inputs["in"].upper()}


def jobs(*names: str, **options: object) -> list[Job]:
    return [Job(name, {"in": f"text of {name}".encode()}, {"out": 1000}, **options) for name in names]  # type: ignore[arg-type]


def findings(directory: Path) -> list[str]:
    database = Project.open(directory).open_database()
    try:
        return list(examine(database, FileStore(directory / "upload")))
    finally:
        database.close()


def back_up(directory: Path, target: Path, **options: object) -> backup.Manifest:
    made = Project.open(directory)
    database = made.open_database()
    try:
        return backup.write(made, database, target, now=time.time(), **options)  # type: ignore[arg-type]
    finally:
        database.close()


def rows(directory: Path, statement: object) -> list[tuple[object, ...]]:
    database = Project.open(directory).open_database()
    try:
        return [tuple(row) for row in database.session().all(statement)]  # type: ignore[arg-type]
    finally:
        database.close()


def test_a_backup_under_load_is_of_one_moment(directory: Path, tmp_path: Path) -> None:
    made = make_project(directory)
    with serving(directory) as server:
        control = server.control
        add_app(control, tmp_path)
        batch = control.create_batch("upper", "b")
        control.create_jobs(batch.id, jobs(*(f"j{n}" for n in range(400))))
        volunteer = SimulatedVolunteer(made.config.url, control.create_account("v@example.org"), shout, ncpus=10)
        stop = threading.Event()

        def take_outcomes() -> None:
            while not stop.is_set():
                if outcomes := control.outcomes(batch.id, wait=0.2):
                    control.acknowledge(batch.id, outcomes[-1].seq)

        taker = threading.Thread(target=take_outcomes)
        with volunteer:
            volunteer.start(pause=0.01)
            taker.start()
            try:
                for n in range(3):
                    control.create_jobs(batch.id, jobs(*(f"more{n}-{m}" for m in range(200))))
                    seen = volunteer.jobs_done
                    wait_until(lambda seen=seen: volunteer.jobs_done > seen + 20, timeout=60, what="jobs to be done")
                    back_up(directory, tmp_path / f"{n}.tar.gz")
            finally:
                stop.set()
                taker.join()
        assert control.status()["jobs"]["done"] >= 60
    for n in range(3):
        restore(tmp_path / f"{n}.tar.gz", tmp_path / f"restored{n}", keys=directory / "keys")
        assert findings(tmp_path / f"restored{n}") == []
    assert not list((directory / "run").glob("backup-*"))


def test_nothing_is_deleted_while_a_backup_is_made(directory: Path, tmp_path: Path) -> None:
    made = make_project(directory)
    with serving(directory) as server:
        control = server.control
        add_app(control, tmp_path)
        batch = control.create_batch("upper", "b")
        control.create_jobs(batch.id, jobs("j"))
        with SimulatedVolunteer(made.config.url, control.create_account("v@example.org"), shout) as volunteer:
            volunteer.step()
            volunteer.contact()
        (output,) = (path for path in (directory / "upload").rglob("*") if path.is_file())
        lock = DeletionLock(directory / "run")
        with lock.alone():
            control.acknowledge(batch.id, control.outcomes(batch.id)[-1].seq)
            assert control.status()["queues"] >= 0  # the server answers
            assert output.exists()
        lock.close()
        wait_until(lambda: not output.exists(), timeout=30, what="the file to go afterwards")


def test_the_two_locks_exclude_each_other(tmp_path: Path) -> None:
    one, two = DeletionLock(tmp_path), DeletionLock(tmp_path)
    assert one.enter() and one.enter()
    began = threading.Event()

    def copy() -> None:
        with two.alone():
            began.set()

    thread = threading.Thread(target=copy)
    thread.start()
    third = DeletionLock(tmp_path)
    wait_until(lambda: not third.enter() or third.leave(), timeout=60, what="the copier to keep new deletions out")
    assert not began.is_set()
    one.leave()
    assert not began.is_set()
    one.leave()
    assert began.wait(60)
    thread.join()
    for lock in (one, two, third):
        lock.close()


def test_keys_travel_only_under_a_passphrase(directory: Path, tmp_path: Path) -> None:
    made = make_project(directory)
    plain, sealed = tmp_path / "plain.tar.gz", tmp_path / "sealed.tar.gz"
    assert not back_up(directory, plain).with_keys
    assert back_up(directory, sealed, passphrase=PASSPHRASE).with_keys
    secret = (directory / "keys" / "code_sign_private").read_bytes()
    for archive in (plain, sealed):
        with tarfile.open(archive) as packed:
            for member in packed:
                file = packed.extractfile(member)
                assert file is None or secret not in file.read()
    restored = restore(sealed, tmp_path / "a", passphrase=PASSPHRASE)
    assert restored.project.private_key() == made.private_key()
    assert restored.project.upload_secret == made.upload_secret
    for passphrase in ("", "incorrect"):
        with pytest.raises(RestoreError, match="passphrase"):
            restore(sealed, tmp_path / "b", passphrase=passphrase)
        assert not (tmp_path / "b").exists()
    restored = restore(plain, tmp_path / "c")
    assert (restored.can_sign, restored.same_secret) == (False, False)
    with pytest.raises(SigningKeyMissing):
        restored.project.private_key()
    (directory / "keys" / "code_sign_private").unlink()
    with pytest.raises(SigningKeyMissing):
        back_up(directory, tmp_path / "none.tar.gz", passphrase=PASSPHRASE)
    with pytest.raises(BackupError, match="never replaces"):
        back_up(directory, plain)
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_damaged_backups_change_nothing(directory: Path, tmp_path: Path) -> None:
    make_project(directory)
    good = tmp_path / "good.tar.gz"
    back_up(directory, good)
    data = good.read_bytes()
    bad = tmp_path / "bad.tar.gz"
    for content in (b"", b"not a backup", data[: len(data) // 2], data[:-200]):
        bad.write_bytes(content)
        with pytest.raises(RestoreError):
            restore(bad, tmp_path / "p")
    for member in (tarfile.TarInfo("../evil"), tarfile.TarInfo("/evil"), tarfile.TarInfo("link")):
        if member.name == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        with tarfile.open(bad, "w:gz") as archive:
            archive.addfile(member)
        with pytest.raises(RestoreError, match="is not of a backup"):
            restore(bad, tmp_path / "p")
    with pytest.raises(RestoreError, match="there is no backup"):
        restore(tmp_path / "absent", tmp_path / "p")
    with pytest.raises(ProjectExists, match="--replace"):
        restore(good, directory)
    other = tmp_path / "other"
    make_project(other)
    with pytest.raises(RestoreError, match="is of http"):
        restore(good, other, replacing=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar.gz", "good.tar.gz", "other", "project"]


def test_in_the_place_of_a_broken_project(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_project(directory)
    with serving(directory) as server:
        add_app(server.control, tmp_path)
        batch = server.control.create_batch("upper", "b")
        server.control.create_jobs(batch.id, jobs("j"))
        assert cli.main(["backup", str(directory), "--tables-only", "--json"]) == 0
        archive = json.loads(capsys.readouterr().out)["file"]
        assert cli.main(["restore", str(directory), archive, "--replace"]) == 1
        assert "already serves" in capsys.readouterr().err
    (directory / "database.sqlite3").write_bytes(b"broken")
    assert cli.main(["restore", str(tmp_path / "new"), archive]) == 1
    assert "tables alone" in capsys.readouterr().err
    assert cli.main(["restore", str(directory), archive, "--replace", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["can_sign"] and document["same_secret"]
    assert (Path(document["aside"]) / "database.sqlite3").read_bytes() == b"broken"
    assert (directory / "backups" / Path(archive).name).is_file()
    with serving(directory) as server:
        with SimulatedVolunteer(made.config.url, server.control.create_account("v@example.org"), shout) as volunteer:
            assert volunteer.step() == 1
            volunteer.contact()
        assert server.control.outcomes(batch.id)[0].outputs == {"out": b"TEXT OF J"}


def test_names_and_numbers_never_come_again(directory: Path, tmp_path: Path) -> None:
    """Of one backup two projects are restored; neither gives what the lost one, or the other, has given."""
    made = make_project(directory)
    with serving(directory) as server:
        control = server.control
        add_app(control, tmp_path)
        batch = control.create_batch("upper", "b")
        control.create_jobs(batch.id, jobs("out", "unsent", max_error_results=0))
        key = control.create_account("v@example.org")
        with SimulatedVolunteer(made.config.url, key, shout) as volunteer:
            (sent,) = volunteer.contact(seconds=1, instances=1).assignments
            assert sent.name == "out_0"
    archive = tmp_path / "b.tar.gz"
    back_up(directory, archive)

    def given(folder: Path) -> dict[str, set[object]]:
        """Everything that a project gives from here on."""
        with serving(folder) as server:
            control = server.control
            later = control.create_batch("upper", "later")
            control.create_jobs(later.id, jobs("later"))
            control.create_account("new@example.org")
            (tmp_path / "more.sh").write_text(f"#!/bin/sh\n# {folder}\n")
            version = control.ensure_app_version("upper", PLATFORM, None, [AppFile(tmp_path / "more.sh", "more", True)])
            with SimulatedVolunteer(made.config.url, key, shout, ncpus=4) as volunteer:
                while volunteer.step() or volunteer.finished:
                    pass
            return {
                "names": {row[0] for row in rows(folder, select(result.c.name))} - {"out_0"},
                "hosts": {volunteer.hostid},
                "batches": {later.id},
                "outcomes": {outcome.seq for outcome in control.outcomes(later.id)},
                "users": {
                    row[0] for row in rows(folder, select(user.c.id).where(user.c.email_addr == "new@example.org"))
                },
                "results": {row[0] for row in rows(folder, select(result.c.id).where(result.c.name.like("later%")))},
                "versions": {version.version_num},
            }

    lost = given(directory)
    epochs = []
    for n in (1, 2):
        folder = tmp_path / str(n)
        restore(archive, folder, keys=directory / "keys", clock=lambda n=n: time.time() + 60 * n)
        found = given(folder)
        for kind, values in found.items():
            assert len(values) >= 1, kind
            assert not values & lost[kind], kind
            assert all(not values & earlier[kind] for earlier in epochs if kind != "versions"), kind
        assert findings(folder) == []
        epochs.append(found)
    assert min(epochs[1]["outcomes"]) > max(epochs[0]["outcomes"]) > max(lost["outcomes"])  # type: ignore[operator]


def test_a_restore_costs_no_job_its_last_try(directory: Path, tmp_path: Path) -> None:
    """The output of a copy came after the backup; its report, and the failure it is now, must not end the job."""
    made = make_project(directory)
    archive = tmp_path / "b.tar.gz"
    with serving(directory) as server:
        control = server.control
        add_app(control, tmp_path)
        batch = control.create_batch("upper", "b")
        control.create_jobs(batch.id, jobs("j", max_error_results=0, max_total_results=1))
        keys = [control.create_account(f"v{n}@example.org") for n in range(2)]
        volunteer = SimulatedVolunteer(made.config.url, keys[0], shout)
        volunteer.contact()
        back_up(directory, archive)
        volunteer.work("j_0")
    restore(archive, directory, replacing=True)
    with serving(directory) as server, volunteer, SimulatedVolunteer(made.config.url, keys[1], shout) as other:
        volunteer.contact()
        assert other.step() == 1
        other.contact()
        (outcome,) = server.control.outcomes(batch.id, wait=60)
        assert outcome.outputs == {"out": b"TEXT OF J"}
        assert findings(directory) == []


def test_a_link_to_a_new_password_does_not_come_back(directory: Path, tmp_path: Path) -> None:
    """It was made before the backup and used after it."""
    make_project(directory)
    archive = tmp_path / "b.tar.gz"
    with serving(directory) as server:
        server.control.create_account("ada@example.org")
        secret = server.control.reset_link("ada@example.org").partition("token=")[2]
        back_up(directory, archive)
    database = Project.open(directory).open_database()
    assert password_reset.owner(database.reader(), secret, int(time.time())) is not None
    database.close()
    restore(archive, directory, replacing=True)
    database = Project.open(directory).open_database()
    assert password_reset.owner(database.reader(), secret, int(time.time())) is None
    database.close()


def test_before_a_change_of_the_schema_the_tables_are_backed_up(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(directory)
    seen: list[Path] = []

    def change(connection: object) -> None:
        seen.extend((directory / "backups").iterdir())

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, change))
    monkeypatch.setattr(migrations, "LATEST", migrations.LATEST + 1)
    Project.open(directory).open_database().close()
    Project.open(directory).open_database().close()
    (made,) = seen
    assert made.name.startswith(f"before-schema-{migrations.LATEST}-")
    monkeypatch.undo()
    with pytest.raises(SchemaError, match="newer boincserver"):
        Project.open(directory).open_database()
    restore(made, directory, replacing=True)
    Project.open(directory).open_database().close()


def test_a_step_that_fails_leaves_the_tables_as_they_were(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(directory)

    def change(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE half (n INTEGER)"))
        connection.execute(text("INSERT INTO half VALUES (1)"))
        raise OSError("the power is gone")

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, change))
    monkeypatch.setattr(migrations, "LATEST", migrations.LATEST + 1)
    with pytest.raises(OSError, match="power"):
        Project.open(directory).open_database()
    monkeypatch.undo()
    database = Project.open(directory).open_database()
    assert "half" not in inspect(database.engine).get_table_names()
    database.close()


def test_tables_of_the_first_schema_become_those_of_now(directory: Path) -> None:
    make_project(directory)
    with closing(sqlite3.connect(directory / "database.sqlite3")) as old:
        for name in ("consent", "consent_type", "token", "boincserver_invitation"):
            old.execute(f"DROP TABLE {name}")
        old.execute("UPDATE boincserver_meta SET value = '1' WHERE name = 'schema_version'")
        old.commit()
    database = Project.open(directory).open_database()
    with database.engine.connect() as connection:
        assert migrations.version_of(connection) == migrations.LATEST
        assert connection.execute(select(consent_type.c.shortname)).scalars().all() == ["ENROLL", "STATSEXPORT"]
    database.close()
    assert len(list((directory / "backups").iterdir())) == 1


@pytest.mark.stock
@pytest.mark.parametrize("kind", ["sqlite", "mariadb"])
def test_stock_clients_that_went_on_recover(
    directory: Path, tmp_path: Path, need: Callable[..., None], request: pytest.FixtureRequest, kind: str
) -> None:
    """After the backup one client reports, one joins, one joins with a new account; then the disk is gone."""
    need("boinc", "boinccmd", "faketime")
    mariadb: MariaDB | None = request.getfixturevalue("mariadb") if kind == "mariadb" else None
    url = make_project(directory, database=mariadb.create() if mariadb else "").config.url
    elsewhere = ["--database", mariadb.create()] if mariadb else []
    archive = tmp_path / "b.tar.gz"
    with (
        StockClient(speed=SPEED, name="old") as old,
        StockClient(speed=SPEED, name="joined") as joined,
        StockClient(speed=SPEED, name="fresh") as fresh,
    ):
        with serving(directory) as server:
            control = server.control
            add_app(control, tmp_path)
            batch = control.create_batch("upper", "b")
            old.attach(url, control.create_account("old@example.org"))
            joined_key = control.create_account("joined@example.org")
            control.create_jobs(batch.id, [Job("before", {"in": b"before\n"}, {"out": 1000}, **SHORT)])
            collect(control, batch.id, 1)
            control.create_jobs(batch.id, [Job("unsent", {"in": b"unsent\n"}, {"out": 1000}, min_quorum=2, **SHORT)])
            assert (
                cli.main(
                    ["backup", str(directory), str(archive), "--with-keys", "--passphrase-file", _passphrase(tmp_path)]
                )
                == 0
            )
            # From here on the backup knows of nothing.
            control.create_jobs(batch.id, [Job("since", {"in": b"one thing\n"}, {"out": 1000}, **SHORT)])
            joined.attach(url, joined_key)
            fresh_key = control.create_account("fresh@example.org")
            fresh.attach(url, fresh_key)
            collect(control, batch.id, 3)
            control.create_jobs(
                batch.id,
                [
                    Job(f"run{n}", {"in": b"sleep 100000\n"}, {"out": 1000}, rsc_fpops_est=1e12, copy_files=True)
                    for n in range(9)
                ],
            )
            clients = (old, joined, fresh)
            wait_until(
                lambda: all(any(t.active_state == "EXECUTING" for t in c.tasks()) for c in clients),
                timeout=LIMIT, what="each client to run a job that the backup does not know",
            )  # fmt: skip
            server.kill()
        shutil.rmtree(directory)
        opened = ["--passphrase-file", _passphrase(tmp_path)]
        assert cli.main(["restore", str(directory), str(archive), *opened, *elsewhere]) == 0
        with serving(directory) as server:
            control = server.control
            assert control.create_account("fresh@example.org") == fresh_key
            # The same name as a job of the lost time, and another input: nobody may take the one for the other.
            again = [Job("since", {"in": b"another\n"}, {"out": 1000}, **SHORT)]
            again += [Job(f"run{n}", {"in": b"short\n"}, {"out": 1000}, **SHORT) for n in range(6)]
            control.create_jobs(batch.id, again)
            for client in clients:
                client.update(url)
            outcomes = collect(control, batch.id, 9)
            assert outcomes["unsent"].outputs["out"] == b"UNSENT\n"
            assert outcomes["since"].outputs["out"] == b"ANOTHER\n"
            assert {outcomes[f"run{n}"].outputs["out"] for n in range(6)} == {b"SHORT\n"}
            hosts = control.status()["hosts"]

            def settled() -> bool:
                # A client that came before its account was there again is told to stay away for an hour, and an update
                # during that request is lost: the person clicks again.
                unwanted = [client for client in clients if any(task.name.endswith("_0") for task in client.tasks())]
                for client in unwanted:
                    client.update(url)
                return not unwanted

            what = "the clients to end what nobody wants any more"
            wait_until(settled, timeout=LIMIT, what=what, interval=1.0)
        assert len({entry["id"] for entry in hosts}) == len(hosts) >= 2
    assert findings(directory) == []


def _passphrase(folder: Path) -> str:
    path = folder / "passphrase"
    path.write_text(f"{PASSPHRASE}\n")
    return str(path)


def test_keys_that_are_not_where_they_are_said_to_be(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typo made a project without its keys."""
    make_project(directory)
    archive = tmp_path / "b.tar.gz"
    assert cli.main(["backup", str(directory), str(archive)]) == 0
    restore = ["restore", str(tmp_path / "again"), str(archive), "--keys"]
    assert cli.main([*restore, str(tmp_path / "typo")]) == 1
    assert "--keys: there is none of" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()
    assert cli.main([*restore, str(directory / "keys")]) == 0
