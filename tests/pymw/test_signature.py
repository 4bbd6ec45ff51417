"""Signed code: what a volunteer's computer accepts, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pymw.backends.boinc.keys import SigningKey
from pymw.errors import BackendError
from pymw.signature import BadSignature, PublicKey, check

URL, NOW = "http://project.example/", 1_000_000.0
CODE = b"def f(): pass"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return SigningKey.of(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return SigningKey.of(tmp_path_factory.mktemp("other"))


def sign(key: SigningKey, *, project: str = URL, code: bytes = CODE, expires: int = int(NOW) + 10) -> bytes:
    return key.sign(project, "run", {"code.zip": hashlib.sha256(code).hexdigest()}, expires)


def test_what_was_signed_is_accepted(key: SigningKey) -> None:
    fields = check(key.trusted(URL), sign(key), {"code.zip": CODE}, NOW)
    assert fields["run"] == "run"


def test_everything_else_is_refused(key: SigningKey, stranger: SigningKey) -> None:
    def refused(signed: bytes, reason: str, *, code: bytes = CODE, now: float = NOW) -> None:
        with pytest.raises(BadSignature, match=reason):
            check(key.trusted(URL), signed, {"code.zip": code}, now)

    refused(sign(stranger), "does not trust")
    refused(sign(key), "not what was signed", code=CODE + b" ")
    refused(sign(key), "has expired", now=NOW + 11)
    refused(sign(key, project="http://elsewhere.example/"), "was signed for http://elsewhere.example/")
    forged = json.loads(sign(key))
    forged["statement"] = forged["statement"].replace('"run": "run"', '"run": "mine"')
    refused(json.dumps(forged).encode(), "not genuine")
    refused(json.dumps({**json.loads(sign(key)), "signature": "00" * 384}).encode(), "not genuine")
    refused(json.dumps({**json.loads(sign(key)), "signature": "ff" * 384}).encode(), "not genuine")
    refused(json.dumps({**json.loads(sign(stranger)), "key": key.public.fingerprint}).encode(), "not genuine")
    for junk in (b"", b"{}", b"[]", b"null", b"\xff", b'{"statement": 3, "signature": "", "key": ""}'):
        refused(junk, "cannot be read")
    with pytest.raises(BadSignature, match="not what was signed"):
        check(key.trusted(URL), sign(key), {"code.zip": CODE, "extra": b""}, NOW)


def test_short_keys_are_refused() -> None:
    with pytest.raises(BadSignature, match="3072"):
        PublicKey(2**1023 + 1)


def test_the_key_is_made_once_and_kept_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = SigningKey.of(tmp_path)
    assert SigningKey.of(tmp_path).public.fingerprint == first.public.fingerprint
    (path,) = (tmp_path / "keys").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(BackendError, match="others can read"):
        SigningKey.of(tmp_path)
    path.write_text("rubbish")
    with pytest.raises(BackendError, match="cannot be read"):
        SigningKey.of(tmp_path)
    monkeypatch.setenv("PYMW_SIGNING_KEY", str(tmp_path / "elsewhere" / "key.pem"))
    assert SigningKey.of(tmp_path).public.fingerprint != first.public.fingerprint
    assert (tmp_path / "elsewhere" / "key.pem").exists()
