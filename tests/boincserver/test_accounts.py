"""Accounts over the web: who may make one, what is recorded, and that guessing is hopeless."""

from __future__ import annotations

import http.client
import re
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from boincserver import cli, project
from boincserver.control import connect
from boincserver.protocol.account import password_hash
from boincserver.testing import StockClient, configure, free_port, serving

LIMIT = 120.0


def made(directory: Path, **settings: object) -> str:
    url = f"http://127.0.0.1:{free_port()}/"
    project.create(directory, url=url)
    configure(directory, **settings)
    return url


@pytest.fixture
def invited(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    directory = tmp_path / "project"
    url = made(directory, creation="invited", terms_of_use="Be <kind>.")
    with serving(directory):
        yield directory, url


def ask(url: str, call: str, forwarded: str = "", **query: str) -> str:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=LIMIT)
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    connection.request("GET", f"/{call}.php?{urllib.parse.urlencode(query)}", headers=headers)
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    assert reply.status == 200
    return text


def person(name: str, **more: str) -> dict[str, str]:
    email = f"{name}@example.org"
    return {"email_addr": email, "passwd_hash": password_hash(email, f"secret of {name}"), "user_name": name, **more}


def number(reply: str) -> int:
    found = re.search(r"<error_num>(-?\d+)</error_num>", reply)
    return int(found.group(1)) if found else 0


def test_a_code_is_for_so_many_accounts(invited: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    directory, url = invited
    config = ask(url, "get_project_config")
    assert "<invite_code_required/>" in config
    assert "<terms_of_use>Be &lt;kind&gt;.</terms_of_use>" in config
    assert "account_creation_disabled" not in config
    assert cli.main(["user", "invite", str(directory), "--uses", "2", "--note", "the lab"]) == 0
    code = capsys.readouterr().out.split()[0]
    assert number(ask(url, "create_account", **person("nobody"))) == -208
    assert number(ask(url, "create_account", **person("nobody", invite_code="AAAA-AAAA-AAAA-AAAA"))) == -208
    first = ask(url, "create_account", **person("ada", invite_code=f" {code.lower()} "))
    assert "<authenticator>" in first
    # A client that lost the reply asks again: the same account, and no use of the code.
    assert ask(url, "create_account", **person("ada", invite_code=code)) == first
    assert "<authenticator>" in ask(url, "create_account", **person("bob", invite_code=code))
    assert number(ask(url, "create_account", **person("eve", invite_code=code))) == -208
    assert cli.main(["user", "invitations", str(directory)]) == 0
    assert re.search(rf"{code} +0 .*the lab", capsys.readouterr().out)


def test_a_code_can_be_taken_back_and_ends_by_itself(
    invited: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    directory, url = invited
    control = connect(directory)
    code = control.invite(uses=5)
    assert cli.main(["user", "uninvite", str(directory), code]) == 0
    assert number(ask(url, "create_account", **person("ada", invite_code=code))) == -208
    assert cli.main(["user", "uninvite", str(directory), code]) == 1
    assert f"there is no invitation {code}" in capsys.readouterr().err
    expired = control.invite(days=-1)
    assert number(ask(url, "create_account", **person("ada", invite_code=expired))) == -208
    forever = control.invite(days=0)
    assert "<authenticator>" in ask(url, "create_account", **person("ada", invite_code=forever))
    with pytest.raises(SystemExit):
        cli.main(["user", "invite", str(directory), "--uses", "0"])


def test_what_somebody_agreed_to_is_recorded(invited: tuple[Path, str]) -> None:
    directory, url = invited
    code = connect(directory).invite(uses=3)
    refused = ask(url, "create_account", **person("ada", invite_code=code, consent_flag="0", source="Manager"))
    assert "terms of use" in refused
    assert number(refused) == -1
    assert "<authenticator>" in ask(
        url, "create_account", **person("ada", invite_code=code, consent_flag="1", source="Manager")
    )
    assert "<authenticator>" in ask(url, "create_account", **person("bob", invite_code=code))  # an older client
    database = project.Project.open(directory).open_database()
    rows = database.engine.connect().exec_driver_sql(
        "SELECT user.name, shortname, consent_flag, source FROM consent JOIN user ON user.id = userid"
        " JOIN consent_type ON consent_type.id = consent_type_id"
    )
    assert [tuple(row) for row in rows] == [("ada", "ENROLL", 1, "Manager")]
    rows.connection.close()
    database.close()


def test_guessing_is_refused_for_a_while_and_others_are_not(tmp_path: Path) -> None:
    directory = tmp_path / "project"
    url = made(directory, proxies=1)
    with serving(directory) as server:
        server.control.create_account("ada@example.org", password="secret of ada")
        right = person("ada")
        wrong = {**right, "passwd_hash": "0" * 32}
        guesses = [ask(url, "lookup_account", forwarded="192.0.2.1", **wrong) for _ in range(25)]
        assert [number(guess) for guess in guesses] == [-206] * 20 + [-1] * 5
        assert "wait a minute" in guesses[-1]
        # Not even the right password is told apart now; and whoever comes from elsewhere is not concerned.
        assert number(ask(url, "lookup_account", forwarded="192.0.2.1", **right)) == -1
        assert "<authenticator>" in ask(url, "lookup_account", forwarded="192.0.2.2", **right)
        # What the guesser puts in front of the proxy's word counts for nothing.
        assert number(ask(url, "lookup_account", forwarded="203.0.113.9, 192.0.2.1", **right)) == -1


def test_guesses_at_the_same_time_are_as_many_guesses(tmp_path: Path) -> None:
    url = made(tmp_path / "project", proxies=1)
    with serving(tmp_path / "project") as server:
        server.control.create_account("ada@example.org", password="secret of ada")
        wrong = {**person("ada"), "passwd_hash": "0" * 32}
        with ThreadPoolExecutor(40) as threads:
            asked = [threads.submit(ask, url, "lookup_account", forwarded="192.0.2.1", **wrong) for _ in range(80)]
            told = [number(future.result(60.0)) for future in asked]
        assert sorted(told) == [-206] * 20 + [-1] * 60
        # What is right counts as no guess, however often it is asked for.
        rights = [ask(url, "lookup_account", forwarded="192.0.2.2", **person("ada")) for _ in range(30)]
        assert all("<authenticator>" in right for right in rights)


def test_one_address_makes_no_flood_of_accounts(tmp_path: Path) -> None:
    directory = tmp_path / "project"
    url = made(directory, creation="open")
    with serving(directory) as server:
        replies = [ask(url, "create_account", **person(f"p{n}")) for n in range(22)]
        assert ["<authenticator>" in reply for reply in replies] == [True] * 20 + [False] * 2
        assert "come again in an hour" in replies[-1]
        assert len(server.control.users()) == 20


def test_a_setting_that_there_is_not_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path / "project", creation="friends")
    assert cli.main(["status", str(tmp_path / "project")]) == 1
    assert "creation must be open, invited or closed, not 'friends'" in capsys.readouterr().err


@pytest.mark.stock
def test_the_stock_client_shows_why(invited: tuple[Path, str], need: Callable[..., None]) -> None:
    """boinccmd has no way to say a code."""
    need("boinc", "boinccmd", "faketime")
    _, url = invited
    with StockClient() as client, pytest.raises(Exception, match=r"(?i)creation.*disabled"):
        client.create_account(url, "ada@example.org", "secret", "Ada")
