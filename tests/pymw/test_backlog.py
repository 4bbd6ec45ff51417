"""Results that nobody has read yet: memory stays flat behind a slow task."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from pymw.backlog import Backlog, weight

LIMIT = 120.0


def open_files() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(entry.readlink()))
        except OSError:
            continue
    return {name for name in found if "pymw-results-" in name or "(deleted)" in name}


def test_what_exceeds_the_room_goes_to_a_file_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = open_files()
    backlog = Backlog(room=100_000)
    stretches = {i: [bytes([i]) * 30_000] for i in range(20)}
    for i, values in stretches.items():
        backlog.put(i, values)
    assert backlog.spilled == 17
    assert not list(tmp_path.iterdir()), "the file has a name that a crash would leave behind"
    assert 19 in backlog
    for i in reversed(range(20)):
        assert backlog.take(i) == stretches[i]
    assert backlog.take(3) is None
    backlog.put(0, [b"x" * 200_000])
    backlog.put(1, [b"y" * 200_000])
    backlog.clear()
    assert len(backlog) == 0
    assert open_files() == before


def test_a_backlog_that_is_dropped_leaves_no_file() -> None:
    before = open_files()
    backlog = Backlog(room=0)
    backlog.put(0, [b"x" * 1000])
    assert open_files() != before
    del backlog
    gc.collect()
    assert open_files() == before


def test_what_cannot_be_pickled_and_what_is_read_next_stay_in_memory() -> None:
    backlog = Backlog(room=0)
    odd = [lambda: 1, (n for n in range(3))]
    backlog.put(0, odd)
    backlog.put(1, ["soon"], soon=True)
    assert backlog.spilled == 0
    assert backlog.take(0) is odd
    assert backlog.take(1) == ["soon"]


def test_the_weight_is_about_right() -> None:
    assert weight(b"x" * 10_000) == pytest.approx(10_000, rel=0.1)
    assert weight([b"x" * 10_000] * 100) == pytest.approx(1_000_000, rel=0.1)
    assert weight(dict.fromkeys(range(1000), "y" * 1000)) == pytest.approx(1_100_000, rel=0.2)
    assert weight(np.zeros(1000)) == 8000

    class Holder:
        def __init__(self) -> None:
            self.data = b"z" * 50_000

    assert weight((1, Holder())) > 50_000


STRAGGLER = """
import itertools, os, sys, time
from pathlib import Path
from pymw import Master

folder, sized = Path(sys.argv[1]), sys.argv[2] == "sized"
ITEMS = 400

def blob(i):
    if i == 0:
        while len(list(folder.iterdir())) < ITEMS - 1:
            time.sleep(0.02)
    else:
        (folder / str(i)).touch()
    return i, os.urandom(1 << 20)

with Master("local", max_workers=2) as master:
    numbers = range(ITEMS) if sized else iter(range(ITEMS))
    for expected, (i, data) in enumerate(master.map(blob, numbers)):
        assert i == expected and len(data) == 1 << 20
[peak] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]  # not what ru_maxrss inherits
print(int(peak.split()[1]) // 1024)
"""


@pytest.mark.parametrize("kind", ["sized", "unsized"])
def test_four_hundred_large_results_behind_a_straggler(tmp_path: Path, kind: str) -> None:
    """The first item ends last; 400 MB wait for it, and the master's memory does not grow with them."""
    (tmp_path / "marks").mkdir()
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-c", STRAGGLER, str(tmp_path / "marks"), kind]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200, "megabytes at the peak"
    assert not list((tmp_path / "tmp").iterdir())
