"""Applications and their versions, in memory, since every request asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import select

from boincserver.database import Session
from boincserver.schema import app as app_table
from boincserver.schema import app_version as version_table
from boincserver.schema import boincserver_app as our_app_table
from boincserver.schema import platform as platform_table

__all__ = ["App", "AppVersion", "Catalog"]

_APPS: Final = (
    select(
        app_table.c.id,
        app_table.c.name,
        app_table.c.user_friendly_name,
        our_app_table.c.validator,
        our_app_table.c.assimilator,
        app_table.c.target_nresults,
        app_table.c.homogeneous_redundancy,
        app_table.c.homogeneous_app_version,
    )
    .join(our_app_table, our_app_table.c.appid == app_table.c.id, isouter=True)
    .where(app_table.c.deprecated == 0)
)
_VERSIONS: Final = (
    select(
        version_table.c.id,
        version_table.c.appid,
        version_table.c.version_num,
        platform_table.c.name,
        version_table.c.plan_class,
        version_table.c.xml_doc,
    )
    .join(platform_table, platform_table.c.id == version_table.c.platformid)
    .where(version_table.c.deprecated == 0)
)


@dataclass(frozen=True, slots=True)
class App:
    """An application."""

    id: int
    name: str
    user_friendly_name: str
    validator: str
    assimilator: str
    target_nresults: int = 0
    """Adaptive replication: how many results are compared unless the first host is trusted; below 2: off."""
    homogeneous_redundancy: int = 0
    homogeneous_app_version: int = 0


@dataclass(frozen=True, slots=True)
class AppVersion:
    """An application version: files for one platform."""

    id: int
    appid: int
    version_num: int
    platform: str
    plan_class: str
    xml_doc: str = field(repr=False)


class Catalog:
    """All applications and versions that are not deprecated; `load` again after a change."""

    def __init__(self) -> None:
        self.apps: dict[int, App] = {}
        self._by_name: dict[str, App] = {}
        self._versions: dict[tuple[int, str], AppVersion] = {}

    def load(self, db: Session) -> None:
        """Read everything; the newest version for each platform is the one that is sent."""
        apps = [
            App(number, name, friendly, validator or "bitwise", assimilator or "outbox", *more)
            for number, name, friendly, validator, assimilator, *more in db.all(_APPS)
        ]
        versions: dict[tuple[int, str], AppVersion] = {}
        for row in db.all(_VERSIONS):
            version = AppVersion(*row)
            known = versions.get((version.appid, version.platform))
            if known is None or known.version_num < version.version_num:
                versions[version.appid, version.platform] = version
        self.apps = {app.id: app for app in apps}
        self._by_name = {app.name: app for app in apps}
        self._versions = versions

    def app(self, name: str) -> App | None:
        """The application of that name."""
        return self._by_name.get(name)

    def usable(self, platforms: Sequence[str]) -> dict[int, AppVersion]:
        """For each application the version to send to a client that runs these platforms, best platform first."""
        found: dict[int, AppVersion] = {}
        for platform in platforms:
            for (appid, name), version in self._versions.items():
                if name == platform and appid not in found and appid in self.apps:
                    found[appid] = version
        return found

    def versions_of(self, appid: int) -> list[AppVersion]:
        """The newest version of an application for each platform."""
        return [version for (number, _), version in sorted(self._versions.items()) if number == appid]

    @property
    def platforms(self) -> list[str]:
        """Every platform for which there is a version."""
        return sorted({platform for _, platform in self._versions})
