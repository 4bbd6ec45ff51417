"""`Master("boinc:DIR")` with the stock BOINC client: what volunteers really run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import errands
from tests.served import Project

import pymw
from boincserver.testing import StockClient, wait_until
from pymw import Master

pytestmark = pytest.mark.stock
LIMIT = 240.0


@pytest.fixture(scope="module")
def master(project: Project, stock_clients: list[StockClient]) -> Master:
    with Master(project.backend) as master:
        yield master


def test_a_map(master: Master) -> None:
    assert list(master.map(errands.double, range(40), chunksize=5, timeout=LIMIT)) == [2 * n for n in range(40)]


def test_redundant_results_of_two_hosts_agree_without_a_seed_in_the_function(master: Master, project: Project) -> None:
    future = master.options(quorum=2).submit(errands.unseeded)
    number, letters = future.result(LIMIT)
    assert 0 <= number < 1
    assert sorted(letters) == ["a", "b", "c", "d"]
    assert project.hosts_that_worked() == 2


def test_a_failing_workunit_neither_hangs_nor_hides_the_others(master: Master) -> None:
    kept = list(master.map(errands.vanish, range(6), [(2,)] * 6, on_error="return", chunksize=2, timeout=LIMIT))
    assert [value for value in kept if not isinstance(value, Exception)] == [0, 1, 3, 4, 5]
    assert isinstance(kept[2], pymw.WorkerLost)
    error = master.submit(errands.fail, "no").exception(LIMIT)
    assert isinstance(error, ValueError)
    assert "raise ValueError(message, 42)" in str(error.__cause__)


def test_data_files_go_along_and_come_back(master: Master, tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("one two three")
    future = master.options(files={"words/text.txt": text}, outputs=["counted.txt"]).submit(errands.count_words, 2)
    assert future.result(LIMIT) == (6, ["counted.txt", "words"])
    assert future.files == {"counted.txt": b"three two one"}


def test_progress_shows_in_the_volunteers_manager(master: Master, stock_clients: list[StockClient]) -> None:
    future = master.submit(errands.creep, 40)

    def told() -> list[float]:
        return [task.fraction_done for client in stock_clients for task in client.tasks() if 0 < task.fraction_done < 1]

    wait_until(told, timeout=LIMIT, what="progress in boinccmd --get_tasks")
    assert future.result(LIMIT) == 20


def test_an_edited_function_runs_in_its_new_form_on_hosts_that_cached_the_old(
    project: Project, stock_clients: list[StockClient], tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    environment = {**os.environ, "PYMW_BACKEND": project.backend}

    def run(body: str) -> str:
        script.write_text(
            "from pymw import Master\n"
            f"def helper(x): {body}\n"
            "def f(x): return helper(x)\n"
            "with Master() as master:\n"
            "    print(list(master.map(f, range(4), chunksize=1)))\n"
        )
        done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert run("return x + 1") == "[1, 2, 3, 4]"
    assert run("return x + 1000") == "[1000, 1001, 1002, 1003]"
