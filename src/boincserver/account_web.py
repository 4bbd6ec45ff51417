"""The web calls about accounts: look up, create. Whoever guesses passwords or codes is soon asked to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from boincserver import accounts, consent, invitations
from boincserver.errors import AccountError
from boincserver.events import Events
from boincserver.protocol import account as protocol
from boincserver.service import Service
from boincserver.throttle import Throttle
from boincserver.web.password import password_routes
from boincserver.writer import Transaction

__all__ = ["account_routes"]

log = Events(__name__)

_XML: Final = "text/xml; charset=utf-8"
_NEW_PER_HOUR: Final = 20
"""Accounts that one address may make: a class room behind one router, and no flood."""


def account_routes(service: Service, address: Callable[[Request], str]) -> list[Route]:
    """The routes; `address` tells where a request comes from."""
    calls = _AccountCalls(service, address)
    return [
        Route("/get_project_config.php", calls.project_config),
        Route("/lookup_account.php", calls.lookup),
        Route("/create_account.php", calls.create),
        *password_routes(service, address, calls.hashing, calls.failures),
    ]


class _AccountCalls:
    def __init__(self, service: Service, address: Callable[[Request], str]) -> None:
        self._service = service
        self._config = service.project.config
        self._address = address
        # A password takes a good part of 100 ms of a core on purpose; no more than one at a time.
        self.hashing = asyncio.Semaphore(1)
        self.failures = Throttle()
        self._guesses = {protocol.NOT_FOUND, protocol.BAD_PASSWORD, protocol.EXISTS}
        if self._config.accounts.creation == "invited":
            self._guesses.add(protocol.CREATION_DISABLED)
        self._new = Throttle(_NEW_PER_HOUR, 3600.0)

    async def project_config(self, _request: Request) -> Response:
        """What a client asks before it attaches."""
        settings = self._config.accounts
        text = protocol.project_config(
            self._config.name,
            self._config.url,
            settings.min_passwd_length,
            settings.creation,
            self._service.catalog.platforms,
            settings.terms_of_use,
        )
        return Response(text, media_type=_XML)

    async def lookup(self, request: Request) -> Response:
        """lookup_account.php"""
        return await self._answer(self._look_up, request)

    async def create(self, request: Request) -> Response:
        """create_account.php"""
        return await self._answer(self._create, request)

    async def _answer(self, call: Callable[[Request], Awaitable[str]], request: Request) -> Response:
        address, now = self._address(request), self._service.clock()
        try:
            if self.failures.blocked(address, now):
                raise AccountError(protocol.FAILURE, "too many tries from your address; wait a minute")
            text = await self._tried(call, request, address, now)
        except AccountError as error:
            log.info("account-call-refused", address=address, call=request.url.path, why=str(error))
            text = protocol.error_out(error.number, str(error))
        return Response(text, media_type=_XML)

    async def _tried(
        self, call: Callable[[Request], Awaitable[str]], request: Request, address: str, now: float
    ) -> str:
        """Counted as a failure until it is known to be none: many tries at once are many tries."""
        self.failures.failed(address, now)
        guessed = False
        try:
            return await call(request)
        except AccountError as error:
            guessed = error.number in self._guesses
            raise
        finally:
            if not guessed:
                self.failures.forgiven(address)

    async def _look_up(self, request: Request) -> str:
        query = request.query_params
        email, passwd_hash = query.get("email_addr", ""), query.get("passwd_hash", "")
        user = accounts.find_by_email(self._service.database.reader(), email)
        if user is None:
            raise AccountError(protocol.NOT_FOUND, "there is no account with this address")
        if not passwd_hash:
            return protocol.account_exists()
        if not await self._password_is_right(user, passwd_hash):
            raise AccountError(protocol.BAD_PASSWORD, "the password is wrong")
        return protocol.account_out(user.authenticator)

    async def _create(self, request: Request) -> str:
        query = request.query_params
        passwd_hash = query.get("passwd_hash", "")
        email, name = accounts.checked(query.get("email_addr", ""), query.get("user_name", ""), passwd_hash)
        if not passwd_hash:
            raise AccountError(protocol.BAD_PASSWORD, "an account needs a password")
        user = accounts.find_by_email(self._service.database.reader(), email)
        if user is not None:
            # A client that lost the reply asks again with the same password.
            if not await self._password_is_right(user, passwd_hash):
                raise AccountError(protocol.EXISTS, "there is an account with this address")
            return protocol.account_out(user.authenticator)
        invitation = self._invitation(query.get("invite_code", ""))
        agreed = query.get("consent_flag")
        if self._config.accounts.terms_of_use and agreed == "0":
            raise AccountError(protocol.FAILURE, "who takes part agrees to the project's terms of use")
        address, now = self._address(request), int(self._service.clock())
        if self._new.blocked(address, now):
            raise AccountError(protocol.FAILURE, "too many new accounts from your address; come again in an hour")
        self._new.failed(address, now)
        async with self.hashing:
            stored = await asyncio.to_thread(accounts.hash_password, passwd_hash)

        def make(tx: Transaction) -> accounts.User:
            if invitation and not invitations.accept(tx.db, invitation, now):
                raise _not_invited()
            made = accounts.create(tx.db, email, name, stored, now, self._service.project.upload_secret)
            if agreed is not None:
                source = query.get("source", "")
                consent.record(tx.db, made.id, consent.ENROLL, agreed=agreed == "1", source=source, now=now)
            return made

        made = await self._service.writer.run(make)
        log.info("account-made", account=made.id, address=address)
        return protocol.account_out(made.authenticator)

    def _invitation(self, code: str) -> str:
        """The code to use up, if one is needed; AccountError where this stranger may not make an account."""
        creation = self._config.accounts.creation
        if creation == "closed":
            raise AccountError(protocol.CREATION_DISABLED, "only the operator makes accounts in this project")
        if creation == "open":
            return ""
        if not invitations.is_valid(self._service.database.reader(), code, int(self._service.clock())):
            raise _not_invited()
        return code

    async def _password_is_right(self, user: accounts.User, passwd_hash: str) -> bool:
        async with self.hashing:
            right, better = await asyncio.to_thread(accounts.check_password, user, passwd_hash)
        if better:
            await self._service.writer.run(lambda tx: accounts.improve_password(tx.db, user, better))
        return right


def _not_invited() -> AccountError:
    return AccountError(protocol.CREATION_DISABLED, "an account in this project needs an invitation code that is valid")
