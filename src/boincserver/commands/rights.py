"""Commands about who may submit jobs over the network."""

from __future__ import annotations

import argparse
from typing import Any

from boincserver.commands.show import command, show, table

__all__ = ["add"]


def add(user: Any) -> None:
    """Declare them, among the commands about accounts."""
    grant = command(user, "grant", _grant, "let an account submit jobs over the network")
    grant.add_argument("app", metavar="APP", help="the application's name, or all")
    grant.add_argument("--email", required=True, help="the account's e-mail address")
    grant.add_argument(
        "--max-jobs", type=int, default=None, metavar="N", help="most copies in progress (0: any number)"
    )
    revoke = command(user, "revoke", _revoke, "take that right back")
    revoke.add_argument("app", metavar="APP", help="the application's name, or all")
    revoke.add_argument("--email", required=True, help="the account's e-mail address")
    command(user, "submitters", _submitters, "accounts that may submit jobs over the network")


def _grant(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    connect(options.directory).grant(options.email, options.app, max_jobs=options.max_jobs)
    document = {"email": options.email, "app": options.app}
    return show(options, document, f"{options.email} may submit jobs of {options.app}.")


def _revoke(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    connect(options.directory).revoke(options.email, options.app)
    document = {"email": options.email, "app": options.app}
    return show(options, document, f"{options.email} may not submit jobs of {options.app} any more.")


def _submitters(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    listed = connect(options.directory).rights()
    rows = [(each["email"], " ".join(each["apps"]), each["max_jobs_in_progress"] or "any") for each in listed]
    return show(options, {"submitters": listed}, table(["address", "applications", "copies at a time"], rows))
