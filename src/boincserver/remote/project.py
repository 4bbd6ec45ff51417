"""A project over HTTP with the methods of `control.Control`: jobs in bulk, outcomes under growing numbers.

    create_jobs ─▶ upload absent files ─▶ one official batch for each call, named by its jobs
    outcomes    ◀─ files of the finished jobs ◀─ those batches whose counts have changed
    acknowledge ─▶ a batch that is over and fetched is retired: the server lets its files go

A run is a family of batches, `NAME.DIGEST`; the server knows all that is needed to go on after a crash.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from boincserver.errors import ControlError, ServerNotRunning, SubmissionRefused, UnknownBatch
from boincserver.protocol import documents
from boincserver.protocol.documents import OutputSpec
from boincserver.protocol.templates import FileUse, format_input_template
from boincserver.records import Attempt, Batch, HostInfo, Job, JobOutcome, JobState
from boincserver.remote.server import RemoteJob, RemoteServer, name_of
from boincserver.remote.told import BatchStatus, JobStatus
from boincserver.states import BatchState, ErrorMask, Outcome, ValidateState

__all__ = ["RemoteProject"]

log = logging.getLogger(__name__)

_MOST_JOBS: Final = 2000
_MOST_TRIES: Final = 5
_MOST_BYTES: Final = 32 << 20
_SHORTEST_POLL: Final = 1.0
_SHARE_OF_POLLS: Final = 0.1
"""How much of the time may go into asking: a slow server is asked less often."""
_STATES_KEPT: Final = 10.0
_ABORTED_AT_ONCE: Final = 500


@dataclass
class _Family:
    """One run: its official batches, and what came of their jobs."""

    app: str
    name: str
    lease: float | None
    batches: dict[int, _Official] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)  # of all jobs
    seq: int = 0
    waiting: list[JobOutcome] = field(default_factory=list)
    to_fetch: dict[tuple[int, str], JobStatus] = field(default_factory=dict)
    next_poll: float = 0.0
    renewed: float = 0.0
    states: tuple[float, list[JobState]] = (0.0, [])


@dataclass
class _Official:
    """A batch of the server's."""

    id: int
    over: float = -1.0
    errors: int = -1
    complete: bool = False
    outputs: dict[str, tuple[str, ...]] = field(default_factory=dict)  # names of output files, by job
    seen: dict[str, int] = field(default_factory=dict)  # jobs that ended, with the number of their outcome
    acknowledged: set[str] = field(default_factory=set)


