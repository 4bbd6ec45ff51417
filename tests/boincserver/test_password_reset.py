"""A forgotten password: links by a real mail server or from the operator, and what nobody gains by them."""

from __future__ import annotations

import email
import email.policy
import hashlib
import html
import http.client
import ipaddress
import re
import ssl
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import select

from boincserver import accounts, cli, password_reset, project
from boincserver.database import Database
from boincserver.errors import ConfigError
from boincserver.protocol.account import password_hash
from boincserver.schema import token as token_table
from boincserver.testing import configure, free_port, serving, wait_until
from boincserver.testing.serving import ServerProcess

LIMIT = 60.0


class MailServer(Controller):
    """A mail server on loopback that keeps what it is given."""

    def __init__(self, **options: Any) -> None:
        self.letters: list[EmailMessage] = []
        self.logins: list[LoginPassword] = []
        super().__init__(self, hostname="127.0.0.1", port=free_port(), ready_timeout=60.0, **options)

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(letter, EmailMessage)
        assert [letter["To"]] == envelope.rcpt_tos
        self.letters.append(letter)
        return "250 OK"

    def authenticate(
        self, _server: object, _session: object, _envelope: object, _mechanism: str, data: Any
    ) -> AuthResult:
        self.logins.append(data)
        return AuthResult(success=data == LoginPassword(b"pi", b"geheim 1"))

    def wait(self, count: int) -> EmailMessage:
        wait_until(lambda: len(self.letters) >= count, timeout=LIMIT, what=f"{count} letters")
        assert len(self.letters) == count
        return self.letters[-1]


@contextmanager
def mail_server(**options: Any) -> Iterator[MailServer]:
    server = MailServer(**options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def served(
    directory: Path, *, path: str = "/", mail: MailServer | None = None, **environment: str
) -> Iterator[ServerProcess]:
    """A project with an account of Ada's, which sends its mail there."""
    project.create(directory, f"http://127.0.0.1:{free_port()}{path}", name="Pi and more")
    if mail is not None:
        settings = {"host": "127.0.0.1", "port": mail.port, "sender": "pi@example.org"}
        configure(directory, **settings, security="none")
    configure(directory, proxies=1)
    with serving(directory, **environment) as server:
        server.control.create_account("ada@example.org", "Ada", "first secret")
        yield server


def ask(url: str, call: str, *, forwarded: str = "192.0.2.1", host: str = "", **form: str) -> tuple[int, str, Any]:
    """Status, text and headers of a page; with a form what follows when somebody sends it."""
    parts = urllib.parse.urlsplit(urllib.parse.urljoin(url, call))
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=LIMIT)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    headers = {"X-Forwarded-For": forwarded} | ({"Host": host} if host else {})
    if form:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request("POST", target, urllib.parse.urlencode(form), headers)
    else:
        connection.request("GET", target, headers=headers)
    reply = connection.getresponse()
    found = reply.status, reply.read().decode(), reply.headers
    connection.close()
    return found


def link_in(letter: EmailMessage) -> str:
    (link,) = re.findall(r"http://\S+", letter.get_content())
    return str(link)


def secret_of(link: str) -> str:
    return urllib.parse.parse_qs(urllib.parse.urlsplit(link).query)["token"][0]


def key_by(url: str, password: str) -> str:
    """The key that a client gets with this password of Ada's; empty if it is wrong."""
    query = urllib.parse.urlencode(
        {"email_addr": "ada@example.org", "passwd_hash": password_hash("ada@example.org", password)}
    )
    found = re.search(r"<authenticator>(\w+)<", ask(url, f"lookup_account.php?{query}", forwarded="192.0.2.77")[1])
    return found.group(1) if found else ""


