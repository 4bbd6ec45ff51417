"""Master, server and clients are killed at random while a run goes on: it ends complete, and nothing is asked twice."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.served import Project
from tests.whole.test_truth import playing

from boincserver.control import connect
from boincserver.errors import BoincServerError
from boincserver.testing import SimulatedVolunteer, StockClient, free_port, wait_until
from boincserver.testing.serving import ServerProcess

LIMIT = 300.0
SCRIPT = """\
import sys
from tests import errands
from pymw import Master
with Master(sys.argv[1], run="kills") as master:
    print(*master.map(errands.double, range(int(sys.argv[2])), chunksize=2))
"""


class Victims:
    """The processes of a run; each can be killed, and is started again at once."""

    def __init__(self, folder: Path, tasks: int, stack: contextlib.ExitStack) -> None:
        self.folder, self.tasks, self.stack = folder, tasks, stack
        self.directory = folder / "project"
        url = f"http://127.0.0.1:{free_port()}/"
        create = [sys.executable, "-m", "boincserver", "create", str(self.directory), "--url", url]
        subprocess.run(create, check=True, capture_output=True, timeout=120)
        self.server = self._serve()
        stack.callback(lambda: self.server.stop())
        self.project = Project(self.directory, url, self.server.control)
        self.clients: list[StockClient] = []
        self.master = self._script()
        stack.callback(self._end_master)

    def join(self, stock: int) -> None:
        for number in range(stock):
            client = self.stack.enter_context(StockClient(speed=20.0, name=f"victim{number}"))
            client.attach(self.project.url, self.project.account())
            self.clients.append(client)

        def slowly(_: int, args: tuple[Any, ...]) -> int:
            time.sleep(0.1)  # work: so that there is something to kill
            return int(2 * args[0])

        volunteer = SimulatedVolunteer(self.project.url, self.project.account(), compute=playing(slowly))
        self.stack.enter_context(volunteer).start()

    def kill(self, whom: str, chance: random.Random) -> None:
        if whom == "master":
            self.master.kill()
            self.master.communicate()
            self.master = self._script()
        elif whom == "server":
            self.server.kill()
            self.server = self._serve()
        else:
            client = chance.choice(self.clients)
            client.kill()
            client.start()

    def _serve(self) -> ServerProcess:
        server = ServerProcess(self.directory, {})
        server.wait_ready()
        return server

    def _script(self) -> subprocess.Popen[str]:
        script = self.folder / "script.py"
        script.write_text(SCRIPT)
        environment = {
            **os.environ,
            "TMPDIR": str(self.folder),  # what a killed master leaves is gone with the test
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PYMW_HOME": str(self.folder / "home"),
        }
        command = [sys.executable, str(script), self.project.backend, str(self.tasks)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _end_master(self) -> None:
        if self.master.poll() is None:
            self.master.kill()
        self.master.communicate()

    def over(self) -> int:
        """Copies that are over."""
        with contextlib.suppress(BoincServerError):
            return int(connect(self.directory).status()["copies"]["over"])
        return 0


@contextlib.contextmanager
def a_run(folder: Path, tasks: int, stock: int) -> Iterator[Victims]:
    with contextlib.ExitStack() as stack:
        victims = Victims(folder, tasks, stack)
        victims.join(stock)
        yield victims


def survive(folder: Path, tasks: int, kills: int, stock: int, whom: list[str]) -> None:
    chance = random.Random(6)
    with a_run(folder, tasks, stock) as victims:
        for number in range(kills):
            # Evenly over the run: before its first job, and up to shortly before its last.
            some = number * (tasks // 2 - 3) // kills
            wait_until(lambda some=some: victims.over() >= some, timeout=LIMIT, what=f"{some} jobs to be over")
            victims.kill(whom[number % len(whom)] if kills < 10 else chance.choice(whom), chance)
        out, error = victims.master.communicate(timeout=LIMIT)
        assert victims.master.returncode == 0, error
        assert [int(word) for word in out.split()] == [2 * n for n in range(tasks)]
        control = connect(victims.directory)
        (batch,) = control.batches()
        assert batch["jobs"] == tasks // 2  # so no task was placed twice
        copies = control.status()["copies"]
        assert (copies["unsent"], copies["in_progress"]) == (0, 0)
        doctor = [sys.executable, "-m", "boincserver", "doctor", str(victims.directory)]
        assert subprocess.run(doctor, capture_output=True, timeout=120).returncode == 0


@pytest.mark.stock
def test_three_kills(tmp_path: Path, need: Callable[..., None]) -> None:
    need("boinc", "boinccmd", "faketime")
    survive(tmp_path, 40, 3, 1, ["client", "server", "master"])


@pytest.mark.stock
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_thirty_kills(tmp_path: Path, need: Callable[..., None]) -> None:
    """`PYMW_KILLS` asks for another number of them."""
    need("boinc", "boinccmd", "faketime")
    kills = int(os.environ.get("PYMW_KILLS", "30"))
    survive(tmp_path, 500, kills, 2, ["master", "server", "client"])
