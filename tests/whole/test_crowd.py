"""Many tasks: queued in bulk, learned of in bulk, by one thread, with flat memory."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests import errands
from tests.served import served
from tests.whole.test_truth import playing

from boincserver.control import Control
from boincserver.testing import SimulatedVolunteer
from pymw import Master

LIMIT = 600.0


def resident() -> int:
    """Megabytes that this process takes now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20


def crowd(folder: Path, tasks: int, chunksize: int | None, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Map over so many; what the master asked the server for, and how often."""
    asked: Counter[str] = Counter()
    call = Control._request

    def count(control: Control, method: str, path: str, *rest: Any, **more: Any) -> Any:
        if threading.current_thread() in (threading.main_thread(), *collectors()):
            asked[path.rpartition("/")[2].partition("?")[0]] += 1
        return call(control, method, path, *rest, **more)

    def collectors() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "pymw boinc collector"]

    monkeypatch.setattr(Control, "_request", count)
    with served(folder / "project") as project, Master(project.backend, rehearse=False) as master:
        quick = master.options(est_seconds=0.001)
        before, threads = resident(), threading.active_count()
        results = quick.map(errands.double, range(tasks), chunksize=chunksize, timeout=LIMIT)
        assert threading.active_count() <= threads + 1
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                volunteer = SimulatedVolunteer(
                    project.url, project.account(), compute=playing(lambda n, args: 2 * args[0]), ncpus=8
                )
                stack.enter_context(volunteer).start()
            assert len(collectors()) == 1
            assert sum(value == 2 * n for n, value in enumerate(results)) == tasks
        assert resident() - before < 120
    return asked


def test_eight_hundred_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = crowd(tmp_path, 800, 1, monkeypatch)
    assert asked["create_jobs"] == 1
    assert asked["copies"] == asked["job_states"] == 0


def test_many_small_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = crowd(tmp_path, 10_000, None, monkeypatch)
    assert asked["create_jobs"] == 1
    assert asked["copies"] == asked["job_states"] == 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chunksize", [None, 10])
def test_a_hundred_thousand_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunksize: int | None) -> None:
    asked = crowd(tmp_path, 100_000, chunksize, monkeypatch)
    assert asked["create_jobs"] <= 10
    assert asked["copies"] == asked["job_states"] == 0
