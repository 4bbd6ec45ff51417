"""The command that tells how the project gets on."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from boincserver.commands.show import command, show, table
from boincserver.errors import ServerNotRunning

if TYPE_CHECKING:
    from boincserver.project import Project

__all__ = ["add", "ago", "hosts_table", "status_of"]


def add(commands: Any) -> None:
    """Declare it."""
    command(commands, "status", _status, "jobs, copies and hosts")


def status_of(directory: str) -> Mapping[str, Any]:
    """Counts and hosts, from the running server, or from the tables where none runs."""
    from boincserver.control import connect
    from boincserver.control_app import status
    from boincserver.project import Project

    project = Project.open(directory)
    try:
        found = {"running": True, **connect(project.directory).status()}
    except ServerNotRunning:
        database = project.open_database()
        try:
            found = {"running": False, **status(project.config.name, database.reader)}
        finally:
            database.close()
    return {**found, "url": project.config.url}


def _waiting(project: Project) -> list[str]:
    """Why copies wait, from the tables."""
    from boincserver.hindrance import hindrances

    database = project.open_database()
    try:
        return hindrances(database.reader(), project.config.jobs, time.time())
    finally:
        database.close()


def _status(options: argparse.Namespace) -> int:
    from boincserver.project import Project

    status = {**status_of(options.directory), "waiting": _waiting(Project.open(options.directory))}
    jobs, copies = status["jobs"], status["copies"]
    lines = [
        f"{status['name']} at {status['url']}: {'running' if status['running'] else 'not running'}",
        f"jobs    {jobs['total']} in all, {jobs['done']} done, {jobs['failed'] - jobs['cancelled']} failed, "
        f"{jobs['cancelled']} cancelled",
        f"copies  {copies['unsent']} unsent, {copies['in_progress']} in progress, {copies['over']} over",
    ]
    if status["running"]:
        lines.append(f"hosts are told to come again after {status['next_rpc_delay']:g} s")
    lines += [f"! {sentence}" for sentence in status["waiting"]]
    return show(options, status, "\n".join([*lines, "", hosts_table(status["hosts"])]))


def hosts_table(hosts: list[Mapping[str, Any]]) -> str:
    """What each host did, for people."""
    if not hosts:
        return "no hosts yet"
    rows = [
        (
            host["id"],
            host["succeeded"],
            host["failed"],
            host["in_progress"],
            ago(time.time() - host["last_contact"]),
            f"{host['domain_name']} ({host['user_name']}, {host['os_name']})" + ", blocked" * host["blocked"],
        )
        for host in hosts
    ]
    return table(["host", "done", "failed", "now", "last contact", "name (user, system)"], rows)


def ago(seconds: float) -> str:
    """How long ago something was, in the largest unit that fits."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"
