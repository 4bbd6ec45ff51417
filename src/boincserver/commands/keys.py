"""Commands about the signing key: one that is kept here, and one that is kept on another machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from boincserver.commands.show import command, group, program, show
from boincserver.errors import BoincServerError, KeyRotationError, SigningKeyMissing

__all__ = ["add", "read_private_key"]


def add(commands: Any) -> None:
    """Declare them."""
    keys = group(commands, "keys", "the signing key")
    command(keys, "show", _show, "print the public key that clients trust")
    command(keys, "rotate", _rotate, "replace the signing key; clients accept the new one by the old one's signature")
    request = command(
        keys, "request", _request, "write down what a new key is to sign on the machine that has the old one"
    )
    request.add_argument("file", metavar="FILE", help="what to bring to that machine")
    answer = program(keys, "answer", _answer, "make a new key, and sign what the old one signed; no project is needed")
    answer.add_argument("key", metavar="KEY", help="the old code_sign_private; the new one is written to KEY.new")
    answer.add_argument("file", metavar="FILE", help="from `keys request`; the answer is written to FILE.answer")
    install = command(keys, "install", _install, "take the new key that the other machine made")
    install.add_argument("file", metavar="ANSWER", help="the FILE.answer of that machine")


def read_private_key(path: str) -> Any:
    """The signing key in this file."""
    from boincserver.signing import PrivateKey

    try:
        return PrivateKey.parse(Path(path).expanduser().read_text("ascii"))
    except ValueError as error:
        raise BoincServerError(f"{path} is no signing key: {error}") from error


def _show(options: argparse.Namespace) -> int:
    from boincserver.project import Project

    text = Project.open(options.directory).public_key.text()
    return show(options, {"public_key": text}, text.rstrip())


def _rotate(options: argparse.Namespace) -> int:
    from boincserver.keys import rotate
    from boincserver.project import Project

    project = Project.open(options.directory)
    if not _has_key(project.directory):
        raise SigningKeyMissing(
            f"the signing key of {project.directory} is kept on another machine; begin with: "
            f"boincserver keys request {project.directory} FILE"
        )
    with project.lock():  # a running server holds the key in memory
        count = rotate(project)
    return show(
        options,
        {"signed_again": count},
        f"The key is new; {count} application versions are signed again. Clients that trust the old key accept it.\n"
        f"The old private key is gone. Keep {project.directory / 'keys' / 'former'}: it vouches for the new one.",
    )


def _has_key(directory: Path) -> bool:
    return (directory / "keys" / "code_sign_private").is_file()


def _new(path: Path) -> Path:
    if path.exists():
        raise KeyRotationError(f"{path} exists; it may be worth something, so it is not replaced")
    return path


def _request(options: argparse.Namespace) -> int:
    from boincserver.keys import request
    from boincserver.project import Project

    project = Project.open(options.directory)
    path = _new(Path(options.file).expanduser())
    signed = request(project)
    signed.write(path)
    return show(
        options,
        {"file": str(path), "signatures": len(signed.signatures)},
        f"{path} names {len(signed.signatures)} files.\n"
        f"On the machine that has the key: boincserver keys answer KEY {path.name}",
    )


def _answer(options: argparse.Namespace) -> int:
    from boincserver import signing
    from boincserver.keys import Signed, renew
    from boincserver.project import write_secret

    old = read_private_key(options.key)
    source, place = Path(options.file).expanduser(), Path(options.key).expanduser()
    target, secret = _new(source.with_name(f"{source.name}.answer")), _new(place.with_name(f"{place.name}.new"))
    new = signing.generate()
    renewal = renew(Signed.read(source), old, new)
    write_secret(secret, new.text())
    renewal.write(target)
    return show(
        options,
        {"url": renewal.url, "signatures": len(renewal.signatures), "answer": str(target), "key": str(secret)},
        f"{secret} is the new key of {renewal.url}; keep it as safe as the old one, which signs nothing from now on.\n"
        f"On the server, while it is stopped: boincserver keys install DIR {target.name}",
    )


def _install(options: argparse.Namespace) -> int:
    from boincserver.keys import Renewal, install
    from boincserver.project import Project

    project = Project.open(options.directory)
    renewal = Renewal.read(Path(options.file).expanduser())
    if _has_key(project.directory):
        raise KeyRotationError(f"the old key lies in {project.directory / 'keys'}; move it away, or use: keys rotate")
    with project.lock():
        count = install(project, renewal)
    return show(
        options,
        {"signed_again": count},
        f"The key is new; {count} application versions have new signatures. Clients that trust the old key accept it.",
    )
