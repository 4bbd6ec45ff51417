"""Tasks on BOINC: what the backend adds to what the server needs, beside PyMW 0.5's way, and a crowd of small tasks.

Each round sends as many jobs by the control interface alone, then so many calls by `Master.map` in workunits of
one, of a hundred and of its own choice, the first two also over HTTP as from a laptop, then one by one as PyMW 0.5
documented it: a file, a process and a call to the database for each task (the process does nothing, which its
`create_work` did not). Volunteers are processes with no think time that do no work; SQLite commits durably. Processor
time is the server's and the master's together.

Then small tasks of a millisecond run in the real worker program; what everything took together, start-up included, is
compared with the time of the same calls in a bare loop.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the functions that the tests send away

from tests import errands
from tests.served import Project, served

from boincserver import control
from boincserver.testing import SimulatedVolunteer
from pymw import Master, envelope
from pymw.backends.boinc.keys import SigningKey, trust
from pymw.outcome import Ending, Outcome
from pymw.volunteer import OUTCOMES, TASKS

TASK_COUNT, VOLUNTEERS = 800, 2
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SMALL_TASKS = int(os.environ.get("BENCH_SMALL_TASKS", "100000"))
LOOPS = 40_000  # about a millisecond of work
context = multiprocessing.get_context("spawn")


def compute(job: Any) -> dict[str, bytes]:
    """Play the worker program, and the raw one: answer at once."""
    if TASKS not in job.inputs:
        return {OUTCOMES: b"done"}
    items = envelope.unpack_job(job.inputs[TASKS]).items
    values = [2 * envelope.unpack_call(item.arguments, ())[0][0] for item in items]
    return {
        OUTCOMES: envelope.pack_outcomes([envelope.pack_outcome(Outcome(Ending.RETURNED, value=v)) for v in values])
    }


def volunteer(url: str, key: str, ncpus: int, play: bool, over: Event) -> None:
    """A process that works for the project until it is told that all is over."""
    with SimulatedVolunteer(url, key, compute=compute if play else None, ncpus=ncpus).start(pause=0.02):
        over.wait()


@contextlib.contextmanager
def volunteers(project: Project, *, ncpus: int, play: bool) -> Iterator[None]:
    """Some of them, each of a user of its own."""
    over = context.Event()
    processes = [
        context.Process(target=volunteer, args=(project.url, project.account(), ncpus, play, over))
        for _ in range(VOLUNTEERS)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        over.set()
        for process in processes:
            process.join()


def raw(project: Project, number: int) -> None:
    """The jobs without pymw: created in bulk, collected by sequence number."""
    project.control.ensure_app("raw", validator="trivial")
    with tempfile.NamedTemporaryFile(suffix=".sh") as program:
        file = control.AppFile(program.name, "program", main_program=True)
        project.control.ensure_app_version("raw", "x86_64-pc-linux-gnu", None, [file])
    batch = project.control.create_batch("raw", f"round {number}").id
    project.control.create_jobs(batch, [a_job(f"raw_{number}_{i}") for i in range(TASK_COUNT)])
    collect(project, batch)


def one_by_one(project: Project, number: int) -> None:
    """The jobs as PyMW 0.5 queued them."""
    batch = project.control.create_batch("raw", f"one by one {number}").id
    with tempfile.TemporaryDirectory() as folder:
        for i in range(TASK_COUNT):
            (Path(folder) / f"task{i}").write_bytes(b"%d" % i)
            subprocess.run(["true"], check=True)
            project.control.create_jobs(batch, [a_job(f"single_{number}_{i}")])
    collect(project, batch)


def a_job(name: str) -> control.Job:
    return control.Job(name, {"in": name.encode()}, {OUTCOMES: 1000}, rsc_fpops_est=1e8)


def collect(project: Project, batch: int) -> None:
    after = collected = 0
    while collected < TASK_COUNT:
        outcomes = project.control.outcomes(batch, after=after, wait=10)
        collected, after = collected + len(outcomes), outcomes[-1].seq if outcomes else after
    project.control.acknowledge(batch, after)


def mapped(master: Master, chunksize: int | None) -> None:
    """The same by `Master.map`."""
    results = master.options(est_seconds=0.1).map(errands.double, range(TASK_COUNT), chunksize=chunksize)
    assert list(results) == [2 * n for n in range(TASK_COUNT)]


def processor_time(project: Project) -> float:
    """Seconds of this process and of the server."""
    fields = Path(f"/proc/{project.pid}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def from_elsewhere(project: Project, folder: Path) -> str:
    """The backend's URL for somebody who has the key of an account, and whose code the volunteers trust."""
    os.environ["PYMW_HOME"] = str(folder / "home")
    os.environ["BOINC_ACCOUNT_KEY"] = project.control.create_account("elsewhere@example.org")
    trust(project.directory, SigningKey.mine().told)
    project.control.grant("elsewhere@example.org", "all")
    return f"boinc+{project.url}"


