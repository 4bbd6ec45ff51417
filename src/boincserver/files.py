"""Files that volunteers download: immutable, named by their content, in BOINC's fan-out of folders."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final

from boincserver import durable

__all__ = ["FileStore", "Stored", "describe", "fanout"]

FANOUT: Final = 1024
_SUFFIX: Final = re.compile(r"[A-Za-z0-9._-]{0,64}")
_CHUNK: Final = 1 << 20


@lru_cache(maxsize=4096)
def fanout(name: str, folders: int = FANOUT) -> str:
    """The folder of a file among so many, by the official rule."""
    return f"{int(hashlib.md5(name.encode()).hexdigest()[1:8], 16) % folders:x}"


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in the store."""

    name: str
    nbytes: int
    md5: str


@dataclass(frozen=True)
class FileStore:
    """A folder of files under BOINC's fan-out; with no `folders` they all lie in it."""

    folder: Path
    folders: int = FANOUT
    _made: set[str] = field(default_factory=set, repr=False, compare=False)

    def path(self, name: str) -> Path:
        """Where this file is or would be."""
        return Path(self.location(name))

    def location(self, name: str) -> str:
        """The same as text; requests ask often enough for the difference to count."""
        return f"{self.folder}/{self.within(name)}"

    def within(self, name: str) -> str:
        """Where in the folder it is, which is also how the URL of a download ends."""
        return f"{fanout(name, self.folders)}/{name}" if self.folders else name

    def place(self, name: str) -> str:
        """The location, in a folder that exists."""
        location = self.location(name)
        folder = os.path.dirname(location)  # noqa: PTH120
        if folder not in self._made:
            Path(folder).mkdir(exist_ok=True)
            self._made.add(folder)
        return location

    def put(self, data: bytes, stored: Stored) -> Path:
        """Keep these bytes, described by `describe`; on disk after `durable.sync` of the path."""
        path = Path(self.place(stored.name))
        if not path.exists():
            durable.write_new(path, data)
        return path

    @contextmanager
    def incoming(self, suffix: str = "") -> Iterator[Incoming]:
        """Take a file in pieces; `finish` names and keeps it, otherwise nothing is left."""
        descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix=".incoming-")
        with os.fdopen(descriptor, "wb") as file:
            incoming = Incoming(self, file, Path(temporary), suffix)
            try:
                yield incoming
            finally:
                incoming.temporary.unlink(missing_ok=True)


def describe(data: bytes, suffix: str = "") -> Stored:
    """How these bytes are kept: under the name of their digest."""
    return Stored(name_of(hashlib.sha256(data).hexdigest(), suffix), len(data), hashlib.md5(data).hexdigest())


class Incoming:
    """A file on its way into the store."""

    def __init__(self, store: FileStore, file: IO[bytes], temporary: Path, suffix: str) -> None:
        self._store = store
        self._file = file
        self.temporary = temporary
        self._suffix = suffix
        self._sha256, self._md5, self._size = hashlib.sha256(), hashlib.md5(), 0

    def write(self, data: bytes) -> None:
        """The next piece."""
        self._file.write(data)
        self._sha256.update(data)
        self._md5.update(data)
        self._size += len(data)

    @property
    def md5(self) -> str:
        """The digest of what came so far."""
        return self._md5.hexdigest()

    @property
    def size(self) -> int:
        """How many bytes came so far."""
        return self._size

    def finish(self, name: str = "") -> Stored:
        """Bring the file to disk and keep it, by default under the name of its content; a file that is there stays."""
        self._file.flush()
        stored = Stored(name or name_of(self._sha256.hexdigest(), self._suffix), self._size, self._md5.hexdigest())
        path = Path(self._store.place(stored.name))
        if not path.exists():
            os.fchmod(self._file.fileno(), 0o644)
            self.temporary.replace(path)
            durable.sync([path])
        return stored


def name_of(sha256: str, suffix: str) -> str:
    """The physical name of content with this digest."""
    if not _SUFFIX.fullmatch(suffix) or ".." in suffix:
        raise ValueError(f"{suffix!r} cannot end a file name")
    return sha256[:40] + suffix


def digest_file(path: Path, kind: str) -> str:
    """The digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        digest: Any = hashlib.file_digest(file, kind)
    return str(digest.hexdigest())
