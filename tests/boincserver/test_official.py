"""What an official project's config.xml says, and what of ours lies in its folder; its database is tested in tests/whole."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy

from boincserver.errors import ConfigError, NotAProject
from boincserver.files import FileStore, fanout
from boincserver.official import Batches, Daemon, Settings
from boincserver.official.ended import Ended, Instance
from boincserver.records import Copy
from boincserver.states import ErrorMask, Outcome, ServerState, ValidateState

Write = Callable[[str], Path]
GOOD = """<?xml version="1.0" ?>
<boinc>
  <config>
    <master_url> http://boinc.example.org/pi/ </master_url>
    <db_name>pi</db_name><db_user>adm</db_user><db_passwd>p@ss:w/rd &amp; more</db_passwd><db_host></db_host>
    <download_dir>{0}/download</download_dir><download_url>http://boinc.example.org/pi/download/</download_url>
    <upload_dir>{0}/upload</upload_dir><uldl_dir_fanout>1024</uldl_dir_fanout>
    <one_result_per_user_per_wu/>
  </config>
  <daemons/>
</boinc>
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A project whose config.xml is this text."""
    for folder in ("download", "upload"):
        (tmp_path / folder).mkdir()
    (tmp_path / "project.xml").write_text("<boinc/>")

    def write(text: str) -> Path:
        (tmp_path / "config.xml").write_text(text.replace("{0}", str(tmp_path)))
        return tmp_path

    return write


def test_a_config_is_read(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_UNIX_PORT", "/somewhere/s")
    settings = Settings.read(write(GOOD))
    assert settings.master_url == "http://boinc.example.org/pi/"
    assert settings.download_url == "http://boinc.example.org/pi/download"
    assert (settings.folders, settings.one_result_per_user) == (1024, True)
    url = sqlalchemy.make_url(settings.database_url)
    assert (url.username, url.password, url.database) == ("adm", "p@ss:w/rd & more", "pi")
    assert url.query["unix_socket"] == "/somewhere/s"
    assert "p@ss" not in repr(settings) + settings.database_in_words
    usual = Settings.read(write(GOOD.replace("<one_result_per_user_per_wu/>", "")))
    assert not usual.one_result_per_user


def test_another_machines_database_is_reached_over_the_network(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_UNIX_PORT", "/somewhere/s")

    def url(host: str) -> sqlalchemy.URL:
        settings = Settings.read(write(GOOD.replace("<db_host></db_host>", f"<db_host>{host}</db_host>")))
        return sqlalchemy.make_url(settings.database_url)

    assert (url("db.example.org").host, "unix_socket" in url("db.example.org").query) == ("db.example.org", False)
    assert url(socket.gethostname()).query["unix_socket"] == "/somewhere/s"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("<db_name>pi</db_name>", "", "names no db_name"),
        ("<db_user>adm</db_user>", "<db_user></db_user>", "names no db_user"),
        ("{0}/download<", "download<", "download_dir must be an absolute path"),
        ("{0}/upload<", "{0}/nowhere<", r"the upload_dir .*/nowhere is no folder on this machine"),
        (">1024<", ">-1<", "uldl_dir_fanout must be a number of folders, not '-1'"),
        (">1024<", ">99999999999<", "uldl_dir_fanout must be a number"),
        ("</boinc>", "", "cannot be read"),
        ("<config>", "<config2>", "cannot be read"),
        ("<boinc>", '<!DOCTYPE boinc [<!ENTITY a "aaaa">]><boinc>', "a document type of its own"),
        ("<daemons/>", f"<daemons>{' ' * (1 << 20)}</daemons>", "too long"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(write: Write, before: str, after: str, told: str) -> None:
    assert before in GOOD
    with pytest.raises(ConfigError, match=told):
        Settings.read(write(GOOD.replace(before, after)))


def test_a_file_that_is_no_text_and_a_folder_that_is_no_project_are_refused(write: Write, tmp_path: Path) -> None:
    directory = write(GOOD)
    (directory / "config.xml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        Settings.read(directory)
    (directory / "config.xml").write_text("<boinc></boinc>")
    with pytest.raises(ConfigError, match="has no <config>"):
        Settings.read(directory)
    with pytest.raises(NotAProject, match=r"needs a config\.xml and a project\.xml"):
        Settings.read(tmp_path / "upload")


def test_files_lie_where_the_official_rule_has_them(tmp_path: Path) -> None:
    name = "some.file"
    digits = hashlib.md5(name.encode()).hexdigest()
    for folders in (1, 16, 1000, 1024):
        assert fanout(name, folders) == f"{int(digits[1:8], 16) % folders:x}"
        assert FileStore(tmp_path, folders).path(name) == tmp_path / fanout(name, folders) / name
    flat = FileStore(tmp_path, 0)
    assert (flat.path(name), flat.within(name)) == (tmp_path / name, name)
    with flat.incoming() as incoming:
        incoming.write(b"content")
        stored = incoming.finish()
    assert (tmp_path / stored.name).read_bytes() == b"content"


def test_how_a_job_ended_is_kept_whole() -> None:
    def instance(number: int, state: ValidateState, outputs: dict[str, bytes]) -> Instance:
        copy = Copy(
            f"job_{number}", ServerState.OVER, Outcome.SUCCESS, state, number, 7, 0, 99, "said\n", outputs
        )  # fmt: skip
        return Instance(copy, 1.5, 1.25, 10, 20)

    instances = (
        instance(0, ValidateState.INVALID, {}), instance(1, ValidateState.VALID, {"a": b"\0\n1", "b": b""}),
    )  # fmt: skip
    ended = Ended("job", ErrorMask.NONE, "job_1", instances)
    again = Ended.unpacked(ended.packed())
    assert again == ended
    outcome = again.outcome(5)
    assert (outcome.seq, outcome.outputs) == (5, {"a": b"\0\n1", "b": b""})
    assert [attempt.host_id for attempt in outcome.attempts] == [1]  # host 0: that copy was never sent
    for torn in (b"", b"{}", ended.packed()[:-1], b"[1]\n"):
        with pytest.raises(ValueError):
            Ended.unpacked(torn)


def test_ours_in_the_folder_of_the_project(tmp_path: Path) -> None:
    batches = Batches(tmp_path)
    assert (batches.known(), batches.outcomes(3), batches.shared(), batches.used(3)) == (set(), [], {}, [])
    batches.add(3)
    before = batches.changed(3)
    batches.say(3, "job", "0 0.5")
    assert (batches.said(3), batches.known()) == ({"job": "0 0.5"}, {3})
    batches.file(3, "job", b"ended")
    assert (batches.outcomes(3), batches.outcome(3, "job"), batches.said(3)) == (["job"], b"ended", {})
    assert batches.changed(3) != before
    batches.forget(3, ["job", "gone"])
    assert batches.outcomes(3) == []
    with batches.locked():
        batches.share("file")
        batches.use(3, ["file"])
    assert (list(batches.shared()), batches.used(3)) == (["file"], ["file"])
    batches.remove(3)
    assert batches.known() == set()


def test_a_daemon_ends_when_the_projects_file_says_so(tmp_path: Path) -> None:
    passes = []

    def one_pass(stops: Callable[[], bool]) -> int:
        passes.append(stops())
        if len(passes) == 3:
            (tmp_path / "stop_daemons").write_text("<stop/>")
        return 1

    assert Daemon(tmp_path, one_pass).run() == 0
    assert passes == [False] * 3
    assert Daemon(tmp_path, one_pass).run() == 0
    assert len(passes) == 3
    (tmp_path / "stop_daemons").unlink()
    assert Daemon(tmp_path, one_pass).run(one_pass=True) == 0
