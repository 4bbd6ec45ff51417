"""Commands about who may make an account where `[accounts] creation` is "invited"."""

from __future__ import annotations

import argparse
import time
from typing import Any

from boincserver.commands.show import command, positive, show, table
from boincserver.errors import BoincServerError

__all__ = ["add"]


def add(user: Any) -> None:
    """Declare them, among the commands about accounts."""
    new = command(user, "invite", _invite, "print a code with which others can make an account")
    new.add_argument("--uses", type=positive, default=1, metavar="N", help="for how many accounts (default: 1)")
    new.add_argument("--days", type=int, default=30, metavar="N", help="for how many days (default: 30; 0: for ever)")
    new.add_argument("--note", default="", help="for whom it is; only the operator sees it")
    command(user, "invitations", _invitations, "codes, and how often they can still be used")
    revoke = command(user, "uninvite", _uninvite, "take a code back")
    revoke.add_argument("code", metavar="CODE", help="as `user invite` printed it")


def _invite(options: argparse.Namespace) -> int:
    from boincserver.control import connect
    from boincserver.project import Project

    project = Project.open(options.directory)
    code = connect(project.directory).invite(uses=options.uses, days=options.days, note=options.note)
    needed = project.config.accounts.creation == "invited"
    advice = "" if needed else '\nIt is asked for once project.toml says [accounts] creation = "invited".'
    document = {"code": code, "url": project.config.url, "uses": options.uses, "days": options.days}
    return show(options, document, f"{code}\nBOINC asks for it when the project {project.config.url} is added.{advice}")


def _invitations(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    listed = connect(options.directory).invitations()
    rows = [(each["code"], each["uses_left"], _until(each["expire_time"]), each["note"]) for each in listed]
    return show(options, {"invitations": listed}, table(["code", "uses left", "until", "note"], rows))


def _until(expires: int) -> str:
    return time.strftime("%d %b %Y", time.localtime(expires)) if expires else "for ever"


def _uninvite(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    if not connect(options.directory).revoke_invitation(options.code):
        raise BoincServerError(f"there is no invitation {options.code}")
    return show(options, {"code": options.code}, f"{options.code} is not valid any more.")
