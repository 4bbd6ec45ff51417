"""Who may submit jobs over the network: BOINC's tables `user_submit` and `user_submit_app`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, delete, select

from boincserver.catalog import App
from boincserver.database import Session, update_where
from boincserver.errors import BoincServerError, SubmissionRefused
from boincserver.schema import app as app_table
from boincserver.schema import user as user_table
from boincserver.schema import user_submit, user_submit_app

__all__ = ["Submitter", "grant", "granted", "revoke", "submitter"]

_GRANTED: Final = (
    select(user_table.c.email_addr, user_submit.c.submit_all, user_submit.c.max_jobs_in_progress, app_table.c.name)
    .select_from(
        user_submit.join(user_table, user_table.c.id == user_submit.c.user_id)
        .outerjoin(user_submit_app, user_submit_app.c.user_id == user_submit.c.user_id)
        .outerjoin(app_table, app_table.c.id == user_submit_app.c.app_id)
    )
    .order_by(user_table.c.email_addr, app_table.c.name)
)
_REVOKE_APP: Final = delete(user_submit_app).where(
    user_submit_app.c.user_id == bindparam("number"), user_submit_app.c.app_id == bindparam("appid")
)
_REVOKE_APPS: Final = delete(user_submit_app).where(user_submit_app.c.user_id == bindparam("number"))
_REVOKE: Final = delete(user_submit).where(user_submit.c.user_id == bindparam("number"))


@dataclass(frozen=True, slots=True)
class Submitter:
    """An account that may submit."""

    id: int
    name: str
    authenticator: str
    submit_all: bool
    max_jobs_in_progress: int
    logical_start_time: float

    def check(self, db: Session, app: App) -> None:
        """SubmissionRefused unless the account may submit jobs of this application."""
        if not self.submit_all and db.get(user_submit_app, ("app_id",), user_id=self.id, app_id=app.id) is None:
            raise SubmissionRefused(f"no submit access to {app.name}; the operator grants it: boincserver user grant")


def submitter(db: Session, authenticator: str) -> Submitter:
    """The account with this key; SubmissionRefused if there is none, or it may submit nothing."""
    if not authenticator:
        raise SubmissionRefused("no authenticator")
    user = db.get(user_table, ("id", "name", "authenticator"), authenticator=authenticator)
    # The database compares without regard to case.
    if user is None or user[2] != authenticator:
        raise SubmissionRefused("bad authenticator")
    row = db.get(user_submit, ("submit_all", "max_jobs_in_progress", "logical_start_time"), user_id=user[0])
    if row is None:
        raise SubmissionRefused("no file access; the operator grants it: boincserver user grant")
    return Submitter(user[0], user[1], user[2], bool(row[0]), row[1], row[2])


def grant(db: Session, userid: int, appid: int | None, max_jobs_in_progress: int | None) -> None:
    """Let an account submit jobs of this application, or (None) of all."""
    changes: dict[str, Any] = {} if max_jobs_in_progress is None else {"max_jobs_in_progress": max_jobs_in_progress}
    if appid is None:
        changes["submit_all"] = 1
    if db.get(user_submit, ("user_id",), user_id=userid) is None:
        columns = {"quota": 0.0, "logical_start_time": 0.0, "submit_all": 0, "manage_all": 0, "max_jobs_in_progress": 0}
        db.insert(user_submit, user_id=userid, **{**columns, **changes})
    elif changes:
        db.run(update_where(user_submit, tuple(changes), ("user_id",)), was_user_id=userid, **changes)
    if appid is not None and db.get(user_submit_app, ("app_id",), user_id=userid, app_id=appid) is None:
        db.insert(user_submit_app, user_id=userid, app_id=appid, manage=0)


def revoke(db: Session, userid: int, appid: int | None) -> None:
    """Take back the right to submit jobs of this application, or (None) every right."""
    if db.get(user_submit, ("user_id",), user_id=userid) is None:
        raise BoincServerError("this account may submit nothing anyway")
    if appid is not None:
        if not db.run(_REVOKE_APP, number=userid, appid=appid):
            raise BoincServerError("this account has no right to this application of its own; revoke `all`")
        return
    db.run(_REVOKE_APPS, number=userid)
    db.run(_REVOKE, number=userid)


def granted(db: Session) -> list[Mapping[str, Any]]:
    """Every account that may submit, and what."""
    found: dict[str, dict[str, Any]] = {}
    for email, submit_all, limit, app in db.all(_GRANTED):
        entry = found.setdefault(email, {"email": email, "apps": [], "max_jobs_in_progress": limit})
        if submit_all and "all" not in entry["apps"]:
            entry["apps"].append("all")
        if app is not None:
            entry["apps"].append(app)
    return list(found.values())
