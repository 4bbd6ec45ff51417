"""The BOINC server under load: jobs per second and server CPU per job, end to end, with durable commits.

A job is sent, its 1000-byte output uploaded, reported, validated (bitwise), assimilated and its files deleted. The
generator runs beside the server on the same machine, with a new TCP connection for each request and no think time.
The official server, tuned, on two quiet cores (quoted): 9.4 ms of server CPU per job at 1 job per request, 7.2 at 10.

Meanwhile what waits to be validated, assimilated or deleted is counted in the tables, to see whether it grows; with
BENCH_SECONDS=120 for two minutes. The cost is also told for each part of the time, since a machine whose cores are
shared with others has better and worse moments. And an idle server is asked how long it takes from a report to the
outcome.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

from boincserver import project
from boincserver.control import AppFile, Control, Job
from boincserver.states import ServerState
from boincserver.testing import SimulatedVolunteer, free_port, serving, wait_until

SECONDS = float(os.environ.get("BENCH_SECONDS", "20"))
SAMPLES = 12
REPORTS = 40
BULK = 20_000
"""Rows per second that one call is to create."""
LATENCY = 200
"""Milliseconds from a report to the assimilated result that an idle server may take."""
POLLING = (
    "transitioner, validator, assimilator and file_deleter poll every 5 to 10 s, one after the other: tens of seconds"
)
"""The official daemons as they are installed."""
WAITING = (
    "SELECT (SELECT count(*) FROM workunit WHERE need_validate = 1)"
    " + (SELECT count(*) FROM workunit WHERE assimilate_state = 1)"
    " + (SELECT count(*) FROM workunit WHERE file_delete_state = 1)"
    " + (SELECT count(*) FROM result WHERE file_delete_state = 1)"
)
OVER = f"SELECT count(*) FROM result WHERE server_state = {ServerState.OVER:d}"
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


def generate(url: str, key: str, per_request: int) -> subprocess.Popen[str]:
    """The load, in a process of its own that prints a summary."""
    command = [
        sys.executable, "-m", "boincserver.testing.load", url, "--key", key, "--hosts", "8",
        "--per-request", str(per_request), "--seconds", str(SECONDS),
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@dataclass(frozen=True)
class Sample:
    """What was seen at one moment: jobs that wait behind their reports, jobs that are over, CPU seconds so far."""

    waiting: int
    over: int
    cpu: float


def watch(directory: Path, pid: int, generator: subprocess.Popen[str]) -> list[Sample]:
    """Look from time to time until the generator ends; at the tables beside the server."""
    found = []
    with closing(sqlite3.connect(f"file:{directory}/database.sqlite3?mode=ro", uri=True)) as database:
        while True:
            over = int(database.execute(OVER).fetchone()[0])
            found.append(Sample(int(database.execute(WAITING).fetchone()[0]), over, cpu_seconds(pid)))
            try:
                generator.wait(SECONDS / SAMPLES)
            except subprocess.TimeoutExpired:
                continue
            return found


def costs(samples: Sequence[Sample]) -> list[float]:
    """Milliseconds of server CPU per job between one sample and the next, from the lowest on."""
    parts = pairwise(samples)
    return sorted(1000 * (then.cpu - now.cpu) / (then.over - now.over) for now, then in parts if then.over > now.over)


def is_flat(counts: Sequence[int], rate: float) -> bool:
    """Whether the last third is no more than the first, but for what is under way in half a second."""
    third = max(len(counts) // 3, 1)
    return mean(counts[-third:]) <= mean(counts[:third]) + rate / 2


def load(per_request: int, scratch: Path) -> None:
    """One measurement, printed."""
    directory = scratch / f"p{per_request}"
    url = project.create(directory, f"http://127.0.0.1:{free_port()}/").config.url
    with serving(directory) as server:
        control = server.control
        key = control.create_account("load@example.org")
        rate = prepare(control, scratch, int(SECONDS * 1500))
        print(f"  bulk creation        {rate:8.0f} jobs/s (aim {BULK})")
        pid = server.process.pid
        before = cpu_seconds(pid)
        with generate(url, key, per_request) as generator:
            samples = watch(directory, pid, generator)
            summary = json.loads(generator.stdout.read() if generator.stdout else "")
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
        parts = costs(samples)
        print(
            f"                       in parts of {SECONDS / SAMPLES:.0f} s from {parts[0]:.2f} to {parts[-1]:.2f}, "
            f"median {median(parts):.2f}"
        )
        waiting = [sample.waiting for sample in samples[1:]]
        print(
            f"  backlog              {' '.join(map(str, waiting))} jobs in {SECONDS:.0f} s: "
            f"{'flat' if is_flat(waiting, summary['jobs_per_second']) else 'IT GROWS'}"
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


def idle(scratch: Path) -> None:
    """From a report to the assimilated result, where nothing else is going on."""
    directory = scratch / "idle"
    url = project.create(directory, f"http://127.0.0.1:{free_port()}/").config.url
    with serving(directory) as server:
        control = server.control
        control.ensure_app("bench")
        program = scratch / "idle-program"
        program.write_text("#!/bin/sh\n")
        files = [AppFile(program, "program", main_program=True)]
        control.ensure_app_version("bench", "x86_64-pc-linux-gnu", None, files)
        batch = control.create_batch("bench", "idle")
        control.create_jobs(batch.id, [Job(f"idle{n}", {"in": b"input"}, {"out": 100_000}) for n in range(REPORTS)])
        key, seen, last = control.create_account("idle@example.org"), [], 0
        with (
            SimulatedVolunteer(url, key, lambda job: {"out": b"x" * 1000}) as volunteer,
            ThreadPoolExecutor(1) as submitter,
        ):
            volunteer.contact()
            while volunteer.held:
                volunteer.work(next(iter(volunteer.held)))
                arrival = submitter.submit(outcome_after, control, batch.id, last)
                started = time.perf_counter()
                volunteer.contact()
                ended, last = arrival.result()
                seen.append(1000 * (ended - started))
    ordered = sorted(seen)
    late = ordered[int(0.95 * len(ordered))]
    print(f"  report to outcome    median {median(ordered):.0f} ms, 95 % within {late:.0f} ms (aim {LATENCY})")
    print(
        f"                       of {REPORTS} reports to an idle server, at a submitter who waits; official: {POLLING}"
    )


def outcome_after(control: Control, batch: int, last: int) -> tuple[float, int]:
    """When the next outcome came to a submitter who waits for it, and its number."""
    while not (found := control.outcomes(batch, after=last, wait=30)):
        pass
    return time.perf_counter(), found[-1].seq


def main() -> None:
    """Measure at 1 and at 10 jobs per request, and idle."""
    print(
        "  durable: SQLite WAL, synchronous=FULL; each output and its folder synced before its report is acknowledged"
    )
    with tempfile.TemporaryDirectory(prefix="bench-server-") as scratch:
        idle(Path(scratch))
        for per_request in (1, 10):
            load(per_request, Path(scratch))


if __name__ == "__main__":
    main()
