"""Commands of the operator: create, serve, restart, nginx, accounts."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any

from boincserver.commands import doctor, host, invite, keys, log, rights, share, status
from boincserver.commands.show import asked_for, command, group, show, table
from boincserver.errors import BoincServerError

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare them."""
    create = command(commands, "create", _create, "make a project in a new directory")
    create.add_argument("--url", required=True, help="the project's address as volunteers see it; it is for ever")
    create.add_argument("--name", default="", help="what volunteers see (default: the directory's name)")
    create.add_argument("--open-accounts", action="store_true", help="let anybody create an account")
    create.add_argument("--allow-http", action="store_true", help="accept http:// for a public address")
    create.add_argument("--database", default="", help="SQLAlchemy URL (default: a SQLite file in the directory)")

    command(commands, "serve", _serve, "serve a project until Ctrl-C")
    command(commands, "restart", _restart, "put a new process in the place of the one that serves; no request is lost")
    status.add(commands)
    log.add(commands)
    command(commands, "nginx", _nginx, "print what nginx in front of the project needs to be told")
    doctor.add(commands)

    user = group(commands, "user", "volunteers' accounts")
    new = command(user, "add", _user_add, "make an account and print its key")
    new.add_argument("--email", required=True, help="the account's e-mail address")
    new.add_argument("--name", default="", help="what others see (default: the address up to the @)")
    new.add_argument("--password", default=None, help="lets the volunteer attach by address and password")
    command(user, "list", _user_list, "accounts, their hosts and credit")
    password = command(user, "password", _user_password, "set an account's password")
    password.add_argument("--email", required=True, help="the account's e-mail address")
    password.add_argument("--password", default=None, help="the new password (default: it is asked for)")

    key = command(user, "key", _user_key, "print an account's key, or its weak one")
    key.add_argument("--email", required=True, help="the account's e-mail address")
    key.add_argument("--weak", action="store_true", help="the one that lets computers take part and nothing else")
    reset = command(user, "reset-password", _user_reset, "print a link with which an account gets a new password")
    reset.add_argument("--email", required=True, help="the account's e-mail address")
    reset.add_argument(
        "--hours", type=float, default=24, metavar="N", help="for how many hours it is good (default: 24)"
    )

    invite.add(user)
    share.add(user)
    rights.add(user)

    host.add(commands)
    keys.add(commands)


def _create(options: argparse.Namespace) -> int:
    from boincserver import project

    created = project.create(
        options.directory,
        options.url,
        name=options.name,
        allow_http=options.allow_http,
        open_accounts=options.open_accounts,
        database=options.database,
    )
    host, port = created.listen
    document = {"directory": str(created.directory), "url": created.config.url, "listen": f"{host}:{port}"}
    behind = "" if f":{port}" in created.config.url else f"\nA proxy in front has to pass it on to {host}:{port}."
    return show(
        options,
        document,
        f"Created the project {created.config.name!r} in {created.directory}\n"
        f"Its URL is {created.config.url}\n"
        f"Volunteers' clients know the project by this URL: it is for ever.{behind}\n"
        f"The signing key is {created.directory}/keys/code_sign_private: whoever has it can run programs on every\n"
        f"volunteer's computer. On a public server keep it on another machine.\n"
        f"Next: boincserver serve {options.directory}",
    )


def _serve(options: argparse.Namespace) -> int:
    from boincserver import logfile
    from boincserver.project import Project
    from boincserver.serve import serve

    project = Project.open(options.directory)
    logfile.begin(project.directory, project.config, logging.getLogger().level)
    host, port = project.listen

    def ready() -> None:
        document = {"url": project.config.url, "listen": f"{host}:{port}"}
        show(options, document, f"Serving {project.config.name!r} at {project.config.url} (Ctrl-C stops)")
        sys.stdout.flush()

    serve(project, ready=ready)
    return 0


def _restart(options: argparse.Namespace) -> int:
    from boincserver.project import Project
    from boincserver.restarting import restart

    project = Project.open(options.directory)
    restart(project)
    return show(options, {"url": project.config.url}, f"A new process serves {project.config.url}")


def _nginx(options: argparse.Namespace) -> int:
    from boincserver.front import nginx_configuration
    from boincserver.project import Project

    text = nginx_configuration(Project.open(options.directory))
    return show(options, {"configuration": text}, text.rstrip())


def _user_add(options: argparse.Namespace) -> int:
    from boincserver.control import connect
    from boincserver.project import Project

    project = Project.open(options.directory)
    control = connect(project.directory)
    try:
        key, created = control.keys(options.email)["key"], False
    except BoincServerError:
        key, created = control.create_account(options.email, options.name, options.password), True
    there = "" if created else "\nThe account was there already; its name and password are as before."
    document = {"email": options.email, "key": key, "url": project.config.url, "created": created}
    return show(options, document, f"{key}\nTo join: boinccmd --project_attach {project.config.url} {key}{there}")


def _user_list(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    users = connect(options.directory).users()
    rows = [(u["id"], u["email"], u["name"], u["hosts"], round(u["total_credit"], 1)) for u in users]
    return show(options, {"users": users}, table(["id", "address", "name", "hosts", "credit"], rows))


def _user_password(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    control = connect(options.directory)
    control.keys(options.email)  # nobody is asked for a password of an account that there is not
    password = asked_for("New password: ", twice=True) if options.password is None else options.password
    control.set_password(options.email, password)
    return show(options, {"email": options.email}, f"The password of {options.email} is changed.")


def _user_key(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    keys = connect(options.directory).keys(options.email)
    return show(options, {"email": options.email, **keys}, keys["weak_key" if options.weak else "key"])


def _user_reset(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    if options.hours <= 0:
        raise BoincServerError("--hours: a link is good for some time, or it is of no use")
    link = connect(options.directory).reset_link(options.email, hours=options.hours)
    document = {"email": options.email, "link": link, "hours": options.hours}
    advice = f"Give it to the owner of {options.email} alone: it works once, within {options.hours:g} hours."
    return show(options, document, f"{link}\n{advice}")
