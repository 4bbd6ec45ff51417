"""What came of the jobs of a run: noticed by the counts of its batches, fetched file by file, numbered here.

A slow server is asked less often; batches that stand still are not looked into at all.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from boincserver.errors import SubmissionRefused
from boincserver.records import Attempt, Copy, HostInfo, JobOutcome
from boincserver.remote.family import Family, Official
from boincserver.remote.server import RemoteServer
from boincserver.remote.told import Instance, JobStatus
from boincserver.states import BatchState, ErrorMask, Outcome, ServerState, ValidateState

__all__ = ["Gathering", "pause_after"]

log = logging.getLogger(__name__)

_MOST_BYTES: Final = 32 << 20
_CONNECTIONS: Final = 4
_AT_ONCE: Final = 16
"""Outcomes that are fetched before they are handed on."""
_SHORTEST_POLL: Final = 1.0
_SHARE_OF_POLLS: Final = 0.1
"""How much of the time may go into asking."""


def pause_after(began: float) -> float:
    """When to ask the same again, by how long the answer took."""
    now = time.monotonic()
    return now + max(_SHORTEST_POLL, (now - began) / _SHARE_OF_POLLS)


class Gathering:
    """Used by the thread that asks for outcomes; what others add to a family, they add under the lock."""

    def __init__(self, server: RemoteServer, outputs: Sequence[str], lock: threading.RLock) -> None:
        self._server = server
        self._outputs = tuple(outputs)
        self._lock = lock
        self._threads = ThreadPoolExecutor(_CONNECTIONS, "boincserver.remote")

    def poll(self, family: Family) -> None:
        """Note which jobs ended."""
        began = time.monotonic()
        self._renew(family)
        live = {number: each for number, each in list(family.batches.items()) if not each.complete}
        if live:
            for batch in self._server.query_batches():
                official = live.pop(batch.id, None)
                if official is not None and (batch.fraction_done, batch.nerror_jobs) != official.counts:
                    self._look_into(family, official, failed=batch.nerror_jobs > 0)
            for official in live.values():
                self._gone(family, official)
        family.next_poll = pause_after(began)

    def _renew(self, family: Family) -> None:
        """Whoever submitted is still there: the batches of an unnamed run live on."""
        now = time.time()
        if not family.lease or now < family.renewed + family.lease / 4:
            return
        for official in list(family.batches.values()):
            if not official.complete:
                self._server.set_expire_time(official.id, now + family.lease)
        family.renewed = now

    def _look_into(self, family: Family, official: Official, *, failed: bool) -> None:
        growing = official.growing
        batch = self._server.query_batch(official.id, details=failed)
        with self._lock:
            for job in batch.jobs:
                official.names.add(job.name)
                official.ids[job.name] = job.id
                if (job.canonical or job.status == "error") and job.name not in official.seen:
                    official.seen[job.name] = 0
                    family.to_fetch[official.id, job.name] = job
            if growing or official.growing:
                return  # what comes meanwhile would be missed
            official.counts = batch.fraction_done, batch.nerror_jobs
            official.complete = len(official.seen) == batch.njobs and batch.state != BatchState.INIT

    def _gone(self, family: Family, official: Official) -> None:
        """The batch was retired, by somebody else or for having expired: its jobs will not end any more."""
        log.warning("batch %d of %s is not at %s any more", official.id, family.name, self._server.url)
        with self._lock:
            for name in official.names - official.seen.keys():
                outcome = JobOutcome(family.number(), name, ErrorMask.CANCELLED, {}, ())
                official.seen[name] = outcome.seq
                family.waiting.append(outcome)
            official.complete = True

    def fetch(self, family: Family, limit: int) -> bool:
        """Fetch what ended, up to a limit; true if anything came."""
        keys = list(itertools.islice(family.to_fetch, limit))
        size = 0
        for start in range(0, len(keys), _AT_ONCE):
            some = [(key, family.batches[key[0]], family.to_fetch[key]) for key in keys[start : start + _AT_ONCE]]
            fetched = list(self._threads.map(lambda each: self._outcome(each[1], each[2]), some))
            with self._lock:
                for (key, official, _), unnumbered in zip(some, fetched, strict=True):
                    outcome = replace(unnumbered, seq=family.number())
                    del family.to_fetch[key]
                    official.seen[outcome.name] = outcome.seq
                    family.waiting.append(outcome)
                    size += sum(map(len, outcome.outputs.values()))
            if size > _MOST_BYTES:
                break
        return bool(keys)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _outcome(self, official: Official, job: JobStatus) -> JobOutcome:
        """How a job ended, not numbered yet."""
        if not job.canonical:
            errors = job.errors or ErrorMask.NO_CANONICAL_RESULT
            return JobOutcome(0, job.name, errors, {}, self._attempts(job))
        name, host = job.canonical_name, job.canonical_host
        if not name:
            name = next(copy.name for copy in self._server.query_job(job.id) if copy.id == job.canonical)
        outputs = self._fetched(name, official.outputs.get(job.name, self._outputs))
        attempt = Attempt(name, host, 0, Outcome.SUCCESS, ValidateState.VALID, 0, "", 0.0, 0.0, 0, 0)
        return JobOutcome(0, job.name, ErrorMask.NONE, outputs, (attempt,))

    def _fetched(self, instance: str, names: Sequence[str]) -> dict[str, bytes]:
        """Those outputs of a copy that the server has."""
        found = {}
        for number, open_name in enumerate(names):
            try:
                found[open_name] = self._server.output(instance, number)
            except SubmissionRefused as error:
                log.warning("%s has no output %s: %s", instance, open_name, error)
        return found

    def _attempts(self, job: JobStatus) -> tuple[Attempt, ...]:
        """What is told of the copies of a job that failed."""
        last = self._server.query_completed_job(job.name)
        attempts = []
        for copy in self._server.query_job(job.id):
            ended = copy.outcome
            if ended is None or ended[0] in (Outcome.DIDNT_NEED, Outcome.COULDNT_SEND):
                continue
            known = copy.id == last.result
            attempts.append(
                Attempt(
                    copy.name, copy.host, 0, *ended, last.exit_status if known else copy.exit_status,
                    last.stderr if known else "", last.elapsed_time if known else 0.0, last.cpu_time if known else 0.0,
                    0, 0,
                )
            )  # fmt: skip
        return tuple(attempts)

    def copies(self, official: Official, name: str, hosts: Sequence[HostInfo]) -> list[Copy]:
        """Every copy of a job, with the outputs that are there."""
        if name not in official.ids:
            jobs = self._server.query_batch(official.id).jobs
            official.ids.update((job.name, job.id) for job in jobs)
        users = {host.id: host.user_id for host in hosts}
        names = official.outputs.get(name, self._outputs)
        number = official.ids.get(name)
        found = self._server.query_job(number) if number is not None else []
        return [self._copy(copy, users.get(copy.host, 0), names) for copy in found]

    def _copy(self, copy: Instance, user: int, names: Sequence[str]) -> Copy:
        ended = copy.outcome
        state = ServerState.OVER if ended else copy.server_state
        outcome, validated = ended or (Outcome.INIT, ValidateState.INIT)
        outputs = self._fetched(copy.name, names) if outcome == Outcome.SUCCESS else {}
        return Copy(
            copy.name, state, outcome, validated, copy.host, user, copy.exit_status, copy.deadline, "", outputs
        )  # fmt: skip
