"""What a submitter and the server say to each other over the control interface, as frozen records."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from boincserver.states import ErrorMask, Outcome, ServerState, ValidateState

__all__ = [
    "AppFile",
    "AppVersionInfo",
    "Attempt",
    "Batch",
    "Changes",
    "Copy",
    "HostInfo",
    "Job",
    "JobOutcome",
    "JobState",
    "SentFile",
    "ServerInfo",
]


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A running project."""

    name: str
    url: str
    server_version: str
    apps: tuple[str, ...]
    directory: str
    one_result_per_user: bool = True
    """Whether copies of a job go to different users, and not only to different hosts."""


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file that is on the server: its name there, and that of its compressed form for clients to fetch instead."""

    name: str
    gzipped: str = ""


@dataclass(frozen=True, slots=True)
class AppFile:
    """A file of an application version. `open_name` is how the program opens it; `copy`: a real copy, not a link.

    `signature` is by the project's key, where that is kept on another machine: see `boincserver app sign`.
    """

    path: str | os.PathLike[str] | SentFile
    open_name: str
    main_program: bool = False
    executable: bool = False
    copy: bool = False
    signature: str = ""


@dataclass(frozen=True, slots=True)
class AppVersionInfo:
    """An application version as it was registered; `created` is false if it was there already."""

    id: int
    app: str
    platform: str
    version_num: int
    created: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs that belong together."""

    id: int
    name: str
    app: str


class Job(NamedTuple):
    """A job to create. An input is its bytes, or the name of a file from `put_file`; an output has its largest size.

    `copy_files`: the program finds real files under the open names (all, or these), instead of BOINC's link files.
    `optional`: outputs that may be missing. `app` is another application than the batch's.
    """

    name: str
    inputs: Mapping[str, bytes | str] = MappingProxyType({})
    outputs: Mapping[str, int] = MappingProxyType({})
    command_line: str = ""
    min_quorum: int = 1
    target_nresults: int | None = None
    max_error_results: int = 3
    max_total_results: int = 10
    max_success_results: int = 6
    delay_bound: int = 7 * 86400
    rsc_fpops_est: float = 3.6e12
    rsc_fpops_bound: float = 8.64e13
    rsc_memory_bound: float = 5e8
    rsc_disk_bound: float = 1e9
    priority: int = 0
    copy_files: bool | Sequence[str] = False
    app: str = ""
    optional: Sequence[str] = ()

    def alike(self) -> tuple[Any, ...]:
        """What this job may have in common with others: everything but the name and the inputs."""
        return self[2:]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One copy of a job and what became of it."""

    result_name: str
    host_id: int
    user_id: int
    outcome: Outcome
    validate_state: ValidateState
    exit_status: int
    stderr: str
    elapsed: float
    cpu: float
    sent_time: int
    received_time: int


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a job ended: outputs of the canonical result, or why there is none."""

    seq: int
    name: str
    error_mask: ErrorMask
    outputs: Mapping[str, bytes]
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class JobState:
    """Where a job is: `unsent`, `in progress` (on these hosts, until this deadline) or `over`.

    `said` is the last message of variety `progress` that one of its programs sent: a stranger's text, unchecked.
    """

    name: str
    state: str
    hosts: tuple[int, ...] = ()
    deadline: int = 0
    said: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """Jobs of a batch whose state changed up to `seq`; a new `epoch` begins with all jobs that hosts have."""

    epoch: str
    seq: int
    jobs: tuple[JobState, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of a job, also one that no host has yet (`host_id` 0), with the outputs that are here."""

    result_name: str
    server_state: ServerState
    outcome: Outcome
    validate_state: ValidateState
    host_id: int
    user_id: int
    exit_status: int
    deadline: int
    stderr: str
    outputs: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class HostInfo:
    """A volunteer's computer and what it did."""

    id: int
    user_id: int
    user_name: str
    domain_name: str
    os_name: str
    ncpus: int
    last_contact: int
    in_progress: int
    succeeded: int
    failed: int
    blocked: bool = False
    """The operator has it sent no work."""