def test_a_link_comes_by_mail_and_works_once(tmp_path: Path) -> None:
    with mail_server() as mail, served(tmp_path / "project", path="/sub/", mail=mail) as server:
        url = server.control.info().url
        database = Database(project.Project.open(tmp_path / "project").database_url)
        weak = accounts.by_email(database.reader(), "ada@example.org").weak_authenticator
        assert 'action="get_passwd.php"' in ask(url, "get_passwd.php")[1]
        # Whatever host the asker names, the link leads to the project.
        status, _, _ = ask(url, "get_passwd.php", host="evil.example.org", email="Ada@Example.org ")
        assert status == 200
        letter = mail.wait(1)
        assert (str(letter["From"]), str(letter["To"])) == ("Pi and more <pi@example.org>", "ada@example.org")
        link = link_in(letter)
        assert link.startswith(f"{url}reset_password?token=")
        stored = database.reader().all(select(token_table.c.token))
        assert [tuple(row) for row in stored] == [(hashlib.sha256(secret_of(link).encode()).hexdigest(),)]
        # A program that looks at what links in mails lead to spoils nothing.
        for _ in range(2):
            status, form, headers = ask(url, link)
            assert status == 200
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert html.unescape(re.findall(r'name="token" value="([^"]+)"', form)[0]) == secret_of(link)
        fields = {"token": secret_of(link), "password": "naïve & new", "again": "naïve & new"}
        assert ask(url, "reset_password", **{**fields, "again": "naive"})[0] == 400
        status, short, _ = ask(url, "reset_password", **{**fields, "password": "abc", "again": "abc"})
        assert status == 400
        assert "at least 6 characters" in short
        assert key_by(url, "first secret")
        assert ask(url, "reset_password", **fields)[0] == 200
        assert (key_by(url, "first secret"), len(key_by(url, "naïve & new"))) == ("", 32)
        user = accounts.by_email(database.reader(), "ada@example.org")
        # Computers have the account's key, which stays; a weak key follows from the password and ends with it.
        assert user.authenticator == key_by(url, "naïve & new")
        assert accounts.authenticate(database.reader(), weak) is None
        assert accounts.authenticate(database.reader(), user.weak_authenticator) == user
        assert "was changed" in mail.wait(2).get_content()
        assert ask(url, "reset_password", **fields)[0] == 410
        assert ask(url, link)[0] == 410
        assert key_by(url, "naïve & new")
        database.close()


def test_nobody_learns_whether_an_address_has_an_account(tmp_path: Path) -> None:
    with mail_server() as mail, served(tmp_path / "project", mail=mail) as server:
        url = server.control.info().url
        addresses = ("nobody@example.org", "ada@example.org", "no address", "ada@example.org\nBcc: eve@example.org", "")
        replies = [ask(url, "get_passwd.php", email=address)[:2] for address in addresses]
        assert replies == [replies[0]] * len(addresses)
        mail.wait(1)
        # What was posted is sent before a server ends, so more would be here then.
        assert server.stop() == 0
        assert [str(letter["To"]) for letter in mail.letters] == ["ada@example.org"]


def test_who_asks_too_often_gets_no_more(tmp_path: Path) -> None:
    with mail_server() as mail, served(tmp_path / "project", mail=mail) as server:
        url = server.control.info().url
        # An account gets three links an hour, wherever they are asked for; and nobody is told that it had them.
        answers = {ask(url, "get_passwd.php", forwarded=f"192.0.2.{n}", email="ada@example.org")[:2] for n in range(6)}
        assert len(answers) == 1
        wait_until(lambda: server.log.read_text().count("password-link-refused") == 3, timeout=LIMIT, what="refusals")
        mail.wait(3)
        # The first of them is as good as the last: others cannot spoil what somebody waits for.
        fields = {"token": secret_of(link_in(mail.letters[0])), "password": "second secret", "again": "second secret"}
        assert ask(url, "reset_password", **fields)[0] == 200
        assert [ask(url, link_in(letter))[0] for letter in mail.letters[:3]] == [410] * 3
        statuses = [ask(url, "get_passwd.php", email=f"p{n}@example.org")[0] for n in range(10)]
        assert statuses == [200] * 9 + [429]
        guesses = [ask(url, f"reset_password?token={n}", forwarded="192.0.2.99")[0] for n in range(21)]
        assert guesses == [410] * 20 + [429]


