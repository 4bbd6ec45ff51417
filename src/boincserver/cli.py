"""boincserver: create, serve and look after a BOINC project."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from boincserver.errors import BoincServerError, ServerNotRunning

__all__ = ["main", "make_parser"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = make_parser().parse_args(arguments)
    logging.basicConfig(
        level=getattr(logging, options.log_level.upper()), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except BoincServerError as error:
        if options.json:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        else:
            print(f"boincserver: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(prog="boincserver", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    create = _command(commands, "create", _create, "make a project in a new directory")
    create.add_argument("--url", required=True, help="the project's address as volunteers see it; it is for ever")
    create.add_argument("--name", default="", help="what volunteers see (default: the directory's name)")
    create.add_argument("--open-accounts", action="store_true", help="let anybody create an account")
    create.add_argument("--allow-http", action="store_true", help="accept http:// for a public address")
    create.add_argument("--database", default="", help="SQLAlchemy URL (default: a SQLite file in the directory)")

    _command(commands, "serve", _serve, "serve a project until Ctrl-C")
    _command(commands, "status", _status, "jobs, copies and hosts")

    _command(commands, "doctor", _doctor, "look for what cannot be in a healthy project")

    user = _command(commands, "user-add", _user_add, "make an account and print its key")
    user.add_argument("--email", required=True, help="the account's e-mail address")
    user.add_argument("--name", default="", help="what others see (default: the address up to the @)")
    user.add_argument("--password", default=None, help="lets the volunteer attach by address and password")
    return parser


def _command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int], what: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what)
    parser.add_argument("directory", metavar="DIR", help="the project's directory")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"], help="(default: info)"
    )
    parser.set_defaults(command=function)
    return parser


def _show(options: argparse.Namespace, document: Mapping[str, Any], text: str) -> int:
    print(json.dumps(document) if options.json else text)
    return 0


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
    return _show(
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
    from boincserver.project import Project
    from boincserver.serve import serve

    project = Project.open(options.directory)
    host, port = project.listen

    def ready() -> None:
        document = {"url": project.config.url, "listen": f"{host}:{port}"}
        _show(options, document, f"Serving {project.config.name!r} at {project.config.url} (Ctrl-C stops)")
        sys.stdout.flush()

    serve(project, ready=ready)
    return 0


def _status(options: argparse.Namespace) -> int:
    from boincserver.control import connect
    from boincserver.control_app import status
    from boincserver.project import Project

    project = Project.open(options.directory)
    try:
        document = {"running": True, **connect(project.directory).status()}
    except ServerNotRunning:
        database = project.open_database()
        try:
            document = {"running": False, **status(project.config.name, database.reader)}
        finally:
            database.close()
    document["url"] = project.config.url
    return _show(options, document, _status_text(document))


def _doctor(options: argparse.Namespace) -> int:
    from boincserver.doctor import examine
    from boincserver.files import FileStore
    from boincserver.project import Project

    project = Project.open(options.directory)
    database = project.open_database()
    try:
        findings = list(examine(database, FileStore(project.directory / "upload")))
    finally:
        database.close()
    _show(options, {"findings": findings}, "\n".join(findings) or "All is well.")
    return 1 if findings else 0


def _status_text(status: Mapping[str, Any]) -> str:
    jobs, copies = status["jobs"], status["copies"]
    lines = [
        f"{status['name']} at {status['url']}: {'running' if status['running'] else 'not running'}",
        f"jobs    {jobs['total']} in all, {jobs['done']} done, {jobs['failed']} failed",
        f"copies  {copies['unsent']} unsent, {copies['in_progress']} in progress, {copies['over']} over",
    ]
    hosts = status["hosts"]
    if not hosts:
        return "\n".join([*lines, "hosts   none yet"])
    lines.append(f"hosts   {len(hosts)}")
    lines.append(f"  {'id':>4}  {'done':>6}  {'failed':>6}  {'now':>4}  {'last contact':<14}  host (user, system)")
    for host in hosts:
        ago = _ago(time.time() - host["last_contact"])
        lines.append(
            f"  {host['id']:>4}  {host['succeeded']:>6}  {host['failed']:>6}  {host['in_progress']:>4}  {ago:<14}  "
            f"{host['domain_name']} ({host['user_name']}, {host['os_name']})"
        )
    return "\n".join(lines)


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def _user_add(options: argparse.Namespace) -> int:
    from boincserver.control import connect
    from boincserver.project import Project

    project = Project.open(options.directory)
    key = connect(project.directory).create_account(options.email, options.name, options.password)
    document = {"email": options.email, "key": key, "url": project.config.url}
    return _show(options, document, f"{key}\nTo join: boinccmd --project_attach {project.config.url} {key}")
