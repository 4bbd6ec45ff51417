"""For tests of programs that use pymw: a backend without processes, and pytest fixtures.

from pymw.testing import memory_master  # a fixture

def test_my_pipeline(memory_master):
    assert my_pipeline(memory_master) == 42
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymw import worker
from pymw.backends.at_worker import encodable, recordable
from pymw.backends.protocol import (
    BackendStatus,
    Batch,
    Call,
    Capabilities,
    Ended,
    Event,
    Logged,
    Progressed,
    Setup,
)
from pymw.errors import BackendError
from pymw.outcome import resolve_imported

if TYPE_CHECKING:
    from pymw.master import Master

__all__ = ["MemoryBackend", "local_master", "memory", "memory_master", "open_memory", "pymw_home"]


def open_memory(address: str, setup: Setup) -> MemoryBackend:
    """``memory``: `max_workers` threads of this process, one if not given."""
    setup.refuse("initializer", "mp_context", "max_tasks_per_child", backend="memory", why="it has no processes")
    setup.refuse("values", backend="memory", why="nothing is packed here; rehearse on local")
    return MemoryBackend(setup, setup.max_workers or 1)


@contextmanager
def memory(workers: int = 1) -> Iterator[Master]:
    """A master whose tasks run in threads of this process: nothing is pickled, nothing can be lost."""
    from pymw.master import Master

    with Master("memory", max_workers=workers) as master:
        yield master


try:
    import pytest
except ModuleNotFoundError:
    pass
else:

    @pytest.fixture
    def memory_master() -> Iterator[Master]:
        """A pytest fixture: a master on the in-memory backend."""
        with memory() as master:
            yield master

    @pytest.fixture
    def local_master() -> Iterator[Master]:
        """A pytest fixture: a master with two worker processes."""
        from pymw.master import Master

        with Master("local", max_workers=2) as master:
            yield master

    @pytest.fixture
    def pymw_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A pytest fixture: the named runs of this test are kept here, and nowhere else."""
        monkeypatch.setenv("PYMW_HOME", str(tmp_path))
        return tmp_path


class MemoryTask(worker.CurrentTask):
    """progress(), log and checkpoint of a task in a thread."""

    def __init__(self, backend: MemoryBackend, call: Call, index: int) -> None:
        self.id = f"{call.id}-{index}"
        self._backend, self._call, self._index = backend, call, index
        self._saved: Any = None

    def progress(self, fraction: float) -> None:
        """At once: nothing is cheaper."""
        self._backend.deliver(Progressed(self._call, self._index, fraction))

    def log(self, message: str) -> None:
        """At once."""
        self._backend.deliver(Logged(self._call, self._index, message))

    def load(self, default: Any) -> Any:
        """A thread is not lost: there is only ever the first attempt."""
        return default if self._saved is None else self._saved[0]

    def save(self, value: Any) -> None:
        """Remember."""
        self._saved = (value,)


class MemoryBackend:
    """Threads of this process: what a backend is, in its simplest form."""

    name = "memory"
    capabilities = Capabilities(trusted=True, progress=True, logs=True)

    def __init__(self, setup: Setup, workers: int) -> None:
        self._collector = setup.collector
        self._recorded = setup.run is not None
        self._waiting: deque[tuple[Batch, int]] = deque()  # batches, and how far each has been begun
        self._changed = threading.Condition()
        self._delivering = threading.RLock()
        self._running = 0
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"pymw memory {n}") for n in range(workers)]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def submit(self, batches: Sequence[Batch]) -> None:
        """As Backend says."""
        with self._changed:
            if self._closed:
                raise BackendError("backend 'memory' is closed")
            self._waiting.extend((batch, 0) for batch in batches if len(batch))
            self._changed.notify_all()

    def cancel(self, call: Call, indices: Sequence[int] | None = None, *, running: bool = False) -> None:
        """As Backend says; a single task is dropped when its turn comes."""
        with self._changed:
            if call.many and indices is None:
                self._waiting = deque(item for item in self._waiting if item[0].call is not call)

    def explain(self, call: Call, index: int) -> str:
        """As Backend says."""
        return f"{call.name} waits or runs in a thread; {self.status().queued} tasks wait"

    def status(self) -> BackendStatus:
        """As Backend says."""
        with self._changed:
            waiting = sum(len(batch) - start for batch, start in self._waiting)
            return BackendStatus(len(self._threads), self._running, waiting)

    def close(self, *, detach: bool = False) -> None:
        """As Backend says; a thread that runs a task ends with it."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread() and not self._running:
                thread.join()

    def deliver(self, event: Event) -> None:
        """To the collector, from one thread at a time."""
        with self._delivering:
            if not self._closed:
                self._collector.deliver([event])

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                batch, position = self._waiting.popleft()
                if position + 1 < len(batch):
                    self._waiting.appendleft((batch, position + 1))
                self._running += 1
            try:
                self._perform(batch, position)
            finally:
                with self._changed:
                    self._running -= 1

    def _perform(self, batch: Batch, position: int) -> None:
        call, index = batch.call, batch.indices[position]
        name = threading.current_thread().name
        if not self._collector.begin(call, index, 1, name):
            return
        with worker.running(MemoryTask(self, call, index)):
            outcome = worker.perform(
                call.function,
                batch.args(position),
                batch.kwargs,
                encodable=encodable if self._recorded else lambda value: True,
                worker=name,
            )
        if self._recorded:
            outcome = recordable(outcome)
        self.deliver(Ended(call, index, outcome, outcome.error(call.id, resolve_imported)))
