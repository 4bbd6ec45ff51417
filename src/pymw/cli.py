"""The command `pymw`: run a script on a backend, and see what there is."""

from __future__ import annotations

import argparse
import json
import os
import platform
import runpy
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pymw.backends import known_backends
from pymw.errors import PyMWError

__all__ = ["main"]

EXAMPLES = """\
examples:
  pymw backends                                     what a script can run on
  pymw run pi.py --backend local                    run a script, its masters on this machine
  pymw run pi.py --backend boinc:~/pi-project -- --tasks 800
                                                    the same script on volunteers' computers
  pymw runs                                         the named runs, and how far each is
  pymw show pi-2026                                 the tasks of one
  pymw cancel pi-2026                               end what is under way; what is done stays
  pymw export pi-2026                               their results, one JSON object a line
  pymw volunteer https://host/project --key-file key
                                                    lend this machine to a project
  pymw doctor                                       is everything in place here?
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    split = words.index("--") if "--" in words else len(words)
    parser = _parser()
    given = parser.parse_args(words[:split])
    given.arguments = words[split + 1 :]
    if given.command is None:
        parser.print_help()
        return 2
    try:
        code: int = given.command(given)
    except PyMWError as error:
        print(f"pymw: {error}", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pymw",
        usage="pymw COMMAND ...",
        description=f"Master-worker computing in Python.\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=None)
    parser.add_argument("--version", action="version", version=f"pymw {version('pymw-grid')}")
    commands = parser.add_subparsers(title="commands", metavar="")

    run = commands.add_parser(
        "run",
        help="run a script with a backend for its masters",
        usage="pymw run SCRIPT [--backend URL] [-- ARGUMENT ...]",
    )
    run.add_argument("script", help="a Python program")
    run.add_argument("--backend", metavar="URL", help="what a Master without one of its own uses")
    run.set_defaults(command=_run)

    backends = commands.add_parser("backends", help="list the backends")
    backends.add_argument("--json", action="store_true", help="as JSON")
    backends.set_defaults(command=_backends)

    runs = commands.add_parser("runs", help="list the named runs")
    runs.add_argument("--json", action="store_true", help="as JSON")
    runs.set_defaults(command=_runs)

    show = commands.add_parser("show", help="tell about a run")
    show.add_argument("run", help="its name")
    show.add_argument("--failed", action="store_true", help="also what each failed task raised")
    show.add_argument("--json", action="store_true", help="as JSON")
    show.set_defaults(command=_show)

    cancel = commands.add_parser("cancel", help="end what of a run is under way, whoever holds it; what is done stays")
    cancel.add_argument("run", help="its name")
    cancel.add_argument("--json", action="store_true", help="as JSON")
    cancel.set_defaults(command=_cancel)

    export = commands.add_parser("export", help="print the results of a run, one JSON object a line")
    export.add_argument("run", help="its name")
    export.set_defaults(command=_export)

    forget = commands.add_parser("forget", help="delete a run with all its results")
    forget.add_argument("run", help="its name")
    forget.set_defaults(command=_forget)

    boinc = commands.add_parser("boinc", help="what a BOINC project needs for pymw")
    of_boinc = boinc.add_subparsers(title="commands", metavar="", required=True)
    worker = of_boinc.add_parser("install-worker", help="give a project interpreters for computers without a Python")
    worker.add_argument("directory", metavar="DIR", help="the project's folder; its server runs")
    worker.add_argument("--target", action="append", default=[], help="a kind of machine; else all that are built here")
    worker.add_argument("--json", action="store_true", help="as JSON")
    worker.set_defaults(command=_install_worker)

    volunteer = commands.add_parser("volunteer", help="lend this machine to a BOINC project")
    volunteer.add_argument("url", metavar="URL", help="the project's address")
    volunteer.add_argument("--key-file", type=Path, metavar="FILE", help="a file with an account's key, yours alone")
    volunteer.add_argument("--email", default="", metavar="ADDRESS", help="make an account for this address instead")
    volunteer.add_argument("--cores", type=int, metavar="N", help="use so many; else all")
    volunteer.add_argument("--folder", type=Path, metavar="DIR", help="where the client keeps its files")
    volunteer.set_defaults(command=_volunteer)

    doctor = commands.add_parser("doctor", help="check that tasks can run here")
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.set_defaults(command=_doctor)
    return parser


def _run(given: argparse.Namespace) -> int:
    if given.backend:
        os.environ["PYMW_BACKEND"] = given.backend
    script = Path(given.script)
    if not script.is_file():
        print(f"pymw: there is no script {given.script}", file=sys.stderr)
        return 1
    sys.argv = [given.script, *given.arguments]
    sys.path.insert(0, str(script.resolve().parent))
    runpy.run_path(given.script, run_name="__main__")
    return 0


def _backends(given: argparse.Namespace) -> int:
    known = known_backends()
    if given.json:
        print(json.dumps(known))
        return 0
    width = max(map(len, known))
    for name, about in known.items():
        print(f"{name:{width}}  {about}")
    return 0


def _runs(given: argparse.Namespace) -> int:
    from pymw.journal import home, runs
    from pymw.onlooker import open_run

    told = {}
    for name in runs():
        with open_run(name) as view:
            told[name] = view.counts()
    if given.json:
        print(json.dumps(told))
    elif not told:
        print(f'no runs in {home()}; Master(..., run="a name") makes one')
    else:
        for name, counts in told.items():
            print(f"{name}: {_in_words(counts)}")
    return 0


def _show(given: argparse.Namespace) -> int:
    from pymw.journal import Recorded
    from pymw.onlooker import open_run

    with open_run(given.run) as view:
        counts, functions = view.counts(), view.functions()
        failed = [record for record in view.records() if record.state is Recorded.FAILED] if given.failed else []
        errors = {record.number: repr(view.future(record).exception()) for record in failed}
    if given.json:
        print(json.dumps({"run": given.run, "tasks": counts, "functions": functions, "errors": errors}))
        return 0
    print(f"{given.run}: {_in_words(counts)}")
    for function, tasks in functions.items():
        print(f"  {function}: {tasks} tasks")
    for number, error in errors.items():
        print(f"  task {number}: {error}")
    return 0


def _cancel(given: argparse.Namespace) -> int:
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


def _export(given: argparse.Namespace) -> int:
    from pymw.journal import Recorded
    from pymw.onlooker import open_run

    with open_run(given.run) as view:
        for record in view.records():
            line: dict[str, Any] = {"task": record.number, "function": record.function, "key": record.key}
            if record.state is Recorded.RETURNED:
                line["value"] = view.future(record).result()
            elif record.state is Recorded.FAILED:
                line["error"] = repr(view.future(record).exception())
            print(json.dumps(line, default=repr))
    return 0


def _forget(given: argparse.Namespace) -> int:
    from pymw.journal import forget

    print(f"forgotten: {given.run}, {forget(given.run)} tasks")
    return 0


def _install_worker(given: argparse.Namespace) -> int:
    from pymw.backends.boinc.command import install_worker

    return install_worker(Path(given.directory).expanduser(), given.target, as_json=given.json)


def _volunteer(given: argparse.Namespace) -> int:
    from pymw.lending import lend

    return lend(given.url, key_file=given.key_file, email=given.email, folder=given.folder, cores=given.cores)


def _doctor(given: argparse.Namespace) -> int:
    findings = _findings()
    healthy = all(finding["ok"] for finding in findings)
    if given.json:
        print(json.dumps({"ok": healthy, "findings": findings}))
    else:
        for finding in findings:
            print(f"{'ok ' if finding['ok'] else 'BAD'} {finding['what']}: {finding['told']}")
    return 0 if healthy else 1


def _findings() -> list[dict[str, Any]]:
    findings: list[dict[str, Any]] = []

    def note(what: str, told: str, *, ok: bool = True) -> None:
        findings.append({"what": what, "told": told, "ok": ok})

    note("python", f"{platform.python_version()} at {sys.executable}")
    note("pymw", version("pymw-grid"))
    from pymw.master import Master

    began = time.monotonic()
    try:
        with Master("local", max_workers=1) as master:
            told = master.submit(platform.node).result(60)
        note("local", f"a worker process on {told} answered in {time.monotonic() - began:.2f} s")
    except Exception as error:  # noqa: BLE001 - whatever is wrong is what the command is there to tell
        note("local", f"a worker process did not answer: {error}", ok=False)
    return findings
