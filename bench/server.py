"""The BOINC server under load: jobs per second and server CPU per job, end to end, with durable commits.

A job is sent, its 1000-byte output uploaded, reported, validated (bitwise), assimilated and its files deleted. The
generator runs beside the server on the same machine, with a new TCP connection for each request and no think time.
The official server, tuned, on two quiet cores (quoted): 9.4 ms of server CPU per job at 1 job per request, 7.2 at 10.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from boincserver import project
from boincserver.control import AppFile, Control, Job
from boincserver.testing import free_port, serving, wait_until

SECONDS = float(os.environ.get("BENCH_SECONDS", "20"))
OFFICIAL = {1: 9.4, 10: 7.2}
TARGET = {1: 2.0, 10: 1.0}


def calibration() -> float:
    """CPU seconds of a fixed piece of Python work: divide by it to compare machines."""
    started = time.process_time()
    total = 0
    for n in range(2_000_000):
        total += n * n % 7
    return time.process_time() - started


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_megabytes(pid: int) -> float:
    """Memory of a process now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def prepare(control: Control, folder: Path, count: int) -> float:
    """Create so many jobs; returns rows per second."""
    program = folder / "program"
    program.write_text("#!/bin/sh\n")
    control.ensure_app("bench", assimilator="discard")
    control.ensure_app_version("bench", "x86_64-pc-linux-gnu", None, [AppFile(program, "program", main_program=True)])
    name = control.put_file(b"shared input")
    batch = control.create_batch("bench", f"batch{time.time_ns()}")
    jobs = [
        Job(f"w{batch.id}_{n}", {"in": name}, {"out": 100_000}, rsc_fpops_est=1e9, rsc_memory_bound=1e6)
        for n in range(count)
    ]
    started = time.perf_counter()
    control.create_jobs(batch.id, jobs)
    return count / (time.perf_counter() - started)


def load(per_request: int, scratch: Path) -> None:
    """One measurement, printed."""
    directory = scratch / f"p{per_request}"
    made = project.create(directory, f"http://127.0.0.1:{free_port()}/")
    text = (directory / "project.toml").read_text()
    (directory / "project.toml").write_text(text.replace("max_in_progress = 100", "max_in_progress = 1000"))
    with serving(directory) as server:
        control = server.control
        key = control.create_account("load@example.org")
        rate = prepare(control, scratch, int(SECONDS * 1500))
        print(f"  bulk creation        {rate:8.0f} jobs/s")
        pid = server.process.pid
        before = cpu_seconds(pid)
        command = [
            sys.executable, "-m", "boincserver.testing.load", made.config.url, "--key", key, "--hosts", "8",
            "--per-request", str(per_request), "--seconds", str(SECONDS),
        ]  # fmt: skip
        summary = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        wait_until(lambda: control.status()["queues"] == 0, timeout=60, what="the backlog to be worked off")
        cpu = cpu_seconds(pid) - before
        jobs = summary["jobs"]
        print(f"  {per_request:2} jobs per request    {summary['jobs_per_second']:8.0f} jobs/s")
        cost = 1000 * cpu / max(jobs, 1)
        print(
            f"  server CPU per job   {cost:8.2f} ms   ({OFFICIAL[per_request] / cost:.1f} times below the official "
            f"server's {OFFICIAL[per_request]}; aim {TARGET[per_request]}); "
            f"{cost / 1000 / calibration():.5f} calibrations"
        )
        print(
            f"  latency p50/p99      scheduler {summary['scheduler_p50_ms']:.0f}/{summary['scheduler_p99_ms']:.0f} ms, "
            f"upload {summary['upload_p50_ms']:.0f}/{summary['upload_p99_ms']:.0f} ms; errors {summary['errors']}, "
            f"empty replies {summary['empty']}"
        )
        print(
            f"  memory               {rss_megabytes(pid):8.0f} MB; "
            f"{control.status()['operations_per_commit']:.1f} operations in a commit"
        )


def main() -> None:
    """Measure at 1 and at 10 jobs per request."""
    print(
        "  durable: SQLite WAL, synchronous=FULL; each output and its folder synced before its report is acknowledged"
    )
    with tempfile.TemporaryDirectory(prefix="bench-server-") as scratch:
        for per_request in (1, 10):
            load(per_request, Path(scratch))


if __name__ == "__main__":
    main()
