"""What volunteers agreed to, and when: kept in the official tables."""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, select

from boincserver.database import Session, insert_into
from boincserver.schema import consent, consent_type

__all__ = ["ENROLL", "record"]

ENROLL: Final = "ENROLL"
"""The project's terms of use."""
_TYPE: Final = select(consent_type.c.id).where(consent_type.c.shortname == bindparam("what"))


def record(db: Session, user: int, what: str, *, agreed: bool, source: str, now: int) -> None:
    """Note an answer; an earlier one stays, so that the history can be shown."""
    row = {
        "userid": user, "consent_type_id": int(db.value(_TYPE, what=what)), "consent_time": now,
        "consent_flag": int(agreed), "consent_not_required": 0, "source": source[:254],
    }  # fmt: skip
    db.run(insert_into(consent, *row), **row)
