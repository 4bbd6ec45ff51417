"""The modern signature of a code bundle, as a volunteer's computer checks it: RSA-3072 over SHA-256.

BOINC's own signatures are limited to RSA-1024 over MD5, and their key is the server's. This one is made where the
master runs (`pymw.backends.boinc.keys`), with a key that need not be on the server. Which keys count stands in a file
of the app version, so that nobody who cannot sign app versions can add one.

A signed statement is a JSON object

    {"project": URL, "run": name, "files": {name: SHA-256 in hex}, "expires": seconds since the epoch}

and what travels is {"statement": its text, "key": the key's fingerprint, "signature": hex}. Standard library only,
Python 3.9 or later: checking takes one `pow`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["BadSignature", "PublicKey", "check", "read_trusted", "statement"]

BITS = 3072
EXPONENT = 65537
# DER of the DigestInfo that stands before a SHA-256 digest in a PKCS #1 v1.5 signature (RFC 8017, section 9.2).
SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")


class BadSignature(Exception):
    """Code that nobody who may has signed, or not for this project, or too long ago."""


class PublicKey:
    """An RSA key to check with."""

    def __init__(self, modulus: int) -> None:
        if modulus.bit_length() != BITS:
            raise BadSignature(f"a key of {modulus.bit_length()} bits; {BITS} are due")
        self.modulus = modulus

    @property
    def fingerprint(self) -> str:
        """What tells keys apart: the SHA-256 of the modulus."""
        return hashlib.sha256(self.modulus.to_bytes(BITS // 8, "big")).hexdigest()

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the owner of the key signed `message`."""
        number = int.from_bytes(signature, "big")
        if len(signature) != BITS // 8 or number >= self.modulus:
            return False
        tail = SHA256_PREFIX + hashlib.sha256(message).digest()
        padded = b"\x00\x01" + b"\xff" * (BITS // 8 - 3 - len(tail)) + b"\x00" + tail
        return pow(number, EXPONENT, self.modulus).to_bytes(BITS // 8, "big") == padded


def statement(project: str, run: str, files: Mapping[str, str], expires: int) -> bytes:
    """What is signed."""
    return json.dumps(
        {"project": project, "run": run, "files": dict(files), "expires": expires}, sort_keys=True
    ).encode()


def read_trusted(data: bytes) -> tuple[str, tuple[PublicKey, ...]]:
    """The project's URL and the keys that may sign for it, from the file in the app version."""
    fields = json.loads(data)
    return fields["project"], tuple(PublicKey(int(modulus, 16)) for modulus in fields["keys"])


def check(trusted: bytes, signed: bytes, files: Mapping[str, bytes], now: float) -> dict[str, Any]:
    """The statement in `signed`, if it holds for these files here and now; else BadSignature says why not."""
    project, keys = read_trusted(trusted)
    try:
        envelope = json.loads(signed)
        text, signature = envelope["statement"].encode(), bytes.fromhex(envelope["signature"])
        key = next((key for key in keys if key.fingerprint == envelope["key"]), None)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadSignature(f"the code's signature cannot be read: {error}") from error
    if key is None:
        raise BadSignature("the code is signed with a key that this project does not trust")
    if not key.signed(text, signature):
        raise BadSignature("the code's signature is not genuine")
    fields: dict[str, Any] = json.loads(text)
    if fields["project"] != project:
        raise BadSignature(f"the code was signed for {fields['project']}, not for {project}")
    if fields["expires"] < now:
        raise BadSignature("the code's signature has expired")
    for name, content in files.items():
        if fields["files"].get(name) != hashlib.sha256(content).hexdigest():
            raise BadSignature(f"{name} is not what was signed")
    return fields