def test_the_operator_prints_a_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(tmp_path / "project")
    with served(tmp_path / "project") as server:
        url = server.control.info().url
        assert "sends no mail" in ask(url, "get_passwd.php")[1]
        assert "sends no mail" in ask(url, "get_passwd.php", email="ada@example.org")[1]
        assert cli.main(["user", "reset-password", directory, "--email", "eve@example.org"]) == 1
        assert "no account with the address eve@example.org" in capsys.readouterr().err
        assert cli.main(["user", "reset-password", directory, "--email", "ada@example.org", "--hours", "0"]) == 1
        capsys.readouterr()
        assert cli.main(["user", "reset-password", directory, "--email", "ada@example.org"]) == 0
        link = capsys.readouterr().out.split()[0]
        fields = {"token": secret_of(link), "password": "second secret", "again": "second secret"}
        assert ask(url, link)[0] == 200
        assert ask(url, "reset_password", **fields)[0] == 200
        assert key_by(url, "second secret")
        huge = ask(url, "reset_password", token="x" * 20_000, password="p", again="p")[0]
        assert huge == 400


def test_a_link_ends_by_itself(tmp_path: Path) -> None:
    made = project.create(tmp_path / "project", "http://127.0.0.1:8700/")
    database = made.open_database()
    db = database.session()
    user = accounts.create(db, "ada@example.org", "Ada", "", 0, b"secret")
    secret = secret_of(password_reset.make(db, user, made.config.url, 1000, 3600))
    assert password_reset.owner(db, secret, 4599) == user
    assert password_reset.owner(db, secret, 4600) is None
    assert password_reset.redeem(db, secret, "stored", 4600) is None
    assert accounts.by_id(db, user.id) == user
    # Rows of links that are too old go with the next one.
    password_reset.make(db, user, made.config.url, 5000, 3600)
    assert len(db.all(select(token_table.c.token))) == 1
    database.close()


def certificate(folder: Path) -> ssl.SSLContext:
    """A certificate of 127.0.0.1's in ca.pem, and what a server needs to show it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


@pytest.mark.parametrize("trusted", [True, False])
def test_the_mail_server_is_trusted_by_its_certificate_and_wants_a_password(tmp_path: Path, trusted: bool) -> None:
    context = certificate(tmp_path)
    directory = tmp_path / "project"
    project.create(directory, f"http://127.0.0.1:{free_port()}/")
    project.write_secret(directory / "keys" / "mail_password", "geheim 1\n")
    with mail_server(tls_context=context, require_starttls=True, auth_required=True) as mail:
        mail.SMTP_kwargs["authenticator"] = mail.authenticate
        configure(directory, host="127.0.0.1", port=mail.port, security="starttls", user="pi", sender="pi@example.org")
        with serving(directory, **({"SSL_CERT_FILE": str(tmp_path / "ca.pem")} if trusted else {})) as server:
            server.control.create_account("ada@example.org", "Ada", "first secret")
            ask(server.control.info().url, "get_passwd.php", email="ada@example.org")
            if trusted:
                mail.wait(1)
                assert mail.logins == [LoginPassword(b"pi", b"geheim 1")]
            else:
                wait_until(
                    lambda: "mail-not-sent to=ada" in server.log.read_text(), timeout=LIMIT, what="the server to say so"
                )
        assert len(mail.letters) == trusted


def test_a_letter_on_its_way_is_sent_before_the_server_ends(tmp_path: Path) -> None:
    with mail_server() as mail:
        with served(tmp_path / "project", mail=mail) as server:
            ask(server.control.info().url, "get_passwd.php", email="ada@example.org")
            wait_until(lambda: mail.letters or rows(tmp_path / "project"), timeout=LIMIT, what="the link to be made")
            assert server.stop() == 0
        mail.wait(1)


def rows(directory: Path) -> int:
    database = Database(project.Project.open(directory).database_url)
    try:
        return len(database.reader().all(select(token_table.c.token)))
    finally:
        database.close()


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    project.create(tmp_path / "project", "http://127.0.0.1:8700/")
    configure(tmp_path / "project", host="mail.example.org")
    with pytest.raises(ConfigError, match="sender must be the address"):
        project.Project.open(tmp_path / "project")
    configure(tmp_path / "project", sender="pi@example.org", security="ssl")
    with pytest.raises(ConfigError, match="starttls, tls or none, not 'ssl'"):
        project.Project.open(tmp_path / "project")
