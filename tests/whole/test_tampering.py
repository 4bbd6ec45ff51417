"""A server that was taken over sends other code than the master signed: the worker program refuses it."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from pathlib import Path

import pytest
from tests import errands
from tests.served import served

import pymw
from boincserver.testing import SimulatedVolunteer, serving
from pymw import Master
from pymw.backends.boinc.keys import SigningKey
from pymw.bundle import bundle
from pymw.volunteer import BUNDLE, SIGNATURE

LIMIT = 240.0


def exchange(directory: Path, old: bytes, new: bytes) -> None:
    """Put other content in the place of a file, with everything that clients check it by."""
    (stored,) = (path for path in (directory / "download").rglob("*") if path.is_file() and path.read_bytes() == old)
    stored.write_bytes(new)
    described = [(hashlib.md5(old).hexdigest(), hashlib.md5(new).hexdigest())]
    described.append((f"<nbytes>{len(old)}</nbytes>", f"<nbytes>{len(new)}</nbytes>"))
    with contextlib.closing(sqlite3.connect(directory / "database.sqlite3")) as database:
        for before, after in described:
            database.execute("UPDATE workunit SET xml_doc = REPLACE(xml_doc, ?, ?)", (before, after))
        database.commit()


@pytest.mark.parametrize("with_own_signature", [False, True])
def test_changed_code_never_runs(tmp_path: Path, with_own_signature: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, bytes] = {}
    with served(tmp_path / "project") as project:
        keys = [project.account() for _ in range(3)]
        put = type(project.control).put_file

        def note(control: object, source: object, **more: object) -> str:
            if isinstance(source, bytes):
                sent[SIGNATURE if source.startswith(b"{") else BUNDLE] = source
            return str(put(control, source, **more))

        monkeypatch.setattr(type(project.control), "put_file", note)
        master = Master(project.backend, rehearse=False)
        future = master.submit(errands.double, 21)
    evil = bundle(errands.shout)
    exchange(project.directory, sent[BUNDLE], evil.data)
    if with_own_signature:
        (tmp_path / "own").mkdir()
        key = SigningKey.of(tmp_path / "own")
        exchange(project.directory, sent[SIGNATURE], key.sign(project.url, "unnamed_1", {BUNDLE: evil.digest}, 2**40))
    with serving(project.directory), contextlib.ExitStack() as stack:
        for account in keys:
            stack.enter_context(SimulatedVolunteer(project.url, account)).start()
        error = future.exception(LIMIT)
        master.shutdown()
    assert isinstance(error, pymw.WorkerLost)
    assert len(error.attempts) == 3
    assert all("refused: " in attempt.stderr for attempt in error.attempts)
