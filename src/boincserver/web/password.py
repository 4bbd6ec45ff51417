"""The pages of somebody who forgot his password: ask for a link by mail, and set a new password with it.

Nobody learns here whether an address has an account: the answer is the same and comes before anybody looks. A link is
used up by the new password alone, so a program that looks at the links in somebody's mail spoils nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from html import escape
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from boincserver import accounts, password_reset
from boincserver.body import TooLargeError, read
from boincserver.events import Events
from boincserver.mail import Letter
from boincserver.protocol.account import password_hash
from boincserver.service import Service
from boincserver.throttle import Throttle
from boincserver.web.page import page
from boincserver.writer import Transaction

__all__ = ["password_routes"]

log = Events(__name__)

_MOST_BYTES: Final = 16384
_ASKED_PER_HOUR: Final = 10
"""From one address on the network."""
_LONGEST: Final = 1000
"""Characters of a password."""


def password_routes(
    service: Service, address: Callable[[Request], str], hashing: asyncio.Semaphore, failures: Throttle
) -> list[Route]:
    """The routes; `hashing` and `failures` are shared with the calls of clients."""
    pages = _Pages(service, address, hashing, failures)
    return [
        # Where the BOINC Manager sends whoever forgot his password.
        Route("/get_passwd.php", pages.ask, methods=["GET"]),
        Route("/get_passwd.php", pages.asked, methods=["POST"]),
        Route(f"/{password_reset.PAGE}", pages.choose, methods=["GET"]),
        Route(f"/{password_reset.PAGE}", pages.chosen, methods=["POST"]),
    ]


class _Pages:
    def __init__(
        self, service: Service, address: Callable[[Request], str], hashing: asyncio.Semaphore, failures: Throttle
    ) -> None:
        self._service = service
        self._config = service.project.config
        self._address = address
        self._hashing = hashing
        self._failures = failures
        self._asked = Throttle(_ASKED_PER_HOUR, 3600.0)
        self._letters: set[asyncio.Task[None]] = set()

    # --- ask for a link ---------------------------------------------------------------------------------------------

    async def ask(self, _request: Request) -> Response:
        """The form for an address."""
        if not self._service.mailer.can_send:
            return self._page(
                "No mail",
                "<p>This project sends no mail. Ask whoever operates it for a link to a new password.</p>\n",
            )
        return self._page(
            "Forgot your password?",
            "<p>Type the address of your account: a link to a new password comes by mail.</p>\n"
            '<form method="post" action="get_passwd.php">\n<label for="email">E-mail address</label>\n'
            '<input id="email" name="email" type="email" required maxlength="254" autocomplete="email">\n'
            "<button>Send the link</button>\n</form>\n",
        )

    async def asked(self, request: Request) -> Response:
        """The address."""
        form = await self._form(request)
        if isinstance(form, Response):
            return form
        if not self._service.mailer.can_send:
            return await self.ask(request)
        address, now = self._address(request), self._service.clock()
        if self._asked.blocked(address, now):
            return self._refused("Too often", "Too many links were asked for from your address; come again later.", 429)
        self._asked.failed(address, now)
        letter = asyncio.create_task(self._send_link(form.get("email", ""), address))
        self._letters.add(letter)
        letter.add_done_callback(self._letters.discard)
        return self._page(
            "Look into your mail",
            "<p>If the address belongs to an account of this project, a link is on its way to it. It is good for an "
            "hour.</p>\n",
        )

    async def _send_link(self, email: str, asker: str) -> None:
        now = int(self._service.clock())
        user = accounts.find_by_email(self._service.database.reader(), email)
        if user is None:
            return

        def make(tx: Transaction) -> str:
            if not password_reset.may_mail(tx.db, user, now):
                return ""
            return password_reset.make(tx.db, user, self._config.url, now, password_reset.BY_MAIL)

        try:
            link = await self._service.writer.run(make)
        except Exception:
            log.exception("password-link-not-made", account=user.id)
            return
        if not link:
            log.warning("password-link-refused", account=user.id, address=asker, why="it has had enough of them")
            return
        text = (
            f"Somebody, probably you, asked for a new password in the project {self._config.name}.\n"
            f"Choose it here, within an hour:\n\n{link}\n\n"
            f"If that was not you, do nothing: your password stays as it is.\n"
        )
        log.info("password-link-mailed", account=user.id, address=asker)
        self._service.mailer.post(Letter(user.email_addr, f"A new password for {self._config.name}", text))

    # --- choose a new password --------------------------------------------------------------------------------------

    async def choose(self, request: Request) -> Response:
        """The form for a new password, if the link is good."""
        secret = request.query_params.get("token", "")
        return self._look(request, secret) or self._form_for_password(secret)

    async def chosen(self, request: Request) -> Response:
        """The new password."""
        form = await self._form(request)
        if isinstance(form, Response):
            return form
        secret, password = form.get("token", ""), form.get("password", "")
        if (refused := self._look(request, secret)) is not None:
            return refused
        least = self._config.accounts.min_passwd_length
        if not least <= len(password) <= _LONGEST:
            return self._form_for_password(secret, f"A password has at least {least} characters.")
        if password != form.get("again"):
            return self._form_for_password(secret, "The two passwords differ.")
        return await self._set(request, secret, password)

    async def _set(self, request: Request, secret: str, password: str) -> Response:
        now = int(self._service.clock())
        user = password_reset.owner(self._service.database.reader(), secret, now)
        if user is None:
            return self._not_good()
        async with self._hashing:
            stored = await asyncio.to_thread(accounts.hash_password, password_hash(user.email_addr, password))
        done = await self._service.writer.run(lambda tx: password_reset.redeem(tx.db, secret, stored, now))
        if done is None:
            return self._not_good()
        log.info("password-set", account=user.id, address=self._address(request))
        if self._service.mailer.can_send:
            text = f"The password of your account in the project {self._config.name} was changed just now.\n"
            self._service.mailer.post(Letter(user.email_addr, f"Your password in {self._config.name}", text))
        return self._page(
            "Your password is changed",
            "<p>Use it from now on. Computers that take part already go on as they are; those that joined with the "
            "account's weak key need the new one.</p>\n",
        )

    def _look(self, request: Request, secret: str) -> Response | None:
        """What to say of a link that is not good, or to somebody who guesses; None for a good one."""
        address, now = self._address(request), self._service.clock()
        if self._failures.blocked(address, now):
            return self._refused("Wait a minute", "Too many tries from your address.", 429)
        if password_reset.owner(self._service.database.reader(), secret, int(now)) is None:
            self._failures.failed(address, now)
            return self._not_good()
        return None

    def _not_good(self) -> Response:
        return self._refused(
            "This link is not good any more", "It was used already, or it is too old. Ask for another one.", 410
        )

    def _form_for_password(self, secret: str, problem: str = "") -> Response:
        said = f'<p role="alert" id="problem"><strong>{escape(problem)}</strong></p>\n' if problem else ""
        least = self._config.accounts.min_passwd_length

        def field(name: str, label: str) -> str:
            described = ' aria-describedby="problem"' if problem else ""
            return (
                f'<label for="{name}">{label}</label>\n<input id="{name}" name="{name}" type="password" required '
                f'minlength="{least}" maxlength="{_LONGEST}" autocomplete="new-password"{described}>\n'
            )

        return self._page(
            "Choose a new password",
            f'{said}<form method="post" action="{password_reset.PAGE}">\n'
            f'<input type="hidden" name="token" value="{escape(secret)}">\n'
            f"{field('password', f'New password, at least {least} characters')}{field('again', 'The same once more')}"
            f"<button>Set the password</button>\n</form>\n",
            400 if problem else 200,
        )

    # --- both -------------------------------------------------------------------------------------------------------

    async def _form(self, request: Request) -> dict[str, str] | Response:
        try:
            body = await read(request, _MOST_BYTES)
            fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=20)
        except ClientDisconnect:
            return self._refused("Once more", "The form did not arrive.", 408)
        except (TooLargeError, ValueError):
            return self._refused("Once more", "The form cannot be read.", 400)
        return {name: values[-1] for name, values in fields.items()}

    def _refused(self, title: str, text: str, status: int) -> Response:
        return self._page(title, f'<p role="alert">{escape(text)}</p>\n', status)

    def _page(self, title: str, body: str, status: int = 200) -> Response:
        return page(title, body, self._config.name, status)
