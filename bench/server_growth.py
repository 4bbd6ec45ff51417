"""The BOINC server as a project grows: server CPU per job and memory with 10⁴, 10⁵ and 10⁶ finished jobs in the tables.

A tenth as many hosts as jobs. The finished jobs are written into the tables by hand; then the load of `bench server`
runs at one job per request. Neither the cost of a job nor the memory is to grow with what is over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from boincserver import project
from boincserver.project import Project
from boincserver.schema import boincserver_file_use, host, result, workunit
from boincserver.states import (
    NEVER,
    AssimilateState,
    ClientState,
    FileDeleteState,
    Outcome,
    ServerState,
    ValidateState,
)
from boincserver.testing import configure, free_port, serving

from .server import calibration, cpu_seconds, prepare, rss_megabytes

SIZES = [int(float(size)) for size in os.environ.get("BENCH_SIZES", "1e4,1e5,1e6").split(",")]
SECONDS = float(os.environ.get("BENCH_SECONDS", "10"))
MEMORY = 300
"""Megabytes that the server may take at any size."""
_SLICE = 10_000


def finished(first: int, count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of jobs that are over and deleted, and of their results."""
    numbers = range(first, first + count)
    workunits = [
        {
            "id": n, "name": f"old{n}", "appid": 1, "canonical_resultid": n, "transition_time": NEVER, "min_quorum": 1,
            "target_nresults": 1, "assimilate_state": int(AssimilateState.DONE), "xml_doc": "<workunit>\n</workunit>\n",
            "file_delete_state": int(FileDeleteState.DONE), "create_time": 1_700_000_000, "delay_bound": 604_800,
        }
        for n in numbers
    ]  # fmt: skip
    results = [
        {
            "id": n, "name": f"old{n}_0", "workunitid": n, "server_state": int(ServerState.OVER), "appid": 1,
            "outcome": int(Outcome.SUCCESS), "validate_state": int(ValidateState.VALID), "hostid": 1 + n % 1000,
            "client_state": int(ClientState.UPLOADED), "file_delete_state": int(FileDeleteState.DONE), "userid": 1,
            "received_time": 1_700_000_000, "xml_doc_in": "x" * 400, "xml_doc_out": "x" * 150, "stderr_out": "x" * 200,
        }
        for n in numbers
    ]  # fmt: skip
    return workunits, results


def slices(total: int) -> Iterator[tuple[int, int]]:
    """First number and count of each slice."""
    for first in range(1, total + 1, _SLICE):
        yield first, min(_SLICE, total + 1 - first)


def fill(directory: Path, total: int) -> None:
    """Write so many finished jobs, and hosts, into a project's tables."""
    database = Project.open(directory).open_database()
    try:
        with database.engine.begin() as connection:
            for first, count in slices(total):
                workunits, results = finished(first, count)
                connection.execute(workunit.insert(), workunits)
                connection.execute(result.insert(), results)
                connection.execute(
                    boincserver_file_use.insert(),
                    [{"workunitid": n, "name": "other"} for n in range(first, first + count)],
                )
            for first, count in slices(total // 10):
                hosts = [
                    {"id": n, "userid": 1, "host_cpid": f"{n:032x}", "domain_name": f"host{n}"}
                    for n in range(first, first + count)
                ]
                connection.execute(host.insert(), hosts)
    finally:
        database.close()


def measure(total: int, scratch: Path) -> tuple[float, float]:
    """Server CPU per job in calibrations, and memory in megabytes; prints a line."""
    directory = scratch / f"n{total}"
    made = project.create(directory, f"http://127.0.0.1:{free_port()}/")
    configure(directory, purge_after_days=0)
    fill(directory, total)
    with serving(directory) as server:
        control = server.control
        key = control.create_account("load@example.org")
        prepare(control, scratch, int(SECONDS * 700))
        pid = server.process.pid
        before, reference = cpu_seconds(pid), calibration()
        command = [
            sys.executable, "-m", "boincserver.testing.load", made.config.url, "--key", key, "--hosts", "8",
            "--per-request", "1", "--seconds", str(SECONDS),
        ]  # fmt: skip
        summary = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        # Before anybody asks for the status, which counts all that is in the tables.
        cost = (cpu_seconds(pid) - before) / max(summary["jobs"], 1)
        reference = (reference + calibration()) / 2
        memory = rss_megabytes(pid)
        print(
            f"  {total:9,} finished jobs  {1000 * cost:6.2f} ms of server CPU per job ({cost / reference:.5f} "
            f"calibrations)  {memory:5.0f} MB  scheduler p50 {summary['scheduler_p50_ms']:.0f} ms"
        )
    return cost / reference, memory


def main() -> None:
    """The curve, and what it says."""
    print("  durable: SQLite WAL, synchronous=FULL; one job per request")
    with tempfile.TemporaryDirectory(prefix="bench-growth-") as scratch:
        found = [measure(total, Path(scratch)) for total in SIZES]
    print(
        f"  cost at {SIZES[-1]:,} : at {SIZES[0]:,}   {found[-1][0] / found[0][0]:.2f} (aim: about 1); most memory "
        f"{max(memory for _, memory in found):.0f} MB (aim: below {MEMORY})"
    )


if __name__ == "__main__":
    main()
