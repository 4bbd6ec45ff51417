"""The operator's calls about who may submit over the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from boincserver import accounts
from boincserver.service import Service
from boincserver.submission import rights

__all__ = ["RightsCalls"]


class RightsCalls:
    """Part of the control interface."""

    service: Service

    async def call_grant(self, _data: memoryview, email: str, app: str, max_jobs: int | None) -> None:
        """Let an account submit jobs of an application, or of `all`."""
        user, appid = self._found(email, app)
        await self.service.writer.run(lambda tx: rights.grant(tx.db, user, appid, max_jobs))

    async def call_revoke(self, _data: memoryview, email: str, app: str) -> None:
        """Take that right back."""
        user, appid = self._found(email, app)
        await self.service.writer.run(lambda tx: rights.revoke(tx.db, user, appid))

    async def call_rights(self, _data: memoryview) -> list[Mapping[str, Any]]:
        """Who may submit what."""
        return rights.granted(self.service.database.reader())

    def _found(self, email: str, app: str) -> tuple[int, int | None]:
        user = accounts.by_email(self.service.database.reader(), email)
        return user.id, None if app == "all" else self.service.submitter.app(app).id
