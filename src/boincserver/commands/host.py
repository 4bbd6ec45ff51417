"""Commands for volunteers' computers: look at them, and send one no more work."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

from boincserver.commands.show import command, group, positive, show, table
from boincserver.commands.states import exit_of, in_words
from boincserver.commands.status import ago, hosts_table, status_of
from boincserver.states import Outcome, ServerState, ValidateState

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare them."""
    host = group(commands, "host", "volunteers' computers")
    command(host, "list", _host_list, "computers and what each did")
    _numbered(command(host, "show", _host_show, "a computer: what it is, how far it is trusted and what it had last"))
    _numbered(command(host, "block", _host_block, "send a computer no more work; what it has it may finish"))
    _numbered(command(host, "unblock", _host_unblock, "send a computer work again"))


def _numbered(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", metavar="HOST", type=positive, help="the computer's number in `host list`")


def _host_list(options: argparse.Namespace) -> int:
    hosts = status_of(options.directory)["hosts"]
    return show(options, {"hosts": hosts}, hosts_table(hosts))


def _host_show(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    host = connect(options.directory).host(options.number)
    return show(options, host, _text(host, time.time()))


def _text(host: Mapping[str, Any], now: float) -> str:
    model = f"{host['p_vendor']} {host['p_model']}".strip()
    lines = [
        f"host {host['id']}: {host['domain_name']} of {host['user_name']}" + ", blocked" * host["blocked"],
        f"system  {host['os_name']} {host['os_version']}".rstrip(),
        f"machine {host['ncpus']} CPU{'s' * (host['ncpus'] != 1)} of {host['p_fpops'] / 1e9:.1f} GFLOPS ({model}), "
        f"{host['m_nbytes'] / 1e9:.1f} GB of memory, {host['d_free'] / 1e9:.1f} GB of disk free",
        f"joined  {ago(now - host['create_time'])}, last here {ago(now - host['last_contact'])}",
        f"copies  {host['succeeded']} done, {host['failed']} failed, {host['in_progress']} in progress",
        f"credit  {host['total_credit']:.1f}, {host['expavg_credit']:.1f} a day lately",
    ]
    versions = [
        (
            " ".join(filter(None, (v["app"], v["version"], v["platform"], v["plan_class"]))),
            v["consecutive_valid"],
            f"{v['jobs_today']} of {v['jobs_per_day']} per CPU",
            "" if v["turnaround"] is None else f"{v['turnaround']:.0f} s",
        )
        for v in host["versions"]
    ]
    if versions:
        lines += ["", table(["version", "valid in a row", "today", "comes back after"], versions)]
    copies = [_copy(copy, now) for copy in host["copies"]]
    if copies:
        lines += ["", table(["copy", "state", "exit", "sent"], copies)]
    return "\n".join(lines)


def _copy(copy: Mapping[str, Any], now: float) -> tuple[object, ...]:
    outcome = Outcome[copy["outcome"]]
    state = in_words(ServerState[copy["state"]], outcome, ValidateState[copy["validation"]])
    return copy["name"], state, exit_of(outcome, copy["exit_status"]), ago(now - copy["sent"])


def _host_block(options: argparse.Namespace) -> int:
    return _decide(options, blocked=True)


def _host_unblock(options: argparse.Namespace) -> int:
    return _decide(options, blocked=False)


def _decide(options: argparse.Namespace, *, blocked: bool) -> int:
    from boincserver.control import connect

    connect(options.directory).block_host(options.number, blocked)
    what = "is sent no more work; what it has it may finish" if blocked else "is sent work again"
    return show(options, {"host": options.number, "blocked": blocked}, f"Host {options.number} {what}.")
