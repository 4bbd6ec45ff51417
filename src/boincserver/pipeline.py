"""What happens to a job after an event, all within the event's own transaction.

    event ─> lifecycle.settle (transition, validate where digests tell enough) ─> outbox ─> rows
                                                                     │
                     after the commit: feeder, validation of files, deletion, whoever waits for outcomes

So a report leads to its validated, assimilated outcome in one commit, without a daemon that polls.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from boincserver import credit, jobs, lifecycle, plugins
from boincserver.catalog import Catalog
from boincserver.config import CreditConfig, JobsConfig
from boincserver.database import Session
from boincserver.errors import InvalidResult
from boincserver.events import Events
from boincserver.feeder import Entry, Feeder
from boincserver.job_events import changes
from boincserver.jobs import Outputs
from boincserver.lifecycle import Job, Result, Verdict
from boincserver.outbox import deliver
from boincserver.protocol import documents
from boincserver.protocol.text import fields, sections
from boincserver.schema import host as host_table
from boincserver.schema import result as result_table
from boincserver.states import AssimilateState, FileDeleteState, Outcome, ServerState, ValidateState
from boincserver.track import Track
from boincserver.track import load as load_track
from boincserver.track import save as save_track
from boincserver.validator import ResultFiles, Validator, find_validator, judge
from boincserver.writer import Transaction

__all__ = ["Followers", "Pipeline"]

log = Events(__name__)

_SMALL: Final = 64 << 10
"""Bytes of a result that are read while the writer waits."""
_DOCUMENTS: Final = ("xml_doc_in", "xml_doc_out", "stderr_out")


class Followers(Protocol):
    """Who is told, in the writer's thread, what became durable."""

    def to_validate(self, workunitid: int) -> None:
        """Files of this job are to be compared."""

    def to_assimilate(self, workunitid: int) -> None:
        """An assimilator is to take this job's outcome."""

    def to_delete(self, workunitid: int) -> None:
        """Files of this job are to be deleted."""

    def copies(self, entries: Sequence[Entry]) -> None:
        """These copies can be sent."""

    def catalog_changed(self) -> None:
        """Applications or versions are others than before."""

    def trickled(self) -> None:
        """A message of a running program is to be handled."""

    def watches(self, batch: int) -> bool:
        """Whether anybody wants to know what changes in this batch."""

    def changed(self, job: Job) -> None:
        """Something about this job changed."""

    def told(self, result_name: str, hostid: int, text: str) -> None:
        """A running program says how far it is."""

    def outcome(self, batch: int) -> None:
        """An outcome of this batch can be fetched."""

    def due(self, time: int) -> None:
        """A job wants to be looked at again at this time."""


