"""The command line as a user meets it."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boincserver import cli
from boincserver.errors import UnusableUrl
from boincserver.testing import SimulatedVolunteer, configure, free_port, serving
from boincserver.urls import canonical


def run(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "boincserver", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def test_create_status_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "p"
    assert cli.main(["create", str(directory), "--url", "http://127.0.0.1:8701", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["url"] == "http://127.0.0.1:8701/"
    assert cli.main(["status", str(directory)]) == 0
    assert "not running" in capsys.readouterr().out
    key = directory / "keys" / "code_sign_private"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((directory / "project.toml").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://127.0.0.1/", "http://"),
        ("http://", "host"),
        ("http://127.0.0.1:0/", "port 0"),
        ("http://127.0.0.1:99999/", "port"),
        ("http://0.0.0.0:80/", "listen"),
        ("http://pi.example.org/", "encryption"),
        ("http://8.8.8.8/", "encryption"),
        ("http://user@127.0.0.1/", "plain"),
        ("http://127.0.0.1/?a=1", "plain"),
        ("http://bad host/", "host"),
        ("http://127.0.0.1/a b", "path"),
        ("https://" + "a" * 250 + ".org", "no host name"),
    ],
)
def test_urls_that_clients_cannot_use(url: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnusableUrl, match=words):
        canonical(url)
    assert cli.main(["create", str(tmp_path / "p"), "--url", url]) == 1
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_urls_that_they_can() -> None:
    assert canonical("https://Pi.Example.org/sub") == "https://pi.example.org/sub/"
    assert canonical("http://pi.example.org", allow_http=True) == "http://pi.example.org/"
    assert canonical("http://server.lan:8080/") == "http://server.lan:8080/"


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    assert cli.main(["create", str(tmp_path), "--url", "http://127.0.0.1:8701"]) == 1
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    for command in ("serve", "status"):
        assert cli.main([command, str(tmp_path)]) == 1
        assert "is not a project" in capsys.readouterr().err


def test_creating_twice_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["create", str(tmp_path / "p"), "--url", "http://127.0.0.1:8701"]
    assert cli.main(arguments) == 0
    assert cli.main(arguments) == 1
    assert "is a project already" in capsys.readouterr().err


def test_bad_names_and_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "p"
    create = ["create", str(directory), "--url", "http://127.0.0.1:8701"]
    assert cli.main([*create, "--name", "a<b"]) == 1
    assert "free of < > &" in capsys.readouterr().err
    assert not directory.exists()
    assert cli.main([*create, "--database", "bogus://x"]) == 1
    assert "the database 'bogus://x' cannot be used" in capsys.readouterr().err
    assert not directory.exists()
    assert cli.main([*create, "--database", "sqlite:///here.db"]) == 1
    assert "give its whole path" in capsys.readouterr().err
    assert not directory.exists()
    assert cli.main(create) == 0
    settings = directory / "project.toml"
    settings.write_text(settings.read_text().replace("max_per_request = 10", 'max_per_request = "ten"'))
    assert cli.main(["status", str(directory)]) == 1
    assert "max_per_request must be int" in capsys.readouterr().err


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        url = f"http://127.0.0.1:{other.getsockname()[1]}/"
        assert run("create", str(tmp_path / "p"), "--url", url).returncode == 0
        done = run("serve", str(tmp_path / "p"))
    assert done.returncode == 1
    assert "another program listens on" in done.stderr
    assert not (tmp_path / "p" / "run" / "control.sock").exists()


def test_serve_answers_under_a_long_path_and_a_second_server_is_told(tmp_path: Path) -> None:
    directory = tmp_path / ("deep" * 20) / "project"
    directory.parent.mkdir()
    assert run("create", str(directory), "--url", f"http://127.0.0.1:{free_port()}/sub/").returncode == 0
    assert len(os.fsencode(directory / "run" / "control.sock")) > 108
    with serving(directory) as server:
        assert server.control.info().name == "project"
        done = run("serve", str(directory), "--json")
        assert done.returncode == 1
        assert json.loads(done.stdout)["error"] == "AlreadyServed"
        added = run("user", "add", str(directory), "--email", "a@example.org", "--json")
        assert len(json.loads(added.stdout)["key"]) == 32
        assert "running" in run("status", str(directory)).stdout
    done = run("user", "add", str(directory), "--email", "a@example.org")
    assert done.returncode == 1
    assert "start it: boincserver serve" in done.stderr


def every_command(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield name, parser
    for group in groups:
        for word, inner in group.choices.items():
            yield from every_command(inner, f"{name} {word}".strip())


@pytest.mark.parametrize(
    ("setting", "wrong", "told"),
    [
        ("feeder_size", "0", "feeder_size must be at least 1, not 0"),
        ("daily_quota", "-5", "daily_quota must be at least 1"),
        ("proxies", "-1", "proxies must be at least 0"),
        ("report_grace_period", "-100", "report_grace_period must be at least 0"),
        ("spot_checks", "2.0", "spot_checks must be from 0 to 1, not 2.0"),
        ("per_job", "nan", "per_job must be at least 0, not nan"),
        ("per_job", "inf", "per_job must be at least 0, not inf"),
        ("port", "99999", "port must be from 1 to 65535"),
        ("patience", "0", "patience must be at least 1"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(
    setting: str, wrong: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "p"
    assert cli.main(["create", str(directory), "--url", f"http://127.0.0.1:{free_port()}/"]) == 0
    path = directory / "project.toml"
    text, count = re.subn(rf"(?m)^{setting} = .*$", f"{setting} = {wrong}", path.read_text())
    assert count == 1
    path.write_text(text)
    assert cli.main(["status", str(directory)]) == 1
    assert told in capsys.readouterr().err


def test_a_whole_number_does_for_any_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "p"
    assert cli.main(["create", str(directory), "--url", f"http://127.0.0.1:{free_port()}/"]) == 0
    configure(directory, per_job=5, spot_checks=1)
    assert cli.main(["status", str(directory)]) == 0
    for broken, told in ((b"accounts = 5\n", "is a table of settings, not 5"), (b'name = "\xff"\n', "project.toml: ")):
        (directory / "project.toml").write_bytes(broken)
        assert cli.main(["status", str(directory)]) == 1
        assert told in capsys.readouterr().err


def test_every_command_and_option_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "boincserver-commands.md").read_text()
    for name, parser in every_command(cli.make_parser()):
        assert f"boincserver {name}" in page, name
        assert parser.description, name
        for action in parser._actions:
            assert action.help, f"{name} {action.dest}"
            for option in action.option_strings:
                assert option in ("-h", "--help") or option in page, f"{name} {option}"


def test_from_an_application_to_its_results_by_commands(tmp_path: Path) -> None:
    directory = str(tmp_path / "p")
    program = tmp_path / "count.sh"
    program.write_text("#!/bin/sh\necho $1 $(wc -c < in) > out\necho 0 > boinc_finish_called\n")
    (tmp_path / "in.txt").write_text("hello")
    assert run("create", directory, "--url", f"http://127.0.0.1:{free_port()}/").returncode == 0

    def ask(*arguments: str) -> dict[str, Any]:
        done = run(*arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    with serving(directory) as server:
        key = ask("user", "add", directory, "--email", "a@example.org", "--password", "secret1")["key"]
        assert ask("app", "add", directory, "count", str(program), "--version", "1.02")["created"]
        ask("app", "add", directory, "count", str(program), "--validator", "trivial")
        assert not ask("app", "add", directory, "count", str(program))["created"]
        assert ask("app", "list", directory)["apps"][0]["validator"] == "trivial"  # as before
        assert ask("app", "list", directory)["apps"][0]["version"] == "1.02"
        create = ["job", "create", directory, "count", "--input", f"{tmp_path / 'in.txt'}=in", "--count", "3"]
        assert ask(*create, "--command", "{n}", "--copy-files")["created"] == 3
        assert ask(*create)["created"] == 0
        with SimulatedVolunteer(server.control.info().url, key, ncpus=4) as volunteer:
            assert volunteer.step() == 3
            volunteer.contact()
        (batch,) = ask("batch", "list", directory)["batches"]
        assert (batch["jobs"], batch["over"], batch["to_fetch"]) == (3, 3, 3)
        assert ask("batch", "fetch", directory, "jobs", str(tmp_path / "results"))["fetched"] == 3
        assert (tmp_path / "results" / "job_2" / "out").read_text() == "2 5\n"
        assert ask("host", "list", directory)["hosts"][0]["succeeded"] == 3
        assert ask("user", "list", directory)["users"][0]["hosts"] == 1
        ask("user", "password", directory, "--email", "a@example.org", "--password", "another1")
        more = subprocess.run(
            [sys.executable, "-m", "boincserver", "job", "create", directory, "count", "--batch", "more"],
            input='{"name": "line", "inputs": {"in": "text"}, "outputs": {"out": 100}}\n',
            text=True, capture_output=True, check=True,
        )  # fmt: skip
        assert "1 jobs created" in more.stdout
        # A name that is in another batch is no job of this one.
        taken = run("job", "create", directory, "count", "--count", "2", "--batch", "third")
        assert taken.returncode == 1
        assert "2 are in another batch already, the first of them job_0" in taken.stderr
        one = ["job", "create", directory, "count", "--count", "1", "--name", "one", "--batch", "more"]
        assert ask(*one)["created"] == 1  # also where no person types
        vain = run("job", "create", directory, "count", "--quorum", "2", "--batch", "more")
        assert vain.returncode == 1
        assert "--quorum: jobs as JSON lines say this themselves" in vain.stderr
        assert "describes no job" in run("job", "create", directory, "count", stdin="").stderr
        assert ask("batch", "cancel", directory, "more")["cancelled"] == 2
        assert run("batch", "cancel", directory, "none").returncode == 1
        assert ask("app", "deprecate", directory, "count", "--version", "1.02")["deprecated"] == 1
        assert ask("app", "list", directory)["apps"][0]["version"] == ""
        assert "already serves" in run("keys", "rotate", directory).stderr
        assert run("keys", "show", directory).stdout.startswith("1024\n")
    assert ask("doctor", directory)["findings"] == []


def test_jobs_are_looked_at_and_ended_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(tmp_path / "p")
    program = tmp_path / "fail.sh"
    program.write_text("#!/bin/sh\necho there is no more tea >&2\nexit 3\n")
    assert cli.main(["create", directory, "--url", f"http://127.0.0.1:{free_port()}/"]) == 0

    def said(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert cli.main(list(arguments)) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    with serving(directory) as server:
        said("app", "add", directory, "fail", str(program))
        said("job", "create", directory, "fail", "--count", "3", "--batch", "tea")
        assert "there is no batch 'jobs'" in said("job", "list", directory, code=1)
        lines = said("job", "list", directory, "--batch", "tea").splitlines()
        assert [line.split() for line in lines[1:]] == [[f"job_{n}", "unsent"] for n in range(3)]
        assert said("job", "cancel", directory, "job_1", "job_1", "--batch", "tea") == "1 jobs cancelled.\n"
        assert said("job", "cancel", directory, "job_1", "--batch", "tea") == "0 jobs cancelled.\n"
        key = server.control.create_account("v@example.org")
        with SimulatedVolunteer(server.control.info().url, key, ncpus=1) as volunteer:
            volunteer.step()
            volunteer.contact()
            (number,) = [host.id for host in server.control.hosts()]
            listed = json.loads(said("job", "list", directory, "--batch", "tea", "--state", "in progress", "--json"))
            assert [(job["name"], job["hosts"]) for job in listed["jobs"]] == [("job_2", [number])]
            assert "in progress" in said("job", "show", directory, "job_2", "--batch", "tea")
        text = said("job", "show", directory, "job_0", "--batch", "tea")
        assert "job_0_0 wrote to standard error:" in text
        assert "there is no more tea" in text
        assert [*text.splitlines()[1].split()[:3]] == ["job_0_0", str(number), "failed"]
        assert "not needed" in said("job", "show", directory, "job_1", "--batch", "tea")
        (copy, *_) = json.loads(said("job", "show", directory, "job_0", "--batch", "tea", "--json"))["copies"]
        assert (copy["outcome"], copy["host"], copy["outputs"]) == ("CLIENT_ERROR", number, {})
        assert "there is no job 'job_9' in the batch 'tea'" in said(
            "job", "show", directory, "job_9", "--batch", "tea", code=1
        )


def test_what_a_person_gets_wrong_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(tmp_path / "p")
    program = tmp_path / "up.sh"
    program.write_text("#!/bin/sh\n")
    assert cli.main([]) == 2
    assert "create, serve and look after" in capsys.readouterr().err
    assert cli.main(["user"]) == 2
    assert "reset-password" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith("boincserver 1.")
    assert cli.main(["create", directory, "--url", f"http://127.0.0.1:{free_port()}/"]) == 0
    capsys.readouterr()

    def fails(*command: str, stdin: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "boincserver", *command], input=stdin, capture_output=True, text=True, timeout=60
        )
        assert done.returncode != 0, done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr

    with serving(directory):
        user = ["--email", "me@example.org"]
        assert "at least 6 characters" in fails("user", "add", directory, *user, "--password", "12345")
        assert cli.main(["user", "add", directory, *user, "--name", "Me"]) == 0
        assert "already" not in capsys.readouterr().out
        assert cli.main(["user", "add", directory, *user, "--name", "You"]) == 0
        assert "was there already; its name and password are as before" in capsys.readouterr().out
        assert "no account with the address" in fails("user", "password", directory, "--email", "a@b.c")
        assert "at least 6 characters" in fails("user", "password", directory, *user, stdin="12345\n")
        assert cli.main(["log", directory, "--event", "password-set"]) == 0
        assert capsys.readouterr().out == ""
        done = subprocess.run(
            [sys.executable, "-m", "boincserver", "user", "password", directory, *user],
            input="not on the command line\n", capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert "is changed" in done.stdout
        assert cli.main(["app", "add", directory, "up", str(program)]) == 0
        create = ["job", "create", directory, "up", "--batch", "never"]
        assert "at least 1" in fails(*create, "--count", "0")
        assert "No such file" in fails(*create, "--input", "none.txt=in")
        assert "line 1 of standard input describes no job" in fails(*create, stdin='{"name": 3}\n')
        assert "line 2 of standard input" in fails(*create, stdin='{"name": "a"}\n{"name": "a b"}\n')
        assert "there is no application 'down'" in fails("job", "create", directory, "down", "--count", "2")
        assert "stop it first" in fails("keys", "rotate", directory)
        capsys.readouterr()
        # Of all this no batch is left.
        assert cli.main(["batch", "list", directory]) == 0
        assert capsys.readouterr().out == "none\n"
        assert cli.main(["job", "create", directory, "up", "--count", "2"]) == 0
        assert cli.main(["batch", "cancel", directory, "jobs"]) == 0
        capsys.readouterr()
        assert cli.main(["status", directory]) == 0
        assert "2 in all, 0 done, 0 failed, 2 cancelled" in capsys.readouterr().out


def test_who_else_is_on_the_machine_reads_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "p"
    assert cli.main(["create", str(directory), "--url", f"http://127.0.0.1:{free_port()}/"]) == 0
    with serving(directory) as server:
        server.control.create_account("a@example.org")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    open_to_all = {name for name, mode in modes.items() if mode & 0o077}
    assert open_to_all <= {"download", "stats"}  # what a server in front reads
    assert {"database.sqlite3", "database.sqlite3-wal", "keys", "upload", "log", "project.toml"} <= set(modes)
