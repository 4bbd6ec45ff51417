"""The folder `boincserver_batches` of an official project: what its tables have no place for.

    boincserver_batches/17/outcomes/NAME   how a job of batch 17 ended, until its submitter has it
    boincserver_batches/17/said/NAME       what the job's program last said of how far it is
    boincserver_batches/17/files/NAME      batch 17 uses this file of the download hierarchy
    boincserver_batches/files/NAME         a file that is shared by jobs, so that the official file deleter keeps it

Submitter and daemons may be different users of one group.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from boincserver import durable

__all__ = ["Batches"]


@dataclass(frozen=True, slots=True)
class Batches:
    """Of the project in this directory."""

    directory: Path

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        return self.directory / "boincserver_batches"

    def known(self) -> set[int]:
        """The batches whose outcomes are to be filed here."""
        try:
            return {int(each) for each in os.listdir(self.folder) if each.isdecimal()}  # noqa: PTH208
        except FileNotFoundError:
            return set()

    def add(self, batch: int) -> None:
        """From now on its outcomes are filed."""
        for folder in (self._outcomes(batch), self._said(batch), self._uses(batch), self._shared()):
            folder.mkdir(parents=True, exist_ok=True)
        self.seen(batch)

    def remove(self, batch: int) -> None:
        """Nobody will ask for it."""
        shutil.rmtree(self.folder / str(batch), ignore_errors=True)

    def seen(self, batch: int) -> None:
        """Its submitter is there."""
        with contextlib.suppress(OSError):  # another user's: the owner alone may set the time
            os.utime(self._uses(batch))

    def unseen(self, batch: int) -> float:
        """For how many seconds its submitter was not there."""
        return time.time() - self._uses(batch).stat().st_mtime

    # --- outcomes

    def file(self, batch: int, name: str, data: bytes) -> Path:
        """Keep how this job ended; on disk after `durable.sync` of the path."""
        (self._said(batch) / name).unlink(missing_ok=True)
        path = self._outcomes(batch) / name
        durable.write_new(path, data, 0o664)
        return path

    def outcomes(self, batch: int) -> list[str]:
        """The names of the jobs whose outcome is here."""
        try:
            return [each for each in os.listdir(self._outcomes(batch)) if not each.startswith(".")]  # noqa: PTH208
        except FileNotFoundError:
            return []

    def say(self, batch: int, name: str, said: str) -> None:
        """The job's program says this."""
        with contextlib.suppress(OSError):  # it is for show
            durable.write_new(self._said(batch) / name, said.encode(), 0o664)

    def said(self, batch: int) -> dict[str, str]:
        """What programs of the batch's jobs last said."""
        found = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._said(batch)) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if not entry.name.startswith("."):
                        found[entry.name] = Path(entry.path).read_text("utf-8")
        return found

    def changed(self, batch: int) -> int:
        """Another number each time an outcome came or went."""
        try:
            return self._outcomes(batch).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def outcome(self, batch: int, name: str) -> bytes | None:
        """How this job ended, if that is here."""
        try:
            return (self._outcomes(batch) / name).read_bytes()
        except FileNotFoundError:
            return None

    def forget(self, batch: int, names: Iterable[str]) -> None:
        """Their submitter has these outcomes."""
        durable.remove(str(self._outcomes(batch) / name) for name in names)

    # --- shared files

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """While nobody else says which files are used, or deletes one that is not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def share(self, name: str) -> None:
        """This file is there for many jobs, and is kept for a while although none uses it."""
        self._shared().mkdir(parents=True, exist_ok=True)
        (self._shared() / name).touch()

    def shared(self) -> dict[str, float]:
        """Those files, and when each was last put."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._shared()) as entries:
            return {entry.name: entry.stat().st_mtime for entry in entries}
        return {}

    def unshare(self, name: str) -> None:
        """The file is gone."""
        (self._shared() / name).unlink(missing_ok=True)

    def use(self, batch: int, names: Iterable[str]) -> None:
        """Jobs of the batch use these files."""
        for name in names:
            (self._uses(batch) / name).touch()

    def used(self, batch: int) -> list[str]:
        """The files that jobs of the batch use."""
        try:
            return os.listdir(self._uses(batch))  # noqa: PTH208
        except FileNotFoundError:
            return []

    def disuse(self, batch: int) -> None:
        """No job of the batch uses any file."""
        durable.remove(str(self._uses(batch) / name) for name in self.used(batch))

    def _outcomes(self, batch: int) -> Path:
        return self.folder / str(batch) / "outcomes"

    def _said(self, batch: int) -> Path:
        return self.folder / str(batch) / "said"

    def _uses(self, batch: int) -> Path:
        return self.folder / str(batch) / "files"

    def _shared(self) -> Path:
        return self.folder / "files"
