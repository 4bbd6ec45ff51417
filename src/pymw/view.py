"""What takes tasks: `submit`, `map` and `options`, the same on a master and on a view of it with options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any

from pymw.dispatch import Dispatch
from pymw.mapping import OnError, Reading
from pymw.task import TaskFuture, TaskOptions

__all__ = ["BoundMaster", "View"]


class View(Executor):
    """An Executor with options beside the functions' own arguments."""

    def __init__(self, dispatch: Dispatch, options: TaskOptions) -> None:
        self._dispatch = dispatch
        self._options = options

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskFuture:
        """Run ``fn(*args, **kwargs)`` on a worker."""
        return self._dispatch.submit(self._options, fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        progress: Any = False,
        on_error: OnError = "raise",
    ) -> Iterator[Any]:
        """Run `fn` on each item, or on each row of several inputs; iterate over what it returned.

        A sized input is queued whole. An endless one is read only so far ahead of the unfinished tasks as
        `buffersize` says, by itself if None. `ordered=False` gives results as they come; `on_error` raises the
        exception of a task in its place, returns it there, or skips it. `progress=True` shows a bar, on a terminal or
        in a notebook, or lines in a log; `progress=tqdm` shows tqdm's.
        """
        reading = Reading(timeout, chunksize, buffersize, ordered, progress, on_error)
        return self._dispatch.map(self._options, fn, iterables, reading)

    def options(self, **options: Any) -> BoundMaster:
        """A view whose tasks have these options beside those of this one; see `TaskOptions`.

        >>> from pymw import Master
        >>> with Master("local", max_workers=1) as master:
        ...     master.options(retries=3, name="smallest").submit(min, [3, 1, 2]).result()
        1
        """
        return BoundMaster(self._dispatch, self._dispatch.checked(self._options.but(**options)))


class BoundMaster(View):
    """A master with options; closing it does not close the master."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Does nothing: the master is closed by whoever opened it."""

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        return None

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={getattr(self._options, name)!r}" for name in self._options.given())
        return f"<{self._dispatch!r} with {given or 'no options'}>"
