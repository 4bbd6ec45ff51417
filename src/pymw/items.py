"""The child of a job on a volunteer's computer: checks what it is to run, and runs item after item.

Each outcome is appended to a journal, so that whoever watches can charge the item that a child died on, and the next
child takes the rest. Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import faulthandler
import importlib
import io
import os
import stat
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from pymw import codec, envelope, signature
from pymw.outcome import Ending, ExceptionData, Outcome
from pymw.volunteer import BUNDLE, FILES, HOST_FAILED, JOURNAL, OUTCOMES, PROGRESS, SIGNATURE, TASKS, TRUSTED
from pymw.worker import CurrentTask, install, perform, seed_generators
from pymw.workplace import left_behind, workplace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    from pyboinc.ending import ChildExit
    from pymw.loader import Loaded

__all__ = ["Journal", "charge", "run"]

CODE = "pymw_code"  # the user's own modules, unpacked
WORK = "pymw_work"  # the working directory of the call that runs
MOST_JOURNAL = 128 << 20  # bytes of all outcomes of a job; the server takes no more than half of that
MAX_OUTPUT_FILES = 48 << 20  # bytes in all of the files that one call leaves


def charge(ending: ChildExit, journal: str) -> bool:
    """Note the item that the child died on, or that nothing more can run here; False if there is nothing to bring home.

    In the second case the next child has only to bring home what is finished; the rest is for another host.
    """
    from pyboinc.slot import resolve

    try:
        with contextlib.closing(Journal(Path(journal))) as kept:
            count = len(envelope.unpack_job(Path(resolve(TASKS)).read_bytes()).items)
            return _charge(ending, kept, count)
    except OSError as error:
        sys.stderr.write(f"the job's own record cannot be used: {error}\n")
        return False


def _charge(ending: ChildExit, kept: Journal, count: int) -> bool:
    stderr = ending.stderr.decode("utf-8", "replace")
    if kept.running is not None:
        kind = Ending.OUT_OF_TIME if ending.cause == "time" else Ending.LOST
        kept.finish(kept.running, envelope.pack_outcome(Outcome(kind, detail=str(ending), stderr=stderr)))
        return True
    lost = envelope.pack_outcome(Outcome(Ending.LOST, detail=f"the host could not go on: {ending}", stderr=stderr))
    left = [index for index in range(count) if index not in kept.finished] if kept.finished else []
    for index in left:
        kept.finish(index, lost)
    return bool(left)


class Journal:
    """The outcomes so far, appended one by one: (index, packed outcome), or (index, nothing) when an item begins."""

    HEADER = struct.Struct("<ii")  # index, length; length -1 for an item that begins

    def __init__(self, path: Path) -> None:
        self.path = path
        self._appended: IO[bytes] | None = None
        self.finished: dict[int, bytes] = {}
        self.running: int | None = None
        with self._open(os.O_RDONLY | os.O_CREAT) as file:
            data = file.read()
        whole = 0
        while whole + self.HEADER.size <= len(data):
            index, length = self.HEADER.unpack_from(data, whole)
            content = whole + self.HEADER.size
            if length < 0:
                self.running, length = index, 0
            elif content + length > len(data):
                break
            else:
                self.running, self.finished[index] = None, data[content : content + length]
            whole = content + length
        if whole < len(data):  # it was killed in the middle of writing: that item runs again
            with self._open(os.O_WRONLY) as file:
                file.truncate(whole)

    def begin(self, index: int) -> None:
        """Item `index` runs from now on."""
        self._append(self.HEADER.pack(index, -1))

    def finish(self, index: int, outcome: bytes) -> None:
        """Item `index` ended."""
        self.finished[index] = outcome
        self.running = None
        self._append(self.HEADER.pack(index, len(outcome)) + outcome)

    def _append(self, record: bytes) -> None:
        if self._appended is None:
            self._appended = self._open(os.O_WRONLY | os.O_APPEND, buffering=0)
        self._appended.write(record)

    def close(self) -> None:
        """Nothing more is written."""
        if self._appended is not None:
            self._appended.close()
            self._appended = None

    def _open(self, flags: int, buffering: int = -1) -> IO[bytes]:
        # The folder is the user code's own, and the supervisor is not in its sandbox: no link leads it astray.
        safe = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self.path, flags | safe, 0o644)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_size > MOST_JOURNAL:
            os.close(descriptor)
            raise OSError(errno.EPERM, "not what a job of ours writes", str(self.path))
        return os.fdopen(descriptor, "wb" if flags & os.O_WRONLY else "rb", buffering)


def run() -> int:
    """Run the job's items, as far as they are not finished, in the current directory; the exit code."""
    faulthandler.enable()  # so that a crash in C tells the line of Python
    with contextlib.closing(Journal(Path(JOURNAL))) as journal:
        return _run_all(envelope.unpack_job(_read(TASKS)), journal)


