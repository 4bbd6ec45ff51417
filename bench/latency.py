"""How long from `submit` until the function starts on a stock BOINC client that is idle and polls, in real time.

Clients only pull: the server tells each when to come again, and the clients look at their clocks every five seconds.
Two clients that have the code run single tasks, submitted at random moments when both are idle. Hardly any processor
time is spent, and what is measured depends little on it.
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the functions that the tests send away

from tests import errands
from tests.served import served

from boincserver.testing import StockClient, wait_until
from pymw import Master

SAMPLES = int(os.environ.get("BENCH_SAMPLES", "30"))
LEAST_REST, MOST_REST = 15.0, 25.0  # seconds between two tasks, so that the clients are idle again


def main() -> None:
    """Print the delays' quantiles, and what they are to be."""
    chance = random.Random()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        project = stack.enter_context(served(Path(folder) / "project"))
        clients = [stack.enter_context(StockClient(name=f"latency{n}")) for n in range(2)]
        for client in clients:
            client.attach(project.url, project.account())
        master = stack.enter_context(Master(project.backend, rehearse=False))
        # Each gets the code once before anything is measured.
        list(master.options(quorum=2).map(errands.double, range(2), chunksize=1))
        wait_until(lambda: project.hosts_that_worked() == 2, timeout=300, what="both clients to have the code")
        delays = []
        for number in range(SAMPLES):
            time.sleep(chance.uniform(LEAST_REST, MOST_REST))
            future = master.submit(errands.double, number)
            assert future.result(600) == 2 * number
            assert future.started is not None
            delays.append(future.started - future.submitted)
    delays.sort()
    middle, late = statistics.median(delays), delays[max(0, round(0.95 * len(delays)) - 1)]
    print(f"{len(delays)} tasks on idle stock clients, seconds from submit to start: median {middle:.1f} (aim 10), "
          f"95 % within {late:.1f} (aim 20), least {delays[0]:.1f}, most {delays[-1]:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
