"""`pymw boinc install-app DIR`: what an official BOINC project needs for PyMW, in the layout of its own tools.

    DIR/apps/pymw/1.00/PLATFORM/   the worker program, whom it trusts, version.xml   ──▶ bin/update_versions
    DIR/project.xml                the application and its platforms                 ──▶ bin/xadd
    DIR/bin/pymw_validator         are these results equal?                          ◀── bin/start
    DIR/bin/pymw_assimilator       what came of the jobs                             ◀── bin/start
    DIR/config.xml                 both among the <daemons>

Scripts on this machine reach the project by ``boinc:DIR``, others by ``boinc+https://``, its remote job submission.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path

from boincserver.errors import BoincServerError
from boincserver.official import Settings, is_official
from boincserver.protocol.text import fields, sections
from pymw.backends.boinc.keys import FILE, SigningKey, trust, trusted_file, trusted_others
from pymw.backends.boinc.packing import ADAPTIVE_APP, APP
from pymw.backends.boinc.worker_app import PLATFORMS, worker_program
from pymw.errors import BackendError
from pymw.volunteer import TRUSTED

__all__ = ["install_app", "next_steps", "trusted_by"]

API_VERSION = "7.5.0"  # from 6.0 on the client and the program share memory by a file, which is what pyboinc does
APPS = {APP: "PyMW tasks", ADAPTIVE_APP: "PyMW tasks, checked until trusted"}
DAEMONS = {"pymw_validator": "validate", "pymw_assimilator": "assimilate"}
BACKUP = "config.xml.before-pymw"


def install_app(directory: Path, keys: Sequence[str]) -> Path:
    """Put the application in place for code that is signed with these keys, or that was allowed before.

    With no key at all that is the project's own, made now: whoever may run scripts on its machine as its user signs
    with that. Returns the version's folder; it is the newest one where that has the same files.
    """
    if not is_official(directory):
        raise BackendError(f"{directory} is no official BOINC project: it needs a config.xml and a project.xml")
    url = _master_url(directory)
    _describe(directory / "project.xml")
    for key in keys:
        trust(directory, key)
    if not trusted_others(directory) or (directory / "keys" / FILE).exists():
        trust(directory, SigningKey.of(directory).told)
    files = {"pymw_worker.pyz": worker_program(), TRUSTED: trusted_file(url, trusted_others(directory))}
    for script, command in DAEMONS.items():
        _write_script(directory / "bin" / script, command, directory)
    _add_daemons(directory / "config.xml")
    made = [_install(directory / "apps" / app, files) for app in APPS]
    return made[0]


def next_steps(directory: Path) -> str:
    """What the operator does now with the official tools."""
    return (
        f"Now, in {directory}:\n"
        f"  bin/xadd; bin/update_versions\n"
        f"  bin/stop; bin/start      (it runs {' and '.join(DAEMONS)} from now on)\n"
        f"Scripts on this machine, run by the project's user: Master('boinc:{directory}').\n"
        f"For scripts elsewhere, --trust their key too, and for each account that is to submit\n"
        f"  bin/manage_privileges grant USERID {APP}\n"
        f"For quorum='adaptive', let {ADAPTIVE_APP} have a target_nresults of 2 (ops pages, Manage applications)."
    )


def trusted_by(settings: Settings, document: str) -> Sequence[str]:
    """The keys whose code runs where this application version is, from the file that its document names."""
    names = [name for info in sections(document, "file_info") if (name := fields(info).get("name", ""))]
    for name in names:
        if name.startswith(f"{TRUSTED}_"):
            try:
                told = json.loads(settings.downloads.path(name).read_bytes())
                return [str(key) for key in told["keys"]] if told["project"] == settings.master_url else []
            except (OSError, ValueError, KeyError, TypeError):
                return []
    return []


def _master_url(directory: Path) -> str:
    try:
        return Settings.master_url_of(directory)
    except BoincServerError as error:
        raise BackendError(str(error)) from error


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
    apps = [("app", app, shown) for app, shown in APPS.items()]
    wanted = [*apps, *(("platform", name, name) for name in PLATFORMS)]
    added = "".join(
        f"    <{tag}>\n        <name>{name}</name>\n"
        f"        <user_friendly_name>{shown}</user_friendly_name>\n    </{tag}>\n"
        for tag, name, shown in wanted
        if (tag, name) not in known
    )
    if added:
        end = text.rindex(f"</{root.tag}>")
        _replace(path, text[:end] + added + text[end:])


def _write_script(path: Path, command: str, directory: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "pymw", "boinc", command, str(directory.absolute())]
    _replace(path, f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    path.chmod(0o755)


def _add_daemons(path: Path) -> None:
    """Have our daemons among those that `bin/start` runs; the file is kept as it was."""
    text = path.read_text("utf-8")
    commands = [command.split() for each in ET.fromstring(text).iter("daemon") if (command := each.findtext("cmd"))]  # noqa: S314
    known = {Path(words[0]).name for words in commands if words}
    named = " ".join(f"--app {app}" for app in APPS)
    added = "".join(
        f"        <daemon>\n            <cmd>{script} {named} -d 3</cmd>\n        </daemon>\n"
        for script in DAEMONS
        if script not in known
    )
    if not added:
        return
    shutil.copy2(path, path.with_name(BACKUP))
    _replace(path, _with_daemons(text, added))


def _with_daemons(text: str, added: str) -> str:
    """The text of config.xml with these daemons behind those that are there."""
    text = re.sub(r"<daemons\s*/>", "<daemons></daemons>", text)
    if "</daemons>" not in text:
        head, _, tail = text.rpartition("</boinc>")
        text = f"{head}<daemons></daemons>\n</boinc>{tail}"
    head, _, tail = text.rpartition("</daemons>")
    return f"{head.rstrip()}\n{added}    </daemons>{tail}"


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, "utf-8")
    if path.exists():
        part.chmod(path.stat().st_mode & 0o777)
    part.replace(path)
