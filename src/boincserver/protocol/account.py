"""The web calls about accounts and the project, and the master page."""

from __future__ import annotations

import hashlib
from typing import Final

from boincserver.protocol.text import element, escape

__all__ = [
    "BAD_EMAIL",
    "BAD_PASSWORD",
    "BAD_USER_NAME",
    "CREATION_DISABLED",
    "EXISTS",
    "FAILURE",
    "NOT_FOUND",
    "account_out",
    "error_out",
    "master_page",
    "password_hash",
    "project_config",
]

NOT_FOUND: Final = -136
EXISTS: Final = -137
BAD_USER_NAME: Final = -188
BAD_EMAIL: Final = -205
BAD_PASSWORD: Final = -206
CREATION_DISABLED: Final = -208
FAILURE: Final = -1
"""BOINC has no number for it; clients show the message."""


def password_hash(email: str, password: str) -> str:
    """What clients send in the place of a password."""
    return hashlib.md5((password + email.lower()).encode()).hexdigest()


def account_out(authenticator: str) -> str:
    """The account is found."""
    return f"<account_out>\n<authenticator>{authenticator}</authenticator>\n</account_out>\n"


def account_exists() -> str:
    """The account is there; a call without a password asks no more."""
    return "<account_out>\n<success/>\n</account_out>\n"


def error_out(number: int, message: str) -> str:
    """The call failed."""
    return f"<error>\n<error_num>{number}</error_num>\n{element('error_msg', message)}</error>\n"


def project_config(
    name: str, url: str, min_passwd_length: int, creation: str, platforms: list[str], terms_of_use: str = ""
) -> str:
    """What a client asks before it attaches; `creation` of accounts is open, invited or closed."""
    listed = "".join(f"<platform>\n{element('platform_name', platform)}</platform>\n" for platform in platforms)
    limits = {
        "closed": "<account_creation_disabled/>\n<client_account_creation_disabled/>\n",
        "invited": "<invite_code_required/>\n",
        "open": "",
    }
    terms = element("terms_of_use", terms_of_use) if terms_of_use else ""
    return (
        f"<project_config>\n<name>{name}</name>\n{element('master_url', url)}{element('web_rpc_url_base', url)}"
        f"<min_passwd_length>{min_passwd_length}</min_passwd_length>\n<web_stopped>0</web_stopped>\n"
        f"<sched_stopped>0</sched_stopped>\n{limits[creation]}{terms}<platforms>\n{listed}</platforms>\n</project_config>\n"
    )


def master_page(name: str, scheduler_url: str) -> str:
    """The page at the project's URL; clients look for the link, each tag on a short line of its own."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(name)}</title>\n'
        f'<link rel="boinc_scheduler" href="{scheduler_url}">\n</head>\n<body>\n<h1>{escape(name)}</h1>\n'
        f"<p>To take part, install BOINC and add this page's address as a project.</p>\n</body>\n</html>\n"
    )
