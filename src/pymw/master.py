"""The master: an Executor whose tasks run on whatever its backend's URL names."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from pymw import worker
from pymw.backends import open_backend
from pymw.backends.protocol import Backend, Capabilities, Setup
from pymw.collector import Intake
from pymw.dispatch import Dispatch
from pymw.errors import NotInsideTask
from pymw.leaving import Belongings, remember
from pymw.sources import workers_begin
from pymw.status import MasterStatus
from pymw.task import TaskOptions
from pymw.view import View

if TYPE_CHECKING:
    from pymw.run import Run

__all__ = ["Master"]


class Master(View):
    """Runs functions on a backend; a `concurrent.futures.Executor` with options beside the functions' own arguments.

    >>> from pymw import Master
    >>> with Master("local", max_workers=2) as master:
    ...     list(master.map(abs, [-1, -2, -3]))
    [1, 2, 3]
    """

    def __init__(
        self,
        backend: str | Backend | Executor | None = None,
        *,
        max_workers: int | None = None,
        run: str | None = None,
        retry_failed: bool = True,
        values: str = "native",
        rehearse: bool = True,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        mp_context: Any = None,
        max_tasks_per_child: int | None = None,
    ) -> None:
        here = worker.current()
        if here is not None and not here.may_be_master:
            raise NotInsideTask
        self._run = _held(run, retry_failed)
        self._intake = Intake(self._run)
        setup = Setup(
            collector=self._intake,
            max_workers=max_workers,
            run=self._run,
            values=values,
            rehearse=rehearse,
            initializer=initializer,
            initargs=initargs,
            mp_context=mp_context,
            max_tasks_per_child=max_tasks_per_child,
        )
        workers_begin()
        chosen = backend if backend is not None else os.environ.get("PYMW_BACKEND") or "local"
        try:
            self._backend = open_backend(chosen, setup)
        except BaseException:
            if self._run is not None:
                self._run.close()
            raise
        self._belongings = Belongings(self._intake, self._backend, self._run)
        super().__init__(Dispatch(self._belongings), TaskOptions())
        remember(self._belongings)
        # A view of this master, or the iterator of a map, is as good as the master itself.
        self._finalizer = weakref.finalize(self._dispatch, self._belongings.finish)
        self._finalizer.atexit = False
        if self._run is not None:
            self._run.opened_on(self.backend if self.capabilities.outlives_master else "")
            self._run.answer(self._dispatch.cancel_run)

    # The Executor, beside what View has.

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks. With `wait`, return when all are done; without, leave them to go on."""
        self._dispatch.close()
        if cancel_futures:
            self._dispatch.cancel_waiting()
        if not wait:
            self._finalizer()
            return
        try:
            self._intake.wait()
        except BaseException:
            self._leave(interrupted=True)
            raise
        self._close()

    def __exit__(self, exc_type: type[BaseException] | None, exc_val: Any, exc_tb: Any) -> None:
        """A normal end waits for the tasks; an exception leaves at once and cancels them."""
        if exc_type is None:
            self.shutdown()
        else:
            self._leave(interrupted=issubclass(exc_type, KeyboardInterrupt))

    # Beyond the Executor.

    def map_reduce(
        self,
        map_fn: Callable[[Any], Any],
        reduce_fn: Callable[[Any, Any], Any],
        data: Iterable[Any],
        **options: Any,
    ) -> Any:
        """``reduce(reduce_fn, map(map_fn, data))`` for an associative `reduce_fn`; see `pymw.mapreduce.map_reduce`.

        >>> from operator import add
        >>> from pymw import Master
        >>> with Master("local", max_workers=1) as master:
        ...     master.map_reduce(abs, add, range(-1000, 0))
        500500
        """
        from pymw.mapreduce import map_reduce

        return map_reduce(self, map_fn, reduce_fn, data, workers=self._backend.status().workers or 1, **options)

    def share(self, value: Any) -> Any:
        """What to pass in place of a large `value` to many tasks: each worker process reads it once.

        The function gets the value itself, an array memory-mapped and read-only. Where workers are not on this
        machine's file system the value itself is returned, and travels with each task.
        """
        if not self._backend.capabilities.shared_files:
            return value
        if self._belongings.shelf is None:
            from pymw.sharing import Shelf

            self._belongings.shelf = Shelf()
        return self._belongings.shelf.put(value)

    def status(self) -> MasterStatus:
        """How many tasks wait, run and are done, and what the backend says."""
        return MasterStatus(self._backend.name, len(self._intake.open_calls()), self._backend.status())

    @property
    def backend(self) -> str:
        """The backend's name, as in its URL."""
        return self._backend.name

    @property
    def capabilities(self) -> Capabilities:
        """What the backend promises."""
        return self._backend.capabilities

    def __repr__(self) -> str:
        return f"<Master {self._backend.name}{' closed' if self._dispatch.closed else ''}>"

    def _repr_html_(self) -> str:
        return self.status()._repr_html_()

    def _leave(self, *, interrupted: bool) -> None:
        """Go at once: what is not over is cancelled, and whoever waits for it is told."""
        self._finalizer.detach()
        self._belongings.tell(interrupted=interrupted)
        self._dispatch.end()

    def _close(self) -> None:
        self._finalizer.detach()
        self._belongings.close()


def _held(name: str | None, retry_failed: bool) -> Run | None:
    if name is None:
        return None
    from pymw.run import Run

    return Run(name, retry_failed=retry_failed)
