"""What all tests share: a part that is missing is a skip with its reason, or with --strict-parts a failure."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--strict-parts", action="store_true", help="fail, instead of skipping, where a part is missing")


def pytest_configure() -> None:
    """Ctrl-C works in what the tests start, also where they run in the background of a shell that ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def need(request: pytest.FixtureRequest) -> Callable[..., None]:
    """need("boinc", "faketime"): these programs are here, or the test is skipped with that reason."""

    def check(*programs: str) -> None:
        missing = [program for program in programs if shutil.which(program) is None]
        if not missing:
            return
        reason = f"not installed: {', '.join(missing)}"
        if request.config.getoption("--strict-parts"):
            pytest.fail(reason)
        pytest.skip(reason)

    return check
