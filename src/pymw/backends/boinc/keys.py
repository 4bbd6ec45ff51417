"""The key that signs code bundles, where the master runs.

By default it lies in the project's directory, so that a project works at once. Then whoever takes over the server can
sign code as well; to be safe from that, keep it elsewhere: ``PYMW_SIGNING_KEY=/path/to/key.pem`` names the file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pymw import signature
from pymw.errors import BackendError
from pymw.journal import home

__all__ = ["SigningKey", "trust", "trusted_file", "trusted_others"]

FILE = "pymw_signing_key.pem"
OTHERS = "pymw_trusted_keys"  # public keys of people who submit from elsewhere, one a line


class SigningKey:
    """Signs code, and tells volunteers by what to know it."""

    def __init__(self, private: rsa.RSAPrivateKey) -> None:
        self._private = private
        self.public = signature.PublicKey(private.public_key().public_numbers().n)

    @classmethod
    def of(cls, project: Path) -> SigningKey:
        """The key of the project in this directory, made now if there is none."""
        return cls._at(project / "keys" / FILE)

    @classmethod
    def mine(cls) -> SigningKey:
        """The key of whoever is logged in here, for projects on other machines; made now if there is none."""
        return cls._at(home() / FILE)

    @classmethod
    def _at(cls, path: Path) -> SigningKey:
        if named := os.environ.get("PYMW_SIGNING_KEY"):
            path = Path(named).expanduser()
        return cls._load(path) if path.exists() else cls._make(path)

    @classmethod
    def _load(cls, path: Path) -> SigningKey:
        try:
            private = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise BackendError(f"the signing key {path} cannot be read: {error}") from error
        if not isinstance(private, rsa.RSAPrivateKey) or private.key_size != signature.BITS:
            raise BackendError(f"the signing key {path} is not an RSA key of {signature.BITS} bits")
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise BackendError(f"others can read the signing key {path}; chmod 600 it, or make a new one")
        return cls(private)

    @classmethod
    def _make(cls, path: Path) -> SigningKey:
        private = rsa.generate_private_key(public_exponent=signature.EXPONENT, key_size=signature.BITS)
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.touch(0o600)
        part.write_bytes(pem)
        try:
            os.link(part, path)  # whole or not at all, and never over another master's
        except FileExistsError:
            return cls._load(path)
        finally:
            part.unlink()
        return cls(private)

    @property
    def told(self) -> str:
        """The public half, as a text to hand to the operator of a project."""
        return f"{self.public.modulus:x}"

    def trusted(self, project: str, others: Sequence[str] = ()) -> bytes:
        """The file of the app version that tells volunteers to trust this key and those of others, for this project."""
        return trusted_file(project, [self.told, *others])

    def sign(self, project: str, run: str, files: Mapping[str, str], expires: int) -> bytes:
        """The signed statement about these files (name -> SHA-256), to travel with them."""
        text = signature.statement(project, run, files, expires)
        made = self._private.sign(text, padding.PKCS1v15(), hashes.SHA256())
        return json.dumps(
            {"statement": text.decode(), "key": self.public.fingerprint, "signature": made.hex()}, sort_keys=True
        ).encode()


def trusted_file(project: str, keys: Sequence[str]) -> bytes:
    """The file of the app version that says whose code may run."""
    return json.dumps({"project": project, "keys": list(keys)}, sort_keys=True).encode()


def trusted_others(project: Path) -> list[str]:
    """The keys of people elsewhere whose code the project's volunteers may run."""
    path = project / "keys" / OTHERS
    return path.read_text("ascii").split() if path.exists() else []


def trust(project: Path, key: str) -> None:
    """Have the project's volunteers run code that is signed with this key too."""
    key = key.strip().lower()
    if not re.fullmatch(r"[0-9a-f]+", key) or int(key, 16).bit_length() != signature.BITS:
        raise BackendError(
            f"that is no key of {signature.BITS} bits in hexadecimal digits; `pymw boinc key` prints one"
        )
    known = trusted_others(project)
    if key not in known:
        path = project / "keys" / OTHERS
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{OTHERS}.{os.getpid()}")
        part.write_text("".join(f"{each}\n" for each in [*known, key]))
        part.replace(path)
