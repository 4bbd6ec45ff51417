"""The commands about named runs: `pymw runs`, `show`, `cancel`, `export`, `forget`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from typing import Any

from pymw.errors import RunError

__all__ = ["cancel", "export", "forget", "runs", "show"]


def runs(given: argparse.Namespace) -> int:
    """All of them, and how far each is."""
    if given.backend:
        return _there(given.backend, as_json=given.json)
    from pymw.journal import home
    from pymw.journal import runs as names
    from pymw.onlooker import open_run

    told, unreadable = {}, []
    for name in names():
        try:
            with open_run(name) as view:
                told[name] = view.counts()
        except RunError as error:
            unreadable.append(error)
    if given.json:
        print(json.dumps(told))
    elif not told and not unreadable:
        print(f'no runs in {home()}; Master(..., run="a name") makes one')
    else:
        for name, counts in told.items():
            print(f"{name}: {_in_words(counts)}")
    for problem in unreadable:
        print(f"pymw: {problem}", file=sys.stderr)
    return 1 if unreadable else 0


def _there(url: str, *, as_json: bool) -> int:
    """What a project has work of."""
    from pymw.backends.boinc.watching import runs_at

    found = runs_at(url)
    if as_json:
        print(json.dumps([dataclasses.asdict(run) for run in found]))
        return 0
    for run in found:
        failed = f", {run.failed} failed" if run.failed else ""
        print(f"{run.name}: {run.over} of {run.jobs} workunits over{failed}")
    if not found:
        print(f"no runs at {url}")
    return 0


def show(given: argparse.Namespace) -> int:
    """One of them."""
    from pymw.journal import Recorded
    from pymw.onlooker import open_run

    with open_run(given.run) as view:
        counts, functions, held, backend = view.counts(), view.functions(), view.holder, view.backend
        failed = [record for record in view.records() if record.state is Recorded.FAILED] if given.failed else []
        errors = {record.number: repr(view.future(record).exception()) for record in failed}
    if given.json:
        told: dict[str, Any] = {"run": given.run, "tasks": counts, "functions": functions, "errors": errors}
        told |= {"held_by": held, "goes_on_at": backend, "folder": str(view.folder)}
        print(json.dumps(told))
        return 0
    print(f"{given.run}: {_in_words(counts)}")
    if held:
        print(f"  {held} works on it")
    elif counts["asked"]:
        told_where = f"it goes on at {backend}; run its script again to collect" if backend else "run its script again"
        print(f"  nobody works on it here: {told_where}")
    for function, tasks in functions.items():
        print(f"  {function}: {tasks} tasks")
    for number, error in errors.items():
        print(f"  task {number}: {error}")
    return 0


def cancel(given: argparse.Namespace) -> int:
    """End what of it is under way."""
    from pymw.cancelling import cancel_run
    from pymw.onlooker import open_run

    cancelled = cancel_run(given.run)
    with open_run(given.run) as view:
        counts = view.counts()
    if given.json:
        told = {"run": given.run, "cancelled": cancelled.tasks, "held_by": cancelled.holder, "tasks": counts}
        print(json.dumps(told))
    elif not cancelled.tasks:
        print(f"{given.run}: nothing was under way; {_in_words(counts)}")
    else:
        held = f", by {cancelled.holder}" if cancelled.holder else ""
        print(f"{given.run}: cancelled{held}; {cancelled.tasks} tasks were not over; {_in_words(counts)}")
        print("Run its script again to go on with it, or delete it with `pymw forget`.")
    return 0


def _in_words(counts: Mapping[str, int]) -> str:
    told = f"{counts['returned']} of {sum(counts.values())} tasks done"
    return told + (f", {counts['failed']} failed" if counts["failed"] else "")


def export(given: argparse.Namespace) -> int:
    """Its results as JSON, a line for each task."""
    from pymw.journal import Recorded
    from pymw.onlooker import open_run

    with open_run(given.run) as view:
        for record in view.records():
            line: dict[str, Any] = {"task": record.number, "function": record.function, "key": record.key}
            if record.state is Recorded.RETURNED:
                future = view.future(record)
                if (error := future.exception()) is None:
                    line["value"] = future.result()
                else:
                    line["error"] = repr(error)
            elif record.state is Recorded.FAILED:
                line["error"] = repr(view.future(record).exception())
            print(json.dumps(_plain(line), allow_nan=False))
    return 0


def _plain(value: Any) -> Any:
    """With what JSON lacks in its nearest form."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "tolist"):  # NumPy's arrays and scalars
        return _plain(value.tolist())
    return repr(value)


def forget(given: argparse.Namespace) -> int:
    """Delete it."""
    from pymw.journal import forget as delete

    print(f"forgotten: {given.run}, {delete(given.run)} tasks")
    return 0
