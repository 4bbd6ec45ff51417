"""A stand-in for an archive of python-build-standalone, and the table that pins it."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from pyboinc.package import standalone

# The interpreter in it is this Python.
PYTHON = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'.encode()


def info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, target, mode
    return made


def archive(path: Path, more: Mapping[tarfile.TarInfo, bytes] | None = None) -> Path:
    """Laid out as the project's own archives are."""
    members = {
        info("python", tarfile.DIRTYPE): b"",
        info("python/bin/python3.13", mode=0o755): PYTHON,
        info("python/bin/python3", tarfile.SYMTYPE, "python3.13"): b"",
        info("python/bin/pip3", mode=0o755): b"#!/bin/sh\n",
        info("python/include/python3.13/Python.h"): b"",
        info("python/lib/libpython3.13.dylib", mode=0o755): b"library" * 100_000,
        info("python/lib/libtcl8.6.dylib", mode=0o755): b"",
        info("python/lib/tcl8.6/init.tcl"): b"",
        info("python/lib/python3.13/os.py"): b"name = 'posix'\n",
        info("python/lib/python3.13/json/__init__.py"): b"x = 1\n",
        info("python/lib/python3.13/test/test_os.py"): b"assert False\n",
        info("python/lib/python3.13/tkinter/__init__.py"): b"",
        info("python/lib/python3.13/site-packages/pip/__init__.py"): b"",
        info("python/lib/python3.13/config-3.13-darwin/libpython3.13.a"): b"",
        info("python/lib/python3.13/lib-dynload/_tkinter.so", mode=0o755): b"",
        info("python/lib/python3.13/lib-dynload/_socket.so", mode=0o755): b"socket",
        info("python/share/man/man1/python3.1"): b"",
        **(more or {}),
    }
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members.items():
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


SHIPPED = {
    "bin/python3": 0o755,
    "lib/libpython3.13.dylib": 0o755,
    "lib/python3.13/json/__init__.pyc": 0o644,
    "lib/python3.13/lib-dynload/_socket.so": 0o755,
    "lib/python3.13/os.pyc": 0o644,
}


def pinned(monkeypatch: pytest.MonkeyPatch, source: Path, url: str) -> None:
    """Have the stand-in in the table, for all kinds of machines."""
    pin = standalone.Pin(hashlib.sha256(source.read_bytes()).hexdigest(), f"{url}/{source.name}")
    monkeypatch.setattr(standalone, "pins", lambda: dict.fromkeys([*standalone.PLATFORMS, "linux-x86_64"], pin))
