"""An official project's folder: our application and our daemons as its tools expect them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from tests import errands
from tests.served import served

import pymw
from boincserver.control import AppFile
from boincserver.testing import SimulatedVolunteer
from pymw import Master
from pymw.backends.boinc.keys import SigningKey, trusted_others
from pymw.backends.boinc.worker_app import PLATFORMS
from pymw.cli import main

LIMIT = 120.0
OURS = [f"{name} --app pymw --app pymw-adaptive -d 3" for name in ("pymw_validator", "pymw_assimilator")]
CONFIG = """<?xml version="1.0" ?>
<boinc>
    <config>
        <master_url>{url}</master_url>
        <download_dir>/home/boincadm/projects/pi/download</download_dir>
        <uldl_dir_fanout>1024</uldl_dir_fanout>
    </config>
    <daemons>
        <daemon><cmd>feeder -d 3</cmd></daemon>
    </daemons>
</boinc>
"""
PROJECT = """<boinc>
    <!-- ours -->
    <platform>
        <name>x86_64-pc-linux-gnu</name>
        <user_friendly_name>Linux running on an AMD x86_64 or Intel EM64T CPU</user_friendly_name>
    </platform>
    <app>
        <name>uppercase</name>
        <user_friendly_name>upperCASE</user_friendly_name>
    </app>
</boinc>
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))


def official(directory: Path, url: str = "http://boinc.example.org/pi/") -> Path:
    """What the official tools leave behind, as far as we touch it."""
    for folder in ("apps", "bin", "keys"):
        (directory / folder).mkdir(parents=True)
    (directory / "config.xml").write_text(CONFIG.format(url=url))
    (directory / "project.xml").write_text(PROJECT)
    return directory


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return official(tmp_path / "pi")


def install(directory: Path, *keys: str) -> int:
    words = [word for key in keys for word in ("--trust", key)]
    return main(["boinc", "install-app", str(directory), *words])


def test_the_application_is_in_place(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(directory, SigningKey.mine().told) == 0
    told = capsys.readouterr().out
    assert "bin/xadd; bin/update_versions" in told
    for script in ("pymw_validator", "pymw_assimilator"):
        assert script in told
        assert (directory / "bin" / script).stat().st_mode & 0o111
    assert sorted(path.name for path in (directory / "apps/pymw/1.00").iterdir()) == sorted(PLATFORMS)
    for platform in PLATFORMS:
        place = directory / "apps/pymw/1.00" / platform
        version = ET.parse(place / "version.xml").getroot()
        names = [file.findtext("physical_name") for file in version.findall("file")]
        assert sorted([*names, "version.xml"]) == sorted(path.name for path in place.iterdir())
        (program,) = [file.findtext("physical_name") for file in version.findall("file") if file.find("main_program") is not None]  # fmt: skip
        assert (place / program).stat().st_mode & 0o111
        assert [file.findtext("logical_name") for file in version.findall("file")].count("trusted_keys") == 1
    apps = ET.parse(directory / "project.xml").getroot()
    assert [app.findtext("name") for app in apps.findall("app")] == ["uppercase", "pymw", "pymw-adaptive"]
    assert sorted(platform.findtext("name") for platform in apps.findall("platform")) == sorted(PLATFORMS)
    assert "<!-- ours -->" in (directory / "project.xml").read_text()


def test_the_daemons_are_among_those_of_the_project_once(directory: Path) -> None:
    def commands() -> list[str | None]:
        return [daemon.findtext("cmd") for daemon in ET.parse(directory / "config.xml").getroot().iter("daemon")]

    before = (directory / "config.xml").read_text()
    for _ in range(2):
        assert install(directory, SigningKey.mine().told) == 0
        assert commands() == ["feeder -d 3", *OURS]
    assert (directory / "config.xml.before-pymw").read_text() == before
    start, rest = before.split("<daemons>")
    for without in ("", "<daemons/>", "<daemons />", "<daemons> </daemons>"):
        (directory / "config.xml").write_text(start + without + rest.partition("</daemons>")[2])
        assert install(directory) == 0
        assert commands() == OURS
        assert (directory / "config.xml").read_text().count("</daemons>") == 1


def test_without_a_key_the_projects_own_is_trusted(directory: Path) -> None:
    assert install(directory) == 0
    own = SigningKey.of(directory).told
    assert trusted_others(directory) == [own]
    assert install(directory, SigningKey.mine().told) == 0
    assert trusted_others(directory) == [own, SigningKey.mine().told]


def test_with_a_key_no_other_is_made(directory: Path) -> None:
    assert install(directory, SigningKey.mine().told) == 0
    assert trusted_others(directory) == [SigningKey.mine().told]
    assert not (directory / "keys/pymw_signing_key.pem").exists()


def test_installing_again_makes_a_version_only_where_something_changed(directory: Path) -> None:
    mine = SigningKey.mine().told
    other = mine[0] + ("2" if mine[1] == "1" else "1") + mine[2:]
    assert install(directory, mine) == 0
    before = (directory / "project.xml").read_text()
    assert install(directory) == 0
    assert install(directory, mine) == 0
    assert [path.name for path in (directory / "apps/pymw").iterdir()] == ["1.00"]
    assert (directory / "project.xml").read_text() == before
    assert install(directory, other) == 0
    assert sorted(path.name for path in (directory / "apps/pymw").iterdir()) == ["1.00", "1.01"]
    assert trusted_others(directory) == [mine, other]


def test_what_cannot_be_is_refused(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refusal(*arguments: str) -> str:
        assert main(["boinc", "install-app", *arguments]) == 1
        return capsys.readouterr().err

    assert "is no official BOINC project" in refusal(str(tmp_path))
    assert "`pymw boinc key` prints one" in refusal(str(directory), "--trust", "0123")
    assert not (directory / "apps/pymw").exists()
    with pytest.raises(pymw.BackendError, match="names no db_name"):
        Master(f"boinc:{directory}")
    key = SigningKey.mine().told
    (directory / "project.xml").write_text("<boinc><app>")
    assert "project.xml cannot be read" in refusal(str(directory), "--trust", key)
    (directory / "config.xml").write_text("<boinc><config></config></boinc>")
    assert "names no master_url" in refusal(str(directory), "--trust", key)


def test_what_is_installed_runs_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the version are given to clients, as `update_versions` would have it."""
    with served(tmp_path / "project") as project:
        directory = official(tmp_path / "official", project.url)
        assert install(directory, SigningKey.mine().told) == 0
        place = directory / "apps/pymw/1.00/x86_64-pc-linux-gnu"
        files = [
            AppFile(
                place / file.findtext("physical_name", ""),
                file.findtext("logical_name", "") or file.findtext("physical_name", ""),
                main_program=file.find("main_program") is not None,
            )
            for file in ET.parse(place / "version.xml").getroot().findall("file")
        ]
        project.control.ensure_app("pymw", validator="pymw")
        project.control.ensure_app_version("pymw", "x86_64-pc-linux-gnu", None, files)
        monkeypatch.setenv("BOINC_ACCOUNT_KEY", project.control.create_account("ada@example.org"))
        project.control.grant("ada@example.org", "pymw")
        with SimulatedVolunteer(project.url, project.account()).start(), Master(f"boinc+{project.url}") as master:
            assert master.submit(errands.double, 21).result(LIMIT) == 42
