"""The BOINC server on MariaDB: one process that answers requests beside two of them, in turns in one run.

Durable commits on both sides. The generator counts jobs that come to it twice, and the tables are asked as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import sqlalchemy
from tests.mariadb import MariaDB

from boincserver import project
from boincserver.testing import configure, free_port, serving, wait_until

from .server import cpu_seconds, prepare

SECONDS = float(os.environ.get("BENCH_SECONDS", "15"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
HOSTS = 16
BEGUN_TWICE = "SELECT workunitid FROM result WHERE sent_time > 0 GROUP BY workunitid HAVING count(*) > 1"


def children(pid: int) -> list[int]:
    """A process and those that it started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(process for child in found for process in children(int(child)))]


def measure(processes: int, per_request: int, mariadb: MariaDB, folder: Path) -> float:
    """Jobs per second; prints a line."""
    directory = folder / f"n{mariadb.number}"
    made = project.create(directory, f"http://127.0.0.1:{free_port()}/", database=mariadb.create())
    configure(directory, processes=processes)
    with serving(directory) as server:
        control = server.control
        key = control.create_account("load@example.org")
        prepare(control, folder, int(SECONDS * 600))
        wait_until(lambda: len(children(server.process.pid)) >= processes, timeout=60, what="the processes")
        family = children(server.process.pid)
        before, database = sum(map(cpu_seconds, family)), cpu_seconds(mariadb.process.pid)
        command = [
            sys.executable, "-m", "boincserver.testing.load", made.config.url, "--key", key, "--hosts", str(HOSTS),
            "--per-request", str(per_request), "--seconds", str(SECONDS),
        ]  # fmt: skip
        summary = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        jobs = max(summary["jobs"], 1)
        cost = 1000 * (sum(map(cpu_seconds, family)) - before) / jobs
        theirs = 1000 * (cpu_seconds(mariadb.process.pid) - database) / jobs
        wait_until(lambda: control.status()["queues"] == 0, timeout=60, what="the backlog to be worked off")
    twice = sent_twice(directory)
    print(
        f"  {processes} {'process ' if processes == 1 else 'processes'} {per_request:2} jobs per request "
        f"{summary['jobs_per_second']:6.0f} jobs/s  server {cost:.2f} ms of CPU per job, mariadbd {theirs:.2f} ms  "
        f"sent twice: {summary['twice'] + twice} of {summary['jobs']}; errors {summary['errors']}"
    )
    return float(summary["jobs_per_second"])


def sent_twice(directory: Path) -> int:
    """Jobs of which more than one copy was sent, although one was wanted."""
    database = project.Project.open(directory).open_database()
    try:
        with database.engine.connect() as connection:
            return len(connection.execute(sqlalchemy.text(BEGUN_TWICE)).all())
    finally:
        database.close()


def main() -> None:
    """One and two processes in turns, so that what else the machine does concerns both."""
    print("  durable: innodb_flush_log_at_trx_commit=1; each output and its folder synced before it is acknowledged")
    with tempfile.TemporaryDirectory(prefix="bench-processes-") as folder:
        (Path(folder) / "mariadb").mkdir()
        mariadb = MariaDB(Path(folder) / "mariadb")
        try:
            for per_request in (1, 10):
                rounds = [[measure(n, per_request, mariadb, Path(folder)) for n in (1, 2)] for _ in range(ROUNDS)]
                one, two = (median(rates) for rates in zip(*rounds, strict=True))
                print(f"  {per_request:2} jobs per request   two do {two / one:.2f} times what one does (aim: above 1)")
        finally:
            mariadb.stop()


if __name__ == "__main__":
    main()
