"""A user's own `agree=` function, and the child in the sandbox that asks it about pairs of results.

The function is kept where the operator runs the project, as a bundle of source under its digest, and never leaves that
machine. The child decodes what volunteers sent and may do nothing but answer: no file, no socket, some memory, and so
many seconds for each pair. What goes wrong there is an error of the run, kept beside the bundle until the run is asked
for again.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from pymw import codec
from pymw.errors import PyMWError

__all__ = ["Agreements", "ComparisonFailed", "Judge"]

PATIENCE = 10.0  # seconds for one pair
START = 60.0  # seconds until the child is there
READY = b"r"
MEMORY = 2 << 30
FRAME = codec.Limits(size=1 << 30, count=1000)
HEADER = struct.Struct("<I")


class ComparisonFailed(PyMWError):
    """The user's function could not say whether two results agree."""


class Agreements:
    """The functions of a project by their digests, and what went wrong with each."""

    def __init__(self, project: Path) -> None:
        self.folder = project / "pymw_agree"

    def keep(self, digest: str, data: bytes) -> None:
        """Have this function; what went wrong with it before is forgotten."""
        self.folder.mkdir(exist_ok=True)
        path = self.path(digest)
        if not path.exists():
            part = path.with_name(f"{path.name}.{os.getpid()}")
            part.write_bytes(data)
            part.replace(path)
        self._note(digest).unlink(missing_ok=True)

    def path(self, digest: str) -> Path:
        """Its bundle."""
        return self.folder / f"{digest}.zip"

    def fail(self, digest: str, reason: str) -> None:
        """Let whoever runs it know."""
        with contextlib.suppress(OSError):
            self._note(digest).write_text(reason)

    def failure(self, digest: str) -> str | None:
        """What went wrong, if anything did."""
        try:
            return self._note(digest).read_text()
        except OSError:
            return None

    def _note(self, digest: str) -> Path:
        return self.folder / f"{digest}.error"


class Judge:
    """One function in a child of its own, which is started when it is first asked and again after it failed."""

    def __init__(self, kept: Agreements, digest: str) -> None:
        self._kept, self._digest = kept, digest
        self._lock = threading.Lock()
        self._folder = ""
        self._child: subprocess.Popen[bytes] | None = None

    def agree(self, first: bytes, second: bytes) -> bool:
        """Whether the function says of two encoded values that they agree; ComparisonFailed where it does not say."""
        with self._lock:
            try:
                answer = self._ask(codec.encode((first, second), limits=FRAME))
            except ComparisonFailed as error:
                self._end()
                self._kept.fail(self._digest, str(error))
                raise
        return answer

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def _ask(self, question: bytes) -> bool:
        if self._child is None:
            self._child = self._start()
            self._read(self._child, len(READY), time.monotonic() + START, f"did not begin within {START:g} s")
        child, deadline = self._child, time.monotonic() + PATIENCE
        late = f"took longer than {PATIENCE:g} s for two results"
        assert child.stdin is not None
        try:
            child.stdin.write(HEADER.pack(len(question)) + question)
            child.stdin.flush()
        except OSError:
            pass  # it died: its last words are read below
        size = self._read(child, HEADER.size, deadline, late)
        answer = codec.decode(self._read(child, HEADER.unpack(size)[0], deadline, late))
        if isinstance(answer, bool):
            return answer
        raise ComparisonFailed(f"agree= failed:\n{answer}")

    def _read(self, child: subprocess.Popen[bytes], count: int, deadline: float, late: str) -> bytes:
        assert child.stdout is not None
        data = b""
        while len(data) < count:
            ready, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise ComparisonFailed(f"agree= {late}")
            part = os.read(child.stdout.fileno(), count - len(data))
            if not part:
                said = self._last_words(child)
                raise ComparisonFailed(f"agree= ended its process, exit status {child.wait()}{said}")
            data += part
        return data

    def _last_words(self, child: subprocess.Popen[bytes]) -> str:
        try:
            text = (Path(self._folder) / "stderr").read_bytes()[-4000:].decode("utf-8", "replace").strip()
        except OSError:
            return ""
        return f":\n{text}" if text else ""

    def _start(self) -> subprocess.Popen[bytes]:
        self._folder = tempfile.mkdtemp(prefix="pymw-agree-")
        with (Path(self._folder) / "stderr").open("wb") as stderr:
            return subprocess.Popen(
                [sys.executable, "-I", "-m", "pymw.backends.boinc.judge", str(self._kept.path(self._digest))],
                cwd=self._folder,
                env={"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                start_new_session=True,
            )

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            with contextlib.suppress(OSError):
                os.killpg(child.pid, 9)
            child.communicate()
            shutil.rmtree(self._folder, ignore_errors=True)


def _questions() -> Iterator[tuple[bytes, bytes]]:
    """In the child: pairs of encoded values, until the parent is gone."""
    while len(header := sys.stdin.buffer.read(HEADER.size)) == HEADER.size:
        first, second = codec.decode(sys.stdin.buffer.read(HEADER.unpack(header)[0]), limits=FRAME)
        yield first, second


def _answer(bundle: Path) -> None:
    """The child: bound before it reads a line of the user's or of a volunteer's."""
    import traceback

    from pyboinc import sandbox
    from pymw.loader import import_for, load

    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the function prints is no answer
    sandbox.apply(sandbox.Policy(read=[bundle], write=[Path.cwd()], memory=MEMORY))
    out.write(READY)
    out.flush()
    loaded = None
    for pair in _questions():
        answer: bool | str
        try:
            loaded = loaded or load(bundle, Path("code").absolute())
            first, second = (codec.decode(data, modules=import_for(data, loaded.modules)) for data in pair)
            answer = bool(loaded.function(first, second))
        except BaseException:  # noqa: BLE001 - whatever it raises is the run's error
            answer = traceback.format_exc()[-8000:]
        data = codec.encode(answer)
        out.write(HEADER.pack(len(data)) + data)
        out.flush()


if __name__ == "__main__":
    _answer(Path(sys.argv[1]))
