"""A run's journal: one SQLite file that says what was asked for, what came of it, and where the rest was put."""
# ruff: noqa: S608 - what is put into queries here are question marks

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import sqlite3
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from pymw.backends.protocol import Placement
from pymw.errors import RunError, RunNotFound
from pymw.lease import Lease

__all__ = ["Journal", "Record", "Recorded", "forget", "home", "runs"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS task (
    number INTEGER PRIMARY KEY,          -- in the order in which they were asked for
    key TEXT NOT NULL UNIQUE,
    function TEXT NOT NULL,              -- its name
    state INTEGER NOT NULL DEFAULT 0,    -- Recorded
    value BLOB,                          -- the value or the Outcome, pickled by this very program
    asked REAL NOT NULL,
    ended REAL
);
CREATE INDEX IF NOT EXISTS task_function ON task (function, state);  -- to count without reading values
CREATE TABLE IF NOT EXISTS function (
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    part TEXT NOT NULL,
    part_digest TEXT NOT NULL,
    PRIMARY KEY (name, part)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS placement (
    key TEXT PRIMARY KEY,
    unit TEXT NOT NULL,
    position INTEGER NOT NULL,
    attempt INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS placement_unit ON placement (unit, position);
CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
VERSION = 1
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "afs", "9p", "fuse.sshfs"}
FLUSH_EVERY = 0.2  # seconds: so often what was merely asked for is written by itself
AT_ONCE = 500  # SQLite's variables in one query


class Recorded(IntEnum):
    """What the journal says of a task."""

    ASKED = 0
    RETURNED = 1
    FAILED = 2


@dataclass(frozen=True, slots=True)
class Record:
    """A task as the journal has it; its value is read when it is wanted."""

    number: int
    key: str
    function: str
    state: Recorded
    asked: float
    ended: float | None


def home() -> Path:
    """Where runs are kept: $PYMW_HOME, else the user's state directory."""
    if named := os.environ.get("PYMW_HOME"):
        return Path(named).expanduser()
    import platformdirs

    return platformdirs.user_state_path("pymw")


def runs() -> list[str]:
    """The names of all runs, sorted."""
    return sorted(urllib.parse.unquote(path.name) for path in (home() / "runs").glob("*") if (path / FILE).exists())


FILE = "journal.sqlite"
LONGEST_NAME = 255  # bytes, on the usual file systems


def folder(run: str) -> Path:
    """The directory of a run."""
    if not isinstance(run, str) or not run or len(run) > 100:
        raise ValueError(f"a run's name has 1 to 100 characters: {run!r}")
    name = urllib.parse.quote(run, safe=" ")
    if not name.strip("."):  # a folder of that name is another one
        name = name.replace(".", "%2E")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"a run's name is a folder's, and too long for one: {run!r}")
    return home() / "runs" / name


def forget(run: str) -> int:
    """Delete a run, unless somebody holds it; return how many tasks it had."""
    where, tasks = folder(run), 0
    try:
        view = Journal(run, write=False)
        with contextlib.closing(view):
            tasks = sum(view.counts().values())
    except RunNotFound:
        raise
    except RunError:
        pass  # a journal that cannot be read can still be deleted
    lease = Lease(where, run)
    try:
        shutil.rmtree(where)
    finally:
        lease.close()
    return tasks


class Journal:
    """The journal of one run. One process at a time writes; any number look on."""

    def __init__(self, run: str, *, write: bool) -> None:
        self.run = run
        self.folder = folder(run)
        self._lock = threading.RLock()
        self._reading = threading.Lock()
        self._asking = threading.Lock()
        self._written = 0.0  # when it was written to last
        self.lease: Lease | None = None
        self._asked: list[tuple[str, str, float]] = []
        self._later: threading.Timer | None = None  # writes what was asked for last
        if write:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lease = Lease(self.folder, run)
        elif not (self.folder / FILE).exists():
            raise RunNotFound(f"there is no run {run!r}; there are: {', '.join(runs()) or 'none'}")
        try:
            with self._told("opened"):
                if write:
                    self._db = self._connect("")
                    self._refuse_newer(self._db)
                    self._prepare()
                self._reader = self._connect("?mode=ro")  # of its own: reading never waits for the disk
                self._refuse_newer(self._reader)
        except BaseException:
            if self.lease is not None:
                self.lease.close()
            raise

    def _connect(self, mode: str) -> sqlite3.Connection:
        address = f"file:{urllib.parse.quote(str(self.folder / FILE))}{mode}"
        return sqlite3.connect(address, uri=True, check_same_thread=False, isolation_level=None, timeout=30)

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """What SQLite has to say becomes a RunError with the file's name."""
        try:
            yield
        except sqlite3.Error as error:
            raise RunError(f"run {self.run!r}: its journal {self.folder / FILE} cannot be {what}: {error}") from error

    def _refuse_newer(self, db: sqlite3.Connection) -> None:
        if (written := db.execute("PRAGMA user_version").fetchone()[0]) > VERSION:
            raise RunError(f"run {self.run!r} was written by a newer pymw (its journal has version {written})")

    def _prepare(self) -> None:
        # Durable means: a result that was recorded survives the power cord.
        self._db.execute(f"PRAGMA journal_mode = {'DELETE' if _on_network(self.folder) else 'WAL'}")
        self._db.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            for statement in SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._reading, self._told("read"):
            return self._reader.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._told("written"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._written = time.time()

    # Writing.

    def ask(self, keys: Iterable[str], function: str) -> None:
        """These tasks are wanted; soon on disk for onlookers to see, though nothing is lost with them."""
        now = time.time()
        with self._asking:
            self._asked.extend((key, function, now) for key in keys)
        if not 0 <= now - self._written < FLUSH_EVERY:
            self.flush()
        elif self._later is None:
            self._later = threading.Timer(FLUSH_EVERY, self._flush_later)
            self._later.daemon = True
            self._later.start()

    def record(self, ends: Sequence[tuple[str, Recorded, Any]]) -> None:
        """These tasks ended; on disk when this returns."""
        now = time.time()
        rows = [(state, _pickled(value), now, key) for key, state, value in ends]
        with self._transaction():
            self._write_asked()
            self._db.executemany("UPDATE task SET state = ?, value = ?, ended = ? WHERE key = ? AND state != 1", rows)

    def flush(self) -> None:
        """What was asked for is on disk too."""
        if self._asked:
            with self._transaction():
                self._write_asked()

    def _flush_later(self) -> None:
        self._later = None
        with contextlib.suppress(RunError):  # nothing is lost with what was merely asked for
            self.flush()

    def _write_asked(self) -> None:
        with self._asking:
            asked, self._asked = self._asked, []
        again = "ON CONFLICT (key) DO UPDATE SET state = 0 WHERE state = 2"  # it failed before, and is tried once more
        self._db.executemany(f"INSERT INTO task (key, function, asked) VALUES (?, ?, ?) {again}", asked)

    def remember_function(self, name: str, digest: str, parts: Mapping[str, str]) -> dict[str, str] | None:
        """Keep what the function is made of; return what it was made of before, if it was never this."""
        with self._transaction():
            known = self._db.execute("INSERT OR IGNORE INTO note VALUES (?, ?)", (f"function {digest}", name))
            if known.rowcount == 0:
                return None
            rows = self._db.execute("SELECT digest, part, part_digest FROM function WHERE name = ?", (name,)).fetchall()
            if rows and rows[0][0] == digest:
                return None
            self._db.execute("DELETE FROM function WHERE name = ?", (name,))
            self._db.executemany(
                "INSERT INTO function VALUES (?, ?, ?, ?)", [(name, digest, part, d) for part, d in parts.items()]
            )
            return {part: part_digest for _, part, part_digest in rows} if rows else None

    # Reading.

    def ended(self, keys: Sequence[str]) -> dict[str, tuple[Recorded, Any]]:
        """Of these tasks, those that are over, with the value or the Outcome."""
        found = {}
        for start in range(0, len(keys), AT_ONCE):
            some = list(keys[start : start + AT_ONCE])
            marks = ",".join("?" * len(some))
            rows = self._read(f"SELECT key, state, value FROM task WHERE state > 0 AND key IN ({marks})", some)
            for key, state, value in rows:
                found[key] = (Recorded(state), _unpickled(value))
        return found

    def version(self) -> int:
        """Another number whenever somebody else has written."""
        return int(self._read("PRAGMA data_version")[0][0])

    def records(self, after: int = 0) -> Iterator[Record]:
        """All tasks in the order in which they were asked for, read as they are wanted."""
        while True:
            rows = self._read(
                "SELECT number, key, function, state, asked, ended FROM task WHERE number > ? ORDER BY number LIMIT ?",
                (after, AT_ONCE),
            )
            if not rows:
                return
            for number, key, function, state, asked, ended in rows:
                yield Record(number, key, function, Recorded(state), asked, ended)
            after = rows[-1][0]

    def counts(self) -> dict[Recorded, int]:
        """How many tasks there are in each state."""
        rows = self._read("SELECT state, count(*) FROM task GROUP BY state")
        return {state: dict(rows).get(state, 0) for state in Recorded}

    def functions(self) -> dict[str, int]:
        """How many tasks each function has."""
        return dict(self._read("SELECT function, count(*) FROM task GROUP BY function ORDER BY function"))

    def function_results(self, name: str) -> int:
        """How many results of functions of that name there are."""
        return int(self._read("SELECT count(*) FROM task WHERE state > 0 AND function = ?", (name,))[0][0])

    # For backends that outlive their master: RunHandle.

    def place(self, unit: str, keys: Sequence[str], attempt: int = 1) -> None:
        """As RunHandle says."""
        with self._transaction():
            self._write_asked()
            self._db.executemany(
                "INSERT OR REPLACE INTO placement VALUES (?, ?, ?, ?)",
                [(key, unit, position, attempt) for position, key in enumerate(keys)],
            )

    def placements(self, keys: Iterable[str]) -> dict[str, Placement]:
        """As RunHandle says."""
        wanted, found = list(keys), {}
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self._read(f"SELECT key, unit, position, attempt FROM placement WHERE key IN ({marks})", some)
            found.update({key: Placement(unit, position, attempt) for key, unit, position, attempt in rows})
        return found

    def keys_of(self, unit: str) -> list[str]:
        """As RunHandle says."""
        return [key for (key,) in self._read("SELECT key FROM placement WHERE unit = ? ORDER BY position", (unit,))]

    def unfinished(self, unit: str) -> int:
        """How many of the tasks that a unit still holds have no end."""
        query = "SELECT count(*) FROM placement JOIN task USING (key) WHERE unit = ? AND state = 0"
        return int(self._read(query, (unit,))[0][0])

    def note(self, name: str, value: str | None = None) -> str | None:
        """As RunHandle says."""
        if value is not None:
            with self._transaction():
                self._db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, value))
            return value
        rows = self._read("SELECT value FROM note WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else None

    def close(self) -> None:
        """Let others write."""
        if (later := self._later) is not None:
            later.cancel()
            later.join()
        with self._lock:
            lease, self.lease = self.lease, None
            try:
                if lease is not None:
                    with contextlib.suppress(RunError):  # nothing is lost with what was merely asked for
                        self.flush()
                    self._db.close()
            finally:
                self._reader.close()
        if lease is not None:
            lease.close()  # not under the lock: somebody at the door may be about to close us too


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:  # noqa: BLE001 - a class of the script: by value
        from pymw.shipping import pack

        return pack(value, "result")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In the place of a value that is made of what this process lacks."""

    reason: str


def _unpickled(value: bytes) -> Any:
    try:
        return pickle.loads(value)  # noqa: S301 - written by record() alone
    except Exception as error:  # noqa: BLE001 - a class of another script, or of a module that is not on the path here
        return Unreadable(f"{type(error).__name__}: {error}")


def _on_network(path: Path) -> bool:
    """Whether the file system is one where SQLite's WAL, which needs shared memory, must not be used."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    mounts = [(line.split()[1], line.split()[2]) for line in lines if len(line.split()) > 2]
    where = path.resolve()
    fitting = [(point, kind) for point, kind in mounts if where.is_relative_to(point)]
    return bool(fitting) and max(fitting, key=lambda mount: len(mount[0]))[1] in NETWORK
