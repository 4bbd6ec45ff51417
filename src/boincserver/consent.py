"""What volunteers agreed to, and when: kept in the official tables."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, bindparam, func, select

from boincserver.database import Session, insert_into
from boincserver.schema import consent, consent_type, user

__all__ = ["ENROLL", "EXPORT", "agreed", "record"]

ENROLL: Final = "ENROLL"
"""The project's terms of use."""
EXPORT: Final = "STATSEXPORT"
"""That name and credit go to the sites that gather statistics."""
_TYPE: Final = select(consent_type.c.id).where(consent_type.c.shortname == bindparam("what"))


def record(db: Session, user: int, what: str, *, agreed: bool, source: str, now: int) -> None:
    """Note an answer; an earlier one stays, so that the history can be shown."""
    row = {
        "userid": user, "consent_type_id": int(db.value(_TYPE, what=what)), "consent_time": now,
        "consent_flag": int(agreed), "consent_not_required": 0, "source": source[:254],
    }  # fmt: skip
    db.run(insert_into(consent, *row), **row)


def agreed(what: str) -> ColumnElement[bool]:
    """In a query of accounts: that the account's last answer was yes."""
    last = (
        select(func.max(consent.c.id))
        .join(consent_type, consent_type.c.id == consent.c.consent_type_id)
        .where(consent.c.userid == user.c.id, consent_type.c.shortname == what)
        .correlate(user)
        .scalar_subquery()
    )
    answer = select(consent.c.consent_flag).where(consent.c.id == last).correlate(user).scalar_subquery()
    return func.coalesce(answer, 0) == 1
