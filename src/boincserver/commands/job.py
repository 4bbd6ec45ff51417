"""Commands for jobs: create, look at and end them one by one."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from boincserver.commands.batch import find
from boincserver.commands.show import command, group, named, positive, show, table
from boincserver.commands.states import exit_of, in_words
from boincserver.errors import BoincServerError

__all__ = ["add"]

_STATES: Final = ("unsent", "in progress", "over")


def add(commands: Any) -> None:
    """Declare them."""
    job = group(commands, "job", "jobs")
    create = command(job, "create", _job_create, "create jobs; without --input as JSON lines from standard input")
    create.add_argument("app", metavar="APP", help="the application's name")
    _batch_option(create)
    create.add_argument("--name", help="how the names of jobs begin (default: job)")
    create.add_argument("--input", action="append", metavar="PATH[=NAME]", help="an input file of every job")
    create.add_argument("--output", action="append", metavar="NAME[=BYTES]", help="an output (default: out=100000000)")
    create.add_argument("--count", type=positive, help="how many jobs (default: 1); {n} in --command is the number")
    create.add_argument("--command", dest="command_line", default="", help="arguments for the program")
    create.add_argument("--quorum", type=positive, help="how many results are to be compared (default: 1)")
    create.add_argument("--copy-files", action="store_true", help="real files under their names, for any program")

    listing = command(job, "list", _job_list, "where each job of a batch is")
    _batch_option(listing)
    listing.add_argument("--state", choices=_STATES, help="those alone (default: all)")
    one = command(job, "show", _job_show, "every copy of a job: where it is, how it ended and what it said")
    one.add_argument("name", metavar="NAME", help="the job's name")
    _batch_option(one)
    cancel = command(job, "cancel", _job_cancel, "end these jobs if they are not over, also on hosts")
    cancel.add_argument("names", metavar="NAME", nargs="+", help="the jobs' names")
    _batch_option(cancel)


def _batch_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", default="jobs", help="the batch's name (default: %(default)s)")


def _job_create(options: argparse.Namespace) -> int:
    from boincserver.control import Job, connect

    control = connect(options.directory)
    inputs = {name: control.put_file(path) for path, name in map(named, options.input or [])}
    outputs = dict(_output(text) for text in options.output or ["out=100000000"])
    if options.input is None and options.count is None and not sys.stdin.isatty():
        said = [
            option for option in ("name", "output", "command_line", "quorum", "copy_files") if getattr(options, option)
        ]
        if said:
            names = ", ".join(f"--{option.removesuffix('_line').replace('_', '-')}" for option in said)
            raise BoincServerError(f"{names}: jobs as JSON lines say this themselves; for jobs like that say --count")
        jobs = [_described(line, number) for number, line in _lines()]
        if not jobs:
            raise BoincServerError("standard input describes no job; for jobs that are alike say --count")
    else:
        jobs = [
            Job(
                f"{options.name or 'job'}_{n}",
                inputs,
                outputs,
                options.command_line.replace("{n}", str(n)),
                min_quorum=options.quorum or 1,
                copy_files=options.copy_files,
            )
            for n in range(options.count or 1)
        ]
    batch = control.create_batch(options.app, options.batch)
    created = control.create_jobs(batch.id, jobs)
    there = len(jobs) - created
    if there:
        here = {state.name for state in control.job_states(batch.id)}
        elsewhere = [job.name for job in jobs if job.name not in here]
        if elsewhere:
            raise BoincServerError(
                f"{created} jobs created; {len(elsewhere)} are in another batch already, the first of them "
                f"{elsewhere[0]}: give them other names with --name"
            )
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


def _job_list(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    control = connect(options.directory)
    states = control.job_states(find(control, options.batch))
    listed = [state for state in states if options.state in (None, state.state)]
    rows = [(s.name, s.state, " ".join(map(str, s.hosts)), _when(s.deadline)) for s in listed]
    document = [{"name": s.name, "state": s.state, "hosts": s.hosts, "deadline": s.deadline} for s in listed]
    return show(options, {"jobs": document}, table(["job", "state", "on hosts", "deadline"], rows))


def _job_show(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    control = connect(options.directory)
    copies = control.copies(find(control, options.batch), options.name)
    if not copies:
        raise BoincServerError(
            f"there is no job {options.name!r} in the batch {options.batch!r}; see: boincserver job list DIR"
        )
    rows = [
        (
            c.result_name,
            c.host_id or "",
            in_words(c.server_state, c.outcome, c.validate_state),
            exit_of(c.outcome, c.exit_status),
            _when(c.deadline),
        )
        for c in copies
    ]
    said = [f"\n{c.result_name} wrote to standard error:\n{c.stderr.rstrip()}" for c in copies if c.stderr.strip()]
    document = [
        {
            "name": c.result_name,
            "host": c.host_id,
            "state": c.server_state.name,
            "outcome": c.outcome.name,
            "validation": c.validate_state.name,
            "exit_status": c.exit_status,
            "deadline": c.deadline,
            "stderr": c.stderr,
            "outputs": {name: len(data) for name, data in c.outputs.items()},
        }
        for c in copies
    ]
    return show(
        options, {"copies": document}, "\n".join([table(["copy", "host", "state", "exit", "deadline"], rows), *said])
    )


def _job_cancel(options: argparse.Namespace) -> int:
    from boincserver.control import connect

    control = connect(options.directory)
    count = control.cancel_jobs(find(control, options.batch), options.names)
    return show(options, {"cancelled": count}, f"{count} jobs cancelled.")


def _when(deadline: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(deadline)) if deadline else ""
