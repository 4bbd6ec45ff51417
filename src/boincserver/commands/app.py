"""Commands for applications and their versions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from boincserver.commands.keys import read_private_key
from boincserver.commands.show import command, group, named, program, show, table
from boincserver.errors import BoincServerError
from boincserver.protocol.documents import version_text

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
    new.add_argument("--validator", help="how results are compared (default: as before; bitwise at first)")
    new.add_argument("--assimilator", help="who takes the outcomes (default: as before; outbox at first)")
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


def _version(text: str | None) -> int | None:
    """BOINC's number of a version: 1.02 is 102."""
    if text is None:
        return None
    major, dot, minor = text.partition(".")
    if not major.isdecimal() or (dot and not (minor.isdecimal() and len(minor) == 2)):
        raise BoincServerError(f"{text!r} is no version; write for example 1.02")
    return 100 * int(major) + int(minor or 0)


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
    before = next((app for app in control.apps() if app["name"] == options.name), {})
    control.ensure_app(
        options.name,
        validator=options.validator or before.get("validator", "bitwise"),
        assimilator=options.assimilator or before.get("assimilator", "outbox"),
    )
    files = [
        AppFile(control.send(path, compressed=options.gzip), name, main_program=n == 0, signature=_signature(path))
        for n, (path, name) in enumerate(map(named, options.files))
    ]
    version = control.ensure_app_version(
        options.name,
        options.platform,
        _version(options.version),
        files,
        plan_class=options.plan_class,
        beta=options.beta,
    )
    number = version_text(version.version_num)
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
