"""Signatures, against an independent implementation and the stock client's own format."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils

from boincserver import signing


@pytest.fixture(scope="module")
def key() -> signing.PrivateKey:
    return signing.generate()


def test_a_signature_holds_for_its_data_alone(key: signing.PrivateKey) -> None:
    signature = signing.sign(b"data", key)
    assert signing.verify(b"data", signature, key.public)
    assert not signing.verify(b"Data", signature, key.public)
    assert not signing.verify(b"data", signature, signing.generate().public)
    assert not signing.verify(b"data", "nonsense", key.public)


def test_the_bytes_are_those_of_a_library(key: signing.PrivateKey) -> None:
    numbers = rsa.RSAPrivateNumbers(
        p=key.p, q=key.q, d=key.d, dmp1=key.d % (key.p - 1), dmq1=key.d % (key.q - 1), iqmp=pow(key.q, -1, key.p),
        public_numbers=rsa.RSAPublicNumbers(key.e, key.n),
    )  # fmt: skip
    digest = hashlib.md5(b"data").hexdigest().encode()
    theirs = numbers.private_key().sign(digest, padding.PKCS1v15(), utils.NoDigestInfo())
    assert "".join(signing.sign(b"data", key).split()) == theirs.hex() + "."


def test_keys_survive_their_text(key: signing.PrivateKey) -> None:
    assert signing.PrivateKey.parse(key.text()) == key
    assert signing.PublicKey.parse(key.public.text()) == key.public
    lines = key.public.text().splitlines()
    assert lines[0] == "1024" and lines[-1] == "." and len(lines) == 10 and len(lines[1]) == 64


@pytest.mark.parametrize("text", ["", "2048\n00\n.\n", "1024\nxyz\n.\n", "1024\n00\n.\n"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"key|bytes|hex"):
        signing.PublicKey.parse(text)
