"""The runs that a BOINC project has work of, whichever way they came there: `pymw runs --backend URL`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from boincserver import control
from boincserver.errors import BoincServerError
from boincserver.remote import RemoteServer, account_key
from pymw.backends.boinc.packing import APP
from pymw.errors import BackendError

__all__ = ["RunThere", "runs_at"]

_NAME = re.compile(r"(?P<run>.+)_(?P<token>[0-9a-f]{8,16})(?:\.[0-9a-f]{16})?")


@dataclass(frozen=True, slots=True)
class RunThere:
    """A run as the project sees it: in jobs, of which each may hold many tasks."""

    name: str
    jobs: int
    over: int
    failed: int


def runs_at(url: str) -> list[RunThere]:
    """The runs at a project: all of them for `boinc:DIR`; over the network those of the account whose key is here."""
    way, _, address = url.partition(":")
    try:
        if way == "boinc":
            found = _in(Path(address).expanduser())
        elif way in ("boinc+https", "boinc+http"):
            found = _at(f"{way.removeprefix('boinc+')}:{address}")
        else:
            raise BackendError(f"runs are watched at boinc:DIR and boinc+https://host/project, not at {url!r}")
        return _whole(found)
    except BoincServerError as error:
        raise BackendError(str(error)) from None  # it says all there is to say


def _in(directory: Path) -> list[RunThere]:
    listed = control.connect(directory).batches()
    return [RunThere(b["name"], b["jobs"], b["over"], b["failed"]) for b in listed if b["app"].startswith(APP)]


def _at(url: str) -> list[RunThere]:
    with contextlib.closing(RemoteServer(url, account_key(url))) as server:
        return [
            RunThere(batch.name, batch.njobs, round(batch.fraction_done * batch.njobs), batch.nerror_jobs)
            for batch in server.query_batches()
            if batch.app_name.startswith(APP)
        ]


def _whole(batches: Iterable[RunThere]) -> list[RunThere]:
    """Batches of the same run as one."""
    runs: dict[str, RunThere] = {}
    for batch, key, name in _named(batches):
        before = runs.get(key, RunThere(name, 0, 0, 0))
        jobs, over, failed = before.jobs + batch.jobs, before.over + batch.over, before.failed + batch.failed
        runs[key] = RunThere(name, jobs, over, failed)
    return [run for run in runs.values() if run.jobs]


def _named(batches: Iterable[RunThere]) -> Iterator[tuple[RunThere, str, str]]:
    for batch in batches:
        found = _NAME.fullmatch(batch.name)
        if found is not None:
            yield batch, f"{found['run']}_{found['token']}", found["run"]
