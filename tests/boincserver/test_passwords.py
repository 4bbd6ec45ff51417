"""What is stored of passwords, what a weak key opens, and what of an account others see."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import argon2
import pytest
from sqlalchemy import select, update

from boincserver import accounts, cli, consent
from boincserver.accounts import User
from boincserver.control import Job
from boincserver.database import Database
from boincserver.project import Project
from boincserver.protocol.account import password_hash
from boincserver.schema import consent as consent_table
from boincserver.schema import user as user_table
from boincserver.testing import SimulatedJob, SimulatedVolunteer, StockClient, serving

from .conftest import add_app, make_project
from .test_accounts import ask, number, person
from .test_stock_client import SHORT, SPEED, collect

SENT = password_hash("ada@example.org", "secret of ada")
OF_LONG_AGO = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


def shout(job: SimulatedJob) -> dict[str, bytes]:
    return {"out": job.inputs["in"].upper()}


@pytest.fixture
def database(directory: Path) -> Iterator[Database]:
    make_project(directory)
    opened = Project.open(directory).open_database()
    yield opened
    opened.close()


def stored(database: Database) -> User:
    return accounts.by_email(database.reader(), "ada@example.org")


def ada(passwd_hash: str) -> User:
    return User(1, "k" * 32, "ada@example.org", "Ada", "c" * 32, passwd_hash)


# --- passwords --------------------------------------------------------------------------------------------------------


def test_what_is_stored_costs_who_guesses_time_and_memory() -> None:
    first, second = accounts.hash_password(SENT), accounts.hash_password(SENT)
    assert first != second  # a salt of its own for each
    found = argon2.extract_parameters(first)
    assert found.type is argon2.Type.ID
    # No less than OWASP's password storage cheat sheet asks for.
    assert (found.memory_cost >= 19 * 1024, found.time_cost >= 2, found.parallelism) == (True, True, 1)
    assert (found.salt_len, found.hash_len) == (16, 32)
    assert len(first) < 254  # the column's length


def test_a_password_is_right_or_not() -> None:
    user = ada(accounts.hash_password(SENT))
    assert accounts.check_password(user, SENT) == (True, "")
    for wrong in (SENT.upper(), SENT[:-1], "", "0" * 32, user.passwd_hash):
        assert accounts.check_password(user, wrong) == (False, "")
    # Nobody gets in where there is no password, or something else stands in its place.
    for content in ("", SENT, "$argon2id$", "$argon2id$v=19$m=1,t=1,p=1$$", "x" * 254):
        assert accounts.check_password(ada(content), SENT) == (False, "")
        assert accounts.check_password(ada(content), "") == (False, "")
    # Computers that never had a password send this of the key.
    assert accounts.check_password(user, hashlib.md5((user.authenticator + user.email_addr).encode()).hexdigest())[0]


def test_phps_own_function_reads_it(need: Callable[..., None]) -> None:
    need("php")
    code = "exit(password_verify($argv[1], $argv[2]) ? 0 : 1);"
    for given, expected in ((SENT, 0), ("0" * 32, 1)):
        command = ["php", "-r", code, "--", given, accounts.hash_password(SENT)]
        assert subprocess.run(command, timeout=60, check=False).returncode == expected


def test_what_was_stored_long_ago_is_stored_better_with_the_next_login(directory: Path, database: Database) -> None:
    with serving(directory) as server:
        url = server.control.info().url
        server.control.create_account("ada@example.org", "Ada", "secret of ada")
        old = OF_LONG_AGO.hash(SENT)
        with database.engine.begin() as connection:
            connection.execute(update(user_table).values(passwd_hash=old))
        key = stored(database).authenticator
        # A wrong password, and one that is none, leave everything as it is.
        assert number(ask(url, "lookup_account", email_addr="ada@example.org", passwd_hash="0" * 32)) == -206
        of_key = hashlib.md5(f"{key}ada@example.org".encode()).hexdigest()
        assert key in ask(url, "lookup_account", email_addr="ada@example.org", passwd_hash=of_key)
        assert stored(database).passwd_hash == old
        assert key in ask(url, "lookup_account", email_addr="ada@example.org", passwd_hash=SENT)
        better = stored(database)
        assert argon2.extract_parameters(better.passwd_hash).memory_cost >= 19 * 1024
        assert accounts.check_password(better, SENT) == (True, "")
        assert key in ask(url, "lookup_account", email_addr="ada@example.org", passwd_hash=SENT)
        assert stored(database) == better


def test_a_better_hash_never_undoes_a_new_password(directory: Path, database: Database) -> None:
    db = database.session()
    user = accounts.create(db, "ada@example.org", "Ada", "old", 0, b"secret")
    accounts.set_password(db, user.id, "new")
    accounts.improve_password(db, user, "better old")
    assert stored(database).passwd_hash == "new"


# --- weak keys --------------------------------------------------------------------------------------------------------


def test_a_weak_key_lets_computers_take_part_and_nothing_else(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_project(directory)
    with serving(directory) as server:
        control, url = server.control, made.config.url
        add_app(control, tmp_path)
        key = control.create_account("ada@example.org", "Ada", "secret of ada")
        control.create_account("bob@example.org", "Bob", "secret of bob")
        assert cli.main(["user", "key", str(directory), "--email", "ada@example.org", "--weak"]) == 0
        weak = capsys.readouterr().out.strip()
        assert weak == control.keys("ada@example.org")["weak_key"]
        assert re.fullmatch(r"1_[0-9a-f]{32}", weak)
        assert cli.main(["user", "key", str(directory), "--email", "ada@example.org"]) == 0
        assert capsys.readouterr().out.strip() == key
        batch = control.create_batch("upper", "b")
        control.create_jobs(batch.id, [Job("j", {"in": b"x"}, {"out": 100})])
        with SimulatedVolunteer(url, weak, shout) as volunteer:
            assert volunteer.step() == 1
            volunteer.contact()
            # A reply never holds the key that may everything.
            assert key.encode() not in volunteer.last_reply
        assert control.outcomes(batch.id)[0].outputs == {"out": b"X"}
        last = "0" if weak[-1] != "0" else "1"
        refused = [f"2{weak[1:]}", f"{weak[:-1]}{last}", f"0{weak}", "1_", f"{2**40}_{'0' * 32}", f"1_{'0' * 32}"]
        for guess in refused:
            with SimulatedVolunteer(url, guess, shout) as stranger:
                stranger.contact()
                assert "Invalid or missing account key" in stranger.messages[0], guess
        # It is no password, and no way to one.
        assert number(ask(url, "lookup_account", email_addr="ada@example.org", passwd_hash=weak)) == -206
        of_weak = hashlib.md5(f"{weak}ada@example.org".encode()).hexdigest()
        assert number(ask(url, "lookup_account", email_addr="ada@example.org", passwd_hash=of_weak)) == -206
        control.set_password("ada@example.org", "another secret")
        with SimulatedVolunteer(url, weak, shout) as volunteer:
            volunteer.contact()
            assert "Invalid or missing account key" in volunteer.messages[0]
        with SimulatedVolunteer(url, key, shout) as volunteer:
            volunteer.contact()
            assert volunteer.hostid


@pytest.mark.stock
def test_the_stock_client_joins_with_a_weak_key(directory: Path, tmp_path: Path, need: Callable[..., None]) -> None:
    need("boinc", "boinccmd", "faketime")
    url = make_project(directory).config.url
    with serving(directory) as server, StockClient(speed=SPEED) as client:
        control = server.control
        add_app(control, tmp_path)
        batch = control.create_batch("upper", "b")
        control.create_jobs(batch.id, [Job("j", {"in": b"weak\n"}, {"out": 1000}, **SHORT)])
        control.create_account("ada@example.org", "Ada", "secret of ada")
        client.attach(url, control.keys("ada@example.org")["weak_key"])
        assert collect(control, batch.id, 1)["j"].outputs["out"] == b"WEAK\n"
        assert client.lookup_account(url, "ada@example.org", "secret of ada") == control.keys("ada@example.org")["key"]


# --- what others see --------------------------------------------------------------------------------------------------


def test_computers_are_hidden_until_their_owner_shows_them(directory: Path, database: Database) -> None:
    with serving(directory) as server:
        url = server.control.info().url
        server.control.create_account("ada@example.org")
        assert "<authenticator>" in ask(url, "create_account", **person("bob"))
        name = "her-own-laptop.example.org"
        key = server.control.keys("ada@example.org")["key"]
        with SimulatedVolunteer(url, key, shout, name=name) as volunteer:
            volunteer.contact()
        rows = database.reader().all(select(user_table.c.show_hosts))
        assert [tuple(row) for row in rows] == [(0,), (0,)]
        public = [ask(url, call) for call in ("get_project_config",)] + [
            ask(url, "server_status", xml="1"), ask(url, "server_status", counts="1"),
        ]  # fmt: skip
        assert not [text for text in public if name in text or "ada" in text or "bob" in text]


def test_what_was_agreed_to_before_stays_in_the_record(database: Database) -> None:
    db = database.session()
    user = accounts.create(db, "ada@example.org", "Ada", "", 0, b"secret")
    consent.record(db, user.id, consent.ENROLL, agreed=True, source="Manager", now=1000)
    consent.record(db, user.id, consent.ENROLL, agreed=False, source="x" * 1000, now=2000)
    row = consent_table.c
    found = db.all(select(row.userid, row.consent_flag, row.consent_time, row.consent_not_required).order_by(row.id))
    assert [tuple(each) for each in found] == [(user.id, 1, 1000, 0), (user.id, 0, 2000, 0)]
