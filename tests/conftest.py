"""What all tests share: a part that is missing is a skip with its reason, or with --strict-parts a failure."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from boincserver.testing import wait_until

# The machine may be slow: that is no error of what is tested.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


OURS = ("pymw-", "boinc-", "pacman-", "official-", "mariadb-")  # so begins what this project writes for a while


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--strict-parts", action="store_true", help="fail, instead of skipping, where a part is missing")


def pytest_configure() -> None:
    """Ctrl-C works in what the tests start, also where they run in the background of a shell that ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is written for a while, by the tests and by all that they start, has one place, and in the end is gone."""
    tmp_path_factory.getbasetemp()  # pytest's own, which is kept for a while, is elsewhere
    with (
        pytest.MonkeyPatch.context() as changes,
        tempfile.TemporaryDirectory(prefix="pymw-tests-", ignore_cleanup_errors=True) as folder,
    ):
        changes.setenv("TMPDIR", folder)
        changes.setattr(tempfile, "tempdir", folder)
        yield

        def left() -> list[str]:
            return sorted(path.name for path in Path(folder).iterdir() if path.name.startswith(OURS))

        with contextlib.suppress(TimeoutError):  # workers whose master was killed clear up when they notice it
            wait_until(lambda: not left(), timeout=60)
        assert not left(), f"left behind: {left()}"


@pytest.fixture(scope="session")
def lacking(request: pytest.FixtureRequest) -> Callable[[str], NoReturn]:
    """lacking("not installed: boinc"): the test is skipped with that reason, or fails where nothing may be missing."""
    strict = request.config.getoption("--strict-parts")

    def end(reason: str) -> NoReturn:
        if strict:
            pytest.fail(reason)
        pytest.skip(reason)

    return end


@pytest.fixture(scope="session")
def interpreter(lacking: Callable[[str], NoReturn]) -> Path:
    """The interpreter for this kind of machine as `make runtime` built it."""
    from pyboinc.package import cache, recipe, runtimes

    found = runtimes.find(recipe.X86_64.short, cache.default())
    if found is None or sys.platform != "linux" or os.uname().machine != "x86_64":
        lacking("the interpreter of this recipe is not built: make runtime (some minutes, once)")
    return found.files[0].path


@pytest.fixture(scope="session")
def need(lacking: Callable[[str], NoReturn]) -> Callable[..., None]:
    """need("boinc", "faketime"): these programs are here, or the test is skipped with that reason."""

    def check(*programs: str) -> None:
        missing = [program for program in programs if shutil.which(program) is None]
        if missing:
            lacking(f"not installed: {', '.join(missing)}")

    return check