def compare() -> None:
    """Print tasks per second each way, processor time, and the ratios of the rounds' medians."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "project") as project:
        elsewhere = from_elsewhere(project, Path(folder))
        with (
            volunteers(project, ncpus=8, play=True),
            Master(project.backend) as master,
            Master(elsewhere) as remote,
        ):
            mapped(master, None)
            mapped(remote, None)
            ways: dict[str, Callable[[int], None]] = {
                "server alone": lambda number: raw(project, number),
                "map, one in a workunit": lambda number: mapped(master, 1),
                "map, chunks of 100": lambda number: mapped(master, 100),
                "over HTTP, one in a workunit": lambda number: mapped(remote, 1),
                "over HTTP, chunks of 100": lambda number: mapped(remote, 100),
                "map, its own chunks": lambda number: mapped(master, None),
                "as PyMW 0.5 did it": lambda number: one_by_one(project, number),
            }
            took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
            for number in range(ROUNDS):
                for name, way in ways.items():
                    began, spent = time.perf_counter(), processor_time(project)
                    way(number)
                    took[name].append((time.perf_counter() - began, processor_time(project) - spent))
    base = statistics.median(spent for _, spent in took["server alone"])
    for name, rounds in took.items():
        wall, spent = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(
            f"{name:29} {TASK_COUNT / wall:8.0f} tasks/s {1000 * spent / TASK_COUNT:8.2f} ms of processor time a task"
            f" {spent / base:6.2f} x the server alone"
        )


def spent_here() -> float:
    """Processor seconds of this process and of all its children that have ended, theirs included."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def loop(count: int) -> float:
    """Processor seconds of so many of the calls, bare."""
    began = time.process_time()
    for _ in range(count):
        errands.work(LOOPS)
    return time.process_time() - began


def bare_loops() -> float:
    """Processor seconds of all the calls alone, from a tenth of them on as many cores at a time."""
    with context.Pool(VOLUNTEERS) as pool:
        return 10 * sum(pool.map(loop, [SMALL_TASKS // 10 // VOLUNTEERS] * VOLUNTEERS, chunksize=1))


def small_tasks() -> None:
    """Print what so many small tasks take beyond their own time."""
    bare = bare_loops()
    began = spent_here()
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "project") as project:
        with volunteers(project, ncpus=1, play=False), Master(project.backend) as master:
            done = sum(1 for _ in master.map(errands.work, [LOOPS] * SMALL_TASKS))
    whole = spent_here() - began
    bare = (bare + bare_loops()) / 2  # before and after: the machine may have become another one meanwhile
    print(
        f"{done} tasks of {1000 * bare / SMALL_TASKS:.2f} ms: {whole:.1f} s of processor time with everything, "
        f"{whole / bare:.2f} x the calls alone"
    )


def main() -> None:
    """Both tables."""
    compare()
    small_tasks()


if __name__ == "__main__":
    main()
