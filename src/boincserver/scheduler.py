"""The scheduler: one request of a host, from who it is to what it is sent, inside one transaction."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import bindparam, select, update

from boincserver import accounts, hosts, jobs, lifecycle, trickles
from boincserver.accounts import User
from boincserver.catalog import App, AppVersion, Choice
from boincserver.config import JobsConfig
from boincserver.crowd import Crowd
from boincserver.database import Row, Session
from boincserver.events import Events
from boincserver.feeder import Entry
from boincserver.hosts import Host
from boincserver.lifecycle import Job, Report, Result
from boincserver.news import PROGRESS
from boincserver.pipeline import Pipeline
from boincserver.policy import Permission, Wish, delay_until_next, fits, homogeneous, may_rescue, may_take
from boincserver.protocol import documents
from boincserver.protocol.reply import JobToSend, Message, SchedulerReply
from boincserver.protocol.request import ReportedResult, SchedulerRequest
from boincserver.protocol.text import element, flagged
from boincserver.schema import boincserver_file as file_table
from boincserver.schema import host_app_version, msg_from_host, msg_to_host
from boincserver.schema import result as result_table
from boincserver.schema import user as user_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import ServerState
from boincserver.uploads import Uploads
from boincserver.writer import Transaction

__all__ = ["Identity", "Scheduler"]

log = Events(__name__)

_ON_HOST: Final = (
    select(result_table.c.name, result_table.c.workunitid, result_table.c.sent_time)
    .where(result_table.c.hostid == bindparam("hostid"), result_table.c.server_state == ServerState.IN_PROGRESS)
    .order_by(result_table.c.id)
)
_FATE: Final = (
    select(
        result_table.c.server_state,
        result_table.c.outcome,
        workunit_table.c.error_mask,
        workunit_table.c.canonical_resultid,
    )
    .join(workunit_table, workunit_table.c.id == result_table.c.workunitid)
    .where(result_table.c.name == bindparam("result_name"))
)
_TRICKLED: Final = (
    select(msg_from_host.c.xml)
    .where(msg_from_host.c.hostid == bindparam("hostid"))
    .order_by(msg_from_host.c.id.desc())
    .limit(bindparam("most"))
)
_DOCUMENTS: Final = (
    select(result_table.c.xml_doc_in, workunit_table.c.xml_doc)
    .join(workunit_table, workunit_table.c.id == result_table.c.workunitid)
    .where(result_table.c.id == bindparam("number"))
)
_NEW_DAY: Final = (
    update(host_app_version).where(host_app_version.c.host_id == bindparam("hostid")).values(n_jobs_today=0)
)
_DAY: Final = 86400
_FOR_HOST: Final = select(msg_to_host.c.id, msg_to_host.c.variety, msg_to_host.c.xml).where(
    msg_to_host.c.hostid == bindparam("hostid"), msg_to_host.c.handled == 0
)
_MOST_LOADED: Final = 1000
"""Jobs read from the tables for one request; those that the host may not have are the last for the next one."""
_NO_ACCOUNT_DELAY: Final = 3600
_BLOCKED: Final = "This project sends no work to this computer. Ask the people who run it for the reason."
_MAX_DOCUMENT: Final = 60_000


@dataclass(frozen=True, slots=True)
class Identity:
    """What the project says of itself in each reply."""

    name: str
    url: str
    code_sign_key: str
    key_signatures: Callable[[str], str | None]
    """The signature of the present key by the old one that a client still trusts; None for a key never used here."""


@dataclass
class Scheduler:
    """Answers requests; runs in the writer's thread."""

    identity: Identity
    pipeline: Pipeline
    uploads: Uploads
    rules: JobsConfig
    expecting_work: Callable[[float], float]
    """Seconds since there was last work to do or to be expected, given the time."""
    crowd: Crowd = field(default_factory=Crowd)
    chance: random.Random = field(default_factory=random.SystemRandom)
    """Decides whether a trusted host goes unchecked; a host must not foresee it."""

    def handle(self, tx: Transaction, request: SchedulerRequest, address: str, now: float) -> SchedulerReply:
        """Serve one request."""
        reply = SchedulerReply(project_name=self.identity.name, master_url=self.identity.url)
        user = accounts.authenticate(tx.db, request.authenticator)
        if user is None:
            log.info("key-refused", address=address, host=request.hostid, results=len(request.results))
            notice = Message("Invalid or missing account key. To fix this, remove and add this project.", "notice")
            # Unknown results are acknowledged all the same, or the client would report them for ever.
            names = tuple(result.name for result in request.results)
            return replace(reply, messages=(notice,), request_delay=_NO_ACCOUNT_DELAY, acknowledged=names)
        with self.crowd.serving():
            return _Exchange(self, tx, request, user, address, int(now)).reply(reply)