def _run_all(job: envelope.Job, journal: Journal) -> int:
    left = [index for index in range(len(job.items)) if index not in journal.finished]
    if left:
        import pyboinc

        loaded = _loaded()
        if loaded is None:
            return HOST_FAILED
        files = {name: Path(_resolve(f"{FILES}/{name}")).resolve() for name in job.files}
        telling = _Telling(job.tell_every, len(job.items))
        folder = Path(WORK).absolute()
        for index in left:
            journal.begin(index)
            with workplace(folder, files, again=True):
                outcome = _run(loaded, job, index, telling)
            journal.finish(index, outcome)
        if job.time_limit:
            pyboinc.time_limit(0)  # what follows is not the last item's
    target = Path(_resolve(OUTCOMES))
    part = target.with_name(target.name + ".part")
    part.write_bytes(envelope.pack_outcomes([journal.finished[index] for index in range(len(job.items))]))
    part.replace(target)
    return 0


def _loaded() -> Loaded | None:
    """The function, if its code is signed and can be loaded here; else stderr says why not."""
    from pymw.loader import load

    try:
        signature.check(_read(TRUSTED), _read(SIGNATURE), {BUNDLE: _read(BUNDLE)}, time.time())
        loaded = load(Path(_resolve(BUNDLE)), Path(CODE).absolute())
    except signature.BadSignature as refused:
        sys.stderr.write(f"refused: {refused}\n")
        return None
    except BaseException:  # noqa: BLE001 - whatever the user's modules raise: the traceback is for the attempt's record
        import traceback

        traceback.print_exc()
        return None
    for module in loaded.requires:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)  # before the seeds: some have a random generator of their own
    return loaded


def _run(loaded: Loaded, job: envelope.Job, index: int, telling: _Telling) -> bytes:
    import pyboinc
    from pymw.loader import import_for

    item = job.items[index]
    task = _VolunteersTask(item, index, telling, loaded.modules)
    install(task)
    telling.tell(index, 0.0)
    if job.time_limit:
        pyboinc.time_limit(job.time_limit)
    try:
        with _captured() as (stdout, stderr):
            args, kwargs = envelope.unpack_call(item.arguments, import_for(item.arguments, loaded.modules))
            if item.seed is not None:
                seed_generators(item.seed)
            outcome = perform(loaded.function, args, kwargs, encodable=envelope.encodable)
    finally:
        install(None)
    fault = _fault_of_host(outcome.exception, loaded.requires)
    if fault is not None:
        outcome = Outcome(Ending.LOST, detail=fault)
    elif outcome.ending is Ending.RETURNED and job.outputs:
        outcome = _with_files(outcome, job.outputs)
    outcome = dataclasses.replace(outcome, stdout=stdout.text(), stderr=stderr.text(), log=tuple(task.logged))
    return envelope.pack_outcome(outcome)


def _with_files(outcome: Outcome, names: Sequence[str]) -> Outcome:
    """The outcome with the files that the call left in its working directory."""
    try:
        return dataclasses.replace(outcome, files=left_behind(names, MAX_OUTPUT_FILES))
    except OSError as error:
        said = ExceptionData.of(error, envelope.encodable, skip=1)
        return dataclasses.replace(outcome, ending=Ending.RAISED, value=None, exception=said)


