"""The supervisor runs on a host's own Python too: from 3.9 on, the standard library only, and quickly."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pyboinc

SOURCES = sorted(Path(pyboinc.__file__).parent.glob("*.py"))
COSTLY = {
    "pyboinc.sandbox",
    "argparse",
    "asyncio",
    "contextlib",
    "dataclasses",
    "inspect",
    "json",
    "pathlib",
    "re",
    "subprocess",
    "typing",
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_syntax_of_python_3_9(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 9))


def test_start_needs_nothing_costly() -> None:
    code = "import sys, pyboinc.supervisor, pyboinc.api; print(*sys.modules)"
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, {str(SOURCES[0].parents[1])!r}); {code}",
    ]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert not COSTLY & loaded


def test_the_facade_is_whole() -> None:
    from pyboinc import api

    own = {name for name, value in vars(api).items() if getattr(value, "__module__", "") == api.__name__}
    public = {name for name in own | {"checkpoint"} if not name.startswith("_")} - {"Session"}
    assert pyboinc.__all__ == sorted(public)
    for name in pyboinc.__all__:
        assert getattr(pyboinc, name) is getattr(api, name)
        assert getattr(api, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'boinc_init'"):
        _ = pyboinc.boinc_init
