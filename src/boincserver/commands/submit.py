"""Commands of the submitter: applications, jobs, batches."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from boincserver.commands.keys import read_private_key
from boincserver.commands.show import command, group, positive, program, show, table
from boincserver.errors import BoincServerError

__all__ = ["add"]

SIGNATURE = ".signature"  # behind the name of a file: what `app sign` writes and `app add` reads


def add(commands: Any) -> None:
    """Declare them."""
    app = group(commands, "app", "applications and their versions")
    new = command(
        app, "add", _app_add, "have an application version with these files, signed; the first is its program"
    )
    new.add_argument("name", metavar="NAME", help="the application's name")
    new.add_argument(
        "files", metavar="FILE", nargs="+", help="the main program, then further files (PATH or PATH=NAME)"
    )
    new.add_argument("--platform", default="x86_64-pc-linux-gnu", help="BOINC's name of it (default: %(default)s)")
    new.add_argument("--version", default=None, metavar="1.02", help="the version's number (default: the next one)")
    new.add_argument("--gzip", action="store_true", help="let clients fetch the files compressed")
    new.add_argument("--plan-class", default="", help="the version's plan class (default: none)")
    new.add_argument("--beta", action="store_true", help="for those volunteers alone who allow it")
    new.add_argument("--validator", default="bitwise", help="how results are compared (default: %(default)s)")
    new.add_argument("--assimilator", default="outbox", help="who takes the outcomes (default: %(default)s)")
    signer = program(
        app, "sign", _app_sign, "sign files with a key that no server has; write FILE.signature beside each"
    )
    signer.add_argument("key", metavar="KEY", help="the project's code_sign_private")
    signer.add_argument("files", metavar="FILE", nargs="+", help="what `app add` is to be given")
    command(app, "list", _app_list, "applications and their newest versions")
    deprecate = command(app, "deprecate", _app_deprecate, "send no more of an application's versions up to this one")
    deprecate.add_argument("name", metavar="NAME", help="the application's name")
    deprecate.add_argument(
        "--version", required=True, metavar="1.02", help="the last version that is not sent any more"
    )

    job = group(commands, "job", "jobs")
    create = command(job, "create", _job_create, "create jobs; without --input as JSON lines from standard input")
    create.add_argument("app", metavar="APP", help="the application's name")
    create.add_argument("--batch", default="jobs", help="the batch's name (default: %(default)s)")
    create.add_argument("--name", default="job", help="how the names of jobs begin (default: %(default)s)")
    create.add_argument("--input", action="append", metavar="PATH[=NAME]", help="an input file of every job")
    create.add_argument("--output", action="append", metavar="NAME[=BYTES]", help="an output (default: out=100000000)")
    create.add_argument(
        "--count", type=positive, default=1, help="how many jobs (default: 1); {n} in --command is the number"
    )
    create.add_argument("--command", dest="command_line", default="", help="arguments for the program")
    create.add_argument("--quorum", type=positive, default=1, help="how many results are to be compared (default: 1)")
    create.add_argument("--copy-files", action="store_true", help="real files under their names, for any program")

    batch = group(commands, "batch", "batches of jobs")
    command(batch, "list", _batch_list, "batches and how far they are")
    cancel = command(batch, "cancel", _batch_cancel, "end what is not over, also on hosts")
    cancel.add_argument("name", metavar="NAME", help="the batch's name")
    fetch = command(batch, "fetch", _batch_fetch, "write outcomes into a folder, and let the server forget them")
    fetch.add_argument("name", metavar="NAME", help="the batch's name")
    fetch.add_argument("folder", metavar="FOLDER", help="where to: FOLDER/JOB/OUTPUT, or FOLDER/JOB/error.json")


def _version(text: str | None) -> int | None:
    """BOINC's number of a version: 1.02 is 102."""
    if text is None:
        return None
    major, dot, minor = text.partition(".")
    if not major.isdecimal() or (dot and not (minor.isdecimal() and len(minor) == 2)):
        raise BoincServerError(f"{text!r} is no version; write for example 1.02")
    return 100 * int(major) + int(minor or 0)


def _named(text: str) -> tuple[str, str]:
    """PATH or PATH=NAME."""
    path, equals, name = text.rpartition("=")
    return (path, name) if equals else (text, Path(text).name)


def _app_sign(options: argparse.Namespace) -> int:
    from boincserver.signing import sign

    key = read_private_key(options.key)
    written = []
    for name in options.files:
        path = Path(name).expanduser()
        target = path.with_name(f"{path.name}{SIGNATURE}")
        target.write_text(sign(path.read_bytes(), key), "ascii")
        written.append(str(target))
    return show(options, {"signatures": written}, "\n".join(written))


