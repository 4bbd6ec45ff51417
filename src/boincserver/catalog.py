"""Applications and their versions, in memory, since every request asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import select

from boincserver.database import Session
from boincserver.errors import BoincServerError
from boincserver.events import Events
from boincserver.plan_classes import PlanClass, find_plan_class
from boincserver.protocol.request import SchedulerRequest
from boincserver.schema import app as app_table
from boincserver.schema import app_version as version_table
from boincserver.schema import boincserver_app as our_app_table
from boincserver.schema import platform as platform_table

__all__ = ["App", "AppVersion", "Catalog", "Choice"]

log = Events(__name__)

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
        app_table.c.beta,
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
        version_table.c.beta,
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
    beta: int = 0
    """Jobs go to those alone who asked for such."""


@dataclass(frozen=True, slots=True)
class AppVersion:
    """An application version: files for one platform."""

    id: int
    appid: int
    version_num: int
    platform: str
    plan_class: str
    xml_doc: str = field(repr=False)
    beta: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """The version that a computer is sent, and how many processors it uses there."""

    version: AppVersion
    processors: float = 1.0


class Catalog:
    """All applications and versions that are not deprecated; `load` again after a change."""

    def __init__(self) -> None:
        self.apps: dict[int, App] = {}
        self._by_name: dict[str, App] = {}
        self._versions: dict[int, list[AppVersion]] = {}
        """Of each application, the newest first."""
        self._plan_classes: dict[str, PlanClass] = {}

    def load(self, db: Session) -> None:
        """Read everything."""
        apps = [
            App(number, name, friendly, validator or "bitwise", assimilator or "outbox", *more)
            for number, name, friendly, validator, assimilator, *more in db.all(_APPS)
        ]
        versions: dict[int, list[AppVersion]] = {app.id: [] for app in apps}
        for version in sorted((AppVersion(*row) for row in db.all(_VERSIONS)), key=lambda v: -v.version_num):
            versions.setdefault(version.appid, []).append(version)
        self.apps = {app.id: app for app in apps}
        self._by_name = {app.name: app for app in apps}
        self._versions = versions
        self._plan_classes = dict(_plan_classes({v.plan_class for found in versions.values() for v in found}))

    def app(self, name: str) -> App | None:
        """The application of that name."""
        return self._by_name.get(name)

    @property
    def has_beta(self) -> bool:
        """True if there is anything that only some volunteers are to have."""
        return any(app.beta for app in self.apps.values()) or any(
            version.beta for versions in self._versions.values() for version in versions
        )

    def usable(self, request: SchedulerRequest, *, beta: bool = False) -> dict[int, Choice]:
        """For each application the version to send to this computer; `beta`: its owner wants what is being tried out.

        The computer's best platform comes first, then the newest version, then the plan class that uses most.
        """
        found: dict[int, Choice] = {}
        for appid, app in self.apps.items():
            if not app.beta or beta:
                choice = self._best(self._versions[appid], request, beta)
                if choice is not None:
                    found[appid] = choice
        return found

    def _best(self, versions: Sequence[AppVersion], request: SchedulerRequest, beta: bool) -> Choice | None:
        for platform in request.platforms:
            choices = [
                choice
                for version in versions
                if version.platform == platform and (beta or not version.beta)
                if (choice := self.choose(version, request)) is not None
            ]
            if choices:
                return max(choices, key=lambda c: (c.version.version_num, c.processors, c.version.plan_class != ""))
        return None

    def choose(self, version: AppVersion, request: SchedulerRequest) -> Choice | None:
        """This version for this computer, or None if the computer is not for it."""
        plan_class = self._plan_classes.get(version.plan_class)
        if plan_class is None or version.platform not in request.platforms:
            return None
        processors = plan_class.processors(request)
        return None if processors is None else Choice(version, processors)

    def version(self, number: int, appid: int) -> AppVersion | None:
        """A version that is still sent."""
        return next((version for version in self._versions.get(appid, ()) if version.id == number), None)

    def versions_of(self, appid: int) -> list[AppVersion]:
        """The newest version of an application for each platform and plan class."""
        newest: dict[tuple[str, str], AppVersion] = {}
        for version in self._versions.get(appid, ()):
            newest.setdefault((version.platform, version.plan_class), version)
        return [newest[key] for key in sorted(newest)]

    @property
    def platforms(self) -> list[str]:
        """Every platform for which there is a version."""
        return sorted({version.platform for versions in self._versions.values() for version in versions})


def _plan_classes(names: Iterable[str]) -> Iterator[tuple[str, PlanClass]]:
    for name in names:
        try:
            yield name, find_plan_class(name)
        except BoincServerError as error:
            log.error("plan-class-not-sent", plan_class=name, error=error)
