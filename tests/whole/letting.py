"""What an operator does once for somebody who submits from elsewhere."""

from __future__ import annotations

import pytest
from tests.served import Project

from pymw.backends.boinc.keys import SigningKey
from pymw.cli import main

EMAIL = "ada@example.org"


def let_in(project: Project, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the operator does for somebody elsewhere, who has the key of an account; the URL of the backend."""
    monkeypatch.setenv("BOINC_ACCOUNT_KEY", project.control.create_account(EMAIL))
    assert main(["boinc", "trust", str(project.directory), SigningKey.mine().told]) == 0
    project.control.grant(EMAIL, "all")
    return f"boinc+{project.url}"
