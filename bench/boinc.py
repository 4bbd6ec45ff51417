"""800 tasks on BOINC, queued at once and collected by one thread: what the backend adds to what the server needs.

Each round sends 800 jobs by the server's control interface alone, then 800 calls by `Master.map`, one in a workunit and
then in chunks of its own choice. Simulated volunteers with no think time do no work; SQLite commits durably.
"""

import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the functions that the tests send away

from tests import errands
from tests.served import Project, served

from boincserver import control
from boincserver.testing import SimulatedVolunteer
from pymw import Master, envelope
from pymw.outcome import Ending, Outcome
from pymw.volunteer import OUTCOMES, TASKS

TASK_COUNT, VOLUNTEERS, ROUNDS = 800, 4, 3


def compute(job: Any) -> dict[str, bytes]:
    """Play the worker program, and the raw one: answer at once."""
    if TASKS not in job.inputs:
        return {OUTCOMES: b"done"}
    items = envelope.unpack_job(job.inputs[TASKS]).items
    values = [2 * envelope.unpack_call(item.arguments, ())[0][0] for item in items]
    return {
        OUTCOMES: envelope.pack_outcomes([envelope.pack_outcome(Outcome(Ending.RETURNED, value=v)) for v in values])
    }


def raw(project: Project, number: int) -> None:
    """The jobs without pymw: created in bulk, collected by sequence number."""
    project.control.ensure_app("raw", validator="trivial")
    with tempfile.NamedTemporaryFile(suffix=".sh") as program:
        file = control.AppFile(program.name, "program", main_program=True)
        project.control.ensure_app_version("raw", "x86_64-pc-linux-gnu", None, [file])
    batch = project.control.create_batch("raw", f"round {number}").id
    jobs = [
        control.Job(f"raw_{number}_{i}", {"in": b"%d" % i}, {OUTCOMES: 1000}, rsc_fpops_est=1e8)
        for i in range(TASK_COUNT)
    ]
    project.control.create_jobs(batch, jobs)
    after = collected = 0
    while collected < TASK_COUNT:
        outcomes = project.control.outcomes(batch, after=after, wait=10)
        collected, after = collected + len(outcomes), outcomes[-1].seq if outcomes else after
    project.control.acknowledge(batch, after)


def mapped(master: Master, chunksize: int | None) -> None:
    """The same by `Master.map`."""
    results = master.options(est_seconds=0.1).map(errands.double, range(TASK_COUNT), chunksize=chunksize)
    assert list(results) == [2 * n for n in range(TASK_COUNT)]


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def main() -> None:
    """Print tasks per second each way, and the ratios of the rounds' medians."""
    ways: dict[str, list[float]] = {"server alone": [], "map, one in a workunit": [], "map, its own chunks": []}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        project = stack.enter_context(served(Path(folder) / "project"))
        master = stack.enter_context(Master(project.backend))
        list(master.map(errands.double, range(0)))
        threads = threading.active_count()
        for _ in range(VOLUNTEERS):
            volunteer = SimulatedVolunteer(project.url, project.account(), compute=compute, ncpus=8)
            stack.enter_context(volunteer).start(pause=0.02)
        for number in range(ROUNDS):
            ways["server alone"].append(timed(lambda number=number: raw(project, number)))
            ways["map, one in a workunit"].append(timed(lambda: mapped(master, 1)))
            ways["map, its own chunks"].append(timed(lambda: mapped(master, None)))
        added = threading.active_count() - threads - VOLUNTEERS
    base = statistics.median(ways["server alone"])
    for name, seconds in ways.items():
        took = statistics.median(seconds)
        print(f"{name:25} {TASK_COUNT / took:8.0f} tasks/s   {took / base:5.2f} x the time of the server alone")
    print(f"threads that {TASK_COUNT} tasks took in the master: {added}")


if __name__ == "__main__":
    main()
