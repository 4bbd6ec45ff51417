"""Secret keys under a passphrase: scrypt makes the key, Fernet (AES with a MAC) keeps the content."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from boincserver.errors import RestoreError

__all__ = ["seal", "unseal"]

_COST: Final = 2**15
_MOST: Final = 2**20


def seal(files: Mapping[str, str], passphrase: str) -> bytes:
    """These texts, readable only with the passphrase."""
    salt = secrets.token_hex(16)
    token = _box(passphrase, salt, _COST).encrypt(json.dumps(dict(files)).encode())
    return json.dumps({"salt": salt, "n": _COST, "content": token.decode("ascii")}).encode()


def unseal(sealed: bytes, passphrase: str) -> dict[str, str]:
    """What `seal` was given; RestoreError for another passphrase or damage."""
    try:
        document = json.loads(sealed)
        cost = int(document["n"])
        if cost > _MOST:
            raise ValueError("more work than any passphrase needs")
        content = _box(passphrase, document["salt"], cost).decrypt(document["content"].encode())
        files: dict[str, str] = json.loads(content)
    except (InvalidToken, ValueError, KeyError, TypeError) as error:
        raise RestoreError("the passphrase does not open the keys in this backup") from error
    return files


def _box(passphrase: str, salt: str, cost: int) -> Fernet:
    key = Scrypt(salt=bytes.fromhex(salt), length=32, n=cost, r=8, p=1).derive(passphrase.encode())
    return Fernet(base64.urlsafe_b64encode(key))
