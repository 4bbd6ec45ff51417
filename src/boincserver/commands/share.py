"""The command about what an account tells others."""

from __future__ import annotations

import argparse
from typing import Any

from boincserver.commands.show import command, show
from boincserver.errors import BoincServerError

__all__ = ["add"]


def add(user: Any) -> None:
    """Declare it, among the commands about accounts."""
    share = command(user, "share", _share, "note what a volunteer agrees to tell others")
    share.add_argument("--email", required=True, help="the account's e-mail address")
    share.add_argument("--credit", choices=("yes", "no"), help="name and credit go to sites that gather statistics")
    share.add_argument("--hosts", choices=("yes", "no"), help="there, computers are told to be this account's")


def _share(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    answers = {name: None if text is None else text == "yes" for name, text in _answers(options)}
    if set(answers.values()) == {None}:
        raise BoincServerError("say what the volunteer agrees to: --credit yes, --hosts yes (or no)")
    connect(options.directory).share(options.email, **answers)
    told = ", ".join(f"{name}: {text}" for name, text in _answers(options) if text)
    return show(options, {"email": options.email, **answers}, f"{options.email} shares {told}.")


def _answers(options: argparse.Namespace) -> list[tuple[str, str | None]]:
    return [("credit", options.credit), ("hosts", options.hosts)]
