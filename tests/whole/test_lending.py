"""`pymw volunteer URL`: a machine that is lent to a project, by the stock client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests import errands
from tests.served import served

from boincserver.testing import wait_until
from pymw import Master

LIMIT = 240.0
PYMW = str(Path(sys.executable).with_name("pymw"))


@contextmanager
def lent(log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [PYMW, "volunteer", *arguments]
    with log.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(120)


def key_file(folder: Path, key: str, mode: int = 0o600) -> Path:
    file = folder / "key"
    file.write_text(key + "\n")
    file.chmod(mode)
    return file


@pytest.mark.stock
def test_a_lent_machine_works_until_ctrl_c_and_goes_on_at_the_next_start(
    tmp_path: Path, need: Callable[..., None]
) -> None:
    need("boinc", "boinccmd")
    log, folder = tmp_path / "log", tmp_path / "client"
    with served(tmp_path / "project") as project, Master(project.backend) as master:
        key = key_file(tmp_path, project.account())
        with lent(log, project.url, "--key-file", str(key), "--folder", str(folder), "--cores", "1") as process:
            wait_until(lambda: process.poll() is not None or project.control.hosts(), timeout=LIMIT, what="it to join")
            assert process.poll() is None, log.read_text()
            assert [host.ncpus for host in project.control.hosts()] == [1]
            assert master.submit(errands.double, 21).result(LIMIT) == 42
        assert process.returncode == 0, log.read_text()
        key.unlink()
        with lent(log, project.url, "--folder", str(folder)):  # it knows who it is
            assert master.submit(errands.double, 4).result(LIMIT) == 8
        assert len(project.control.hosts()) == 1
        assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("no-url",), "is no address of a project"),
        (("http://127.0.0.1:9/",), "say who lends it"),
        (("http://127.0.0.1:9/", "--key-file", "/no/such/file"), "cannot be read"),
    ],
)
def test_what_is_missing_is_said(arguments: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    environment.pop("PYMW_ACCOUNT_KEY", None)
    # A command of that name is enough: none of these gets as far as starting it.
    for name in ("boinc", "boinccmd"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    done = subprocess.run(
        [PYMW, "volunteer", *arguments],
        capture_output=True, text=True, env=environment, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert reason in done.stderr


def test_a_key_that_others_can_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pymw import lending

    monkeypatch.setattr("shutil.which", lambda name: name)
    with pytest.raises(lending.LendingError, match="chmod 600"):
        lending.lend(
            "http://127.0.0.1:9/", key_file=key_file(tmp_path, "k", 0o644), email="", folder=tmp_path, cores=None
        )
