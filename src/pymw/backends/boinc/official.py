"""`pymw boinc install-app DIR`: what an official BOINC project needs for PyMW, in the layout of its own tools.

    DIR/apps/pymw/1.00/PLATFORM/   the worker program, whom it trusts, version.xml   ──▶ bin/update_versions
    DIR/project.xml                the application and its platforms                 ──▶ bin/xadd
    DIR/bin/pymw_validate          are these results equal?                          ◀── bin/script_validator

Scripts reach the project by ``boinc+https://``, through its remote job submission.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from pymw.backends.boinc.keys import trust, trusted_file, trusted_others
from pymw.backends.boinc.packing import APP
from pymw.backends.boinc.worker_app import PLATFORMS, worker_program
from pymw.errors import BackendError
from pymw.volunteer import TRUSTED

__all__ = ["install_app", "is_official", "next_steps"]

API_VERSION = "7.5.0"  # from 6.0 on the client and the program share memory by a file, which is what pyboinc does
SCRIPT = "pymw_validate"


def is_official(directory: Path) -> bool:
    """Whether an official BOINC project is in this directory."""
    return (directory / "config.xml").is_file() and (directory / "project.xml").is_file()


def install_app(directory: Path, keys: Sequence[str]) -> Path:
    """Put the application in place for code that is signed with these keys, or that was allowed before.

    Returns the version's folder; it is the newest one where that has the same files.
    """
    if not is_official(directory):
        raise BackendError(f"{directory} is no official BOINC project: it needs a config.xml and a project.xml")
    for key in keys:
        trust(directory, key)
    known = trusted_others(directory)
    if not known:
        raise BackendError("say whose code volunteers may run: --trust KEY, which `pymw boinc key` prints for them")
    files = {"pymw_worker.pyz": worker_program(), TRUSTED: trusted_file(_master_url(directory), known)}
    _describe(directory / "project.xml")
    _write_script(directory / "bin" / SCRIPT)
    return _install(directory / "apps" / APP, files)


def next_steps(directory: Path) -> str:
    """What the operator does now with the official tools."""
    validator = f"script_validator --app {APP} --init_script '{SCRIPT} files' --compare_script '{SCRIPT} files files2'"
    return (
        f"Now, in {directory}:\n"
        f"  bin/xadd; bin/update_versions\n"
        f"  add to the <daemons> of config.xml, and restart the project:\n"
        f"    <daemon><cmd>{escape(validator)}</cmd></daemon>\n"
        f"  bin/manage_privileges grant USERID {APP}      (for each account that is to submit)\n"
        f"No assimilator: results stay until whoever asked for them has them."
    )


def _master_url(directory: Path) -> str:
    path = directory / "config.xml"
    try:
        url = (ET.parse(path).findtext("config/master_url") or "").strip()  # noqa: S314 - the operator's own file
    except ET.ParseError as error:
        raise BackendError(f"{path} cannot be read: {error}") from error
    if not url:
        raise BackendError(f"{path} names no master_url")
    return url


def _install(folder: Path, files: Mapping[str, bytes]) -> Path:
    """A folder for a version with these files, unless the newest one has them."""
    named = {_physical(name, content): (name, content) for name, content in files.items()}
    version = _version_xml({physical: name for physical, (name, _) in named.items()})
    newest = max((_number(path.name) for path in folder.glob("*") if _number(path.name)), default=0)
    if newest and all(_has(folder / _called(newest) / platform, version) for platform in PLATFORMS):
        return folder / _called(newest)
    made = folder / _called(max(newest + 1, 100))
    for platform in PLATFORMS:
        place = made / platform
        place.mkdir(parents=True)
        for physical, (name, content) in named.items():
            (place / physical).write_bytes(content)
            (place / physical).chmod(0o644 if name == TRUSTED else 0o755)
        (place / "version.xml").write_text(version)  # last: without it the tools see no version
    return made


def _has(place: Path, version: str) -> bool:
    path = place / "version.xml"
    return path.is_file() and path.read_text() == version


def _physical(name: str, content: bytes) -> str:
    """A name that no other content has: BOINC's files never change."""
    stem, dot, suffix = name.partition(".")
    return f"{stem}_{hashlib.sha256(content).hexdigest()[:16]}{dot}{suffix}"


def _version_xml(files: Mapping[str, str]) -> str:
    listed = "".join(
        f"  <file>\n    <physical_name>{physical}</physical_name>\n"
        + (f"    <logical_name>{name}</logical_name>\n" if name == TRUSTED else "    <main_program/>\n")
        + "  </file>\n"
        for physical, name in sorted(files.items())
    )
    return f"<version>\n{listed}  <api_version>{API_VERSION}</api_version>\n</version>\n"


def _number(name: str) -> int:
    """Of a version's folder, 102 for 1.02; 0 for any other."""
    found = re.fullmatch(r"(\d{1,4})\.(\d{1,2})", name)
    return int(found[1]) * 100 + int(found[2]) if found else 0


def _called(number: int) -> str:
    return f"{number // 100}.{number % 100:02}"


def _describe(path: Path) -> None:
    """Have the application and its platforms among what `xadd` adds; the rest of the file stays as it is."""
    text = path.read_text("utf-8")
    try:
        root = ET.fromstring(text)  # noqa: S314 - the operator's own file
    except ET.ParseError as error:
        raise BackendError(f"{path} cannot be read: {error}") from error
    known = {(element.tag, (element.findtext("name") or "").strip()) for element in root}
    wanted = [("app", APP, "PyMW tasks"), *(("platform", name, name) for name in PLATFORMS)]
    added = "".join(
        f"    <{tag}>\n        <name>{name}</name>\n"
        f"        <user_friendly_name>{shown}</user_friendly_name>\n    </{tag}>\n"
        for tag, name, shown in wanted
        if (tag, name) not in known
    )
    if added:
        end = text.rindex(f"</{root.tag}>")
        _replace(path, text[:end] + added + text[end:])


def _write_script(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    _replace(path, f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pymw.backends.boinc.comparing "$@"\n')
    path.chmod(0o755)


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, "utf-8")
    if path.exists():
        part.chmod(path.stat().st_mode & 0o777)
    part.replace(path)
