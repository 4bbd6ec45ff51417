"""Mail to volunteers, handed to the mail server that project.toml names, one message after the other."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Final

from boincserver.config import MailConfig
from boincserver.events import Events

__all__ = ["Letter", "Mailer"]

log = Events(__name__)

_TIMEOUT: Final = 20.0
"""Seconds for which a mail server is waited for, each time that it is to say something."""
_MOST: Final = 100
"""Messages that wait at a time; who asks for more than a mail server takes is told nothing and gets nothing."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What is to be said to whom."""

    to: str
    subject: str
    text: str


class Mailer:
    """Sends letters in a thread of its own; what cannot be sent is logged. Made and closed by one event loop."""

    def __init__(self, config: MailConfig, sender_name: str, password_file: Path) -> None:
        self._config = config
        self._sender_name = sender_name
        self._password_file = password_file
        self._thread = ThreadPoolExecutor(1, "boincserver-mail")
        self._waiting = 0

    @property
    def can_send(self) -> bool:
        """Whether the project sends mail at all."""
        return bool(self._config.host)

    def post(self, letter: Letter) -> None:
        """Send it some time soon."""
        if self._waiting >= _MOST:
            log.error("mail-dropped", to=letter.to, waiting=self._waiting)
            return
        self._waiting += 1
        sent = asyncio.get_running_loop().run_in_executor(self._thread, self._send, letter)
        sent.add_done_callback(self._sent)

    def _sent(self, _future: object) -> None:
        self._waiting -= 1

    async def close(self) -> None:
        """Send what was posted, and stop."""
        await asyncio.to_thread(self._thread.shutdown)

    def _send(self, letter: Letter) -> None:
        config = self._config
        try:
            message = _message(letter, config.sender, self._sender_name)
            with self._connected() as server:
                server.send_message(message, config.sender, [letter.to])
        except Exception as error:  # noqa: BLE001 - whatever a mail server does, the project goes on
            log.error("mail-not-sent", to=letter.to, server=f"{config.host}:{config.port}", error=error)

    def _connected(self) -> smtplib.SMTP:
        config = self._config
        context = ssl.create_default_context()
        if config.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(config.host, config.port, timeout=_TIMEOUT, context=context)
        else:
            server = smtplib.SMTP(config.host, config.port, timeout=_TIMEOUT)
        try:
            if config.security == "starttls":
                server.starttls(context=context)
            if config.user:
                server.login(config.user, self._password_file.read_text("utf-8").strip("\r\n"))
        except BaseException:
            server.close()
            raise
        return server


def _message(letter: Letter, sender: str, sender_name: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = Address(sender_name, addr_spec=sender)
    message["To"] = Address(addr_spec=letter.to)
    message["Subject"] = letter.subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text)
    return message
