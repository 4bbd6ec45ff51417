"""Accounts: create, look up, authenticate.

Passwords reach the server as the client's MD5 of password and address; that is hashed again with argon2id, in the form
that PHP's `password_verify` reads, so the official server's pages accept it too.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

import argon2

from boincserver.database import Session, update_where
from boincserver.errors import AccountError, BoincServerError
from boincserver.protocol import account as protocol
from boincserver.schema import user as user_table

__all__ = [
    "User",
    "authenticate",
    "by_email",
    "by_id",
    "check_password",
    "create",
    "find_by_email",
    "hash_password",
    "improve_password",
]

_COLUMNS: Final = (
    "id", "authenticator", "email_addr", "name", "cross_project_id", "passwd_hash", "total_credit", "expavg_credit",
    "teamid",
)  # fmt: skip
_EMAIL: Final = re.compile(r"[^\s@<>&\"'\x00-\x1f]+@[^\s@<>&\"'\x00-\x1f]+")
_BETA: Final = re.compile(r"<allow_beta_work(?:\s*/>|>[^<]*</allow_beta_work>)\n?")
_WEAK: Final = re.compile(r"(\d{1,10})_([0-9a-f]{32})")
_HASHER: Final = argon2.PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)


@dataclass(frozen=True, slots=True)
class User:
    """An account."""

    id: int
    authenticator: str
    email_addr: str
    name: str
    cross_project_id: str
    passwd_hash: str
    total_credit: float = 0.0
    expavg_credit: float = 0.0
    teamid: int = 0

    @property
    def email_hash(self) -> str:
        """How other projects know the address without knowing it."""
        return hashlib.md5(self.email_addr.encode()).hexdigest()

    @property
    def weak_authenticator(self) -> str:
        """A key that lets computers join and nothing else."""
        return f"{self.id}_{hashlib.md5((self.authenticator + self.passwd_hash).encode()).hexdigest()}"


def authenticate(db: Session, authenticator: str) -> User | None:
    """The account with this key, strong or weak."""
    if not authenticator:
        return None
    row = db.get(user_table, _COLUMNS, authenticator=authenticator)
    if row is not None:
        return User(*row)
    weak = _WEAK.fullmatch(authenticator)
    if weak is None or int(weak.group(1)) >= 2**31:
        return None
    user = by_id(db, int(weak.group(1)))
    return user if user and hmac.compare_digest(user.weak_authenticator, authenticator) else None


def by_id(db: Session, number: int) -> User | None:
    """The account with this number."""
    row = db.get(user_table, _COLUMNS, id=number)
    return User(*row) if row else None


def find_by_email(db: Session, email: str) -> User | None:
    """The account with this address."""
    row = db.get(user_table, _COLUMNS, email_addr=email.strip().lower())
    return User(*row) if row else None


def by_email(db: Session, email: str) -> User:
    """The account with this address; BoincServerError if there is none."""
    user = find_by_email(db, email)
    if user is None:
        raise BoincServerError(f"there is no account with the address {email}")
    return user


def hash_password(passwd_hash: str) -> str:
    """What is stored of a client's password hash; takes a good part of 100 ms on purpose."""
    return _HASHER.hash(passwd_hash)


def check_password(user: User, passwd_hash: str) -> tuple[bool, str]:
    """Whether this is the client's hash of the account's password, and what is better stored of it from now on, if not
    what is; as slow as `hash_password`."""
    if hmac.compare_digest(passwd_hash, hashlib.md5((user.authenticator + user.email_addr).encode()).hexdigest()):
        return True, ""  # of the key, as computers send it that never had a password
    try:
        _HASHER.verify(user.passwd_hash, passwd_hash)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False, ""
    return True, hash_password(passwd_hash) if _HASHER.check_needs_rehash(user.passwd_hash) else ""


def checked(email: str, name: str, passwd_hash: str) -> tuple[str, str]:
    """Address and name as they are stored; AccountError with BOINC's number for what cannot be."""
    email = email.strip().lower()
    if len(email) > 254 or not _EMAIL.fullmatch(email):
        raise AccountError(protocol.BAD_EMAIL, "this is not an e-mail address")
    if passwd_hash and not re.fullmatch(r"[0-9a-f]{32}", passwd_hash):
        raise AccountError(protocol.BAD_PASSWORD, "the password did not arrive as the 32 digits that clients send")
    # A client sends an empty name where the volunteer's has < or & in it.
    name = " ".join(name.split())[:254] or email.partition("@")[0]
    if not name.isprintable():
        raise AccountError(protocol.BAD_USER_NAME, "the name has characters that cannot be shown")
    return email, name


def set_password(db: Session, number: int, stored_password: str) -> None:
    """Give an account another password, from `hash_password`."""
    db.run(update_where(user_table, ("passwd_hash",), ("id",)), was_id=number, passwd_hash=stored_password)


def improve_password(db: Session, user: User, stored_password: str) -> None:
    """Store the same password in a better way, unless it has been changed meanwhile. As on the official server the weak
    key, which follows from what is stored, is another one then."""
    changed = ("passwd_hash",)
    db.run(
        update_where(user_table, changed, ("id", *changed)),
        was_id=user.id, was_passwd_hash=user.passwd_hash, passwd_hash=stored_password,
    )  # fmt: skip


def set_beta(db: Session, number: int, allow: bool) -> None:
    """Write down whether an account's computers may have what is being tried out, where the official server has it."""
    row = db.locked(user_table, ("project_prefs",), id=number)
    prefs = _BETA.sub("", (row[0] if row else "") or "<project_preferences>\n</project_preferences>\n")
    if allow:
        prefs = prefs.replace(
            "</project_preferences>", "<allow_beta_work>1</allow_beta_work>\n</project_preferences>", 1
        )
    db.run(update_where(user_table, ("project_prefs",), ("id",)), was_id=number, project_prefs=prefs)


def set_show_hosts(db: Session, number: int, show: bool) -> None:
    """Whether others may know which computers are the account's."""
    db.run(update_where(user_table, ("show_hosts",), ("id",)), was_id=number, show_hosts=int(show))


def create(db: Session, email: str, name: str, stored_password: str, now: int, secret: bytes) -> User:
    """A new account; AccountError if there is one with this address. `stored_password` is from `hash_password`.

    The key follows from the project's secret and the address: an account that is made again, since a restored backup
    does not know it, has the key that its computers hold.
    """
    if find_by_email(db, email) is not None:
        raise AccountError(protocol.EXISTS, "there is an account with this address and another password")
    key = _derived(secret, "authenticator", email)
    if db.get(user_table, ("id",), authenticator=key) is not None:
        key = secrets.token_hex(16)  # of an account that had this address before
    values: dict[str, Any] = {
        "authenticator": key,
        "email_addr": email,
        "name": name,
        "cross_project_id": _derived(secret, "cross-project id", email),
        "passwd_hash": stored_password,
    }
    number = db.insert(user_table, create_time=now, **values)
    return User(id=number, **values)


def _derived(secret: bytes, what: str, email: str) -> str:
    return hmac.new(secret, f"{what} of {email}".encode(), hashlib.sha256).hexdigest()[:32]