def _fault_of_host(error: ExceptionData | None, requires: Sequence[str]) -> str | None:
    """What an exception says of this computer rather than of the function; None where it is the function's own."""
    if error is None or error.module != "builtins":
        return None
    if error.qualname == "MemoryError":
        return "the host's memory was not enough"
    if error.qualname == "OSError" and error.args and error.args[0] == errno.ENOSPC:
        return "the host's disk was full"
    if error.qualname == "ModuleNotFoundError" and error.state.get("name", "").partition(".")[0] in requires:
        return f"the host has no module {error.state['name']!r}"
    return None


class _Telling:
    """How far the job is: to the volunteer's client at once, to the project now and then.

    The messages to the project grow rarer as the job grows older, so that a long one sends some dozens and no more.
    What comes in between waits for the next one, which is sent also where the function says nothing more.
    """

    RARER = 0.1  # of the time that the job has run goes by between two messages

    def __init__(self, every: float, count: int) -> None:
        self.every, self.count = every, count
        self.started = time.monotonic()
        self.next = self.started + every
        self.latest: tuple[int, float] | None = None  # what waits to be told
        self.lock = threading.Lock()

    def tell(self, index: int, fraction: float) -> None:
        """Item `index` is so far."""
        import pyboinc

        pyboinc.fraction_done((index + fraction) / self.count)
        with self.lock:
            waits, self.latest = self.latest is not None, (index, fraction)
            rest = self.next - time.monotonic()
        if rest <= 0:
            self.say()
        elif not waits:
            timer = threading.Timer(rest, self.say)
            timer.daemon = True  # a job that ends says so by its end
            timer.start()

    def say(self) -> None:
        """Send what waits, if it was not sent meanwhile."""
        import pyboinc

        with self.lock:
            now = time.monotonic()
            if now < self.next - 0.01:
                return  # a timer that comes late, after what it was to send
            waiting, self.latest = self.latest, None
            self.next = now + max(self.every, self.RARER * (now - self.started))
        if waiting is not None:
            pyboinc.trickle_up(PROGRESS, f"{waiting[0]} {waiting[1]:.4f}")


class _VolunteersTask(CurrentTask):
    """What the function's progress() and checkpoint reach: BOINC's own, scaled to this item's part of the job."""

    def __init__(self, item: envelope.Item, index: int, telling: _Telling, modules: tuple[str, ...]) -> None:
        self.id, self.index, self.telling, self.modules = item.id, index, telling, modules
        self.logged: deque[str] = deque(maxlen=envelope.MAX_LINES)

    def progress(self, fraction: float) -> None:
        self.telling.tell(self.index, fraction)

    def log(self, message: str) -> None:
        self.logged.append(message)

    def load(self, default: Any) -> Any:
        import pyboinc

        saved = pyboinc.checkpoint.load()
        if saved is None:
            return default
        index, state = codec.decode(saved)
        return codec.decode(state, modules=self.modules) if index == self.index else default

    def save(self, value: Any) -> None:
        import pyboinc

        pyboinc.checkpoint.save(codec.encode((self.index, codec.encode(value))))

    def due(self) -> bool:
        import pyboinc

        return pyboinc.checkpoint.due()


class _Tail(io.BufferedIOBase):
    """Keeps the end of what is written."""

    def __init__(self) -> None:
        self._kept = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._kept = (self._kept + data)[-4 * envelope.MAX_TEXT :]
        return len(data)

    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")[-envelope.MAX_TEXT :]

    def stream(self) -> io.TextIOWrapper:
        """Of text, with bytes behind it, as a program's standard output is."""
        return io.TextIOWrapper(self, "utf-8", "backslashreplace", newline="\n", write_through=True)  # type: ignore[arg-type]


@contextlib.contextmanager
def _captured() -> Iterator[tuple[_Tail, _Tail]]:
    stdout, stderr = _Tail(), _Tail()
    with contextlib.redirect_stdout(stdout.stream()), contextlib.redirect_stderr(stderr.stream()):
        yield stdout, stderr


def _read(name: str) -> bytes:
    return Path(_resolve(name)).read_bytes()


def _resolve(name: str) -> str:
    import pyboinc

    return pyboinc.resolve(name)
