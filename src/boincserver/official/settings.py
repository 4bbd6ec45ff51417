"""What an official project's config.xml says, as far as submitting and judging its jobs needs it."""

from __future__ import annotations

import os
import socket
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import sqlalchemy

from boincserver.errors import ConfigError, NotAProject
from boincserver.files import FileStore

__all__ = ["Settings", "is_official"]

_LONGEST: Final = 1 << 20
_SOCKETS: Final = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")  # noqa: S108
_MOST_FOLDERS: Final = 1 << 20


def is_official(directory: Path) -> bool:
    """Whether an official BOINC project is in this directory."""
    return (directory / "config.xml").is_file() and (directory / "project.xml").is_file()


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one project; `folders` is how many each of its file hierarchies has, 0 for none."""

    directory: Path
    master_url: str
    db_name: str
    db_user: str
    db_passwd: str = field(repr=False)
    db_host: str
    db_socket: str
    download_dir: Path
    download_url: str
    upload_dir: Path
    folders: int
    one_result_per_user: bool

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Of the project in this directory; ConfigError names what is missing."""
        if not is_official(directory):
            raise NotAProject(f"{directory} is no official BOINC project: it needs a config.xml and a project.xml")
        path = directory / "config.xml"
        told = _told(path)

        def required(name: str) -> str:
            return _required(path, told, name)

        return cls(
            directory=directory,
            master_url=required("master_url"),
            db_name=required("db_name"),
            db_user=required("db_user"),
            db_passwd=told.get("db_passwd", ""),
            db_host=told.get("db_host", ""),
            db_socket=told.get("db_socket", ""),
            download_dir=_folder(path, "download_dir", required("download_dir")),
            download_url=required("download_url").rstrip("/"),
            upload_dir=_folder(path, "upload_dir", required("upload_dir")),
            folders=_number(path, "uldl_dir_fanout", told.get("uldl_dir_fanout", "0")),
            one_result_per_user=told.get("one_result_per_user_per_wu", "0") != "0",
        )

    @staticmethod
    def master_url_of(directory: Path) -> str:
        """The project's URL, which says nothing of whether all the rest can be read."""
        path = directory / "config.xml"
        return _required(path, _told(path), "master_url")

    @property
    def downloads(self) -> FileStore:
        """What volunteers fetch."""
        return FileStore(self.download_dir, self.folders)

    @property
    def uploads(self) -> FileStore:
        """What they bring back."""
        return FileStore(self.upload_dir, self.folders)

    @property
    def database_url(self) -> str:
        """Where SQLAlchemy finds the project's database."""
        query = {"charset": "utf8mb4"}
        if self._is_here and (found := self._socket()):
            query["unix_socket"] = found
        url = sqlalchemy.URL.create(
            "mysql+pymysql",
            self.db_user,
            self.db_passwd or None,
            self.db_host or "localhost",
            None,
            self.db_name,
            query,
        )
        return url.render_as_string(hide_password=False)

    @property
    def database_in_words(self) -> str:
        """The same for people, without the password."""
        return f"the database {self.db_name} at {self.db_host or 'localhost'} of {self.directory}"

    @property
    def _is_here(self) -> bool:
        # The official programs know their own machine by its name as well.
        return self.db_host in ("", "localhost", socket.gethostname())

    def _socket(self) -> str:
        """As the official programs' library has it: a local server is spoken to by its socket."""
        named = self.db_socket or os.environ.get("MYSQL_UNIX_PORT", "")
        return named or next((each for each in _SOCKETS if Path(each).exists()), "")


def _required(path: Path, told: Mapping[str, str], name: str) -> str:
    if not told.get(name):
        raise ConfigError(f"{path} names no {name}")
    return told[name]


def _told(path: Path) -> dict[str, str]:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if len(data) > _LONGEST or "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ConfigError(f"{path} cannot be read: too long, or with a document type of its own")
    try:
        config = ET.fromstring(data).find("config")  # noqa: S314 - entities were refused above
    except ET.ParseError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if config is None:
        raise ConfigError(f"{path} has no <config>")
    # An empty element such as <one_result_per_user_per_wu/> says yes.
    return {each.tag: (each.text or "").strip() or _if_empty(each) for each in config}


def _if_empty(element: ET.Element) -> str:
    return "1" if element.tag.startswith("one_result_per_") else ""


def _folder(path: Path, name: str, value: str) -> Path:
    folder = Path(value)
    if not folder.is_absolute():
        raise ConfigError(f"{path}: {name} must be an absolute path, not {value!r}")
    if not folder.is_dir():
        raise ConfigError(f"{path}: the {name} {value} is no folder on this machine")
    return folder


def _number(path: Path, name: str, value: str) -> int:
    if not value.isdecimal() or int(value) > _MOST_FOLDERS:
        raise ConfigError(f"{path}: {name} must be a number of folders, not {value[:40]!r}")
    return int(value)
