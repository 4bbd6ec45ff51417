"""In words: why a task is not done, and how an attempt ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from boincserver import control
from boincserver.states import Outcome, ServerState, ValidateState

__all__ = ["ending_in_words", "in_words", "state_in_words"]


def ending_in_words(outcome: Outcome, exit_status: int) -> str:
    """How a copy ended that brought no result."""
    if outcome == Outcome.SUCCESS:
        return "its result was one among results that did not agree"
    if outcome == Outcome.CLIENT_ERROR:
        return _EXITS.get(exit_status, f"failed there with exit status {exit_status}")
    return {
        Outcome.NO_REPLY: "no reply within its deadline",
        Outcome.VALIDATE_ERROR: "what it sent could not be read",
        Outcome.CLIENT_DETACHED: "the host left the project",
        Outcome.DIDNT_NEED: "not needed any more",
        Outcome.COULDNT_SEND: "could not be sent to any host",
    }.get(outcome, outcome.name.lower().replace("_", " "))


# Where the client's own exit status says more than a number would.
_EXITS = {
    0: "its output is missing, exit status 0",
    -186: "a download failed there, exit status -186",
    196: "took more disk than allowed, exit status 196",
    197: "took longer than allowed, exit status 197",
    198: "took more memory than allowed, exit status 198",
    200: "was not started before its deadline, exit status 200",
    202: "was cancelled, exit status 202",
    203: "its user aborted it, exit status 203",
}


def state_in_words(
    copies: Sequence[control.Copy],
    quorum: int,
    hosts: Sequence[control.HostInfo],
    now: float,
    difference: Callable[[], str],
    *,
    by_user: bool = True,
) -> str:
    """Where a workunit stands; `difference` says how the results differ that are here."""
    if not copies:
        return "it is about to be created"
    if any(copy.validate_state == ValidateState.VALID for copy in copies):
        return "its result is on the way"
    out = [copy for copy in copies if copy.server_state == ServerState.IN_PROGRESS]
    unsent = [copy for copy in copies if copy.server_state == ServerState.UNSENT]
    here = [copy for copy in copies if copy.outcome == Outcome.SUCCESS and copy.validate_state != ValidateState.INVALID]
    failed = [copy for copy in copies if copy.server_state == ServerState.OVER and copy not in here and copy.host_id]
    parts = []
    if len(here) >= max(quorum, 2) and (differs := difference()):
        parts.append(differs)
    elif here:
        parts.append(f"{len(here)} of {max(quorum, len(here))} results here")
    if out:
        whole = len(out) + len(unsent) + len(here)
        due = in_words(max(copy.deadline for copy in out) - now)
        parts.append(f"in progress on {len(out)} of {_hosts(whole)} ({_named(out)}), deadline {due}")
    if unsent:
        parts.append(_unsent(len(unsent), bool(out or here or failed), {copy.user_id for copy in (*out, *here)}, hosts))
    takers = {host.user_id if by_user else host.id for host in hosts}
    if quorum > max(1, len(takers)) and (unsent or not out):
        kind = "users" if by_user else "hosts"
        parts.append(f"it needs {_number(quorum)} different {kind}, and {_number(len(takers))} joined so far")
    parts += [f"host {copy.host_id}: {ending_in_words(copy.outcome, copy.exit_status)}" for copy in failed]
    return "; ".join(parts) or "nothing is known of it"


def _unsent(count: int, more: bool, users: set[int], hosts: Sequence[control.HostInfo]) -> str:
    if not hosts:
        return "no host has joined the project yet"
    if not more:
        return "no host has taken it yet"
    return f"{_number(count)} more {'copy waits' if count == 1 else 'copies wait'} for a host" + (
        " of another user" if users and {host.user_id for host in hosts} <= users else ""
    )


def _named(copies: Sequence[control.Copy]) -> str:
    return ", ".join(f"host {copy.host_id}" for copy in copies)


def _hosts(count: int) -> str:
    return "1 host" if count == 1 else f"{count} hosts"


def _number(count: int) -> str:
    return ("none", "one", "two", "three", "four", "five")[count] if count < 6 else str(count)


def in_words(seconds: float) -> str:
    """How far away a time is: ``in 6 days``."""
    if seconds < 0:
        return "passed"
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"in {int(seconds / length)} {unit}s"
    return f"in {int(seconds)} seconds"
