"""The signing key lives on another machine: files come with their signatures, and the stock client takes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from boincserver import cli, project
from boincserver.control import Job
from boincserver.testing import StockClient, free_port, serving

from .conftest import UPPER
from .test_stock_client import SHORT, collect


@pytest.mark.stock
def test_files_come_with_their_signatures(
    tmp_path: Path, need: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    need("boinc", "boinccmd", "faketime")
    directory, vault, work = tmp_path / "project", tmp_path / "vault", tmp_path / "work"
    vault.mkdir()
    work.mkdir()
    url = f"http://127.0.0.1:{free_port()}/"
    made = project.create(directory, url=url)
    key = vault / "key"
    (directory / "keys" / "code_sign_private").rename(key)
    program, data = work / "upper.sh", work / "data"
    program.write_text(UPPER)
    data.write_bytes(b"some data\n")
    add = ["app", "add", str(directory), "upper", str(program), str(data)]
    with serving(directory) as server:
        assert cli.main(add) == 1
        assert "boincserver app sign KEY FILE" in capsys.readouterr().err
        assert cli.main(["app", "sign", str(key), str(program), str(data)]) == 0
        assert capsys.readouterr().out.split() == [f"{program}.signature", f"{data}.signature"]
        data.write_bytes(b"other data\n")
        assert cli.main(add) == 1
        assert "the signature of data is not one of this file" in capsys.readouterr().err
        data.write_bytes(b"some data\n")
        assert cli.main(add) == 0, capsys.readouterr().err
        batch = server.control.create_batch("upper", "b")
        server.control.create_jobs(batch.id, [Job("j", {"in": b"signed\n"}, {"out": 1000}, **SHORT)])
        with StockClient(speed=20.0) as client:
            client.attach(url, server.control.create_account("v@example.org"))
            assert collect(server.control, batch.id, 1)["j"].outputs["out"] == b"SIGNED\n"
    assert made.public_key.text() in (directory / "keys" / "code_sign_public").read_text()


def test_another_key_and_no_key_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory, other = tmp_path / "project", tmp_path / "other"
    for each in (directory, other):
        project.create(each, url=f"http://127.0.0.1:{free_port()}/")
    program = tmp_path / "upper.sh"
    program.write_text(UPPER)
    assert cli.main(["app", "sign", str(program), str(program)]) == 1
    assert "is no signing key" in capsys.readouterr().err
    assert cli.main(["app", "sign", str(tmp_path / "none"), str(program)]) == 1
    assert "none" in capsys.readouterr().err
    assert cli.main(["app", "sign", str(other / "keys" / "code_sign_private"), str(program), "--json"]) == 0
    capsys.readouterr()
    with serving(directory):
        assert cli.main(["app", "add", str(directory), "upper", str(program)]) == 1
    assert "by the project's key" in capsys.readouterr().err
