"""The daemons of an official project for our applications: `pymw boinc validate` and `pymw boinc assimilate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from boincserver.errors import BoincServerError
from boincserver.official import Assimilation, Batches, Daemon, Settings, Tables, Validation
from pymw.backends.boinc.validator import OutcomeValidator
from pymw.errors import BackendError

__all__ = ["assimilate", "validate"]

Pass = Callable[[Callable[[], bool]], int]


def validate(directory: Path, apps: Sequence[str], *, one_pass: bool, level: int, sleep: float) -> int:
    """Compare results of these applications until told to stop; returns the exit code."""
    validator = OutcomeValidator()
    with _tables(directory) as tables:
        try:
            return Daemon(directory, Validation(tables, apps, validator).one_pass, sleep).run(
                one_pass=one_pass, level=level
            )
        finally:
            validator.close()


def assimilate(directory: Path, apps: Sequence[str], *, one_pass: bool, level: int, sleep: float) -> int:
    """File how jobs of these applications ended until told to stop; returns the exit code."""
    with _tables(directory) as tables:
        assimilation = Assimilation(tables, Batches(directory), apps)
        return Daemon(directory, assimilation.one_pass, sleep).run(one_pass=one_pass, level=level)


@contextmanager
def _tables(directory: Path) -> Iterator[Tables]:
    try:
        tables = Tables(Settings.read(directory))
        try:
            yield tables
        finally:
            tables.close()
    except BoincServerError as error:
        raise BackendError(str(error)) from error