@dataclass
class Pipeline:
    """Carries jobs from event to event."""

    outputs: Outputs
    catalog: Catalog
    feeder: Feeder
    followers: Followers
    files_of: Callable[[str], Any]
    rules: JobsConfig
    credit_rules: CreditConfig
    _doubted: dict[int, set[int]] = field(default_factory=dict)
    """Results that differ from others, by host; forgotten at a restart, when the record is all that counts."""
    _validators: dict[str, Validator[Any]] = field(default_factory=dict)

    def validator(self, appid: int) -> Validator[Any]:
        """The validator of an application."""
        app = self.catalog.apps.get(appid)
        name = app.validator if app else "bitwise"
        if name not in self._validators:
            self._validators[name] = find_validator(name)
        return self._validators[name]

    def close(self) -> None:
        """Let validators end what they began."""
        plugins.close(self._validators.values())

    def follow(
        self,
        tx: Transaction,
        before: Job,
        after: Job,
        now: int,
        extra: Mapping[str, Mapping[str, Any]] | None = None,
        templates: Mapping[str, str] | None = None,
    ) -> Job:
        """Draw all conclusions from an event that made `after` of `before`, and write them down.

        `extra` are further columns of results, `templates` the `xml_doc_in` of results where that is at hand.
        """
        validator = self.validator(after.workunit.appid)
        on_the_spot = getattr(validator, "from_digests", False) or (
            getattr(validator, "alone_on_the_spot", False) and self._is_one_small_result(after, templates or {})
        )

        def by_digests(job: Job) -> Verdict:
            return self._judge(tx, job, validator, extra or {}, templates or {})

        job = lifecycle.settle(
            after, now, judge=by_digests if on_the_spot else None, grace=self.rules.report_grace_period
        )
        if job.workunit.assimilate_state == AssimilateState.READY:
            job = self._assimilate(tx, job, now)
        if job == before and not extra:
            return job
        self._record(tx, before, job, now)
        job = jobs.save(tx.db, before, job, now, outputs=self.outputs, extra=extra)
        self._tell(tx, before, job)
        return job

    def _is_one_small_result(self, job: Job, templates: Mapping[str, str]) -> bool:
        """Nothing is to be compared, and what is to be read takes no longer than a row of the tables."""
        to_check = lifecycle.viable(job)
        if len(to_check) != 1 or job.workunit.min_quorum > 1 or to_check[0].name not in templates:
            return False
        outputs = documents.expected_outputs(templates[to_check[0].name])
        try:
            return bool(sum(self.files_of(output.name).stat().st_size for output in outputs) <= _SMALL)
        except OSError:
            return False

    def _record(self, tx: Transaction, before: Job, job: Job, now: int) -> None:
        """What a job's results say of the hosts that made them: credit, quota, trust."""
        known = {result.name: result for result in before.results}
        for result in job.results:
            was = known.get(result.name)
            if (
                was is None
                or not result.hostid
                or (was.outcome, was.validate_state)
                == (
                    result.outcome,
                    result.validate_state,
                )
            ):
                continue
            tx.on_commit(lambda result=result: self._doubt(result))  # type: ignore[misc]
            track = self.track(tx, result.hostid, result.app_version_id)
            changed = track.after(was, result, job.workunit, self.rules.daily_quota)
            if changed != track:
                self.set_track(tx, result.hostid, result.app_version_id, changed)
            if result.granted_credit > was.granted_credit:
                self._grant(tx, result, result.granted_credit - was.granted_credit, now)

    def _doubt(self, result: Result) -> None:
        """Nobody is trusted while a result of his differs from another's and it is open who is right."""
        if result.validate_state == ValidateState.INCONCLUSIVE:
            self._doubted.setdefault(result.hostid, set()).add(result.id)
        elif result.hostid in self._doubted:
            self._doubted[result.hostid].discard(result.id)
            if not self._doubted[result.hostid]:
                del self._doubted[result.hostid]

    def is_doubted(self, hostid: int) -> bool:
        """Whether it is open if a result of this host is wrong, as far as this process saw it."""
        return hostid in self._doubted

    def track(self, tx: Transaction, hostid: int, version: int) -> Track:
        """A host's record with an application version, as it is within this transaction."""
        tracks: dict[tuple[int, int], Track] = tx.notes.setdefault("tracks", {})
        if (hostid, version) not in tracks:
            tracks[hostid, version] = load_track(tx.db, hostid, version, self.rules.daily_quota)
        return tracks[hostid, version]

    def set_track(self, tx: Transaction, hostid: int, version: int, track: Track) -> None:
        """Change a host's record; it is written once for a whole group of operations."""
        key = (hostid, version)
        tracks: dict[tuple[int, int], Track] = tx.notes["tracks"]
        changed: dict[tuple[int, int], None] = tx.notes.setdefault("changed tracks", {})
        before = tracks[key]
        tracks[key], changed[key] = track, None
        tx.on_rollback(lambda: tracks.update({key: before}))

        def write(db: Session) -> None:
            for host, its_version in sorted(changed):
                save_track(db, host, its_version, tracks[host, its_version])

        tx.at_end("tracks", write)

    def _grant(self, tx: Transaction, result: Result, amount: float, now: int) -> None:
        """Give credit to a host and its user; summed up for a whole group of operations."""
        grants: list[credit.Grant] = tx.notes.setdefault("credit", [])
        grant = credit.Grant(result.hostid, result.userid, amount, result.sent_time)
        grants.append(grant)
        tx.on_rollback(lambda: grants.remove(grant))
        tx.at_end("credit", lambda db: credit.grant(db, grants, now))

    def note(self, tx: Transaction, before: Job, after: Job, now: int) -> None:
        """Write down an event from which nothing follows, such as that a copy was sent."""
        jobs.save(tx.db, before, after, now, outputs=self.outputs)
        self._tell(tx, before, after)

    def _assimilate(self, tx: Transaction, job: Job, now: int) -> Job:
        """Hand the outcome over, if that is done within this transaction."""
        app = self.catalog.apps.get(job.workunit.appid)
        assimilator = app.assimilator if app else "outbox"
        if assimilator not in ("outbox", "discard"):
            tx.on_commit(lambda: self.followers.to_assimilate(job.workunit.id))
            return job
        held = assimilator == "outbox" and deliver(tx, job)
        if held:
            tx.on_commit(lambda: self.followers.outcome(job.workunit.batch))
        return lifecycle.settle(lifecycle.assimilated(job, held=held), now, grace=self.rules.report_grace_period)

    def _judge(
        self,
        tx: Transaction,
        job: Job,
        validator: Validator[Any],
        extra: Mapping[str, Mapping[str, Any]],
        templates: Mapping[str, str],
    ) -> Verdict:
        candidates = lifecycle.viable(job)
        values: dict[int, Any] = {}
        for result in candidates:
            try:
                if result.name in templates:
                    columns = {"xml_doc_in": templates[result.name], **extra.get(result.name, {})}
                else:
                    columns = dict(self._documents(tx.db, result))
                values[result.id] = validator.load(self._result_files(result, columns))
            except InvalidResult as error:
                values[result.id] = error
        workunit = job.workunit
        verdict = judge(values, validator.agree, min_quorum=workunit.min_quorum, canonical=workunit.canonical_resultid)
        return self.with_credit(tx.db, job, verdict)

    def with_credit(self, db: Session, job: Job, verdict: Verdict) -> Verdict:
        """The verdict, with what each valid result earns."""
        workunit = job.workunit
        if workunit.canonical_resultid:
            return replace(verdict, credit=dict.fromkeys(verdict.valid, workunit.canonical_credit))
        by_time = self.credit_rules.kind == "runtime"
        claims = {}
        for result in lifecycle.viable(job):
            row = db.get(host_table, ("p_fpops",), id=result.hostid) if by_time else None
            claims[result.id] = credit.amount(self.credit_rules, workunit, result, row[0] if row else 0.0)
        return replace(verdict, credit=credit.earned(verdict, claims))

    def result_files(self, db: Session, result: Result) -> ResultFiles:
        """The outputs of a result that was reported."""
        return self._result_files(result, self._documents(db, result))

    def _documents(self, db: Session, result: Result) -> Mapping[str, Any]:
        row = db.get(result_table, _DOCUMENTS, id=result.id)
        return dict(zip(_DOCUMENTS, row, strict=True)) if row else {}

    def _result_files(self, result: Result, columns: Mapping[str, Any]) -> ResultFiles:
        uploaded = output_digests(columns.get("xml_doc_out") or "")
        expected = documents.expected_outputs(columns.get("xml_doc_in") or "")
        here = [output for output in expected if output.name in uploaded]
        return ResultFiles(
            result.name,
            {output.open_name: self.files_of(output.name) for output in here},
            {output.open_name: uploaded[output.name] for output in here},
            columns.get("stderr_out") or "",
            result.hostid,
            self.outputs.folder.parent,
        )

    def _tell(self, tx: Transaction, before: Job, job: Job) -> None:
        workunit = job.workunit
        followers = self.followers
        known = {result.name: result.server_state for result in before.results}
        level = log.level
        if level <= logging.INFO:
            for what in changes(before, job, level):
                tx.on_commit(lambda what=what: log.tell(*what))  # type: ignore[misc]
        fresh = [
            Entry(
                result.id, result.name, workunit.id, workunit.appid, result.priority, workunit.rsc_fpops_est,
                workunit.rsc_memory_bound, workunit.rsc_disk_bound, workunit.delay_bound,
            )
            for result in job.results
            if result.name not in known and result.server_state == ServerState.UNSENT
        ]  # fmt: skip
        if fresh:
            tx.on_commit(lambda: followers.copies(fresh))
        for result in job.results:
            if result.outcome == Outcome.DIDNT_NEED and known.get(result.name) == ServerState.UNSENT:
                tx.on_commit(lambda number=result.id: self.feeder.drop(number))  # type: ignore[misc]
        if followers.watches(workunit.batch):
            tx.on_commit(lambda: followers.changed(job))
        if workunit.need_validate and not before.workunit.need_validate:
            tx.on_commit(lambda: followers.to_validate(workunit.id))
        if _deletable(job) and not _deletable(before):
            tx.on_commit(lambda: followers.to_delete(workunit.id))
        if workunit.transition_time < before.workunit.transition_time:
            tx.on_commit(lambda: followers.due(workunit.transition_time))


def _deletable(job: Job) -> bool:
    ready = FileDeleteState.READY
    return job.workunit.file_delete_state == ready or any(r.file_delete_state == ready for r in job.results)


def output_digests(result_xml: str) -> dict[str, str]:
    """The MD5 of each output file, from what was written down when a result was reported."""
    found = [fields(text) for text in sections(result_xml, "file_info")]
    return {info["name"]: info.get("md5_cksum", "") for info in found if "name" in info}
