"""A project over HTTP with the methods of `control.Control`: jobs in bulk, outcomes under growing numbers.

    create_jobs ─▶ upload absent files ─▶ jobs of an official batch, named by the run
    outcomes    ◀─ files of the finished jobs ◀─ those batches whose counts have changed
    acknowledge ─▶ a batch that is over and fetched is retired: the server lets its files go

A run is a family of batches, `NAME.DIGEST`; the server knows all that is needed to go on after a crash.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from boincserver.errors import ControlError, ServerNotRunning, SubmissionRefused, UnknownBatch
from boincserver.protocol import documents
from boincserver.protocol.documents import OutputSpec
from boincserver.protocol.templates import FileUse, format_input_template
from boincserver.records import Batch, Changes, Copy, HostInfo, Job, JobOutcome, JobState
from boincserver.remote.family import Family, Official
from boincserver.remote.gathering import Gathering, pause_after
from boincserver.remote.server import RemoteJob, RemoteServer, name_of
from boincserver.remote.told import BatchStatus, JobStatus
from boincserver.states import BatchState

__all__ = ["RemoteProject"]

_MOST_JOBS: Final = 2000
_MOST_TRIES: Final = 5
_ABORTED_AT_ONCE: Final = 500
_HOSTS_FOR: Final = 10.0
OURS: Final = "boincserver"


class RemoteProject:
    """As `Control`, over HTTP; `outputs` names the output files of jobs that an earlier process created."""

    def __init__(self, server: RemoteServer, *, outputs: Sequence[str] = ()) -> None:
        self.server = server
        self.is_ours = server.ping() == OURS
        self._lock = threading.RLock()
        self._gathering = Gathering(server, outputs, self._lock)
        self._families: dict[int, Family] = {}
        self._numbers = itertools.count(1)
        self._hosts: tuple[float, list[HostInfo], bool] = (0.0, [], True)

    # --- jobs go out ------------------------------------------------------------------------------------------------

    def create_batch(self, app: str, name: str, *, lease: float | None = None) -> Batch:
        """A run of this name, with whatever an earlier process left of it on the server."""
        family = Family(app, name, lease)
        for batch in self.server.query_batches():
            # Without a digest it was begun on the project's machine.
            if f"{batch.name}.".startswith(f"{name}.") and batch.state <= BatchState.COMPLETE:
                jobs = self.server.query_batch(batch.id).jobs
                family.batches[batch.id] = Official(batch.id, batch.app_name, {job.name for job in jobs})
        number = next(self._numbers)
        self._families[number] = family
        return Batch(number, name, app)

    def put_file(self, source: str | os.PathLike[str] | bytes) -> str:
        """Keep a file for jobs to use, unless it is there; returns its name."""
        return self.server.put_files([source])[0]

    def create_jobs(self, batch_id: int, jobs: Sequence[Job]) -> int:
        """Create those whose names are new; returns how many."""
        family = self._family(batch_id)
        by_app: defaultdict[str, list[Job]] = defaultdict(list)
        for job in jobs:
            if family.holding(job.name) is None:
                by_app[job.app or family.app].append(job)
        for app, new in by_app.items():
            for start in range(0, len(new), _MOST_JOBS):
                self._submit(family, app, new[start : start + _MOST_JOBS])
        return sum(map(len, by_app.values()))

    def _submit(self, family: Family, app: str, jobs: Sequence[Job]) -> None:
        official = self._growing(family, app, len(jobs)) if self.is_ours else None
        try:
            name = f"{family.name}.{hashlib.sha256(' '.join(job.name for job in jobs).encode()).hexdigest()[:16]}"
            number = self._submitted(family, app, jobs, official.id if official else name)
            with self._lock:
                if official is None:
                    official = family.batches[number] = Official(number, app, growing=1)
                official.names.update(job.name for job in jobs)
                official.outputs.update((job.name, tuple(job.outputs)) for job in jobs)
                official.counts = (-1.0, -1)
        finally:
            if official is not None:
                with self._lock:
                    official.growing -= 1

    def _growing(self, family: Family, app: str, more: int) -> Official | None:
        """A living batch that has room for more jobs; one for each call would be many."""
        with self._lock:
            for official in family.batches.values():
                if official.app == app and not official.complete and len(official.names) + more <= _MOST_JOBS:
                    official.growing += 1
                    return official
        return None

    def _submitted(self, family: Family, app: str, jobs: Sequence[Job], batch: int | str) -> int:
        """The number of the batch that holds these jobs now; an answer that was lost does not make them twice."""
        number = batch if isinstance(batch, int) else 0
        for tried in range(_MOST_TRIES):
            try:
                there = self._find(batch) if tried else None
                number = there.id if there else number or self._create(family, app, str(batch))
                known = {job.name for job in there.jobs} if there else set()
                left = [job for job in jobs if job.name not in known]
                if left:
                    self.server.submit_batch(app, self._with_files(left, number), number)
                break
            except (ServerNotRunning, ControlError, SubmissionRefused) as error:
                # An answer that was lost looks like a refusal the second time: then the jobs are there.
                if isinstance(error, SubmissionRefused) and not self._are_there(batch, jobs):
                    raise
                if tried == _MOST_TRIES - 1:
                    raise
                time.sleep(min(0.5 * 2**tried, 5.0))
        return number

    def _create(self, family: Family, app: str, name: str) -> int:
        expires = time.time() + family.lease if family.lease else 0
        return self.server.create_batch(app, name, expire_time=expires)

    def _find(self, batch: int | str) -> BatchStatus | None:
        try:
            return self.server.query_batch(batch)
        except SubmissionRefused:
            return None

    def _are_there(self, batch: int | str, jobs: Sequence[Job]) -> bool:
        there = self._find(batch)
        return there is not None and {job.name for job in jobs} <= {job.name for job in there.jobs}

    def _with_files(self, jobs: Sequence[Job], batch: int) -> Iterator[RemoteJob]:
        contents: dict[str, bytes] = {}
        kept: dict[str, None] = {}
        named: list[list[str]] = []
        for job in jobs:
            named.append([])
            for content in job.inputs.values():
                name = name_of(content) if isinstance(content, bytes) else content
                named[-1].append(name)
                if isinstance(content, bytes):
                    contents[name] = content
                else:
                    kept[name] = None
        self.server.put_files(list(contents.values()), batch)
        absent = self.server.absent_files(list(kept), batch)
        if absent:
            raise SubmissionRefused(f"{self.server.url} has no file {absent[0]} any more; put it again")
        return (_remote_job(job, names) for job, names in zip(jobs, named, strict=True))

    def hurry(self, batch_id: int, names: Sequence[str]) -> None:
        """Send one more copy of each of these jobs to quick hosts; official servers know no such wish."""
        if self.is_ours:
            with contextlib.suppress(SubmissionRefused):  # one of them is over and gone, and an older server knows none
                self.server.hurry_jobs(names)

    def cancel_jobs(self, batch_id: int, names: Sequence[str] | None = None) -> int:
        """End these jobs, or all of the run, also on hosts; returns how many are affected."""
        family = self._family(batch_id)
        if names is None:
            for official in list(family.batches.values()):
                if not official.complete:
                    self.server.abort_batch(official.id)
            return sum(len(each.names) for each in family.batches.values())
        for start in range(0, len(names), _ABORTED_AT_ONCE):
            part = names[start : start + _ABORTED_AT_ONCE]
            try:
                self.server.abort_jobs(part)
            except SubmissionRefused:  # one of them is unknown there: the official server ends none behind it
                for name in part:
                    with contextlib.suppress(SubmissionRefused):
                        self.server.abort_jobs([name])
        return len(names)

    # --- outcomes come in -------------------------------------------------------------------------------------------

    def outcomes(self, batch_id: int, *, after: int = 0, limit: int = 1000, wait: float = 0.0) -> list[JobOutcome]:
        """Outcomes with numbers above `after`, oldest first; waits up to `wait` seconds for the first."""
        family = self._family(batch_id)
        until = time.monotonic() + wait
        while True:
            with self._lock:
                found = [outcome for outcome in family.waiting if outcome.seq > after][:limit]
            if found:
                return found
            if time.monotonic() >= family.next_poll:
                self._gathering.poll(family)
            if self._gathering.fetch(family, limit):
                continue
            now = time.monotonic()
            if now >= until:
                return []
            time.sleep(max(0.0, min(until, family.next_poll) - now))

    def acknowledge(self, batch_id: int, upto_seq: int) -> None:
        """The outcomes up to this number are kept elsewhere; a batch of which nothing is left is retired."""
        family = self._family(batch_id)
        with self._lock:
            family.waiting = [outcome for outcome in family.waiting if outcome.seq > upto_seq]
            over = [each for each in family.batches.values() if each.is_fetched(upto_seq)]
        for official in over:
            with contextlib.suppress(SubmissionRefused):  # it is gone already
                self.server.retire_batch(official.id)
            with self._lock:
                del family.batches[official.id]

    # --- telling ----------------------------------------------------------------------------------------------------

    def job_states(self, batch_id: int) -> list[JobState]:
        """Where each job of the run is. The official interface does not tell on which hosts."""
        states: list[JobState] = []
        for official in list(self._family(batch_id).batches.values()):
            with contextlib.suppress(SubmissionRefused):
                states += map(_state, self.server.query_batch(official.id, details=True).jobs)
        return states

    def changes(self, batch_id: int, epoch: str = "", after: int = 0) -> Changes:
        """What changed since the last time; `after` is not needed, for one asks. Official servers tell nothing."""
        family = self._family(batch_id)
        began = time.monotonic()
        jobs: list[JobState] = []
        if self.is_ours and began >= family.next_look:
            for official in [each for each in list(family.batches.values()) if not each.complete]:
                with contextlib.suppress(SubmissionRefused):
                    told = self.server.query_changes(official.id, official.epoch, official.change)
                    official.epoch, official.change = told.epoch, told.seq
                    jobs += told.jobs
            family.next_look = pause_after(began)
        family.changes = max(family.changes, after) + len(jobs)
        return Changes(epoch or "here", family.changes, tuple(jobs))

    def copies(self, batch_id: int, name: str) -> list[Copy]:
        """Every copy of one job, with the outputs that are kept."""
        official = self._family(batch_id).holding(name)
        return [] if official is None else self._gathering.copies(official, name, self.hosts())

    def hosts(self) -> list[HostInfo]:
        """The volunteers' computers as they were some seconds ago; none where the server does not tell."""
        return self._known_hosts()[1]

    @property
    def one_result_per_user(self) -> bool:
        """Whether the copies of a job go to different users."""
        return self._known_hosts()[2]

    def _known_hosts(self) -> tuple[float, list[HostInfo], bool]:
        if self.is_ours and time.monotonic() >= self._hosts[0]:
            self._hosts = (time.monotonic() + _HOSTS_FOR, *self.server.query_hosts())
        return self._hosts

    def _family(self, number: int) -> Family:
        try:
            return self._families[number]
        except KeyError:
            raise UnknownBatch(f"there is no batch {number}") from None

    def close(self) -> None:
        """Close what is open."""
        self._gathering.close()
        self.server.close()


