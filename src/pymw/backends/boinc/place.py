"""Where the work goes: a BOINC project that was reached, and what our code there is signed with."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from boincserver import control
from boincserver.errors import ConfigError
from boincserver.official import OfficialProject
from boincserver.remote import RemoteProject, RemoteServer, account_key
from boincserver.urls import run_page
from pymw.backends.boinc.keys import SigningKey, trusted_others
from pymw.backends.boinc.offer import offer
from pymw.backends.boinc.official import trusted_by
from pymw.backends.boinc.packages import Packages
from pymw.backends.boinc.packing import ADAPTIVE_APP, APP
from pymw.backends.boinc.project import Project
from pymw.backends.boinc.worker_app import Worker, worker_program
from pymw.backends.protocol import RunHandle
from pymw.errors import BackendError
from pymw.volunteer import OUTCOMES

__all__ = ["Place", "local_place", "name_on_server", "official_place", "remote_place"]


@dataclass(frozen=True, slots=True)
class Place:
    """A project, by what to reach it, and what our code there is signed with."""

    name: str  # the backend's URL
    project: Project
    worker: Worker
    directory: Path | None = None  # of a project on this machine, where functions for `agree=` are kept
    one_result_per_user: bool = True  # whether copies of a job go to different users, not only to different hosts
    packages: Packages | None = None  # what makes sets of packages; None: only the project's own machine can
    compares: bool = True  # by our rules; else as the project's operator chose for our application
    replicates: bool = True  # whether it has our application whose results go unchecked once a host is proven
    close: Callable[[], None] = lambda: None
    page: Callable[[str], str] = lambda name: ""  # where a run is shown to people; empty: nowhere
    gather: Callable[[int], object] = lambda batch: None  # makes one batch of what the run is here and over the network


def local_place(directory: Path) -> Place:
    """The project that is served from this directory; it offers our worker program from now on."""
    server = control.connect(directory)
    info = server.info()
    worker = Worker(info.url, SigningKey.of(directory), worker_program(), trusted_others(directory))
    offer(server, worker)
    key = _key_at_hand(info.url)
    return Place(
        f"boinc:{directory}",
        server,
        worker,
        directory,
        info.one_result_per_user,
        packages=Packages(server, worker),
        page=lambda name: run_page(info.url, key, name),
        gather=lambda batch: server.gather_batch(batch, key),
    )


def _key_at_hand(url: str) -> str:
    """Of an account at this project, so that its owner may watch from elsewhere what begins here; else empty."""
    try:
        return account_key(url)
    except ConfigError:
        return ""


def official_place(directory: Path) -> Place:
    """The official project in this directory, whose volunteers have our worker program and trust our key."""
    project = OfficialProject.open(directory)
    try:
        settings = project.settings
        key = SigningKey.of(directory)
        versions = project.versions(APP)
        if not versions:
            raise BackendError(
                f"{directory} has no version of the application {APP} that volunteers could run; say there "
                f"`pymw boinc install-app {directory}`, then bin/xadd and bin/update_versions"
            )
        if key.told not in trusted_by(settings, versions[0]):
            raise BackendError(
                f"volunteers of {directory} do not run code that is signed with your key; say there "
                f"`pymw boinc install-app {directory} --trust {key.told}`, then bin/update_versions"
            )
    except BaseException:
        project.close()
        raise
    worker = Worker(settings.master_url, key, worker_program(), trusted_others(directory))
    by_user = settings.one_result_per_user
    replicates = project.replicates(ADAPTIVE_APP)
    return Place(f"boinc:{directory}", project, worker, directory, by_user, replicates=replicates, close=project.close)


def remote_place(url: str) -> Place:
    """The project at this URL, where the account whose key is at hand may submit jobs of our application."""
    key = account_key(url)
    server = RemoteServer(url, key)
    try:
        project = RemoteProject(server, outputs=(OUTCOMES,))
        worker = Worker(server.master_url(), SigningKey.mine(), worker_program())
        by_user = project.one_result_per_user
    except BaseException:
        server.close()
        raise
    ours = project.is_ours
    return Place(
        f"boinc+{server.url}",
        project,
        worker,
        None,
        by_user,
        compares=ours,
        close=project.close,
        page=lambda name: run_page(server.url, key if ours else "", name),
    )


def name_on_server(run: RunHandle | None, project: str) -> str:
    """What the run is called there: for a named one always the same, and nobody else's."""
    if run is None:
        return f"unnamed_{secrets.token_hex(8)}"
    note = f"boinc run at {project}"
    safe = re.sub(r"[^A-Za-z0-9.-]+", "-", run.name)[:40]
    return run.note(note) or run.note(note, f"{safe}_{secrets.token_hex(4)}") or ""
