"""A new signing key: proved to clients by a signature of the old one, and everything signed again.

Where the private key is kept on another machine, three steps do it: the server writes down what the old key signed
(`request`), the other machine makes the new key and signs (`renew`), the server takes the answer (`install`). That
machine signs nothing that the old key did not sign, whatever the server asks for.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import select

from boincserver import durable, signing
from boincserver.database import update_where
from boincserver.errors import KeyRotationError
from boincserver.project import Project
from boincserver.schema import app_version as version_table
from boincserver.signing import PrivateKey, PublicKey

__all__ = ["Renewal", "Signed", "install", "renew", "request", "rotate"]

_FILE: Final = re.compile(
    r"<file_signature>\n(.*?)</file_signature>\n(<md5_cksum>([0-9a-f]{32})</md5_cksum>)", re.DOTALL
)
_VERSIONS: Final = select(version_table.c.id, version_table.c.xml_doc)


@dataclass(frozen=True, slots=True)
class _Document:
    """What travels between the two machines, as JSON."""

    url: str
    public_key: str
    """The key that clients trust now."""
    signatures: dict[str, str]
    """Of files of application versions, by their MD5."""

    def write(self, path: Path) -> None:
        """Into a new file."""
        durable.write_new(path, json.dumps({"kind": type(self).__name__, **asdict(self)}, indent=1).encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file; KeyRotationError if it holds something else."""
        try:
            document: dict[str, Any] = json.loads(path.read_text("utf-8"))
            if document.pop("kind") != cls.__name__:
                raise ValueError("it is of another step")
            return cls(**document)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise KeyRotationError(f"{path} is not what this step of a key's rotation takes: {error}") from error


@dataclass(frozen=True, slots=True)
class Signed(_Document):
    """What the present key has signed."""


@dataclass(frozen=True, slots=True)
class Renewal(_Document):
    """A new key's signatures of the same files, and the proof that the present key vouches for it."""

    new_public_key: str
    proof: str


def rotate(project: Project) -> int:
    """Replace a key that is kept here; returns how many application versions were signed again. No server may run."""
    old, new = project.private_key(), signing.generate()
    return install(project, renew(request(project), old, new), new)


def request(project: Project) -> Signed:
    """What the other machine is to sign again."""
    database = project.open_database()
    try:
        rows = database.session().all(_VERSIONS)
    finally:
        database.close()
    signatures = {md5: text for _, document in rows for text, _, md5 in _FILE.findall(document)}
    return Signed(project.config.url, project.public_key.text(), signatures)


def renew(signed: Signed, old: PrivateKey, new: PrivateKey) -> Renewal:
    """Sign with the new key what the old one signed; KeyRotationError if something else is among it."""
    if _key(signed.public_key) != old.public:
        raise KeyRotationError(f"clients of {signed.url} trust another key than this one")
    for md5, signature in signed.signatures.items():
        if not signing.verify_md5(md5, signature, old.public):
            raise KeyRotationError(
                f"this key never signed the file with the MD5 {md5}: somebody may have changed what the server sends"
            )
    signatures = {md5: signing.sign_md5(md5, new) for md5 in signed.signatures}
    text = new.public.text()
    return Renewal(signed.url, signed.public_key, signatures, text, signing.sign(text.strip().encode(), old))


def install(project: Project, renewal: Renewal, private: PrivateKey | None = None) -> int:
    """Take the new key; returns how many application versions have new signatures. No server may run."""
    old, new = project.public_key, _key(renewal.new_public_key)
    _check(project, renewal, old, new)
    keys = project.directory / "keys"
    former = keys / "former"
    former.mkdir(mode=0o700, exist_ok=True)
    # A client that still trusts one of the earlier keys needs the new key signed by that one; those earlier signatures
    # were for keys that are gone now, so only the last key can vouch for the new one.
    name = hashlib.sha256(" ".join(old.text().split()).encode()).hexdigest()
    written = [(former / f"{name}.signature", renewal.proof, 0o644), (keys / "code_sign_public.new", new.text(), 0o644)]
    if private is not None:
        written.append((keys / "code_sign_private.new", private.text(), 0o600))
    database = project.open_database()
    try:
        session = database.session()
        session.script("BEGIN IMMEDIATE" if database.is_sqlite else "START TRANSACTION")
        rows = session.all(_VERSIONS)
        statement = update_where(version_table, ("xml_doc",), ("id",))
        for number, document in rows:
            session.run(statement, was_id=number, xml_doc=_signed_again(document, renewal.signatures))
        for path, text, mode in written:
            durable.write_new(path, text.encode(), mode)
        durable.sync(path for path, _, _ in written)
        session.script("COMMIT")
    finally:
        database.close()
    for path, _, _ in written[1:]:
        os.replace(path, path.with_suffix(""))  # noqa: PTH105
    durable.sync(path.with_suffix("") for path, _, _ in written[1:])
    return len(rows)


def _check(project: Project, renewal: Renewal, old: PublicKey, new: PublicKey) -> None:
    if renewal.url != project.config.url or _key(renewal.public_key) != old:
        raise KeyRotationError(f"this is not a new key for {project.config.url} and the key that it has now")
    if not signing.verify(new.text().strip().encode(), renewal.proof, old):
        raise KeyRotationError("the old key does not vouch for the new one, so no client would take it")
    for md5, signature in renewal.signatures.items():
        if not signing.verify_md5(md5, signature, new):
            raise KeyRotationError(f"the signature of the file with the MD5 {md5} is not by the new key")


def _signed_again(document: str, signatures: dict[str, str]) -> str:
    def again(match: re.Match[str]) -> str:
        signature = signatures.get(match[3])
        if signature is None:
            raise KeyRotationError("application versions came since the other machine was asked: ask it again")
        return f"<file_signature>\n{signature}</file_signature>\n{match[2]}"

    return _FILE.sub(again, document)


def _key(text: str) -> PublicKey:
    try:
        return PublicKey.parse(text)
    except ValueError as error:
        raise KeyRotationError(str(error)) from error
