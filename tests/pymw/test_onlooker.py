"""Looking at a run from outside: the same futures, in order, also while it goes on."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import CancelledError, as_completed
from pathlib import Path
from typing import Any

import pytest

from pymw import Master, TaskFuture, TaskState, WorkerLost, open_run

LIMIT = 60.0


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))


def test_futures_that_are_not_over_end_when_the_journal_says_so() -> None:
    go = threading.Event()

    def wait(x: int) -> int:
        go.wait(LIMIT)
        if x == 2:
            raise ValueError("two")
        return x

    with Master("memory", run="slow") as master:
        first = master.options(key="first").submit(abs, -7)
        first.result(LIMIT)
        rest = [master.options(key=n).submit(wait, n) for n in range(3)]
        # What was asked for is on disk together with the next result.
        asked = [first, *rest, master.options(key="last").submit(abs, -8)]
        with open_run("slow") as view:
            futures = list(view)
            assert all(isinstance(future, TaskFuture) for future in futures)
            assert futures[0].result(0) == 7
            assert [future.key for future in futures] == [future.key for future in asked[: len(futures)]]
            go.set()
            master.submit(abs, -9).result(LIMIT)
            for future in view:
                assert future.exception(LIMIT) is None or "two" in str(future.exception())
            assert len(view) == 6
            assert list(as_completed(list(view), LIMIT))
            states = [future.state for future in view]
            assert states.count(TaskState.FAILED) == 1
            assert states.count(TaskState.DONE) == 5


def test_a_recorded_task_tells(tmp_path: Path) -> None:
    def leave() -> str:
        Path("x").write_text("left")
        return "done"

    with Master("local:1", run="told") as master:
        master.options(outputs=["x"]).submit(leave).result(LIMIT)
        lost = master.options(attempts=2).submit(os._exit, 3).exception(LIMIT)
        raised = master.submit(int, "x").exception(LIMIT)
    with open_run("told") as view:
        left, gone, failed = view
        assert (left.id, left.name.rpartition(".")[2], left.state) == ("told/1", "leave", TaskState.DONE)
        assert left.files == {"x": b"left"}
        assert "leave returned" in left.explain()
        assert isinstance(lost, WorkerLost)
        again = gone.exception()
        assert isinstance(again, WorkerLost)
        assert again.attempts == lost.attempts
        assert str(failed.exception()) == str(raised)
        assert "int failed: ValueError" in failed.explain()
        assert failed._repr_html_().startswith("<code>")


def test_what_is_not_over_says_who_works_on_it_and_is_told_when_nobody_looks_any_more() -> None:
    go = threading.Event()
    with Master("memory", run="held") as master:
        master.submit(abs, -1).result(LIMIT)
        waits = master.options(key=1).submit(go.wait, LIMIT)
        master._run._journal.flush()  # type: ignore[union-attr]
        view = open_run("held")
        future = list(view)[1]
        assert (future.state, future.cancel()) == (TaskState.QUEUED, False)
        assert f"process {os.getpid()}" in future.explain()
        assert "held/2" in repr(future)
        view.close()
        with pytest.raises(CancelledError):
            future.result(LIMIT)
        go.set()
        waits.result(LIMIT)


def test_async_for_follows_a_run_that_goes_on() -> None:
    go = threading.Event()

    async def look() -> list[Any]:
        values = []
        with open_run("going") as view:
            async for value in view:
                values.append(value)
                go.set()
        return values

    with Master("memory", run="going") as master:
        master.submit(abs, -5).result(LIMIT)
        waits = master.options(key=1).submit(go.wait, LIMIT)
        master._run._journal.flush()  # type: ignore[union-attr]
        assert asyncio.run(asyncio.wait_for(look(), LIMIT)) == [5, True]
        waits.result(LIMIT)


def test_results_wait_no_longer_than_they_are_told_to() -> None:
    go = threading.Event()
    with Master("memory", run="late") as master:
        waits = master.submit(go.wait, LIMIT)
        master._run._journal.flush()  # type: ignore[union-attr]
        with open_run("late") as view, pytest.raises(TimeoutError, match="task 1 of run 'late' is not over"):
            list(view.results(timeout=0.01))
        go.set()
        waits.result(LIMIT)
    with open_run("late") as view:
        assert list(view.results(timeout=0)) == [True]
