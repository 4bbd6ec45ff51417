"""Whether the interpreters that a project gives to volunteers can read a function's source at all."""

from __future__ import annotations

import ast
import io
import sys
import zipfile

from pymw.bundle import Bundle
from pymw.errors import BackendError

__all__ = ["check_readable"]


def check_readable(bundle: Bundle, python: str, name: str) -> None:
    """BackendError where the source has syntax that is newer than Python `python` (3.13; empty: nothing is known)."""
    major, _, minor = python.partition(".")
    if not minor or (int(major), int(minor)) >= sys.version_info[:2]:
        return
    with zipfile.ZipFile(io.BytesIO(bundle.data)) as archive:
        for path in archive.namelist():
            if path.endswith(".py"):
                try:
                    ast.parse(archive.read(path), path, feature_version=(int(major), int(minor)))
                except SyntaxError as error:
                    raise BackendError(
                        f"{name} cannot run there: this project's volunteers have Python {python}, which cannot read "
                        f"{path.removeprefix('modules/')} near line {error.lineno}: {error.msg}"
                    ) from None
