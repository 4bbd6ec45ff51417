"""What the sites that gather statistics fetch: every field, nobody who did not agree, whole files, little memory."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import sqlite3
import time
import tracemalloc
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from boincserver import cli, stats
from boincserver.control import Job
from boincserver.project import Project
from boincserver.schema import consent, host, team, user
from boincserver.service import Service
from boincserver.stats import Exporter
from boincserver.testing import SimulatedJob, SimulatedVolunteer, configure, serving, wait_until

from .conftest import add_app, make_project


def shout(job: SimulatedJob) -> dict[str, bytes]:
    return {"out": b"X"}


def fetch(url: str, name: str) -> ET.Element:
    with urllib.request.urlopen(f"{url}stats/{name}", timeout=30) as response:
        data = response.read()
    return ET.fromstring(gzip.decompress(data) if name.endswith(".gz") else data)


def texts(element: ET.Element) -> dict[str, str]:
    return {child.tag: child.text or "" for child in element}


def export_again(directory: Path) -> None:
    """The server looks once an hour; its first look comes with its start."""
    (directory / "stats" / "tables.xml").unlink(missing_ok=True)


def test_people_teams_and_computers_as_they_agreed(directory: Path, tmp_path: Path) -> None:
    make_project(directory)
    with serving(directory) as server:
        control = server.control
        url = control.info().url
        add_app(control, tmp_path)
        batch = control.create_batch("upper", "b")
        control.create_jobs(batch.id, [Job(f"j{n}", {"in": b"x"}, {"out": 10}) for n in range(4)])
        names = {"ada": "Ada <é> Łódź & Co", "bob": "Bob", "eve": "Eve"}
        for number, (who, name) in enumerate(names.items(), start=1):
            key = control.create_account(f"{who}@example.org", name)
            with SimulatedVolunteer(url, key, shout, host_cpid=f"{number:032x}", name=f"{who}s-computer") as volunteer:
                assert volunteer.step() == 1
                volunteer.contact(seconds=0, instances=0)
        # Whoever says nothing is not told of; an answer can be taken back.
        assert cli.main(["user", "share", str(directory), "--email", "ada@example.org", "--credit", "yes"]) == 0
        control.share("bob@example.org", credit=True, hosts=True)
        control.share("eve@example.org", credit=True)
        control.share("eve@example.org", credit=False)
    with closing(sqlite3.connect(directory / "database.sqlite3")) as database, database:
        database.execute(
            "INSERT INTO team (id, userid, name, type, create_time, url, description, total_credit)"
            " VALUES (3, 1, 'The <Team>', 1, 77, 'http://t/?a&b', 'line one\nline two', 5.5), (4, 3, 'Eves', 0, 78, '', '', 0)"
        )
        database.execute("UPDATE user SET teamid = 3, country = 'Poland' WHERE id = 1")
        tables = {name: database.execute(f"SELECT * FROM {name} WHERE id = 1").fetchone() for name in ("user", "host")}
        columns = {name: [c[1] for c in database.execute(f"PRAGMA table_info({name})")] for name in ("user", "host")}
    ada, computer = (dict(zip(columns[name], tables[name], strict=True)) for name in ("user", "host"))
    export_again(directory)
    before = int(time.time())
    with serving(directory):
        wait_until(lambda: (directory / "stats" / "tables.xml").exists(), timeout=30, what="the export")
        people = {each.findtext("id"): texts(each) for each in fetch(url, "user.gz")}
        teams = {each.findtext("id"): texts(each) for each in fetch(url, "team.gz")}
        computers = {each.findtext("id"): texts(each) for each in fetch(url, "host.gz")}
        tables_xml = fetch(url, "tables.xml")
        for name in ("../project.toml", "other.gz", ".new-x"):
            with pytest.raises(urllib.error.HTTPError):
                fetch(url, name)

    assert set(people) == {"1", "2"}
    assert ada["total_credit"] > 0
    assert people["1"] == {
        "id": "1", "name": "Ada <é> Łódź & Co", "create_time": str(ada["create_time"]), "country": "Poland", "teamid": "3",
        "total_credit": f"{ada['total_credit']:.6f}", "expavg_credit": f"{ada['expavg_credit']:.6f}",
        "expavg_time": f"{ada['expavg_time']:.6f}",
        "cpid": hashlib.md5(f"{ada['cross_project_id']}ada@example.org".encode()).hexdigest(),
    }  # fmt: skip
    assert "example.org" not in str(people) + str(teams) + str(computers)
    assert set(teams) == {"3", "4"}
    assert teams["3"] == {
        "id": "3", "type": "1", "name": "The <Team>", "userid": "1", "total_credit": "5.500000", "expavg_credit": "0.000000",
        "expavg_time": "0.000000", "founder_name": "Ada <é> Łódź & Co", "create_time": "77", "url": "http://t/?a&b",
        "description": "line one line two",
    }  # fmt: skip
    assert teams["4"]["founder_name"] == "", "Eve did not agree"
    assert set(computers) == {"1", "2"}
    assert "userid" not in computers["1"]
    assert computers["2"]["userid"] == "2"
    assert computers["1"]["ncpus"] == str(computer["p_ncpus"])
    assert float(computers["1"]["p_fpops"]) == computer["p_fpops"] > 0
    for name in ("p_vendor", "p_model", "os_name", "os_version", "host_cpid", "rpc_time", "timezone"):
        assert computers["1"][name] == str(computer[name]), name
    for name in ("d_total", "d_free", "m_nbytes", "n_bwup", "avg_turnaround", "credit_per_cpu_sec", "total_credit"):
        assert float(computers["1"][name]) == pytest.approx(computer[name], abs=1e-5), name
    assert "domain_name" not in computers["1"]
    assert before <= int(tables_xml.findtext("update_time") or 0) <= time.time()
    counts = {name: tables_xml.findtext(name) for name in ("nusers_total", "nteams_total", "nhosts_total")}
    assert counts == {"nusers_total": "2", "nteams_total": "2", "nhosts_total": "2"}
    assert float(tables_xml.findtext("total_credit") or 0) == pytest.approx(2 * ada["total_credit"], abs=1e-4)
    (app,) = tables_xml.find("applications") or []
    assert texts(app) == {"name": "upper", "results_unsent": "1", "results_in_progress": "0", "results_over": "3"}


def test_once_in_so_many_hours(tmp_path: Path) -> None:
    exporter = Exporter(tmp_path, 24)
    assert exporter.is_due(1e9)
    (tmp_path / "tables.xml").touch()
    os.utime(tmp_path / "tables.xml", (1e9, 1e9))
    assert not exporter.is_due(1e9 + 23 * 3600)
    assert exporter.is_due(1e9 + 24 * 3600)
    assert exporter.is_due(1e9 - 25 * 3600)  # the clock was wrong then
    assert not Exporter(tmp_path, 0).is_due(1e9 + 24 * 3600)


def test_a_failure_leaves_what_was_there_and_nothing_else(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = make_project(directory)
    database = opened.open_database()
    exporter = Exporter(directory / "stats", 24)
    try:
        with database.engine.begin() as connection:
            many(connection, 3)
        exporter.write(database.reader(), 100)
        first = {path.name: path.read_bytes() for path in exporter.folder.iterdir()}
        assert set(first) == set(stats.FILES)
        (exporter.folder / ".new-killed").write_bytes(b"half")

        def full(row: Any) -> str:
            raise OSError(28, "no space left on device")

        kinds = [stats._Kind("user", stats._USERS, stats._USER, full)]
        with monkeypatch.context() as patch:
            patch.setattr(stats, "_KINDS", kinds)
            with pytest.raises(OSError, match="no space"):
                exporter.write(database.reader(), 200)
        assert {path.name: path.read_bytes() for path in exporter.folder.iterdir()} == first
        assert exporter.is_due(100 + 25 * 3600), "it is tried again"
    finally:
        database.close()


def many(connection: Any, count: int) -> None:
    """People who agreed, each with a computer and a team."""
    numbers = range(1, count + 1)
    connection.execute(
        user.insert(),
        [{"id": n, "name": f"user {n}", "email_addr": f"{n}@x", "authenticator": f"{n:032x}", "total_credit": 1.0} for n in numbers],
    )  # fmt: skip
    connection.execute(
        consent.insert(), [{"userid": n, "consent_type_id": 2, "consent_time": 1, "consent_flag": 1} for n in numbers]
    )
    connection.execute(host.insert(), [{"id": n, "userid": n, "p_model": "x" * 200} for n in numbers])
    connection.execute(team.insert(), [{"id": n, "userid": n, "name": f"team {n}"} for n in numbers])


def test_memory_does_not_grow_with_the_project(directory: Path) -> None:
    opened = make_project(directory)
    database = opened.open_database()
    exporter = Exporter(directory / "stats", 24)
    peaks = []
    try:
        for count in (2_000, 12_000):
            with database.engine.begin() as connection:
                for table in (user, consent, host, team):
                    connection.execute(table.delete())
                many(connection, count)
            tracemalloc.start()
            exporter.write(database.reader(), 100)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            document = ET.fromstring(gzip.decompress((exporter.folder / "host.gz").read_bytes()))
            assert [int(each.findtext("id") or 0) for each in document] == list(range(1, count + 1))
    finally:
        database.close()
    assert peaks[1] < 1.5 * peaks[0]


def test_a_project_may_do_without(directory: Path) -> None:
    make_project(directory)
    configure(directory, statistics_hours=0)

    async def run() -> None:
        service = Service(Project.open(directory))
        try:
            await service.start()
            await service._clean_up(int(time.time()))
        finally:
            await service.close()

    asyncio.run(run())
    assert not (directory / "stats").exists()
