"""Commands for batches of jobs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boincserver.commands.show import command, group, show, table
from boincserver.errors import BoincServerError

if TYPE_CHECKING:
    from boincserver.control import Control

__all__ = ["add", "find"]


def add(commands: Any) -> None:
    """Declare them."""
    batch = group(commands, "batch", "batches of jobs")
    command(batch, "list", _batch_list, "batches and how far they are")
    cancel = command(batch, "cancel", _batch_cancel, "end what is not over, also on hosts")
    cancel.add_argument("name", metavar="NAME", help="the batch's name")
    fetch = command(batch, "fetch", _batch_fetch, "write outcomes into a folder, and let the server forget them")
    fetch.add_argument("name", metavar="NAME", help="the batch's name")
    fetch.add_argument("folder", metavar="FOLDER", help="where to: FOLDER/JOB/OUTPUT, or FOLDER/JOB/error.json")


def find(control: Control, name: str) -> int:
    """The number of the batch of this name."""
    for batch in control.batches():
        if batch["name"] == name:
            return int(batch["id"])
    raise BoincServerError(f"there is no batch {name!r}; see: boincserver batch list DIR")


def _batch_list(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    batches = connect(options.directory).batches()
    rows = [(b["id"], b["name"], b["app"], b["jobs"], b["over"], b["failed"], b["to_fetch"]) for b in batches]
    return show(
        options, {"batches": batches}, table(["id", "batch", "application", "jobs", "over", "failed", "to fetch"], rows)
    )


def _batch_cancel(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    control = connect(options.directory)
    count = control.cancel_jobs(find(control, options.name))
    return show(options, {"cancelled": count}, f"{count} jobs cancelled.")


def _batch_fetch(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    control = connect(options.directory)
    batch = find(control, options.name)
    folder = Path(options.folder)
    fetched = failed = 0
    while outcomes := control.outcomes(batch, limit=100):
        for outcome in outcomes:
            target = folder / outcome.name
            for open_name, data in outcome.outputs.items():
                path = target / open_name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            if outcome.error_mask:
                failed += 1
                target.mkdir(parents=True, exist_ok=True)
                attempts = [
                    {"host": a.host_id, "outcome": a.outcome.name, "stderr": a.stderr} for a in outcome.attempts
                ]
                document = {"error": outcome.error_mask.name, "attempts": attempts}
                (target / "error.json").write_text(json.dumps(document, indent=1))
            fetched += 1
        control.acknowledge(batch, outcomes[-1].seq)
    return show(
        options, {"fetched": fetched, "failed": failed}, f"{fetched} outcomes in {folder}, {failed} of them failed."
    )
