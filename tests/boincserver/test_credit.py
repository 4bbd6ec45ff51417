"""Credit outlives the server: what was granted is there after a kill, once, and recent averages fade as they should."""

from __future__ import annotations

import math
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from boincserver.control import Control, Job
from boincserver.credit import recent_average
from boincserver.testing import SimulatedJob, SimulatedVolunteer, serving, wait_until

from .conftest import add_app, make_project

DAY = 86400
WORK = 4.32e12
EARNS = 200 / 86400e9 * WORK
"""By BOINC's definition: 200 for a day of a computer with 10⁹ operations a second."""


def shout(job: SimulatedJob) -> dict[str, bytes]:
    return {"out": job.inputs["in"].upper()}


def create(control: Control, first: int, count: int) -> None:
    batch = control.create_batch("upper", "b")
    names = range(first, first + count)
    control.create_jobs(batch.id, [Job(f"j{n}", {"in": b"x"}, {"out": 10}, rsc_fpops_est=WORK) for n in names])


def accounts(directory: Path) -> dict[str, tuple[float, float, float]]:
    """Total and recent average of everybody, and when that was; read beside whatever server there is."""
    with closing(sqlite3.connect(directory / "database.sqlite3")) as database:
        return {
            f"{table}{number}": account
            for table in ("user", "host")
            for number, *account in database.execute(
                f"SELECT id, total_credit, expavg_credit, expavg_time FROM {table} ORDER BY id"
            )
        }  # type: ignore[misc]


def granted(directory: Path) -> list[float]:
    with closing(sqlite3.connect(directory / "database.sqlite3")) as database:
        return [row[0] for row in database.execute("SELECT granted_credit FROM result WHERE granted_credit > 0")]


def time_passes(directory: Path, seconds: int) -> None:
    """Everything in the tables was so much earlier."""
    with closing(sqlite3.connect(directory / "database.sqlite3")) as database, database:
        for table in ("user", "host"):
            database.execute(f"UPDATE {table} SET expavg_time = expavg_time - {seconds} WHERE expavg_time > 0")


def test_credit_is_there_after_a_kill_and_once(directory: Path, tmp_path: Path) -> None:
    make_project(directory)
    with serving(directory) as server:
        add_app(server.control, tmp_path)
        create(server.control, 0, 3)
        volunteer = SimulatedVolunteer(
            server.control.info().url, server.control.create_account("v@example.org"), shout, ncpus=3
        )
        with volunteer:
            assert volunteer.step() == 3
            reports = dict(volunteer.finished)
            volunteer.contact(seconds=0, instances=0)
            server.kill()
            before = accounts(directory)
            assert before["user1"][0] == before["host1"][0] == pytest.approx(3 * EARNS)
            assert before["user1"][1] > 0
            with serving(directory):
                # The reply was lost as far as this client knows.
                volunteer.finished = reports
                volunteer.contact(seconds=0, instances=0)
                assert accounts(directory) == before
                assert "<user_total_credit>30.0" in volunteer.raw_contact()
            assert accounts(directory) == before, "nor does an orderly stop change anything"
    assert granted(directory) == pytest.approx([EARNS] * 3)


def test_averages_fade_across_a_restart(directory: Path, tmp_path: Path) -> None:
    make_project(directory)
    with serving(directory) as server:
        add_app(server.control, tmp_path)
        create(server.control, 0, 2)
        url, key = server.control.info().url, server.control.create_account("v@example.org")
        volunteer = SimulatedVolunteer(url, key, shout)
        with volunteer:
            volunteer.step()
            volunteer.contact(seconds=0, instances=0)
            server.kill()
            first = accounts(directory)
            time_passes(directory, 7 * DAY - 3600)
            with serving(directory):
                # Whoever did nothing for most of a week has little more than half, without doing anything.
                wait_until(lambda: accounts(directory) != first, timeout=30, what="averages to fade")
                wait_until(lambda: accounts(directory)["host1"][2] > first["host1"][2] - DAY, timeout=30, what="both")
                faded = accounts(directory)
                for who, (total, average, _) in faded.items():
                    assert total == first[who][0]
                    assert average == pytest.approx(first[who][1] * 0.5 ** ((7 * DAY - 3600) / (7 * DAY)), rel=1e-3)
            time_passes(directory, 3600)
            before = accounts(directory)
            with serving(directory):
                assert accounts(directory) == before, "an hour is too short a time to write it down"
                volunteer.step()
                volunteer.contact(seconds=0, instances=0)
                after = accounts(directory)
    for who, (total, average, updated) in after.items():
        assert total == pytest.approx(before[who][0] + EARNS)
        expected = recent_average(before[who][1], before[who][2], EARNS, updated, 0)
        assert average == pytest.approx(expected)
        passed = (updated - before[who][2]) / DAY
        assert average == pytest.approx(
            before[who][1] * 0.5 ** (passed / 7) + EARNS * (1 - 0.5 ** (passed / 7)) / passed, rel=1e-6
        )
        assert 3600 <= updated - before[who][2] < 3600 + 600
        assert math.isfinite(average)


def many_kills(directory: Path, tmp_path: Path, kills: int, seed: int) -> None:
    """Volunteers work all the time while the server is killed at any moment; in the end each job earned once."""
    chance = random.Random(seed)
    make_project(directory)
    total = 20 * (kills + 1)
    with serving(directory) as server:
        add_app(server.control, tmp_path)
        create(server.control, 0, total)
        url = server.control.info().url
        keys = [server.control.create_account(f"v{n}@example.org") for n in range(2)]
    volunteers = [SimulatedVolunteer(url, key, shout, ncpus=2) for key in keys]
    try:
        for volunteer in volunteers:
            volunteer.start(pause=0.05)
        for n in range(kills):
            with serving(directory) as server:
                wait_until(lambda n=n: len(granted(directory)) >= 15 * (n + 1), timeout=90, what="some credit")  # type: ignore[misc]
                time.sleep(chance.uniform(0, 0.05))  # the moment is the point
                server.kill()
            held = accounts(directory)
            for kind in ("user", "host"):
                sums = sum(account[0] for who, account in held.items() if who.startswith(kind))
                assert sums == pytest.approx(sum(granted(directory))), f"after kill {n}"
        with serving(directory):
            wait_until(lambda: len(granted(directory)) == total, timeout=120, what="all jobs to be done")
            for kind in ("user", "host"):
                sums = sum(account[0] for who, account in accounts(directory).items() if who.startswith(kind))
                assert sums == pytest.approx(total * EARNS)
    finally:
        for volunteer in volunteers:
            volunteer.close()


def test_no_kill_loses_or_doubles_credit(directory: Path, tmp_path: Path) -> None:
    many_kills(directory, tmp_path, 2, seed=1)


@pytest.mark.soak
def test_no_kill_of_many_loses_or_doubles_credit(directory: Path, tmp_path: Path) -> None:
    many_kills(directory, tmp_path, 30, seed=2)
