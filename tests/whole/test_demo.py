"""`make demo` as a newcomer sees it, and what it leaves behind: nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from boincserver.testing import wait_until

DEMO = Path(__file__).parents[2] / "scripts" / "demo.py"


def commands(*words: str) -> list[str]:
    """The command lines of running processes that hold all of these words."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if all(word in line for word in words):
            found.append(line)
    return found


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose temporary files are in a folder of the test's, found empty and without users afterwards."""
    yield {**os.environ, "TMPDIR": str(tmp_path)}
    wait_until(lambda: commands(str(tmp_path)) == [], timeout=60, what="what was killed to be gone")
    assert list(tmp_path.iterdir()) == []


def test_the_demo_estimates_pi_and_says_who_did_what(scratch: dict[str, str]) -> None:
    command = [sys.executable, DEMO, "--simulated"]
    done = subprocess.run(command, env=scratch, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert abs(float(re.search(r"pi is about ([\d.]+)", done.stdout)[1]) - 3.1416) < 0.005
    assert "simulated volunteers" in done.stdout
    assert re.search(r"host \d+ of (alice|bob): \d+ workunits done, 0 failed", done.stdout)
    assert "40 of 40 done" in done.stderr


def test_ctrl_c_leaves_nothing_behind(scratch: dict[str, str]) -> None:
    demo = subprocess.Popen(
        [sys.executable, DEMO], env=scratch, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    wait_until(lambda: commands("monte_pi.py", scratch["TMPDIR"]), timeout=120, what="the example to run")
    os.killpg(demo.pid, signal.SIGINT)  # as a terminal does: to all of them
    out, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "Interrupted; everything was stopped and removed." in out


def test_no_service_of_the_packages_was_started() -> None:
    assert commands("boinc", "/var/lib/boinc") == []
