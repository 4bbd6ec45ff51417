"""The one error that is also one of `concurrent.futures`, which loads `logging`: no volunteer's computer needs that."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from pymw.errors import BackendError


class BrokenBackend(BackendError, BrokenExecutor):
    """The backend stopped for good; every unfinished task fails with this."""

    __module__ = "pymw.errors"
