"""In a notebook: a real kernel of Jupyter's, and cells sent to it as a browser does."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from tests.pymw.test_losses import eventually, gone

LIMIT = 120.0


@dataclass
class Shown:
    """What is below a cell when it is over: streams, and displays each in its newest form."""

    status: str = ""
    error: str = ""
    text: dict[str, str] = field(default_factory=lambda: {"stdout": "", "stderr": ""})
    displays: list[dict[str, Any]] = field(default_factory=list)
    updates: int = 0
    known: dict[str, int] = field(default_factory=dict)

    def take(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        name = content.get("transient", {}).get("display_id")
        if kind == "stream":
            self.text[content["name"]] += content["text"]
        elif kind in ("display_data", "execute_result"):
            if name is not None:
                self.known[name] = len(self.displays)
            self.displays.append(content["data"])
        elif kind == "update_display_data":
            self.updates += 1
            self.displays[self.known[name]] = content["data"]
        elif kind == "error":
            self.error = content["ename"]


class Notebook:
    """A kernel with cells."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self.client = manager, client

    def run(self, code: str, meanwhile: Callable[[], None] = lambda: None) -> Shown:
        """Run a cell to its end; `meanwhile` is called once while it runs."""
        shown, sent = Shown(), self.client.execute(code)
        meanwhile()
        deadline = time.monotonic() + LIMIT
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
            if message["parent_header"].get("msg_id") == sent:
                shown.take(message)
                if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                    break
        while (reply := self.client.get_shell_msg(timeout=LIMIT))["parent_header"].get("msg_id") != sent:
            pass
        shown.status = reply["content"]["status"]
        return shown


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    manager = KernelManager(connection_file=str(tmp_path / "kernel.json"))
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager._kernel_spec = KernelSpec(argv=command, language="python", display_name="here")
    manager.start_kernel(
        cwd=str(tmp_path), env=os.environ | {"IPYTHONDIR": str(tmp_path / "ipython"), "PYMW_HOME": str(tmp_path)}
    )
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=LIMIT)
        yield Notebook(manager, client)
    finally:
        client.stop_channels()
        if manager.is_alive():
            manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


OPENED = """
import os, time
from pathlib import Path
import pymw
from pymw import Master
master = Master("local", max_workers=2)
FACTOR = 2
"""

DEFINED = """
def times(x):
    return x * FACTOR

def note_and_sleep(x):
    with open("pids", "a") as file:
        file.write(f"{os.getpid()} ")
    time.sleep(600)
"""


def pids(folder: Path) -> set[int]:
    file = folder / "pids"
    return set(map(int, file.read_text().split())) if file.exists() else set()


def test_functions_of_cells_run_in_their_newest_form_and_everything_is_shown(notebook: Notebook) -> None:
    assert notebook.run(OPENED).status == "ok"
    assert notebook.run(DEFINED).status == "ok"
    assert notebook.run("print(list(master.map(times, range(4))))").text["stdout"] == "[0, 2, 4, 6]\n"
    notebook.run("FACTOR = 100")
    assert notebook.run("print(master.submit(times, 3).result())").text["stdout"] == "300\n"

    [shown] = notebook.run("future = master.submit(times, 4); future.result(); future").displays
    assert shown["text/html"].startswith("<code>times</code> times returned in ")
    [shown] = notebook.run("master").displays
    assert "<tr><th>workers</th><td>2</td></tr>" in shown["text/html"]
    [shown] = notebook.run("master.status()").displays
    assert "<tr><th>backend</th><td>local</td></tr>" in shown["text/html"]

    failed = notebook.run("master.submit(lambda: {}['x']).result()")
    assert (failed.status, failed.error) == ("error", "KeyError")
    printed = "print(master.submit(lambda: {}['x']).exception().__cause__)"
    assert "{}['x']" in notebook.run(printed).text["stdout"]  # the line of the cell
    assert notebook.run("master.shutdown()").status == "ok"


def test_progress_is_one_display_that_grows(notebook: Notebook) -> None:
    notebook.run(OPENED)
    shown = notebook.run(
        "def nap(x):\n"
        "    pymw.progress(0.5)\n"
        "    time.sleep(0.1)\n"
        "    return x\n"
        "values = list(master.map(nap, range(8), progress=True))\n"
        "print(values)"
    )
    assert shown.text == {"stdout": "[0, 1, 2, 3, 4, 5, 6, 7]\n", "stderr": ""}
    [bar] = shown.displays
    assert 1 <= shown.updates <= 100
    assert '<progress value="8.000" max="8"></progress> nap: 8 of 8 done (100%)' in bar["text/html"]
    assert bar["text/plain"].startswith("nap: 8 of 8 done (100%)")
    assert notebook.run("with master: pass").status == "ok"


def test_an_interrupted_cell_returns_to_the_prompt_and_the_kernel_leaves_nobody(
    notebook: Notebook, tmp_path: Path
) -> None:
    notebook.run(OPENED)
    notebook.run(DEFINED)

    def interrupt() -> None:
        assert eventually(lambda: len(pids(tmp_path)) == 2)
        notebook.manager.interrupt_kernel()

    shown = notebook.run("list(master.map(note_and_sleep, range(4), progress=True))", interrupt)
    assert (shown.status, shown.error) == ("error", "KeyboardInterrupt")
    assert "unfinished tasks are cancelled" in shown.text["stderr"]
    assert eventually(lambda: all(map(gone, pids(tmp_path))))  # nothing is computed behind the user's back
    assert notebook.run("print(list(master.map(times, range(4))))").text["stdout"] == "[0, 2, 4, 6]\n"

    workers = notebook.run("print(*{master.submit(os.getpid).result() for _ in range(20)})").text["stdout"]
    before = pids(tmp_path)
    notebook.run("late = master.submit(note_and_sleep, 1)")
    assert eventually(lambda: pids(tmp_path) - before)
    kernel = notebook.manager.provisioner.pid
    notebook.manager.shutdown_kernel(now=True)
    assert eventually(lambda: gone(kernel))
    assert eventually(lambda: all(map(gone, pids(tmp_path) | set(map(int, workers.split())))))
