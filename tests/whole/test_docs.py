"""Docs are code: what README.md and docs/ show is run here as a reader would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from boincserver import config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[pytest.param]:
    found = []
    for page in PAGES:
        for number, match in enumerate(match for match in BLOCK.finditer(page.read_text()) if match[1] == kind):
            found.append(pytest.param(match[2], id=f"{page.name}-{number}"))
    return found


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code: str, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


COMMAND = re.compile(r"^(boincserver|pymw|pacman-ctf)((?: [a-z][a-z-]*)*)([^#|\n]*)", re.MULTILINE)


@pytest.mark.parametrize("text", blocks("sh"))
def test_commands_and_options_exist(text: str) -> None:
    for program, command, rest in COMMAND.findall(text):
        run = [str(Path(sys.executable).parent / program), *command.split(), "--help"]
        told = subprocess.run(run, capture_output=True, text=True, timeout=60)
        assert told.returncode == 0, f"{program} {command}: {told.stderr}"
        for option in re.findall(r"(?<=\s)--[a-z][a-z-]+", rest):
            assert option in told.stdout, f"{program} {command} has no {option}"


@pytest.mark.parametrize("text", blocks("toml"))
def test_settings_are_accepted(text: str, tmp_path: Path) -> None:
    (tmp_path / "project.toml").write_text(text)
    config.load(tmp_path / "project.toml")


def test_the_readme_carries_a_newcomer() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text
    for link in re.findall(r"\]\(([^)h][^)]*)\)", text):
        assert (ROOT / link).exists(), link
