"""One-time links to a new password. The table holds a digest of each, so whoever reads the table can use none."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from sqlalchemy import bindparam, delete, func, select

from boincserver import accounts
from boincserver.accounts import User
from boincserver.database import Session, insert_into
from boincserver.schema import token as token_table

__all__ = ["BY_MAIL", "BY_OPERATOR", "PAGE", "make", "may_mail", "owner", "redeem"]

PAGE: Final = "reset_password"
"""Under the project's URL."""
BY_MAIL: Final = 3600
"""Seconds for which a link is good that travels by mail."""
BY_OPERATOR: Final = 86400
"""The same of one that the operator hands over."""
_MOST: Final = 3
"""Links that can be mailed to one account within the time that one is good for."""
_KIND: Final = "P"
"""Of rows in the official table, which holds other tokens too."""

_T: Final = token_table.c
_GOOD: Final = (_T.token == bindparam("digest"), _T.type == _KIND, _T.expire_time > bindparam("now"))
_OWNER: Final = select(_T.userid).where(*_GOOD)
_USE: Final = delete(token_table).where(*_GOOD)
_LATELY: Final = select(func.count()).where(
    _T.userid == bindparam("user"), _T.type == _KIND, _T.create_time > bindparam("since")
)
_EXPIRED: Final = delete(token_table).where(_T.type == _KIND, _T.expire_time <= bindparam("now"))
_OF_USER: Final = delete(token_table).where(_T.type == _KIND, _T.userid == bindparam("user"))


def make(db: Session, user: User, url: str, now: int, seconds: int) -> str:
    """A link for this account, good for so many seconds; links made before stay good."""
    db.run(_EXPIRED, now=now)
    secret = secrets.token_urlsafe(32)
    row = {
        "token": _digest(secret), "userid": user.id, "type": _KIND, "create_time": now, "expire_time": now + seconds,
    }  # fmt: skip
    db.run(insert_into(token_table, *row), **row)
    return f"{url}{PAGE}?token={secret}"


def may_mail(db: Session, user: User, now: int) -> bool:
    """False while an account has had as many links as a forgetful person needs."""
    return int(db.value(_LATELY, user=user.id, since=now - BY_MAIL)) < _MOST


def owner(db: Session, secret: str, now: int) -> User | None:
    """Whose password the link with this secret opens, if it is still good."""
    number = db.value(_OWNER, digest=_digest(secret), now=now)
    return None if number is None else accounts.by_id(db, number)


def redeem(db: Session, secret: str, stored_password: str, now: int) -> User | None:
    """Use the link up and set the password, from `accounts.hash_password`; None if the link is not good any more.

    Every other link of the account ends too, and so does its weak key, which follows from the password.
    """
    user = owner(db, secret, now)
    # Of two that come at the same time one deletes the row.
    if user is None or db.run(_USE, digest=_digest(secret), now=now) != 1:
        return None
    db.run(_OF_USER, user=user.id)
    accounts.set_password(db, user.id, stored_password)
    return user


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
