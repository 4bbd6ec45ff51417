"""CPython's own tests of executors, run against the local backend.

They are imported from the installed test package, never copied: the interpreter's own, or Debian's
(libpython3.11-testsuite) for the same minor version. EXCLUDED says which of them say nothing about us, and why.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import sys
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pymw import Master

EXCLUDED = {
    "test_interpreter_shutdown": "imports its executor from concurrent.futures by name; test_losses.py has ours",
    "test_submit_after_interpreter_shutdown": "likewise",
    "test_hang_gh83386": "likewise",
}


def find() -> ModuleType | None:
    """The test module, from wherever it is installed."""
    with contextlib.suppress(ImportError):
        return importlib.import_module("test.test_concurrent_futures")
    debian = Path(f"/usr/lib/python{sys.version_info.major}.{sys.version_info.minor}/test")
    if not (debian / "test_concurrent_futures.py").exists():
        return None
    for name in [name for name in sys.modules if name == "test" or name.startswith("test.")]:
        del sys.modules[name]
    folder = tempfile.TemporaryDirectory()  # holds nothing but `test`: Debian's standard library stays out of the way
    atexit.register(folder.cleanup)
    (Path(folder.name) / "test").symlink_to(debian)
    sys.path.insert(0, folder.name)
    return importlib.import_module("test.test_concurrent_futures")


found = find()
REASON = "not installed: the interpreter's test package, or Debian's libpython3.11-testsuite"


@pytest.mark.skipif(found is not None, reason="CPython's tests are here, and run below")
def test_cpythons_own_tests_are_here(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--strict-parts"):
        pytest.fail(REASON)
    pytest.skip(REASON)


TIMED = (
    "test_first_completed", "test_first_exception", "test_first_exception_some_already_complete", "test_timeout",
    "test_map_timeout", "test_cancel_futures",
)  # fmt: skip
"""What sleeps for a second or two and expects others to be quicker."""


def patient(test: Callable[[Any], None]) -> Callable[[Any], None]:
    """The same test with three tries: its clocks are CPython's, and a machine that stands still loses against them."""

    def run(self: Any) -> None:
        for tries_left in (2, 1, 0):
            try:
                test(self)
                return
            except AssertionError:
                if not tries_left:
                    raise
                self.executor.shutdown(cancel_futures=True)
                self.setUp()

    return run


class LocalMaster(Master):
    """Workers start anew for every test: two of them, on a machine that others use too."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("local", **kwargs)

    @property
    def _broken(self) -> bool:  # what the tests of initializers look at
        return self._backend._broken is not None  # type: ignore[attr-defined]


if found is not None:

    def adopt(*names: str) -> dict[str, type]:
        """Test cases made of CPython's mixins; in later versions each has a module of its own."""
        homes = [found, *(importlib.import_module(f"{found.__name__}.{m}") for m in modules())]
        cases = {}
        for name in names:
            mixin = next(getattr(home, name) for home in homes if hasattr(home, name))
            executor = next(home.ExecutorMixin for home in homes if hasattr(home, "ExecutorMixin"))
            excluded = {test: None for test in EXCLUDED if hasattr(mixin, test)}
            bases = (mixin,) if issubclass(mixin, executor) else (mixin, executor)
            patience = {test: patient(getattr(mixin, test)) for test in TIMED if hasattr(mixin, test)}
            members = {"executor_type": LocalMaster, "worker_count": 2, "__test__": True, **patience, **excluded}
            cases[f"Test{name}"] = type(f"Test{name}", (*bases, unittest.TestCase), members)
        return cases

    def modules() -> list[str]:
        """The parts of the test package, where it is one."""
        path = getattr(found, "__path__", None)
        return (
            [] if path is None else ["util", "executor", "test_wait", "test_as_completed", "test_shutdown", "test_init"]
        )

    globals().update(adopt("ExecutorTest", "WaitTests", "AsCompletedTests", "ExecutorShutdownTest", "InitializerMixin"))
