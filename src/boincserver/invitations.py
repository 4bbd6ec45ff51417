"""Invitations: codes that let strangers make an account in a project that is not open to everybody."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import bindparam, delete, or_, select, update

from boincserver.database import Session, insert_into
from boincserver.schema import boincserver_invitation as invitation

__all__ = ["accept", "is_valid", "listed", "make", "revoke"]

_ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Letters and digits that nobody takes for one another."""
_DAY: Final = 86400

_CURRENT: Final = (
    invitation.c.code == bindparam("given"),
    invitation.c.uses_left > 0,
    or_(invitation.c.expire_time == 0, invitation.c.expire_time > bindparam("now")),
)
_VALID: Final = select(invitation.c.uses_left).where(*_CURRENT)
_USE: Final = update(invitation).where(*_CURRENT).values(uses_left=invitation.c.uses_left - 1)
_REVOKE: Final = delete(invitation).where(invitation.c.code == bindparam("given"))
_ALL: Final = select(
    invitation.c.code, invitation.c.uses_left, invitation.c.create_time, invitation.c.expire_time, invitation.c.note
).order_by(invitation.c.create_time, invitation.c.code)


def make(db: Session, now: int, *, uses: int = 1, days: int = 30, note: str = "") -> str:
    """A new code, 80 bits at random, for so many accounts and days (0: for ever)."""
    code = "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(4))
    row = {
        "code": code, "create_time": now, "expire_time": now + days * _DAY if days else 0, "uses_left": uses,
        "note": note[:254],
    }  # fmt: skip
    db.run(insert_into(invitation, *row), **row)
    return code


def is_valid(db: Session, code: str, now: int) -> bool:
    """Whether an account can be made with it now."""
    return db.first(_VALID, given=_as_made(code), now=now) is not None


def accept(db: Session, code: str, now: int) -> bool:
    """Use it up by one; false if it is not valid."""
    return db.run(_USE, given=_as_made(code), now=now) == 1


def revoke(db: Session, code: str) -> bool:
    """Nobody makes an account with it any more; false if there is none."""
    return db.run(_REVOKE, given=_as_made(code)) == 1


def listed(db: Session) -> list[Mapping[str, Any]]:
    """Every invitation, used up and expired ones too."""
    names = ("code", "uses_left", "create_time", "expire_time", "note")
    return [dict(zip(names, row, strict=True)) for row in db.all(_ALL)]


def _as_made(code: str) -> str:
    return code.strip().upper()
