"""A volunteer's computer that speaks the wire protocol, in this process: quick, and as odd as a test wants."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urljoin, urlsplit

from boincserver import signing
from boincserver.protocol import upload as upload_protocol
from boincserver.states import ClientState

from .slot import run_in_slot
from .wire import (
    Assignment,
    Finished,
    Reference,
    Reply,
    RequestParts,
    format_request,
    format_upload,
    parse_reply,
    size_query,
)

__all__ = ["SimulatedJob", "SimulatedVolunteer"]

_TIMEOUT: Final = 60.0


@dataclass(frozen=True)
class SimulatedJob:
    """A job for a Python function that plays the program: inputs by open name, and where it comes from."""

    name: str
    workunit: str
    app: str
    command_line: str
    inputs: Mapping[str, bytes]
    output_names: tuple[str, ...]


Compute = Callable[[SimulatedJob], Mapping[str, bytes]]
"""Outputs by open name. An exception is a failed job with exit code 1 and its text on stderr."""


@dataclass
class SimulatedVolunteer:
    """One computer attached to one project.

    With `compute` this function plays the program; otherwise the job's own program runs in a slot folder as under the
    client. A context manager: what it kept on disk is gone afterwards.
    """

    url: str
    authenticator: str
    compute: Compute | None = None
    ncpus: int = 1
    platform: str = "x86_64-pc-linux-gnu"
    name: str = "simulated"
    os_name: str = "Linux simulated"
    fpops: float = 1e9
    host_cpid: str = field(default_factory=lambda: secrets.token_hex(16))
    check_signatures: bool = True
    hostid: int = 0
    rpc_seqno: int = 0
    jobs_done: int = 0
    held: dict[str, Assignment] = field(default_factory=dict)
    finished: dict[str, Finished] = field(default_factory=dict)
    progress: dict[str, float] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="boinc-volunteer-"))
        self._files = self.directory / "projects" / "project"
        self._files.mkdir(parents=True)
        self._key = ""
        self.last_reply = b""
        self._scheduler = urljoin(self.url, "scheduler")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop working and remove what is on disk."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- one thing at a time ----------------------------------------------------------------------------------------

    def contact(
        self, *, seconds: float | None = None, instances: float | None = None, trickles: tuple[str, ...] = ()
    ) -> Reply:
        """One scheduler request: report what is finished, ask for work (by default for a job per idle CPU)."""
        idle = max(0, self.ncpus - len(self.held))
        reported = list(self.finished.values())
        parts = RequestParts(
            self.authenticator, self.hostid, self.rpc_seqno, self.host_cpid, self.platform, self.ncpus,
            float(idle) if seconds is None else seconds, float(idle) if instances is None else instances, self._key,
            reported, list(self.held), trickles, self.name, fpops=self.fpops, os_name=self.os_name,
        )  # fmt: skip
        self.rpc_seqno += 1
        self.last_reply = self.post(self._scheduler, format_request(parts))
        reply = parse_reply(self.last_reply)
        if reply.hostid:
            self.hostid, self.rpc_seqno = reply.hostid, 0
        self._key = reply.code_sign_key or self._key
        self.messages += reply.messages
        for name in reply.acknowledged:
            self.finished.pop(name, None)
        for name in reply.aborted:
            if self.held.pop(name, None) is not None:
                self.finished[name] = Finished(name, ClientState.ABORTED, 202)
        for assignment in reply.assignments:
            self.held[assignment.name] = assignment
        return reply

    def raw_contact(self) -> str:
        """The text of the reply to a request that asks for no work."""
        self.contact(seconds=0, instances=0)
        return self.last_reply.decode()

    def work(self, name: str) -> Finished:
        """Do one held job: download, run, upload. It is reported with the next contact."""
        assignment = self.held[name]
        for reference in (*assignment.program, *assignment.inputs):
            self._fetch(reference)
        state, exit_status, stderr, outputs, elapsed = self._run(assignment)
        files = []
        for reference in assignment.outputs:
            data = outputs.get(reference.file.name)
            if data is None:
                # The client's own words for a required output that is missing: state 3 and yet exit status 0.
                state = ClientState.COMPUTE_ERROR
                continue
            self.upload(reference.file.urls[0], reference.file.name, data)
            files.append((reference.file.name, len(data), hashlib.md5(data).hexdigest()))
        finished = Finished(name, state, exit_status, stderr, elapsed, elapsed, tuple(files))
        del self.held[name]
        self.finished[name] = finished
        self.jobs_done += 1
        return finished

    def step(self) -> int:
        """Contact the server, then do every job that is held; returns how many."""
        self.contact()
        names = list(self.held)
        for name in names:
            if self._stop.is_set():
                break
            if name in self.held:  # else the server took it back meanwhile
                self.work(name)
        return len(names)

    # --- on its own -------------------------------------------------------------------------------------------------

    def start(self, pause: float = 0.2) -> Self:
        """Work in a thread of its own until `close`, looking for jobs at least every `pause` seconds."""
        self._thread = threading.Thread(target=self._live, args=(pause,), name=f"volunteer {self.name}")
        self._thread.start()
        return self

    def _live(self, pause: float) -> None:
        while not self._stop.is_set():
            try:
                busy = self.step() or bool(self.finished)
            except (OSError, http.client.HTTPException) as error:
                # As a client does when the server is away: say so and try again.
                self.messages.append(f"no answer: {error!r}")
                busy = False
            if not busy:
                self._stop.wait(pause)

    # --- the pieces -------------------------------------------------------------------------------------------------

    def _run(self, assignment: Assignment) -> tuple[int, int, str, Mapping[str, bytes], float]:
        if self.compute is None:
            outcome = run_in_slot(
                assignment,
                self.directory / "slots" / "0",
                self._files,
                authenticator=self.authenticator,
                progress=lambda fraction: self.progress.__setitem__(assignment.name, fraction),
                trickled=lambda text: self._carry(assignment, text),
                cancelled=self._stop.is_set,
            )
            state = ClientState.UPLOADED if outcome.exit_status == 0 else ClientState.COMPUTE_ERROR
            return state, outcome.exit_status, outcome.stderr, outcome.outputs, outcome.elapsed
        job = SimulatedJob(
            assignment.name,
            assignment.workunit,
            assignment.app,
            assignment.command_line,
            {reference.open_name: self._path(reference.file.name).read_bytes() for reference in assignment.inputs},
            tuple(reference.open_name for reference in assignment.outputs),
        )
        try:
            made = self.compute(job)
        except Exception as error:  # noqa: BLE001 - whatever a program does, its host reports
            return ClientState.COMPUTE_ERROR, 1, repr(error), {}, 1.0
        outputs = {
            reference.file.name: made[reference.open_name]
            for reference in assignment.outputs
            if reference.open_name in made
        }
        return ClientState.UPLOADED, 0, "", outputs, 1.0

    def _carry(self, assignment: Assignment, text: str) -> None:
        """Bring a message of a running program to the server, at once."""
        name, now = assignment.name, int(time.time())
        message = f"<msg_from_host>\n<result_name>{name}</result_name>\n<time>{now}</time>\n{text}\n</msg_from_host>\n"
        with contextlib.suppress(OSError, http.client.HTTPException):  # the server is away
            self.contact(seconds=0, instances=0, trickles=(message,))
        if name not in self.held:  # taken back just now; this program is ended by nobody, and its result harms nobody
            self.held[name] = assignment
            self.finished.pop(name, None)

    def _path(self, name: str) -> Path:
        return self._files / name

    def _fetch(self, reference: Reference) -> None:
        file = reference.file
        path = self._path(file.name)
        if path.exists():
            return
        data = self.get(file.urls[0])
        if hashlib.md5(data).hexdigest() != file.md5 or len(data) != file.nbytes:
            raise ValueError(f"{file.name} arrived damaged")
        if file.signature and self.check_signatures:
            key = signing.PublicKey.parse(self._key)
            if not signing.verify(data, file.signature, key):
                raise ValueError(f"the signature of {file.name} is wrong")
        path.write_bytes(data)
        path.chmod(0o755 if file.executable else 0o644)

    def upload(self, url: str, name: str, data: bytes) -> None:
        """Upload an output, going on where an earlier attempt stopped."""
        offset = 0
        if len(data) >= 8192:
            status, size = upload_protocol.parse_status(self.post(url, size_query(name)))
            if status != 0:
                raise OSError(f"the server refuses to say how much of {name} it has")
            offset = min(size or 0, len(data))
        status, _ = upload_protocol.parse_status(self.post(url, format_upload(name, data, offset)))
        if status != 0:
            raise OSError(f"the upload of {name} was refused with status {status}")

    def get(self, url: str) -> bytes:
        """GET; OSError for anything but 200."""
        return self._http("GET", url, None)

    def post(self, url: str, body: bytes) -> bytes:
        """POST; OSError for anything but 200."""
        return self._http("POST", url, body)

    def _http(self, method: str, url: str, body: bytes | None) -> bytes:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_TIMEOUT)
        try:
            connection.request(method, parts.path, body, {"User-Agent": "simulated BOINC volunteer"})
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise OSError(f"{method} {url}: status {response.status}")
        return data
