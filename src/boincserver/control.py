"""The client of a running server's control interface: create jobs, collect outcomes.

>>> control = connect("~/pi-project")                                        # doctest: +SKIP
>>> control.ensure_app("pi", validator="bitwise")                            # doctest: +SKIP
>>> batch = control.create_batch("pi", "monday", lease=None)                 # doctest: +SKIP
>>> control.create_jobs(batch.id, [Job("pi_1", {"in": b"1"}, {"out": 1000})])  # doctest: +SKIP
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from boincserver import errors, unix_socket
from boincserver.errors import ControlError, NotAProject, ServerNotRunning
from boincserver.framing import Blobs, blob, pack, unpack
from boincserver.records import (
    AppFile,
    AppVersionInfo,
    Attempt,
    Batch,
    Changes,
    Copy,
    HostInfo,
    Job,
    JobOutcome,
    JobState,
    SentFile,
    ServerInfo,
)
from boincserver.states import ErrorMask, Outcome, ServerState, ValidateState

__all__ = [
    "AppFile",
    "AppVersionInfo",
    "Attempt",
    "Batch",
    "Changes",
    "Control",
    "Copy",
    "HostInfo",
    "Job",
    "JobOutcome",
    "JobState",
    "SentFile",
    "ServerInfo",
    "connect",
]

_TIMEOUT: Final = 120.0
_CHUNK: Final = 1 << 20
_JOBS_PER_CALL: Final = 1000


def connect(directory: str | os.PathLike[str]) -> Control:
    """The control interface of the server that runs this project; raises NotAProject or ServerNotRunning."""
    path = Path(directory).expanduser().absolute()
    if not (path / "project.toml").is_file():
        raise NotAProject(f"{path} is not a project (it has no project.toml); make one: boincserver create {path}")
    control = Control(path)
    control.info()
    return control


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = unix_socket.connect(self._path, self.timeout)


class Control:
    """Calls to a running server; usable from any number of threads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __repr__(self) -> str:
        return f"Control({str(self.directory)!r})"

    # --- the project ------------------------------------------------------------------------------------------------

    def info(self) -> ServerInfo:
        """What is served."""
        value = self._call("info")
        return ServerInfo(**{**value, "apps": tuple(value["apps"])})

    def status(self) -> Mapping[str, Any]:
        """Counts of jobs and copies, and what each host did."""
        value: Mapping[str, Any] = self._call("status")
        return value

    def health(self) -> Mapping[str, Any]:
        """Whether everything in the server gets on, as `boincserver doctor` judges it."""
        value: Mapping[str, Any] = self._call("health")
        return value

    def hosts(self) -> list[HostInfo]:
        """Every volunteer's computer with what it did."""
        return [HostInfo(**host) for host in self.status()["hosts"]]

    def host(self, number: int) -> Mapping[str, Any]:
        """One computer: its machine, its record with each application version, and the copies that it had last."""
        value: Mapping[str, Any] = self._call("host", number=number)
        return value

    def block_host(self, number: int, blocked: bool = True) -> None:
        """Send a computer no more work, or again. What it has it may finish; those results are checked by others'."""
        self._call("block_host", number=number, blocked=blocked)

    def create_account(self, email: str, name: str = "", password: str | None = None) -> str:
        """An account's key; that of the account with this address if there is one."""
        key: str = self._call("create_account", email=email, name=name, password=password)
        return key

    def users(self) -> list[Mapping[str, Any]]:
        """Every account, with how many hosts it has and its credit."""
        return list(self._call("users"))

    def allow_beta(self, email: str, allow: bool = True) -> None:
        """Let an account's computers have beta applications and versions, or no more."""
        self._call("allow_beta", email=email, allow=allow)

    def share(self, email: str, *, credit: bool | None = None, hosts: bool | None = None) -> None:
        """Whether an account's credit goes to the sites that gather statistics, and there its computers under its name.

        Neither does unless the volunteer agreed to it; None leaves the last answer as it is.
        """
        self._call("share", email=email, credit=credit, hosts=hosts)

    def invite(self, *, uses: int = 1, days: int = 30, note: str = "") -> str:
        """A code with which so many strangers may make an account, for so many days (0: for ever)."""
        code: str = self._call("invite", uses=uses, days=days, note=note)
        return code

    def invitations(self) -> list[Mapping[str, Any]]:
        """Every invitation code, how often it can still be used, and until when (Unix time; 0: for ever)."""
        return list(self._call("invitations"))

    def revoke_invitation(self, code: str) -> bool:
        """Nobody makes an account with this code any more; false if there is none."""
        return bool(self._call("revoke_invitation", code=code))

    def set_password(self, email: str, password: str) -> None:
        """Give an account a new password."""
        self._call("set_password", email=email, password=password)

    def reset_link(self, email: str, *, hours: float = 24) -> str:
        """A link with which whoever has it gives the account a new password, once, for so many hours."""
        link: str = self._call("reset_link", email=email, hours=hours)
        return link

    def keys(self, email: str) -> Mapping[str, str]:
        """An account's `key`, and its `weak_key`, with which computers take part and nothing else can be done."""
        found: Mapping[str, str] = self._call("keys", email=email)
        return found

    def apps(self) -> list[Mapping[str, Any]]:
        """Every application with its newest version for each platform."""
        return list(self._call("apps"))

    def deprecate(self, app: str, version_num: int) -> int:
        """Send no more of this application's versions up to this number; returns how many they are."""
        count: int = self._call("deprecate", app=app, version_num=version_num)
        return count

    def grant(self, email: str, app: str, *, max_jobs: int | None = None) -> None:
        """Let an account submit jobs of this application over the network, or of `all`."""
        self._call("grant", email=email, app=app, max_jobs=max_jobs)

    def revoke(self, email: str, app: str = "all") -> None:
        """Take that right back."""
        self._call("revoke", email=email, app=app)

    def rights(self) -> list[Mapping[str, Any]]:
        """Every account that may submit over the network, and what."""
        return list(self._call("rights"))

    def batches(self) -> list[Mapping[str, Any]]:
        """Every batch and how far it is."""
        return list(self._call("batches"))

    # --- applications and files -------------------------------------------------------------------------------------

    def ensure_app(
        self,
        name: str,
        *,
        validator: str = "bitwise",
        assimilator: str = "outbox",
        user_friendly_name: str = "",
        target_nresults: int = 0,
        homogeneous_redundancy: int = 0,
        homogeneous_app_version: bool = False,
        beta: bool = False,
    ) -> None:
        """Have an application whose results this validator compares and whose outcomes this assimilator takes.

        With `target_nresults` above 1, jobs of quorum 1 are checked by that many results unless their host is trusted.
        `homogeneous_redundancy` (1 fine, 2 coarse) and `homogeneous_app_version` keep the copies of a job to computers
        of one kind, or to one version. Jobs of a `beta` application go to volunteers alone who allow it.
        """
        self._call(
            "ensure_app",
            name=name,
            validator=validator,
            assimilator=assimilator,
            user_friendly_name=user_friendly_name,
            target_nresults=target_nresults,
            homogeneous_redundancy=homogeneous_redundancy,
            homogeneous_app_version=int(homogeneous_app_version),
            beta=int(beta),
        )

    def ensure_app_version(
        self,
        app: str,
        platform: str,
        version_num: int | None,
        files: Sequence[AppFile],
        *,
        api_version: str = "7.5.0",
        plan_class: str = "",
        beta: bool = False,
    ) -> AppVersionInfo:
        """Have a signed version with exactly these files: the newest one if it has them, else the next number.

        It goes to computers that its plan class is for, and while it is `beta` to volunteers alone who allow it.
        """
        sent = [file.path if isinstance(file.path, SentFile) else self.send(file.path) for file in files]
        described = [
            {
                "name": there.name,
                "gzipped": there.gzipped,
                "open_name": file.open_name,
                "main_program": file.main_program,
                "executable": file.executable or file.main_program,
                "copy": file.copy,
                "signature": file.signature,
            }
            for file, there in zip(files, sent, strict=True)
        ]
        value = self._call(
            "ensure_app_version",
            app=app,
            platform=platform,
            version_num=version_num,
            files=described,
            api_version=api_version,
            plan_class=plan_class,
            beta=beta,
        )
        return AppVersionInfo(**value)

    def send(self, path: str | os.PathLike[str], *, suffix: str | None = None, compressed: bool = False) -> SentFile:
        """Keep a file for application versions, under its digest and `suffix`, by default from its own name.

        With `compressed` clients fetch it gzipped, and expand and check it before they use it.
        """
        suffix = _safe_suffix(Path(path).name) if suffix is None else suffix
        name = self.put_file(path, suffix=suffix)
        if not compressed:
            return SentFile(name)
        data = gzip.compress(Path(path).expanduser().read_bytes(), 9, mtime=0)
        return SentFile(name, self.put_file(data, suffix=f"{suffix}.gz"))

    def put_file(self, source: str | os.PathLike[str] | bytes, *, suffix: str = "") -> str:
        """Keep a file for jobs to use; returns its name, which holds the digest of its content."""
        if isinstance(source, bytes):
            name = hashlib.sha256(source).hexdigest()[:40] + suffix
            return name if self._call("has_file", name=name) else str(self._put(source, len(source), suffix))
        with Path(source).expanduser().open("rb") as file:
            name = hashlib.file_digest(file, "sha256").hexdigest()[:40] + suffix
            if self._call("has_file", name=name):
                return name
            file.seek(0)
            return str(self._put(file, os.fstat(file.fileno()).st_size, suffix))

    def _put(self, body: Any, size: int, suffix: str) -> Any:
        return self._request("PUT", f"/files?suffix={quote(suffix)}", body, {"Content-Length": str(size)})[0]["value"]

    # --- jobs -------------------------------------------------------------------------------------------------------

    def create_batch(self, app: str, name: str, *, lease: float | None = None) -> Batch:
        """The batch of this name. With a lease (in seconds) its jobs end when nobody asks for them for so long."""
        return Batch(**self._call("create_batch", app=app, name=name, lease=lease))

    def gather_batch(self, batch_id: int, key: str = "") -> int:
        """Move into a batch what its owner put into batches `NAME.PART` over the network; how many jobs there were.

        If the batch is nobody's, it belongs to the account with this key from now on, who sees it over the network.
        """
        return int(self._call("gather_batch", batch_id=batch_id, key=key))

    def create_jobs(self, batch_id: int, jobs: Sequence[Job]) -> int:
        """Create those whose names are new; returns how many."""
        created = 0
        for start in range(0, len(jobs), _JOBS_PER_CALL):
            blobs = Blobs()
            described = _described(jobs[start : start + _JOBS_PER_CALL], blobs)
            created += self._call("create_jobs", blobs, batch_id=batch_id, jobs=described)
        return created

    def outcomes(self, batch_id: int, *, after: int = 0, limit: int = 1000, wait: float = 0.0) -> list[JobOutcome]:
        """Outcomes with numbers above `after`, oldest first; waits up to `wait` seconds for the first."""
        document, data = self._request(
            "POST",
            "/call/outcomes",
            pack({"batch_id": batch_id, "after": after, "limit": limit, "wait": wait}),
            timeout=_TIMEOUT + wait,
        )
        return [_outcome(item, data) for item in document["value"]]

    def acknowledge(self, batch_id: int, upto_seq: int) -> None:
        """The outcomes up to this number are kept elsewhere; the server may forget them."""
        self._call("acknowledge", batch_id=batch_id, upto_seq=upto_seq)

    def renew(self, batch_id: int) -> None:
        """Keep a batch with a lease alive; every other call about the batch does so too."""
        self._call("renew", batch_id=batch_id)

    def cancel_jobs(self, batch_id: int, names: Sequence[str] | None = None) -> int:
        """End these jobs, or all of the batch, also on hosts; returns how many were not over."""
        count: int = self._call("cancel_jobs", batch_id=batch_id, names=None if names is None else list(names))
        return count

    def hurry(self, batch_id: int, names: Sequence[str]) -> None:
        """Send one more copy of each of these jobs that hosts are slow with, once, to hosts that fail at nothing."""
        self._call("hurry", batch_id=batch_id, names=list(names))

    def job_states(self, batch_id: int) -> list[JobState]:
        """Where each job of the batch is."""
        listed = self._call("job_states", batch_id=batch_id)
        return [JobState(name, state, tuple(hosts), deadline) for name, state, hosts, deadline in listed]

    def changes(self, batch_id: int, epoch: str = "", after: int = 0) -> Changes:
        """What became of the batch's jobs since a number of this epoch, as far as hosts have them."""
        value = self._call("changes", batch_id=batch_id, epoch=epoch, after=after)
        jobs = tuple(
            JobState(name, state, tuple(hosts), deadline, said) for name, state, hosts, deadline, said in value["jobs"]
        )
        return Changes(value["epoch"], value["seq"], jobs)

    def copies(self, batch_id: int, name: str) -> list[Copy]:
        """Every copy of one job with the outputs that are kept; none if there is no such job."""
        parameters = {"batch_id": batch_id, "name": name}
        document, data = self._request("POST", "/call/copies", pack(parameters))
        return [
            Copy(
                name, ServerState(state), Outcome(outcome), ValidateState(validated), host, user, exit_status, deadline,
                stderr, {open_name: blob(data, reference) for open_name, reference in outputs.items()},
            )
            for name, state, outcome, validated, host, user, exit_status, deadline, stderr, outputs in document["value"]
        ]  # fmt: skip

    # --- the wire ---------------------------------------------------------------------------------------------------

    def _call(self, name: str, blobs: Blobs | None = None, /, **parameters: Any) -> Any:
        return self._request("POST", f"/call/{name}", pack(parameters, blobs))[0]["value"]

    def _request(
        self,
        method: str,
        path: str,
        body: Any,
        headers: Mapping[str, str] | None = None,
        timeout: float = _TIMEOUT,
    ) -> tuple[dict[str, Any], memoryview]:
        # A connection for each call: cheap on a Unix socket, nothing shared between threads, nothing stale after a
        # restart of the server.
        connection = _Connection(self.directory / "run" / "control.sock", timeout)
        try:
            connection.request(method, path, body, {"Host": "localhost", **(headers or {})})
            response = connection.getresponse()
            answer = response.read()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise ServerNotRunning(
                f"no server runs for {self.directory}; start it: boincserver serve {self.directory}"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise ControlError(f"the server of {self.directory} did not answer {path}: {error!r}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise _error(answer, response.status)
        return unpack(answer)


def _error(answer: bytes, status: int) -> Exception:
    try:
        document = json.loads(answer)
        kind = getattr(errors, document["error"])
        message = str(document["message"])
    except (ValueError, KeyError, AttributeError, TypeError):
        return ControlError(f"the server failed with status {status}; its log says more")
    return ControlError(message) if kind is errors.AccountError else kind(message)


def _safe_suffix(name: str) -> str:
    """A file's own name as the end of its physical name, for people who look into folders."""
    kept = "".join(character if character.isalnum() and character.isascii() else "-" for character in name.lower())
    stem = Path(name).suffix
    suffix = stem if stem and stem[1:].isalnum() and stem.isascii() else ""
    return f"_{kept[:40].strip('-')}{suffix[:12]}" if kept.strip("-") else suffix[:12]


def _described(jobs: Sequence[Job], blobs: Blobs) -> list[Any]:
    """Jobs for the wire: what neighbours have in common goes there once."""
    return [
        [(dict(common[0]), *common[1:]), [(job.name, _inputs(job, blobs)) for job in alike]]
        for common, alike in groupby(jobs, key=Job.alike)
    ]


def _inputs(job: Job, blobs: Blobs) -> dict[str, Any]:
    return {
        open_name: content if isinstance(content, str) else blobs.add(content)
        for open_name, content in job.inputs.items()
    }


def _outcome(item: Mapping[str, Any], data: memoryview) -> JobOutcome:
    return JobOutcome(
        item["seq"],
        item["name"],
        ErrorMask(item["error_mask"]),
        {open_name: blob(data, reference) for open_name, reference in item["outputs"].items()},
        tuple(
            Attempt(name, host, user, Outcome(outcome), ValidateState(state), *rest)
            for name, host, user, outcome, state, *rest in item["attempts"]
        ),
    )
