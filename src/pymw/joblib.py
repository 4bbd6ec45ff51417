"""The door for scikit-learn's users: a joblib backend on a Master.

from joblib import parallel_config
from pymw.joblib import register

register()
with Master("local") as master, parallel_config("pymw", master=master):
    GridSearchCV(...).fit(X, y)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from joblib import register_parallel_backend  # type: ignore[import-untyped,import-not-found,unused-ignore]
from joblib.parallel import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    AutoBatchingMixin,
    ParallelBackendBase,
)

from pymw.master import Master

__all__ = ["PymwBackend", "register"]


class PymwBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """joblib's batches as tasks of a master; without one of the caller's, `Master()` for as long as it is used."""

    supports_retrieve_callback = True
    supports_return_generator = True
    uses_threads = False
    default_n_jobs = -1  # `Parallel()` says nothing: the master knows how many

    def __init__(self, master: Master | None = None, nesting_level: int | None = None, **options: Any) -> None:
        super().__init__(nesting_level=nesting_level, **options)
        self._given = master
        self._master: Master | None = None

    def effective_n_jobs(self, n_jobs: int) -> int:
        """The master's workers, or as many as the caller asks for."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 has no meaning")
        master = self._given or self._master
        workers = (master.status().carried.workers or 1) if master is not None else (os.cpu_count() or 1)
        return workers if n_jobs is None or n_jobs < 0 else min(n_jobs, workers)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """joblib begins."""
        self.parallel = parallel
        jobs = self.effective_n_jobs(n_jobs)
        if self._given is None:
            self._master = Master(max_workers=jobs)
        return jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Any:
        """One batch of joblib's."""
        master = self._given or self._master
        assert master is not None
        future = master.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit

    def retrieve_result_callback(self, out: Any) -> Any:
        """What the batch returned, or raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A batch failed: what has not begun is not needed any more."""
        self.terminate()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)

    def terminate(self) -> None:
        """joblib ends; a master of the caller's goes on."""
        if self._master is not None:
            self._master.__exit__(RuntimeError, None, None)
            self._master = None


def register() -> None:
    """Make "pymw" known to `joblib.parallel_config`."""
    register_parallel_backend("pymw", PymwBackend)