class _Exchange:
    """One request on its way to its reply."""

    def __init__(
        self, scheduler: Scheduler, tx: Transaction, request: SchedulerRequest, user: User, address: str, now: int
    ) -> None:
        self.scheduler = scheduler
        self.pipeline = scheduler.pipeline
        self.rules = scheduler.rules
        self.tx = tx
        self.db: Session = tx.db
        self.request = request
        self.user = user
        self.now = now
        self.identified = hosts.identify(self.db, request, user, address, now)
        self.host: Host = self.identified.host
        scheduler.crowd.came(self.host.id, now)
        if self.identified.new:
            about = {"host": self.host.id, "account": user.id, "name": request.host.domain_name, "address": address}
            tx.on_commit(lambda: log.info("host-joined", **about))
        if self.host.rpc_time // _DAY != now // _DAY:
            self.db.run(_NEW_DAY, hostid=self.host.id)
        catalog = scheduler.pipeline.catalog
        self.versions: dict[int, Choice] = catalog.usable(request, beta=catalog.has_beta and self._wants_beta())
        self.used: dict[int, Choice] = {}
        """Versions of the jobs that are sent, by their id."""
        self.down: Sequence[Row] = ()
        self.jobs: list[JobToSend] = []
        self.messages: list[Message] = []
        self.in_vain: list[Entry] = []
        """Copies whose jobs were read although the host may not have them."""
        self.forgotten: set[str] = set()
        """Jobs of which the client has copies that the tables do not know, since a backup was restored. It would take
        another job of that name for the one that it has."""

    def reply(self, blank: SchedulerReply) -> SchedulerReply:
        """Do everything that the request asks for."""
        self.down = self.db.all(_FOR_HOST, hostid=self.host.id)
        for reported in self.request.results:
            self._report(reported)
        self._trickles()
        held = self._held()
        aborted, if_not_started = self._unwanted()
        if self.host.blocked:
            self.messages.append(Message(_BLOCKED, "notice"))
        elif self.request.wants_work:
            self._send_work(held)
        key, proof = self._key()
        return replace(
            blank,
            **self._about_account(),
            code_sign_key=key,
            code_sign_key_signature=proof,
            messages=tuple(self.messages),
            acknowledged=tuple(dict.fromkeys(result.name for result in self.request.results)),
            unneeded_files=self._unneeded_files(),
            aborted=aborted,
            aborted_if_not_started=if_not_started,
            trickles_received=bool(self.request.trickles),
            trickles_down=self._trickles_down(),
            app_documents=tuple(map(self._app_document, self.used.values())),
            jobs=tuple(self.jobs),
            next_rpc_delay=delay_until_next(self.scheduler.expecting_work(self.now), self.scheduler.crowd.delay),
        )

    def _about_account(self) -> dict[str, Any]:
        user, host = self.user, self.host
        return {
            "hostid": host.id if self.identified.announce else 0,
            "userid": user.id,
            "user_name": user.name,
            "email_hash": user.email_hash,
            "cross_project_id": user.cross_project_id,
            "user_credit": (user.total_credit, user.expavg_credit),
            "host_credit": (host.total_credit, host.expavg_credit),
        }

    def _key(self) -> tuple[str, str]:
        """The signing key, if the client lacks it; with a signature by the old key, if it trusts another."""
        own, theirs = self.scheduler.identity.code_sign_key, self.request.code_sign_key
        if not theirs:
            return own, ""
        if theirs == own.strip() or theirs.split() == own.split():
            return "", ""
        signature = self.scheduler.identity.key_signatures(theirs)
        return (own, signature) if signature else ("", "")

    # --- what the host brings ---------------------------------------------------------------------------------------

    def _report(self, reported: ReportedResult) -> None:
        job = jobs.load_of_result(self.db, reported.name)
        result = job.result(reported.name) if job else None
        if job is None:
            self.forgotten.add(reported.name.rpartition("_")[0])
        if job is None or result is None or not lifecycle.may_be_reported(result) or result.userid != self.user.id:
            return
        row = self.db.get(result_table, ("xml_doc_in",), id=result.id)
        template = (row[0] if row else "") or ""
        report = Report(
            client_state=reported.state,
            exit_status=reported.exit_status,
            cpu_time=reported.cpu_time,
            elapsed_time=reported.elapsed_time,
            app_version_num=reported.version_num,
            usable=self._outputs_are_here(template, reported),
            **self._binding(job),
        )
        extra = {
            "stderr_out": reported.stderr[:_MAX_DOCUMENT],
            "xml_doc_out": _output_document(reported),
            "peak_working_set_size": reported.peak_working_set_size,
            "peak_swap_size": reported.peak_swap_size,
            "peak_disk_usage": reported.peak_disk_usage,
        }
        after = self._checked_after_all(lifecycle.report(job, reported.name, report, self.now), result)
        self.pipeline.follow(self.tx, job, after, self.now, {reported.name: extra}, {reported.name: template})
        if self.down:
            trickles.stop_sending(self.db, self.host.id, reported.name)

    def _checked_after_all(self, job: Job, was: Result) -> Job:
        """A result that was to go unchecked is checked where its host was caught with a wrong one meanwhile."""
        app, workunit = self.pipeline.catalog.apps.get(job.workunit.appid), job.workunit
        now = job.result(was.name)
        if app is None or not app.target_nresults > 1 == workunit.target_nresults or now is None or not now.is_success:
            return job
        proven = self.pipeline.track(self.tx, was.hostid, was.app_version_id).is_proven
        proven = proven and not (self.host.blocked or self.pipeline.is_doubted(was.hostid))
        return job if proven or lifecycle.is_over(workunit) else lifecycle.replicate(job, app.target_nresults)

    def _binding(self, job: Job) -> dict[str, Any]:
        """What the other copies of a job of which this host has a good one are to have in common with it."""
        app = self.pipeline.catalog.apps.get(job.workunit.appid)
        if app is None:
            return {}
        return {
            "hr_class": homogeneous(job, app, self.request.host)[1],
            "one_version": bool(app.homogeneous_app_version),
        }

    def _outputs_are_here(self, template: str, reported: ReportedResult) -> bool:
        """Every output arrived as the client describes it; those are brought to disk with this transaction."""
        # A client whose upload was refused for good still reports its job as a success.
        described = {file.name: file for file in reported.files if not file.error}
        for expected in documents.expected_outputs(template):
            file = described.get(expected.name)
            if file is None:
                if expected.optional:
                    continue
                return False
            arrived = self.scheduler.uploads.arrived(expected.name)
            if arrived is None or arrived.nbytes != file.nbytes or (file.md5 and arrived.md5 != file.md5):
                return False
            self.tx.sync.append(self.scheduler.uploads.store.location(expected.name))
        return True

    def _trickles(self) -> None:
        # A client whose reply was lost sends its messages again, perhaps with more of them: they are the latest here.
        most = 2 * len(self.request.trickles)
        seen = {xml for (xml,) in self.db.all(_TRICKLED, hostid=self.host.id, most=most)} if most else set()
        for trickle in self.request.trickles:
            if trickle.variety == PROGRESS:
                self.tx.on_commit(
                    lambda t=trickle: self.pipeline.followers.told(t.result_name, self.host.id, t.text)  # type: ignore[misc]
                )
                continue
            xml = (
                f"<message>\n{element('result_name', trickle.result_name)}{element('time', trickle.time)}"
                f"{trickle.text}</message>\n"
            )[:_MAX_DOCUMENT]
            if xml not in seen:
                seen.add(xml)
                self.tx.on_commit(self.pipeline.followers.trickled)
                self.db.insert(
                    msg_from_host,
                    create_time=self.now,
                    hostid=self.host.id,
                    variety=trickle.variety,
                    handled=0,
                    xml=xml,
                )

    def _trickles_down(self) -> tuple[str, ...]:
        reported = {result.name for result in self.request.results}
        return tuple(str(xml) for _, name, xml in self.down if name not in reported)

    # --- what the host has ------------------------------------------------------------------------------------------

    def _held(self) -> int:
        """How many jobs the host holds; those that it does not know of are sent again or given to others."""
        in_progress = self.db.all(_ON_HOST, hostid=self.host.id)
        listed = self.request.other_results
        known = set(listed or ())
        missing = [row for row in in_progress if row[0] not in known]
        if self.identified.lost:
            for name, workunitid, _ in missing:
                self._change(workunitid, lambda job, name=name: lifecycle.detach(job, name, self.now))  # type: ignore[misc]
        elif listed is not None and self.rules.resend_lost_results:
            for name, workunitid, sent in missing:
                self._send_again(name, workunitid, sent)
        return len(in_progress)

    def _send_again(self, name: str, workunitid: int, sent: int) -> None:
        job = jobs.load(self.db, workunitid)
        result = job.result(name) if job else None
        if job is None or result is None or 0 <= self.now - sent <= 1:
            return  # sent a moment ago, perhaps by a request that overtook this one
        choice = self.versions.get(job.workunit.appid)
        if lifecycle.is_over(job.workunit) or choice is None or self.host.blocked:
            self._change(workunitid, lambda job: lifecycle.detach(job, name, self.now))
            return
        again = result._replace(server_state=ServerState.UNSENT)
        after = self._sent(job.with_result(again), name, choice.version)
        self.pipeline.follow(self.tx, job, after, self.now)
        self._pack(after, name, choice)

    def _unwanted(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Jobs on the host that nobody wants: those to kill, and those to drop unless they run already."""
        kill: list[str] = []
        drop: list[str] = []
        for name in self.request.other_results or ():
            row = self.db.first(_FATE, result_name=name)
            if row is None:
                self.forgotten.add(name.rpartition("_")[0])
            if row is None or row[2]:
                kill.append(name)
            elif row[3] or row[0] == ServerState.OVER:
                drop.append(name)
        return tuple(kill), tuple(drop)

    def _unneeded_files(self) -> tuple[str, ...]:
        """Files that the host keeps for later, and of which the project knows no more."""
        return tuple(name for name in self.request.kept_files if self.db.get(file_table, ("name",), name=name) is None)

    def _change(self, workunitid: int, event: Callable[[Job], Job]) -> None:
        job = jobs.load(self.db, workunitid)
        if job is not None:
            self.pipeline.follow(self.tx, job, event(job), self.now)

    # --- what the host is sent --------------------------------------------------------------------------------------

    def _send_work(self, held: int) -> None:
        if not self.versions:
            platforms = ", ".join(self.request.platforms) or "unknown"
            self.messages.append(Message(f"This project has no application for your computer type ({platforms})"))
            return
        ncpus = self.request.host.p_ncpus
        room = min(self.rules.max_per_request * ncpus, self.rules.max_in_progress * ncpus - held)
        wish = Wish.of(self.request, room - len(self.jobs))
        self.pipeline.feeder.refill(self.db)
        for entry in self.pipeline.feeder.candidates(self.versions):
            if not wish.open or len(self.in_vain) >= _MOST_LOADED:
                break
            if self._try(entry, wish):
                wish = wish.less(entry.rsc_fpops_est, self.versions[entry.appid].processors)
        if not self.jobs and wish.open:
            self.messages.append(Message("No work available just now"))
            self._let_others_forward()

    def _let_others_forward(self) -> None:
        """This host could have nothing of what it came to; the next request comes to something else."""
        feeder = self.pipeline.feeder
        for entry in self.in_vain:
            feeder.postpone(entry)
        if len(self.in_vain) < _MOST_LOADED:
            feeder.turn(self.now)

    def _try(self, entry: Entry, wish: Wish) -> bool:
        """Send this copy, if the host may have it."""
        if self._taker in entry.refused or not fits(entry, self.request, wish, self.versions[entry.appid].processors):
            return False
        if self.forgotten and entry.name.rpartition("_")[0] in self.forgotten:
            return False
        job = jobs.load(self.db, entry.workunitid)
        result = job.result(entry.name) if job else None
        if job is None or result is None or result.server_state != ServerState.UNSENT:
            self.pipeline.feeder.drop(entry.id)
            return False
        self.in_vain.append(entry)
        app = self.pipeline.catalog.apps[entry.appid]
        alike, kind = homogeneous(job, app, self.request.host)
        choice = self._choice(job, app)
        if not alike or choice is None:
            return False
        version = choice.version
        track = self.pipeline.track(self.tx, self.host.id, version.id)
        if not track.room(self.request.host.p_ncpus):
            return False
        expected = wish.duration(entry.rsc_fpops_est, choice.processors) + self.request.estimated_delay
        if lifecycle.is_spare(job) and not may_rescue(job, track, expected, self.now, self.rules):
            return False
        reliable = track.is_reliable(self.rules)
        permission = may_take(job, self.user.id, self.host.id, self.now, self.rules, reliable=reliable)
        if permission is not Permission.YES:
            if permission is Permission.NEVER:
                entry.refused.add(self._taker)
            return False
        self.in_vain.pop()
        after = self._sent(job, entry.name, version, kind)
        self.pipeline.set_track(self.tx, self.host.id, version.id, track.sent())
        self.pipeline.feeder.take(entry)
        self.tx.on_rollback(lambda: self.pipeline.feeder.put_back(entry))
        trusted = track.is_trusted(self.scheduler.chance, self.rules.spot_checks)
        trusted = trusted and not self.pipeline.is_doubted(self.host.id)
        if app.target_nresults > 1 == job.workunit.target_nresults and not trusted:
            after = self.pipeline.follow(self.tx, job, lifecycle.replicate(after, app.target_nresults), self.now)
        else:
            self.pipeline.note(self.tx, job, after, self.now)
        self._pack(after, entry.name, choice)
        return True

    def _choice(self, job: Job, app: App) -> Choice | None:
        """The version for this job's copy: where all copies are to have the same, that of those before it."""
        usual = self.versions[app.id]
        number = job.workunit.app_version_id
        if not app.homogeneous_app_version or number in (0, usual.version.id):
            return usual
        before = self.pipeline.catalog.version(number, app.id)
        # One that is not sent any more binds nobody, or the job would wait for ever.
        return usual if before is None else self.pipeline.catalog.choose(before, self.request)

    def _wants_beta(self) -> bool:
        """True if the volunteer asked for what is being tried out, by the official server's setting."""
        row = self.db.get(user_table, ("project_prefs",), id=self.user.id)
        return row is not None and flagged(row[0] or "", "allow_beta_work")

    @property
    def _taker(self) -> int:
        return self.user.id if self.rules.one_result_per_user else self.host.id

    def _sent(self, job: Job, name: str, version: AppVersion, kind: int = 0) -> Job:
        return lifecycle.send(
            job, name, self.now, hostid=self.host.id, userid=self.user.id, version=(version.id, version.version_num),
            grace=self.rules.report_grace_period, hr_class=kind,
            one_version=bool(self.pipeline.catalog.apps[job.workunit.appid].homogeneous_app_version),
        )  # fmt: skip

    def _pack(self, job: Job, name: str, choice: Choice) -> None:
        workunit, version = job.workunit, choice.version
        self.used[version.id] = choice
        result = job.result(name)
        assert result is not None
        row = self.db.first(_DOCUMENTS, number=result.id)
        assert row is not None
        self.jobs.append(
            JobToSend(
                result_name=name,
                result_xml=row[0],
                workunit_name=workunit.name,
                workunit_xml=row[1],
                app_name=self._app_name(workunit.appid),
                version_num=version.version_num,
                platform=version.platform,
                plan_class=version.plan_class,
                report_deadline=math.ceil(result.report_deadline),
                rsc_fpops_est=workunit.rsc_fpops_est,
                rsc_fpops_bound=workunit.rsc_fpops_bound,
                rsc_memory_bound=workunit.rsc_memory_bound,
                rsc_disk_bound=workunit.rsc_disk_bound,
            )
        )

    def _app_name(self, appid: int) -> str:
        return self.pipeline.catalog.apps[appid].name

    def _app_document(self, choice: Choice) -> str:
        app = self.pipeline.catalog.apps[choice.version.appid]
        friendly = element("user_friendly_name", app.user_friendly_name or app.name)
        version = documents.with_processors(choice.version.xml_doc, choice.processors)
        return f"<app>\n{element('name', app.name)}{friendly}</app>\n{version}"


def _output_document(reported: ReportedResult) -> str:
    """What the tables keep of the outputs that a host described."""
    return "".join(
        f"<file_info>\n{element('name', file.name)}{element('nbytes', file.nbytes)}"
        f"{element('md5_cksum', file.md5)}</file_info>\n"
        for file in reported.files
        if not file.error
    )
