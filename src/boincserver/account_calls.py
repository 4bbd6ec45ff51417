"""The operator's calls about volunteers' accounts and who may make one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import func, select

from boincserver import accounts, consent, invitations, password_reset
from boincserver.errors import BoincServerError
from boincserver.events import Events
from boincserver.protocol.account import password_hash
from boincserver.schema import host as host_table
from boincserver.schema import user as user_table
from boincserver.service import Service
from boincserver.writer import Transaction

__all__ = ["AccountCalls"]

log = Events(__name__)

_USERS: Final = select(
    user_table.c.id,
    user_table.c.email_addr,
    user_table.c.name,
    user_table.c.total_credit,
    user_table.c.expavg_credit,
    select(func.count()).where(host_table.c.userid == user_table.c.id).scalar_subquery(),
).order_by(user_table.c.id)


class AccountCalls:
    """Part of the control interface."""

    service: Service

    async def call_create_account(self, _data: memoryview, email: str, name: str, password: str | None = None) -> str:
        """The key of the account with this address, made if there is none."""
        stored = "" if password is None else await self._stored(email.strip(), password)
        email, name = accounts.checked(email, name, "")
        known = accounts.find_by_email(self.service.database.reader(), email)
        if known is not None:
            return known.authenticator
        now, secret = int(self.service.clock()), self.service.project.upload_secret
        made = await self.service.writer.run(lambda tx: accounts.create(tx.db, email, name, stored, now, secret))
        log.info("account-made", account=made.id, by="operator")
        return made.authenticator

    async def call_users(self, _data: memoryview) -> list[Mapping[str, Any]]:
        """Every account."""
        names = ("id", "email", "name", "total_credit", "expavg_credit", "hosts")
        return [dict(zip(names, row, strict=True)) for row in self.service.database.reader().all(_USERS)]

    async def call_set_password(self, _data: memoryview, email: str, password: str) -> None:
        """Give an account another password."""
        user = accounts.by_email(self.service.database.reader(), email)
        stored = await self._stored(user.email_addr, password)
        await self.service.writer.run(lambda tx: accounts.set_password(tx.db, user.id, stored))
        log.info("password-set", account=user.id, by="operator")

    async def call_reset_link(self, _data: memoryview, email: str, hours: float) -> str:
        """A link with which whoever has it sets the account's password, once."""
        user = accounts.by_email(self.service.database.reader(), email)
        now, url = int(self.service.clock()), self.service.project.config.url
        log.info("password-link-made", account=user.id, by="operator")
        return await self.service.writer.run(lambda tx: password_reset.make(tx.db, user, url, now, int(3600 * hours)))

    async def call_keys(self, _data: memoryview, email: str) -> Mapping[str, str]:
        """The keys of an account: the one that may everything, and the weak one."""
        user = accounts.by_email(self.service.database.reader(), email)
        return {"key": user.authenticator, "weak_key": user.weak_authenticator}

    async def call_allow_beta(self, _data: memoryview, email: str, allow: bool) -> None:
        """Let an account's computers have beta versions, or no more."""
        user = accounts.by_email(self.service.database.reader(), email)
        await self.service.writer.run(lambda tx: accounts.set_beta(tx.db, user.id, allow))

    async def call_share(self, _data: memoryview, email: str, credit: bool | None, hosts: bool | None) -> None:
        """What an account tells others; None leaves it as it is."""
        user, now = accounts.by_email(self.service.database.reader(), email), int(self.service.clock())

        def share(tx: Transaction) -> None:
            if credit is not None:
                consent.record(tx.db, user.id, consent.EXPORT, agreed=credit, source="operator", now=now)
            if hosts is not None:
                accounts.set_show_hosts(tx.db, user.id, hosts)

        await self.service.writer.run(share)

    async def call_invite(self, _data: memoryview, uses: int, days: int, note: str) -> str:
        """A new invitation code."""
        now = int(self.service.clock())
        return await self.service.writer.run(lambda tx: invitations.make(tx.db, now, uses=uses, days=days, note=note))

    async def call_invitations(self, _data: memoryview) -> list[Mapping[str, Any]]:
        """Every invitation."""
        return invitations.listed(self.service.database.reader())

    async def call_revoke_invitation(self, _data: memoryview, code: str) -> bool:
        """Nobody makes an account with it any more."""
        return await self.service.writer.run(lambda tx: invitations.revoke(tx.db, code))

    async def _stored(self, email: str, password: str) -> str:
        least = self.service.project.config.accounts.min_passwd_length
        if len(password) < least:
            raise BoincServerError(f"a password has at least {least} characters (min_passwd_length in project.toml)")
        return await asyncio.to_thread(accounts.hash_password, password_hash(email, password))