def _state(job: JobStatus) -> JobState:
    words = {"queued": "unsent", "in_progress": "in progress"}
    return JobState(job.name, "over" if job.canonical else words.get(job.status, "over"))


def _remote_job(job: Job, names: Iterable[str]) -> RemoteJob:
    copied = job.copy_files
    every = copied if isinstance(copied, bool) else None

    def is_copied(open_name: str) -> bool:
        return every if every is not None else open_name in copied  # type: ignore[operator]

    # Files are shared by their content, so the server must not delete them with the first job that is over; they
    # belong to the batch and go with it.
    uses = [
        FileUse(open_name, is_copied(open_name), sticky=isinstance(content, str), keep=True)
        for open_name, content in job.inputs.items()
    ]
    specs = [OutputSpec(name, size, is_copied(name), name in job.optional) for name, size in job.outputs.items()]
    return RemoteJob(
        job.name,
        tuple(names),
        input_template=format_input_template(uses, job.command_line, _limits(job)),
        output_template=documents.output_template(specs),
    )


def _limits(job: Job) -> dict[str, float]:
    most = job.max_total_results
    return {
        "rsc_fpops_est": job.rsc_fpops_est, "rsc_fpops_bound": job.rsc_fpops_bound,
        "rsc_memory_bound": job.rsc_memory_bound, "rsc_disk_bound": job.rsc_disk_bound,
        "delay_bound": job.delay_bound, "min_quorum": job.min_quorum,
        "target_nresults": job.target_nresults or job.min_quorum,
        # The official tools refuse 0 errors, and more successes than copies; the number of copies limits both.
        "max_error_results": max(1, min(job.max_error_results, most)), "max_total_results": most,
        "max_success_results": min(job.max_success_results, most), "priority": job.priority,
    }  # fmt: skip
