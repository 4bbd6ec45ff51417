"""`pymw cancel`: a named run is ended from another process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from pymw import Master, open_run
from pymw.cli import main
from pymw.lease import DOOR

LIMIT = 60.0


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))


SCRIPT = """
import sys, time
from concurrent.futures import CancelledError
from pathlib import Path
from pymw import Master

def nap(x):
    if x:
        Path(sys.argv[1]).touch()
        time.sleep(600)
    return x

with Master("local:1", run="naps") as master:
    print(list(master.map(nap, [0, 0])), flush=True)
    future = master.submit(nap, 1)
    try:
        print(future.result())
    except CancelledError:
        print("cancelled", future.state.value, flush=True)
    try:
        master.submit(nap, 0)
    except RuntimeError as error:
        print(error)
"""


@pytest.fixture
def living(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    script, flag = tmp_path / "script.py", tmp_path / "runs"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(flag)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + LIMIT
            while not flag.exists() and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


def test_a_living_master_is_told(living: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cancel", "naps"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"naps: cancelled, by process {living.pid} on ")
    assert "1 tasks were not over; 2 of 3 tasks done" in told
    out, err = living.communicate(timeout=LIMIT)
    assert out == "[0, 0]\ncancelled cancelled\nrun 'naps' was cancelled by another process\n"
    assert err == "pymw: run 'naps' was cancelled by another process\n"
    assert living.returncode == 0
    assert main(["cancel", "naps", "--json"]) == 0
    counts = {"asked": 1, "returned": 2, "failed": 0}
    expected = {"run": "naps", "cancelled": 0, "held_by": "", "tasks": counts}
    assert json.loads(capsys.readouterr().out) == expected


def test_a_run_that_is_over_has_nothing_to_cancel(capsys: pytest.CaptureFixture[str]) -> None:
    with Master("memory", run="done") as master:
        master.submit(abs, -1).result(LIMIT)
    assert main(["cancel", "done"]) == 0
    assert capsys.readouterr().out == "done: nothing was under way; 1 of 1 tasks done\n"
    assert main(["cancel", "other"]) == 1
    assert "there is no run 'other'" in capsys.readouterr().err


def test_a_map_that_waits_is_woken(tmp_path: Path) -> None:
    with pytest.raises(CancelledError, match="run 'mapped' was cancelled by another process"):
        with Master("local:1", run="mapped") as master:
            results = master.map(time.sleep, [0, 600, 600])
            next(results)
            code = "from pymw.cli import main; raise SystemExit(main(['cancel', 'mapped']))"
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=LIMIT)
            list(results)
    with open_run("mapped") as view:
        assert view.counts()["returned"] == 1


def test_only_who_may_read_the_runs_folder_is_let_in(tmp_path: Path) -> None:
    with Master("memory", run="guarded") as master:
        door = tmp_path / "home" / "runs" / "guarded" / DOOR
        assert door.stat().st_mode & 0o077 == 0
        port = int(door.read_text().split()[0])
        for said in (b"cancel wrong\n", b"\xff\xfe\n", b""):
            with socket.create_connection(("127.0.0.1", port), LIMIT) as visit:
                visit.sendall(said)
                visit.shutdown(socket.SHUT_WR)
                assert visit.recv(100) == b""
        assert master.submit(abs, -1).result(LIMIT) == 1
    assert not door.exists()


def test_a_holder_that_does_not_answer_is_told_of(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with Master("memory", run="mute"):
        (tmp_path / "home" / "runs" / "mute" / DOOR).unlink()
        assert main(["cancel", "mute"]) == 1
        assert f"held by process {os.getpid()}" in capsys.readouterr().err