class RemoteProject:
    """As `Control`, over HTTP; `outputs` names the output files of jobs that an earlier process created."""

    def __init__(self, server: RemoteServer, *, outputs: Sequence[str] = ()) -> None:
        self.server = server
        self._outputs = tuple(outputs)
        self._families: dict[int, _Family] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()

    # --- jobs go out ------------------------------------------------------------------------------------------------

    def create_batch(self, app: str, name: str, *, lease: float | None = None) -> Batch:
        """A run of this name, with whatever an earlier process left of it on the server."""
        family = _Family(app, name, lease)
        for batch in self.server.query_batches():
            if batch.name.startswith(f"{name}.") and batch.state <= BatchState.COMPLETE:
                family.batches[batch.id] = _Official(batch.id)
                family.names.update(job.name for job in self.server.query_batch(batch.id).jobs)
        number = next(self._numbers)
        self._families[number] = family
        return Batch(number, name, app)

    def put_file(self, source: str | os.PathLike[str] | bytes) -> str:
        """Keep a file for jobs to use, unless it is there; returns its name."""
        return self.server.put_files([source])[0]

    def create_jobs(self, batch_id: int, jobs: Sequence[Job]) -> int:
        """Create those whose names are new; returns how many."""
        family = self._family(batch_id)
        with self._lock:
            new = [job for job in jobs if job.name not in family.names]
        for start in range(0, len(new), _MOST_JOBS):
            self._submit(family, new[start : start + _MOST_JOBS])
        return len(new)

    def _submit(self, family: _Family, jobs: Sequence[Job]) -> None:
        """One official batch; what an earlier try did, and its answer did not tell, is found by its name."""
        name = f"{family.name}.{hashlib.sha256(' '.join(job.name for job in jobs).encode()).hexdigest()[:16]}"
        number = 0
        for tried in range(_MOST_TRIES):
            try:
                there = self._find(name) if tried else None
                number = there.id if there else number or self._create(family, name)
                known = {job.name for job in there.jobs} if there else set()
                left = [job for job in jobs if job.name not in known]
                if left:
                    self.server.submit_batch(family.app, self._with_files(left, number), number)
                break
            except (ServerNotRunning, ControlError, SubmissionRefused) as error:
                # An answer that was lost looks like a refusal the second time: then the jobs are there.
                if isinstance(error, SubmissionRefused) and not self._are_there(name, jobs):
                    raise
                if tried == _MOST_TRIES - 1:
                    raise
                time.sleep(min(0.5 * 2**tried, 5.0))
        official = _Official(number, outputs={job.name: tuple(job.outputs) for job in jobs})
        with self._lock:
            family.batches[number] = official
            family.names.update(job.name for job in jobs)

    def _create(self, family: _Family, name: str) -> int:
        expires = time.time() + family.lease if family.lease else 0
        return self.server.create_batch(family.app, name, expire_time=expires)

    def _find(self, name: str) -> BatchStatus | None:
        try:
            return self.server.query_batch(name)
        except SubmissionRefused:
            return None

    def _are_there(self, name: str, jobs: Sequence[Job]) -> bool:
        there = self._find(name)
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

    def cancel_jobs(self, batch_id: int, names: Sequence[str] | None = None) -> int:
        """End these jobs, or all of the run, also on hosts; returns how many are affected."""
        family = self._family(batch_id)
        if names is None:
            for official in list(family.batches.values()):
                if not official.complete:
                    self.server.abort_batch(official.id)
            return len(family.names)
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
            now = time.monotonic()
            if now >= family.next_poll:
                self._renew(family)
                self._poll(family)
                pause = max(_SHORTEST_POLL, (time.monotonic() - now) / _SHARE_OF_POLLS)
                family.next_poll = time.monotonic() + pause
            if self._fetch(family, limit):
                continue
            left = min(until, family.next_poll) - time.monotonic()
            if time.monotonic() >= until:
                return []
            time.sleep(max(0.0, min(left, wait)))

    def _renew(self, family: _Family) -> None:
        """Whoever submitted is still there: the batches of an unnamed run live on."""
        now = time.time()
        if not family.lease or now < family.renewed + family.lease / 4:
            return
        for official in list(family.batches.values()):
            if not official.complete:
                self.server.set_expire_time(official.id, now + family.lease)
        family.renewed = now

    def _poll(self, family: _Family) -> None:
        """Note which jobs ended; of batches that stand still nothing but their counts is asked."""
        live = {number: each for number, each in list(family.batches.items()) if not each.complete}
        if not live:
            return
        for batch in self.server.query_batches():
            official = live.pop(batch.id, None)
            if official is not None and (batch.fraction_done, batch.nerror_jobs) != (official.over, official.errors):
                self._look_into(family, official, failed=batch.nerror_jobs > 0)
        for official in live.values():  # retired, by somebody else or for having expired
            log.warning("batch %d of %s is not there any more", official.id, family.name)
            official.complete = True

    def _look_into(self, family: _Family, official: _Official, *, failed: bool) -> None:
        batch = self.server.query_batch(official.id, details=failed)
        for job in batch.jobs:
            if (job.canonical or job.status == "error") and job.name not in official.seen:
                official.seen[job.name] = 0
                family.to_fetch[official.id, job.name] = job
        official.over, official.errors = batch.fraction_done, batch.nerror_jobs
        official.complete = len(official.seen) == batch.njobs and batch.state != BatchState.INIT

    def _fetch(self, family: _Family, limit: int) -> bool:
        """Fetch what ended, up to a limit; true if anything came."""
        size = count = 0
        for key in list(itertools.islice(family.to_fetch, limit)):
            outcome = self._outcome(family, family.batches[key[0]], family.to_fetch[key])
            with self._lock:
                del family.to_fetch[key]
                family.waiting.append(outcome)
            count += 1
            size += sum(map(len, outcome.outputs.values()))
            if size > _MOST_BYTES:
                break
        return bool(count)

    def _outcome(self, family: _Family, official: _Official, job: JobStatus) -> JobOutcome:
        family.seq += 1
        official.seen[job.name] = family.seq
        if not job.canonical:
            return JobOutcome(
                family.seq, job.name, job.errors or ErrorMask.NO_CANONICAL_RESULT, {}, self._attempts(job)
            )
        name, host = job.canonical_name, job.canonical_host
        if not name:
            name = next(copy.name for copy in self.server.query_job(job.id) if copy.id == job.canonical)
        outputs = {
            open_name: self.server.output(name, number)
            for number, open_name in enumerate(official.outputs.get(job.name, self._outputs))
        }
        attempt = Attempt(name, host, 0, Outcome.SUCCESS, ValidateState.VALID, 0, "", 0.0, 0.0, 0, 0)
        return JobOutcome(family.seq, job.name, ErrorMask.NONE, outputs, (attempt,))

    def _attempts(self, job: JobStatus) -> tuple[Attempt, ...]:
        """What is told of the copies of a job that failed."""
        last = self.server.query_completed_job(job.name)
        attempts = []
        for copy in self.server.query_job(job.id):
            ended = copy.outcome
            if ended is None or ended[0] in (Outcome.DIDNT_NEED, Outcome.COULDNT_SEND):
                continue
            known = copy.id == last.result
            attempts.append(
                Attempt(
                    copy.name, copy.host, 0, *ended, last.exit_status if known else 0, last.stderr if known else "",
                    last.elapsed_time if known else 0.0, last.cpu_time if known else 0.0, 0, 0,
                )
            )  # fmt: skip
        return tuple(attempts)

    def acknowledge(self, batch_id: int, upto_seq: int) -> None:
        """The outcomes up to this number are kept elsewhere; a batch of which nothing is left is retired."""
        family = self._family(batch_id)
        with self._lock:
            family.waiting = [outcome for outcome in family.waiting if outcome.seq > upto_seq]
            over = [
                each for each in family.batches.values()
                if each.complete and all(0 < seq <= upto_seq for seq in each.seen.values())
            ]  # fmt: skip
        for official in over:
            with contextlib.suppress(SubmissionRefused):  # it is gone already
                self.server.retire_batch(official.id)
            with self._lock:
                del family.batches[official.id]

    # --- telling ----------------------------------------------------------------------------------------------------

    def job_states(self, batch_id: int) -> list[JobState]:
        """Where each job of the run is, not older than some seconds. The project does not tell on which hosts."""
        family = self._family(batch_id)
        asked, states = family.states
        if time.monotonic() < asked + _STATES_KEPT and asked:
            return states
        states = []
        for official in list(family.batches.values()):
            with contextlib.suppress(SubmissionRefused):
                states += map(_state, self.server.query_batch(official.id, details=True).jobs)
        family.states = (time.monotonic(), states)
        return states

    def hosts(self) -> list[HostInfo]:
        """None: the interface does not tell of hosts."""
        return []

    def _family(self, number: int) -> _Family:
        try:
            return self._families[number]
        except KeyError:
            raise UnknownBatch(f"there is no batch {number}") from None

    def close(self) -> None:
        """Close what is open."""
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
