"""`server_status.php?xml=1`, read as the sites that watch projects read it."""

from __future__ import annotations

import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path

from boincserver import public_status
from boincserver.control import Control
from boincserver.project import Project
from boincserver.public_status import PublicStatus
from boincserver.records import Job
from boincserver.testing import SimulatedJob, SimulatedVolunteer

LIMIT = 60.0


def shout(job: SimulatedJob) -> dict[str, bytes]:
    return {"out": job.inputs["in"].upper()}


def text(tree: ET.Element, path: str) -> str:
    found = tree.findtext(path)
    assert found is not None, path
    return found


def test_what_waits_and_who_computes(control: Control, upper: str, directory: Path) -> None:
    url = control.info().url
    control.create_account("idle@example.org")
    batch = control.create_batch(upper, "b")
    control.create_jobs(batch.id, [Job(f"j{n}", {"in": b"x"}, {"out": 10}) for n in range(3)])
    with SimulatedVolunteer(url, control.create_account("v@example.org"), shout) as volunteer:
        volunteer.contact()
        with urllib.request.urlopen(f"{url}server_status.php?xml=1", timeout=LIMIT) as reply:
            tree = ET.fromstring(reply.read())
        sent = int(text(tree, "database_file_states/results_in_progress"))
        assert sent > 0
        assert int(text(tree, "database_file_states/results_ready_to_send")) == 3 - sent
        assert text(tree, "database_file_states/users_registered_in_past_24_hours") == "2"
        assert text(tree, "database_file_states/hosts_registered_in_past_24_hours") == "1"
        assert text(tree, "database_file_states/users_with_credit") == "0"
        assert text(tree, "daemon_status/daemon/host") == "127.0.0.1"
        assert text(tree, "daemon_status/daemon/status") == "running"
        while volunteer.step() or volunteer.finished:
            pass
    database = Project.open(directory).open_database()
    try:
        now = 2_000_000_000.0
        status = PublicStatus(database, lambda: now, "h")
        document = status.document()
        tree = ET.fromstring(document)
        assert text(tree, "database_file_states/users_registered_in_past_24_hours") == "0"
        assert text(tree, "database_file_states/users_with_credit") == "1"
        assert text(tree, "database_file_states/hosts_with_credit") == "1"
        assert float(text(tree, "database_file_states/current_floating_point_speed")) > 0
        (app,) = tree.findall("database_file_states/tasks_by_app/app")
        assert [text(app, name) for name in ("name", "unsent", "in_progress", "users")] == [upper, "0", "0", "1"]
        assert 0 < float(text(app, "min_runtime")) <= float(text(app, "avg_runtime"))

        # However many ask, it is counted once a minute.
        control.create_jobs(batch.id, [Job("later", {"in": b"x"}, {"out": 10})])
        assert status.document() == document
        now += public_status.FRESH
        assert text(ET.fromstring(status.document()), "database_file_states/results_ready_to_send") == "1"
    finally:
        database.close()