def _signature(file: str) -> str:
    path = Path(file).expanduser()
    beside = path.with_name(f"{path.name}{SIGNATURE}")
    return beside.read_text("ascii") if beside.exists() else ""


def _app_add(options: argparse.Namespace) -> int:
    from boincserver.control import AppFile, connect

    control = connect(options.directory)
    control.ensure_app(options.name, validator=options.validator, assimilator=options.assimilator)
    files = [
        AppFile(control.send(path, compressed=options.gzip), name, main_program=n == 0, signature=_signature(path))
        for n, (path, name) in enumerate(map(_named, options.files))
    ]
    version = control.ensure_app_version(
        options.name,
        options.platform,
        _version(options.version),
        files,
        plan_class=options.plan_class,
        beta=options.beta,
    )
    number = f"{version.version_num // 100}.{version.version_num % 100:02}"
    document = {"app": options.name, "platform": options.platform, "version": number, "created": version.created}
    what = "is signed and ready" if version.created else "was there already, with the same files"
    return show(options, document, f"{options.name} {number} for {options.platform} {what}.")


def _app_list(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    apps = connect(options.directory).apps()
    rows = [(a["name"], a["platform"], a["version"], a["validator"], a["assimilator"]) for a in apps]
    return show(
        options, {"apps": apps}, table(["application", "platform", "version", "validator", "assimilator"], rows)
    )


def _app_deprecate(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    count = connect(options.directory).deprecate(options.name, _version(options.version) or 0)
    return show(options, {"deprecated": count}, f"{count} versions of {options.name} are not sent any more.")


def _job_create(options: argparse.Namespace) -> int:
    from boincserver.control import Job, connect

    control = connect(options.directory)
    inputs = {name: control.put_file(path) for path, name in map(_named, options.input or [])}
    outputs = dict(_output(text) for text in options.output or ["out=100000000"])
    if options.input is None and options.count == 1 and not sys.stdin.isatty():
        jobs = [_described(line, number) for number, line in _lines()]
    else:
        jobs = [
            Job(
                f"{options.name}_{n}",
                inputs,
                outputs,
                options.command_line.replace("{n}", str(n)),
                min_quorum=options.quorum,
                copy_files=options.copy_files,
            )
            for n in range(options.count)
        ]
    batch = control.create_batch(options.app, options.batch)
    created = control.create_jobs(batch.id, jobs)
    there = len(jobs) - created
    kept = f" {there} were there already." if there else ""
    return show(
        options, {"created": created, "batch": batch.id}, f"{created} jobs created in batch {batch.name}.{kept}"
    )


def _output(text: str) -> tuple[str, int]:
    name, equals, size = text.partition("=")
    if equals and not size.isdecimal():
        raise BoincServerError(f"{text!r}: an output is NAME or NAME=BYTES")
    return name, int(size or 100_000_000)


def _lines() -> Iterator[tuple[int, str]]:
    yield from ((number, line) for number, line in enumerate(sys.stdin, start=1) if line.strip())


def _described(line: str, number: int) -> Any:
    """A job from a line of JSON: the fields of `records.Job`; an input as text is its content."""
    from boincserver.control import Job
    from boincserver.job_check import check_job

    try:
        document = json.loads(line)
        document["inputs"] = {name: text.encode() for name, text in document.get("inputs", {}).items()}
        job = Job(**document)
        check_job(job)
        return job
    except (BoincServerError, ValueError, TypeError, AttributeError) as error:
        raise BoincServerError(f"line {number} of standard input describes no job: {error}") from error


def _batches(control: Any) -> list[Mapping[str, Any]]:
    return list(control.batches())


def _find(control: Any, name: str) -> int:
    for batch in _batches(control):
        if batch["name"] == name:
            return int(batch["id"])
    raise BoincServerError(f"there is no batch {name!r}; see: boincserver batch list DIR")


def _batch_list(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    batches = _batches(connect(options.directory))
    rows = [(b["id"], b["name"], b["app"], b["jobs"], b["over"], b["failed"], b["to_fetch"]) for b in batches]
    return show(
        options, {"batches": batches}, table(["id", "batch", "application", "jobs", "over", "failed", "to fetch"], rows)
    )


def _batch_cancel(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    control = connect(options.directory)
    count = control.cancel_jobs(_find(control, options.name))
    return show(options, {"cancelled": count}, f"{count} jobs cancelled.")


def _batch_fetch(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    control = connect(options.directory)
    batch = _find(control, options.name)
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
