"""Rotation of the signing key: a new key, proved to clients by a signature of the old one; everything signed again."""

from __future__ import annotations

import hashlib
import os
import re

from sqlalchemy import select

from boincserver import durable, signing
from boincserver.database import update_where
from boincserver.project import Project
from boincserver.schema import app_version as version_table

__all__ = ["rotate"]

_FILE = re.compile(r"<file_signature>\n.*?</file_signature>\n(<md5_cksum>([0-9a-f]{32})</md5_cksum>)", re.DOTALL)


def rotate(project: Project) -> int:
    """Replace the key; returns how many application versions were signed again. No server may be running."""
    old = project.private_key()
    new = signing.generate()
    keys = project.directory / "keys"
    former = keys / "former"
    former.mkdir(mode=0o700, exist_ok=True)
    # A client that still trusts one of the earlier keys needs the new key signed by that one; those earlier signatures
    # were for keys that are gone now, so only the last key can vouch for the new one.
    name = hashlib.sha256(" ".join(old.public.text().split()).encode()).hexdigest()
    proof = former / f"{name}.signature"
    durable.write_new(proof, signing.sign(new.public.text().strip().encode(), old).encode())
    database = project.open_database()
    try:
        session = database.session()
        session.script("BEGIN IMMEDIATE" if database.is_sqlite else "START TRANSACTION")
        rows = session.all(select(version_table.c.id, version_table.c.xml_doc))
        statement = update_where(version_table, ("xml_doc",), ("id",))
        for number, document in rows:
            session.run(statement, was_id=number, xml_doc=_signed_again(document, new))
        durable.write_new(keys / "code_sign_private.new", new.text().encode(), 0o600)
        durable.write_new(keys / "code_sign_public.new", new.public.text().encode())
        durable.sync([proof, keys / "code_sign_private.new", keys / "code_sign_public.new"])
        session.script("COMMIT")
    finally:
        database.close()
    for kind in ("private", "public"):
        os.replace(keys / f"code_sign_{kind}.new", keys / f"code_sign_{kind}")  # noqa: PTH105
    durable.sync([keys / "code_sign_private", keys / "code_sign_public"])
    return len(rows)


def _signed_again(document: str, key: signing.PrivateKey) -> str:
    return _FILE.sub(
        lambda match: f"<file_signature>\n{signing.sign_md5(match.group(2), key)}</file_signature>\n{match.group(1)}",
        document,
    )
