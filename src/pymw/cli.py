"""The command `pymw`: run a script on a backend, and see what there is."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import runpy
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from pymw import run_commands
from pymw.backends import known_backends
from pymw.errors import BackendError, PyMWError, RunError

__all__ = ["main"]

# What is typed, and what for; "{command} --help" begins with its own.
EXAMPLES = [
    ("pymw backends", "what a script can run on"),
    ("pymw run pi.py --backend local", "run a script, its masters on this machine"),
    ("pymw run pi.py --backend boinc:~/pi-project -- --tasks 800", "the same script on volunteers' computers"),
    ("pymw run pi.py --backend boinc+https://host/project", "the same by way of a project elsewhere"),
    ("pymw runs", "the named runs, and how far each is"),
    ("pymw runs --backend boinc+https://host/project", "your runs there, wherever they began"),
    ("pymw show pi-2026", "how far one is, and who works on it"),
    ("pymw show pi-2026 --failed", "what its failed tasks raised"),
    ("pymw cancel pi-2026", "end what is under way; what is done stays"),
    ("pymw export pi-2026 > pi.jsonl", "its results, one JSON object a line"),
    ("pymw forget pi-2026", "delete it with all its results"),
    ("pymw boinc install-worker ~/pi-project", "give a project interpreters for volunteers"),
    ("pymw boinc install-app ~/official-project", "put the application into an official project"),
    ("pymw boinc validate ~/official-project", "there, as one of its daemons: compare results"),
    ("pymw boinc assimilate ~/official-project", "and another: file them for whoever waits"),
    ("pymw boinc key", "print the public key of your code"),
    ("pymw boinc trust ~/pi-project KEY", "let volunteers run code that is signed with it"),
    ("pymw volunteer https://host/project --key-file key", "lend this machine to a project"),
    ("pymw doctor", "is everything in place here?"),
    ("pymw doctor --backend boinc:~/pi-project", "and does that answer?"),
]
COLUMN = 52
RESTS = "how long to rest when there is nothing to do"


class Parser(argparse.ArgumentParser):
    """Help begins with examples."""

    def format_help(self) -> str:
        """The examples that begin as this command does, then what argparse has to say."""
        lines = []
        for typed, meaning in EXAMPLES:
            if f"{typed} ".startswith(f"{self.prog} "):
                line = f"  {typed}"
                lines += [f"{line:{COLUMN}}{meaning}"] if len(line) < COLUMN else [line, f"{'':{COLUMN}}{meaning}"]
        return "\n".join(["examples:", *lines, "", super().format_help()])


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    split = words.index("--") if "--" in words else len(words)
    parser = _parser()
    given, unknown = parser.parse_known_args(words[:split])
    given.arguments = words[split + 1 :]
    if unknown:
        hint = "; what is the script's own comes behind --" if given.command is _run else ""
        parser.error(f"what is {' '.join(unknown)}?{hint}")
    if given.command is None:
        parser.print_help()
        return 2
    try:
        code: int = given.command(given)
        sys.stdout.flush()
    except PyMWError as error:
        if given.command is _run and not isinstance(error, (BackendError, RunError)):
            raise  # the script's own, with the line where it happened
        print(f"pymw: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `pymw export pi-2026 | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _run_name(text: str) -> str:
    from pymw.journal import folder

    try:
        folder(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="pymw", usage="pymw COMMAND ...", description="Master-worker computing in Python.")
    parser.set_defaults(command=None)
    parser.add_argument("--version", action="version", version=f"pymw {version('pymw-grid')}")
    commands = parser.add_subparsers(title="commands", metavar="", prog="pymw")

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
    runs.add_argument("--backend", metavar="URL", help="those that a BOINC project has work of, whoever began them")
    runs.add_argument("--json", action="store_true", help="as JSON")
    runs.set_defaults(command=run_commands.runs)

    show = commands.add_parser("show", help="tell about a run")
    show.add_argument("run", type=_run_name, help="its name")
    show.add_argument("--failed", action="store_true", help="also what each failed task raised")
    show.add_argument("--json", action="store_true", help="as JSON")
    show.set_defaults(command=run_commands.show)

    cancel = commands.add_parser("cancel", help="end what of a run is under way, whoever holds it; what is done stays")
    cancel.add_argument("run", type=_run_name, help="its name")
    cancel.add_argument("--json", action="store_true", help="as JSON")
    cancel.set_defaults(command=run_commands.cancel)

    export = commands.add_parser("export", help="print the results of a run, one JSON object a line")
    export.add_argument("run", type=_run_name, help="its name")
    export.set_defaults(command=run_commands.export)

    forget = commands.add_parser("forget", help="delete a run with all its results")
    forget.add_argument("run", type=_run_name, help="its name")
    forget.set_defaults(command=run_commands.forget)

    boinc = commands.add_parser("boinc", help="what a BOINC project needs for pymw")
    of_boinc = boinc.add_subparsers(title="commands", metavar="", prog="pymw boinc", required=True)
    worker = of_boinc.add_parser("install-worker", help="give a project interpreters for computers without a Python")
    worker.add_argument("directory", metavar="DIR", help="the project's folder; its server runs")
    worker.add_argument("--target", action="append", default=[], help="a kind of machine; else all that are built here")
    worker.add_argument(
        "--from", dest="origin", choices=("sources", "pbs"), default="sources", help="pbs: python-build-standalone's"
    )
    worker.add_argument("--archive", type=Path, metavar="FILE", help="with --from pbs: its file, downloaded already")
    worker.add_argument("--json", action="store_true", help="as JSON")
    worker.set_defaults(command=_install_worker)

    app = of_boinc.add_parser("install-app", help="put the application into an official BOINC project's folder")
    app.add_argument("directory", metavar="DIR", help="the project's folder, where its config.xml is")
    app.add_argument("--trust", action="append", default=[], metavar="KEY", help="whose code volunteers may run")
    app.set_defaults(command=_install_app)
    for name, what in (("validate", "compare results"), ("assimilate", "file how jobs ended")):
        daemon = of_boinc.add_parser(name, help=f"a daemon of an official BOINC project: {what}")
        daemon.add_argument("directory", metavar="DIR", help="the project's folder, where its config.xml is")
        daemon.add_argument("--app", action="append", default=[], metavar="NAME", help="an application; else pymw")
        daemon.add_argument("--one-pass", "--one_pass", action="store_true", help="do what is to be done now, and end")
        daemon.add_argument(
            "--sleep-interval", "--sleep_interval", type=float, default=2.0, metavar="SECONDS", help=RESTS
        )
        daemon.add_argument("-d", type=int, default=2, metavar="LEVEL", help="log errors alone (1) to everything (4)")
        daemon.set_defaults(command=_daemon, daemon=name)
    key = of_boinc.add_parser("key", help="print the public key by which projects elsewhere may trust your code")
    key.set_defaults(command=_key)
    trust = of_boinc.add_parser("trust", help="let volunteers run code that somebody elsewhere signs with this key")
    trust.add_argument("directory", metavar="DIR", help="the project's folder; its server runs")
    trust.add_argument("key", metavar="KEY", help="what `pymw boinc key` printed there, or a file with it")
    trust.set_defaults(command=_trust)

    volunteer = commands.add_parser("volunteer", help="lend this machine to a BOINC project")
    volunteer.add_argument("url", metavar="URL", help="the project's address")
    volunteer.add_argument("--key-file", type=Path, metavar="FILE", help="a file with an account's key, yours alone")
    volunteer.add_argument("--email", default="", metavar="ADDRESS", help="make an account for this address instead")
    volunteer.add_argument("--cores", type=int, metavar="N", help="use so many; else all")
    volunteer.add_argument("--folder", type=Path, metavar="DIR", help="where the client keeps its files")
    volunteer.set_defaults(command=_volunteer)

    doctor = commands.add_parser("doctor", help="check that tasks can run here")
    doctor.add_argument("--backend", metavar="URL", default="", help="check too that this one can be opened")
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


def _install_worker(given: argparse.Namespace) -> int:
    from pymw.backends.boinc.command import install_worker

    return install_worker(
        Path(given.directory).expanduser(),
        given.target,
        ready_made=given.origin == "pbs",
        archive=given.archive,
        as_json=given.json,
    )


def _install_app(given: argparse.Namespace) -> int:
    from pymw.backends.boinc.official import install_app, next_steps

    directory = Path(given.directory).expanduser()
    print(f"{install_app(directory, given.trust)} has the application.\n{next_steps(directory)}")
    return 0


def _daemon(given: argparse.Namespace) -> int:
    from pymw.backends.boinc import daemons
    from pymw.backends.boinc.packing import APP

    run = daemons.validate if given.daemon == "validate" else daemons.assimilate
    directory = Path(given.directory).expanduser().absolute()
    return run(directory, given.app or [APP], one_pass=given.one_pass, level=given.d, sleep=given.sleep_interval)


def _key(_given: argparse.Namespace) -> int:
    from pymw.backends.boinc.keys import SigningKey

    print(SigningKey.mine().told)
    return 0


def _trust(given: argparse.Namespace) -> int:
    from pymw.backends.boinc.command import trust_key

    return trust_key(Path(given.directory).expanduser(), given.key)


def _volunteer(given: argparse.Namespace) -> int:
    from pymw.lending import lend

    return lend(given.url, key_file=given.key_file, email=given.email, folder=given.folder, cores=given.cores)


def _doctor(given: argparse.Namespace) -> int:
    from pymw.doctor import findings

    found = [dataclasses.asdict(finding) for finding in findings(given.backend)]
    healthy = all(finding["ok"] for finding in found)
    if given.json:
        print(json.dumps({"ok": healthy, "findings": found}))
    else:
        for finding in found:
            print(f"{'ok ' if finding['ok'] else 'BAD'} {finding['what']}: {finding['told']}")
    return 0 if healthy else 1
