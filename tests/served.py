"""A project in a scratch folder, served by a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from boincserver.control import Control
from boincserver.testing import free_port, serving


class Project:
    """A project that is being served, and what tests do with it."""

    def __init__(self, directory: Path, url: str, control: Control, pid: int = 0) -> None:
        self.directory, self.url, self.control, self.pid = directory, url, control, pid
        self.backend = f"boinc:{directory}"
        self._accounts = 0

    def account(self) -> str:
        """The key of a new user."""
        self._accounts += 1
        return self.control.create_account(f"user{self._accounts}@example.org", f"user{self._accounts}")

    def hosts_that_worked(self) -> int:
        return sum(1 for host in self.control.hosts() if host.succeeded)


@contextlib.contextmanager
def served(directory: Path) -> Iterator[Project]:
    """Create a project in `directory` and serve it until the end of the block."""
    url = f"http://127.0.0.1:{free_port()}/"
    create = [sys.executable, "-m", "boincserver", "create", str(directory), "--url", url]
    subprocess.run(create, check=True, capture_output=True, timeout=120)
    with serving(directory) as server:
        yield Project(directory, url, server.control, server.process.pid)
