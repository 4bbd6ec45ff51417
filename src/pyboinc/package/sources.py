"""Debian's source packages and wheels, fetched by their ordinary clients and checked against their pins."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from pyboinc.package.cache import alone
from pyboinc.package.recipe import Source

_RELEASES = ("trixie", "bookworm")
COMPAT_RELEASE = "bookworm"
"""The older one, whose libraries ask for the older C library."""
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MIRROR = "http://deb.debian.org/debian"


class SourceError(Exception):
    """A source cannot be had, or is not what the recipe names."""


def fetch(sources: list[Source], directory: Path) -> None:
    """Have all files of these packages in `directory`, by an apt of its own that changes nothing on the system."""
    with alone(directory):
        missing = [source for source in sources if not (directory / source.dsc).exists()]
        if missing:
            environment = _private_apt(directory / "apt", "deb-src")
            _run(["apt-get", "-qq", "update"], directory, environment)
            names = [f"{source.package}={source.version}" for source in missing]
            _run(["apt-get", "-qq", "source", "--download-only", "--only-source", *names], directory, environment)
        for source in sources:
            check(directory / source.dsc, source.dsc_sha256)


def unpack(source: Source, directory: Path, into: Path) -> None:
    """The package's patched source tree as `into`; each file is checked against the .dsc on the way."""
    if any(character.isspace() for character in str(into)):
        raise SourceError(f"configure scripts take no blanks in paths: {into.parent}; name another PYBOINC_CACHE")
    _run(["dpkg-source", "--no-copy", "-q", "-x", str(directory / source.dsc), str(into)], into.parent)


def fetch_binary(package: str, architecture: str, into: Path) -> Path:
    """The files of a binary package of any architecture, unpacked and not installed; `package/release` names one."""
    name, _, release = package.partition("/")
    root = into / f"{name}{release and '-'}{release}-{architecture}"
    with alone(into):
        if root.exists():
            return root
        environment = _private_apt(into / f"apt-{architecture}", "deb", architecture)
        _run(["apt-get", "-qq", "update"], into, environment)
        _run(["apt-get", "-qq", "download", package], into, environment)
        [archive] = into.glob(f"{name}_*_{architecture}.deb")
        new = into / f".{root.name}-{os.getpid()}"
        _run(["dpkg-deb", "-x", archive.name, new.name], into)
        if not (new / "lib").exists():
            (new / "lib").symlink_to("usr/lib")  # as on a whole system of today
        new.rename(root)
    return root


def fetch_wheel(name: str, version: str, sha256: str, directory: Path, *options: str) -> Path:
    """A wheel from the package index; `options` of pip name another machine than this one."""
    with alone(directory):
        if not list(directory.glob(f"{name}-{version}-*.whl")):
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", *options]
            _run([*pip, "--dest", str(directory), f"{name}=={version}"], directory)
        [wheel] = directory.glob(f"{name}-{version}-*.whl")
        check(wheel, sha256)
    return wheel


def check(path: Path, sha256: str) -> None:
    """Refuse a file that is not the pinned one, and forget it."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        path.unlink()
        raise SourceError(f"{path.name} is not what the recipe names: its SHA-256 is {found}, not {sha256}")


def _private_apt(directory: Path, kind: str, architecture: str = "") -> dict[str, str]:
    if not Path(_KEYRING).exists():
        raise SourceError(f"no {_KEYRING}: the interpreter is built on Debian, or where debian-archive-keyring is")
    for part in ("state/lists/partial", "cache/archives/partial", "parts"):
        (directory / part).mkdir(parents=True, exist_ok=True)
    lines = [f"{kind} [signed-by={_KEYRING}] {_MIRROR} {release} main\n" for release in _RELEASES]
    (directory / "sources.list").write_text("".join(lines))
    settings: dict[str, object] = {
        "Dir::State": directory / "state",
        "Dir::Cache": directory / "cache",
        "Dir::Etc::SourceList": directory / "sources.list",
        "Dir::Etc::SourceParts": directory / "parts",
        "Dir::Etc::Parts": directory / "parts",
        "Dir::Etc::Preferences": directory / "no-preferences",
        "Dir::Etc::PreferencesParts": directory / "parts",
        "APT::Sandbox::User": "root",
    }
    if architecture:
        none = directory / "none"
        settings |= {"APT::Architecture": architecture, "APT::Architectures": architecture, "Dir::State::status": none}
        none.touch()
    (directory / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    return {**os.environ, "APT_CONFIG": str(directory / "apt.conf")}


def _run(command: list[str], directory: Path, environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise SourceError(
            f"{command[0]} is not installed: what comes from Debian is fetched on Debian or Ubuntu"
        ) from error
    if done.returncode != 0:
        raise SourceError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
