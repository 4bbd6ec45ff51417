"""The signing key lives on another machine: files come with their signatures, and the stock client takes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from boincserver import cli, project, signing
from boincserver.control import Job
from boincserver.errors import KeyRotationError
from boincserver.keys import Renewal, Signed, install, renew, request
from boincserver.project import Project
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


def run(capsys: pytest.CaptureFixture[str], *command: object) -> str:
    """What a command that succeeds says."""
    assert cli.main([str(word) for word in command]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.stock
def test_a_key_that_no_server_has_is_replaced(
    tmp_path: Path, need: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A client that trusts the old key takes the new one, and files that only the new one signed."""
    need("boinc", "boinccmd", "faketime")
    directory, vault = tmp_path / "project", tmp_path / "vault"
    vault.mkdir()
    url = f"http://127.0.0.1:{free_port()}/"
    trusted = project.create(directory, url=url).public_key
    key = vault / "key"
    (directory / "keys" / "code_sign_private").rename(key)
    program = tmp_path / "upper.sh"

    def add(text: str, signer: Path) -> None:
        program.write_text(text)
        run(capsys, "app", "sign", signer, program)
        run(capsys, "app", "add", directory, "upper", program)

    with StockClient(speed=20.0) as client:
        with serving(directory) as server:
            add(UPPER, key)
            batch = server.control.create_batch("upper", "b")
            server.control.create_jobs(batch.id, [Job("before", {"in": b"a\n"}, {"out": 1000}, **SHORT)])
            client.attach(url, server.control.create_account("v@example.org"))
            collect(server.control, batch.id, 1)
            assert cli.main(["keys", "rotate", str(directory)]) == 1
            assert "is kept on another machine; begin with: boincserver keys request" in capsys.readouterr().err
            asked = vault / "asked"
            run(capsys, "keys", "request", directory, asked)
            assert "is the new key of" in run(capsys, "keys", "answer", key, asked)
            answer, new = vault / "asked.answer", vault / "key.new"
            assert new.stat().st_mode & 0o777 == 0o600
            assert cli.main(["keys", "install", str(directory), str(answer)]) == 1
            assert "already serves" in capsys.readouterr().err
        run(capsys, "keys", "install", directory, answer)
        assert Project.open(directory).public_key != trusted
        assert not (directory / "keys" / "code_sign_private").exists()
        with serving(directory) as server:
            # The same version, signed again, for somebody who joins now; then one that the new key signed alone.
            with StockClient(speed=20.0, name="new") as other:
                server.control.create_jobs(
                    batch.id, [Job("same", {"in": b"b\n"}, {"out": 1000}, min_quorum=2, **SHORT)]
                )
                other.attach(url, server.control.create_account("other@example.org"))
                client.update(url)
                assert collect(server.control, batch.id, 2)["same"].outputs["out"] == b"B\n"
            add(f"{UPPER}# another version\n", new)
            server.control.create_jobs(batch.id, [Job("after", {"in": b"c\n"}, {"out": 1000}, **SHORT)])
            client.update(url)
            assert collect(server.control, batch.id, 3)["after"].outputs["out"] == b"C\n"
        assert "validate" not in client.log()
        assert "verification failed" not in client.log()


def test_a_new_key_signs_and_replaces_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "project"
    made = project.create(directory, url=f"http://127.0.0.1:{free_port()}/")
    private = directory / "keys" / "code_sign_private"
    old, new = made.private_key(), signing.generate()
    program = tmp_path / "upper.sh"
    program.write_text(UPPER)
    with serving(directory):
        run(capsys, "app", "add", directory, "upper", program)
    asked = request(made)
    assert len(asked.signatures) == 1
    # A server that somebody broke into asks for the signature of a file of his.
    evil = replace(asked, signatures={**asked.signatures, "0" * 32: signing.sign_md5("0" * 32, new)})
    with pytest.raises(KeyRotationError, match="this key never signed the file with the MD5 0000"):
        renew(evil, old, new)
    with pytest.raises(KeyRotationError, match="trust another key"):
        renew(asked, new, old)
    renewal = renew(asked, old, new)
    for wrong, words in (
        (replace(renewal, url="http://other/"), "not a new key for"),
        (replace(renewal, public_key=new.public.text()), "not a new key for"),
        (replace(renewal, proof=signing.sign(b"x", old)), "does not vouch"),
        (replace(renewal, signatures=asked.signatures), "is not by the new key"),
        (replace(renewal, signatures={}), "ask it again"),
        (replace(renewal, new_public_key="1024\n"), "bytes"),
    ):
        with pytest.raises(KeyRotationError, match=words):
            install(made, wrong)
        assert Project.open(directory).public_key == old.public
        assert request(made) == asked
    asked.write(tmp_path / "asked")
    assert Signed.read(tmp_path / "asked") == asked
    for text in ("", "[]", "{}", json.dumps({"kind": "Signed"}), (tmp_path / "asked").read_text()):
        (tmp_path / "wrong").write_text(text)
        with pytest.raises(KeyRotationError, match="is not what this step"):
            Renewal.read(tmp_path / "wrong")
    renewal.write(tmp_path / "answer")
    assert cli.main(["keys", "install", str(directory), str(tmp_path / "answer")]) == 1
    assert "move it away, or use: keys rotate" in capsys.readouterr().err
    assert cli.main(["keys", "request", str(directory), str(tmp_path / "asked")]) == 1
    assert "it is not replaced" in capsys.readouterr().err
    private.unlink()
    assert "1 application versions have new signatures" in run(
        capsys, "keys", "install", directory, tmp_path / "answer"
    )
    # Once more, as after a cut in the middle, changes nothing; its time is over.
    assert cli.main(["keys", "install", str(directory), str(tmp_path / "answer")]) == 1
    capsys.readouterr()
    assert request(Project.open(directory)).signatures == renewal.signatures
