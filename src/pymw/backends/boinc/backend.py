"""`boinc:DIR`: calls become workunits of the BOINC project in DIR, outcomes come back through its outbox.

    submit: rehearse once ─▶ bundle the code ─▶ cut into chunks ─▶ create jobs in bulk
                                                                     │ (the project's own socket)
    one collector thread ◀── finished jobs by sequence number ◀── boincserver ◀── volunteers' clients

The server keeps every outcome until it is acknowledged, and that happens only after `Collector.deliver` returned.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from boincserver import control
from boincserver.errors import BoincServerError, ControlError, ServerNotRunning
from boincserver.states import ErrorMask, ValidateState
from boincserver.states import Outcome as ServerOutcome
from pymw import codec, envelope
from pymw.agree import tolerance
from pymw.backends.boinc.ledger import Ledger
from pymw.backends.boinc.packing import APP, Packer, Unit
from pymw.backends.boinc.place import Place, local_place
from pymw.backends.protocol import (
    AttemptLost,
    BackendStatus,
    Batch,
    Broken,
    Call,
    Capabilities,
    Ended,
    Event,
    RunHandle,
    Setup,
)
from pymw.errors import BackendError, BrokenBackend, UnsupportedOption
from pymw.outcome import Attempt, Ending, Outcome, resolve_imported
from pymw.volunteer import OUTCOMES

__all__ = ["BoincBackend"]

LEASE = 600.0  # seconds after which the server gives up unnamed work whose master is gone
OUTAGE = 600.0  # seconds for which a server that does not answer is waited for
POLL = 1.0  # seconds that one question for finished jobs waits at the server; closing takes no longer than that
AT_ONCE = 1000  # jobs created by one call to the server
LOOK_EVERY = 3.0  # seconds between two looks at which tasks have reached a host ...
MOST_LOOKED_AT = 2000  # ... as long as there are no more workunits than this


class BoincBackend:
    """Carries tasks to the volunteers of a BOINC project on this machine."""

    capabilities = Capabilities(
        outlives_master=True,
        survives_worker_loss=True,
        cancels_running=True,
        deadlines=True,
        redundancy=True,
        files=True,
        priorities=True,
        memory_limit=True,
        disk_limit=True,
        max_result_bytes=codec.DEFAULT_LIMITS.size,
    )

    def __init__(self, place: Place, setup: Setup) -> None:
        self.name = place.name
        self._collector = setup.collector
        self._run = setup.run
        self._ledger = Ledger()
        self._attempts: dict[tuple[Call, int], tuple[Attempt, ...]] = {}  # of tasks that lost workers
        self._again: list[tuple[Unit, control.Job]] = []  # to be created: tasks that are tried again
        self._broken: BrokenBackend | None = None
        self._next_look = 0.0
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._server = place.project
        name = _name_on_server(setup.run, place.worker.project)
        with _as_backend_error():
            self._batch = self._server.create_batch(APP, name, lease=LEASE if setup.run is None else None).id
        self._packer = Packer(self._server, place.worker, name, setup.run, rehearse=setup.rehearse)
        # Of a named run: outcomes of workunits that an earlier process made, until somebody asks for their tasks.
        self._unclaimed: dict[str, control.JobOutcome] = {}
        self._claimed: list[control.JobOutcome] = []
        self._given_up: set[str] = set()
        self._alive = set() if setup.run is None else self._left_by_earlier_processes()
        self._acknowledged = 0
        self._claims = threading.Lock()

    @classmethod
    def open(cls, address: str, setup: Setup) -> BoincBackend:
        """The backend for an address, which is the project's directory."""
        if not address:
            raise BackendError("say which project: boinc:DIR, where DIR was made by `boincserver create DIR --url URL`")
        for name in ("initializer", "max_tasks_per_child", "mp_context", "max_workers"):
            if getattr(setup, name) is not None:
                raise UnsupportedOption(name, f"boinc:{address}", "volunteers come and go, and start each job afresh")
        with _as_backend_error():
            place = local_place(Path(address).expanduser())
        return cls(place, setup)

    # -- outwards

    def submit(self, batches: Sequence[Batch]) -> None:
        """Pack the tasks and create their workunits, in bulk."""
        if self._broken is not None:
            raise self._broken
        if self._closed.is_set():
            raise BackendError(f"{self.name} is closed")
        self._start()
        created: list[Unit] = []
        try:
            with _as_backend_error():
                for batch in batches:
                    _refuse_what_is_missing(batch, self.name)
                    self._create(self._packer.pack(self._attach(batch, created)), created)
        except BaseException:  # none of them was accepted
            self._forget(self._ledger.drop(created))
            raise
        if self._broken is not None:
            raise self._broken  # it broke meanwhile, and did not know of these

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._collect, name="pymw boinc collector", daemon=True)
            self._thread.start()

    def _create(self, packed: Iterable[tuple[Unit, control.Job]], created: list[Unit]) -> None:
        for slice_ in _slices(packed, AT_ONCE):
            units = [unit for unit, _ in slice_]
            self._ledger.add(units)
            created += units
            self._server.create_jobs(self._batch, [job for _, job in slice_])

    def _attach(self, batch: Batch, attached: list[Unit]) -> Batch:
        """Wait for those tasks of a named run that an earlier process placed and that are still alive; the others."""
        placed = self._run.placements(batch.keys) if self._run is not None and batch.keys is not None else {}
        if not placed or self._run is None or batch.keys is None:
            return batch
        parts: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        rest = []
        for i, key in enumerate(batch.keys):
            if key in placed and placed[key].unit in self._alive:
                parts[placed[key].unit].append((i, placed[key].position))
            else:
                rest.append(i)
        if parts:
            code = self._packer.code(batch)
        for name, members in parts.items():
            picked, positions = batch.pick([i for i, _ in members]), [position for _, position in members]
            unit = Unit(name, picked, code, positions=positions, size=len(self._run.keys_of(name)))
            with self._claims:  # its outcome is either here already, or is handed on when it comes
                self._ledger.add([unit])
                if name in self._unclaimed:
                    self._claimed.append(self._unclaimed.pop(name))
            attached.append(unit)
        return batch.pick(rest)

    def _left_by_earlier_processes(self) -> set[str]:
        """Workunits of the run whose outcome is still to come, or has come and was not handed on."""
        after = 0
        with _as_backend_error():
            alive = {job.name for job in self._server.job_states(self._batch) if job.state != "over"}
            while finished := self._server.outcomes(self._batch, after=after):
                alive.update(job.name for job in finished)
                self._given_up.update(job.name for job in finished if job.error_mask & ErrorMask.CANCELLED)
                after = finished[-1].seq
        return alive - self._given_up

    def cancel(self, call: Call, indices: Sequence[int] | None = None, *, running: bool = False) -> None:
        """Forget these tasks; a workunit that holds no others is cancelled, on its hosts too."""
        self._forget(self._ledger.cancel(call, indices))

    def _forget(self, names: Sequence[str]) -> None:
        self._given_up.update(names if self._run is not None else ())
        self._alive.difference_update(names)
        if names and not self._closed.is_set():
            with contextlib.suppress(BoincServerError):  # without a server the lease ends them
                self._server.cancel_jobs(self._batch, names)

    # -- homewards, in the collector's thread

    def _collect(self) -> None:
        after, silent_since = 0, None
        while not self._closed.is_set():
            try:
                self._create_waiting()
                finished = self._server.outcomes(self._batch, after=after, wait=POLL)
                self._deliver(self._at_hand(finished))
                self._create_waiting()
                if finished:
                    after = finished[-1].seq
                self._acknowledge(after)
                self._tell_beginnings()
                silent_since = None
            except (ServerNotRunning, ControlError) as error:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > OUTAGE:
                    self._break(f"{self.name} has not answered for {OUTAGE:.0f} s: {error}")
                    return
                self._closed.wait(1.0)
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
                if not self._closed.is_set():
                    self._break(f"{self.name}: collecting results failed: {error}", error)
                return

    def _at_hand(self, finished: Sequence[control.JobOutcome]) -> list[control.JobOutcome]:
        """What can be handed on; of a named run the rest is kept until its tasks are asked for."""
        if self._run is None:
            return list(finished)
        with self._claims:
            claimed, self._claimed = self._claimed, []
            known = {unit.name for unit in self._ledger.units()}
            strange = [job for job in finished if job.name not in known and job.name not in self._given_up]
            self._unclaimed.update((job.name, job) for job in strange)
        return [*claimed, *(job for job in finished if job.name in known)]

    def _acknowledge(self, after: int) -> None:
        """Let the server forget what was handed on, and nothing that was not."""
        with self._claims:
            kept = [job.seq for job in (*self._unclaimed.values(), *self._claimed)]
        upto = min([after, *(number - 1 for number in kept)])
        if upto > self._acknowledged:
            self._server.acknowledge(self._batch, upto)
            self._acknowledged = upto

    def _break(self, reason: str, cause: BaseException | None = None) -> None:
        error = BrokenBackend(reason)
        error.__cause__ = cause
        self._broken = error
        self._collector.deliver([Broken(error)])

    def _create_waiting(self) -> None:
        """Create the workunits of tasks that are to be tried again; what fails stays for the next time."""
        while self._again:
            some = self._again[:AT_ONCE]
            # Those that are there already are left alone: it may be that only the answer was lost.
            self._server.create_jobs(self._batch, [job for _, job in some])
            del self._again[: len(some)]

    def _tell_beginnings(self) -> None:
        """Say which tasks have reached a host, where there are few enough of them to look at each."""
        now = time.monotonic()
        if now < self._next_look:
            return
        waiting = [unit for unit in self._ledger.units() if not unit.begun]
        if not waiting or len(waiting) > MOST_LOOKED_AT:
            return
        self._next_look = now + LOOK_EVERY
        placed = {job.name: job.hosts for job in self._server.job_states(self._batch) if job.hosts}
        for unit in waiting:
            if unit.name in placed:
                unit.begun = True
                for index in unit.batch.indices:
                    self._collector.begin(unit.batch.call, index, 1, f"host {placed[unit.name][0]}")

    def _deliver(self, finished: Sequence[control.JobOutcome]) -> None:
        events: list[Event] = []
        for job in finished:
            self._alive.discard(job.name)
            for unit in self._ledger.take(job.name):
                self._end(unit, job, events)
        if events:
            self._collector.deliver(events)

    def _end(self, unit: Unit, job: control.JobOutcome, events: list[Event]) -> None:
        """Turn one finished workunit into the ends of its tasks."""
        attempts = tuple(_attempt(attempt) for attempt in job.attempts)
        packed = self._unpacked(unit, job)
        for i, index in enumerate(unit.batch.indices):
            if index in unit.cancelled:
                continue
            if packed is None:
                outcome = Outcome(Ending.LOST, attempts=(*self._earlier(unit, index), *attempts))
            else:
                position = i if unit.positions is None else unit.positions[i]
                outcome = self._outcome(unit, packed[position], _host(job))
            if outcome.ending is Ending.LOST and packed is not None:
                lost = Attempt(outcome.worker, outcome.detail, outcome.started, outcome.seconds, outcome.stderr)
                tried = (*self._earlier(unit, index), lost)
                if len(tried) < unit.batch.call.options.attempts:
                    self._try_again(unit, i, tried)
                    events.append(AttemptLost(unit.batch.call, index, lost))
                    continue
                outcome = Outcome(Ending.LOST, worker=outcome.worker, attempts=tried)
            events.append(self._ended(unit, index, outcome))

    def _earlier(self, unit: Unit, index: int) -> tuple[Attempt, ...]:
        return self._attempts.pop((unit.batch.call, index), ())

    def _try_again(self, unit: Unit, position: int, tried: tuple[Attempt, ...]) -> None:
        """Note a new workunit for one task, to be created as soon as the server takes it."""
        call, index = unit.batch.call, unit.batch.indices[position]
        again, job = self._packer.again(unit, position)
        self._attempts[call, index] = tried
        self._ledger.add([again])
        self._again.append((again, job))

    def _ended(self, unit: Unit, index: int, outcome: Outcome) -> Ended:
        """The end of one task, whose exception is rebuilt by the classes of its own bundle alone."""
        call = unit.batch.call

        def resolve(module: str, qualname: str) -> type | None:
            return resolve_imported(module, qualname) if module in unit.code.bundle.modules else None

        if not unit.begun:
            self._collector.begin(call, index, 1, outcome.worker)
        try:
            return Ended(call, index, outcome, outcome.error(f"{call.name}[{index}]", resolve))
        except Exception as error:  # noqa: BLE001 - what a volunteer sent cannot even be shown
            detail = f"what {outcome.worker} sent back cannot be shown: {error!r:.200}"
            unreadable = Outcome(Ending.UNSENDABLE, detail=detail, worker=outcome.worker)
            return Ended(call, index, unreadable, unreadable.error(f"{call.name}[{index}]"))

    def _unpacked(self, unit: Unit, job: control.JobOutcome) -> list[bytes] | None:
        """The outcomes in a workunit's canonical result; None where it has none that can be read."""
        if job.error_mask or OUTCOMES not in job.outputs:
            return None
        try:
            packed = envelope.unpack_outcomes(job.outputs[OUTCOMES])
        except codec.CodecError:
            return None
        return packed if len(packed) == unit.size else None

    def _outcome(self, unit: Unit, packed: bytes, worker: str) -> Outcome:
        try:
            return envelope.unpack_outcome(packed, unit.code.bundle.modules, worker=worker)
        except codec.CodecError as error:
            detail = f"what {worker} sent back cannot be read: {error}"
            return Outcome(Ending.UNSENDABLE, detail=detail, worker=worker)

    # -- telling

    def explain(self, call: Call, index: int) -> str:
        """Why this task is not done."""
        unit = self._ledger.holding(call, index)
        if unit is None:
            return f"{call.name} has ended or was cancelled"
        try:
            state = next((job for job in self._server.job_states(self._batch) if job.name == unit.name), None)
        except BoincServerError as error:
            return f"{call.name} is in workunit {unit.name}; the server does not tell more: {error}"
        return f"{call.name} is in workunit {unit.name}: {_state_in_words(state, call.options.quorum)}"

    def status(self) -> BackendStatus:
        """How many tasks wait, and how many computers are there."""
        waiting = sum(len(unit.batch) for unit in self._ledger.units())
        try:
            hosts = self._server.hosts()
        except BoincServerError as error:
            return BackendStatus(queued=waiting, lines=(str(error),))
        cores = sum(host.ncpus for host in hosts)
        return BackendStatus(workers=cores, queued=waiting, lines=(f"{len(hosts)} hosts with {cores} cores",))

    def close(self, *, detach: bool = False) -> None:
        """Free everything. What has not ended is cancelled, on the volunteers' computers too; a named run may go on."""
        if self._closed.is_set():
            return
        # Of a named run also what earlier processes left and nobody has asked for.
        unfinished = sorted({unit.name for unit in self._ledger.units()} | self._alive)
        if unfinished and not (detach and self._run is not None):
            self._forget(unfinished)
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10)


def _name_on_server(run: RunHandle | None, project: str) -> str:
    """What the run is called there: for a named one always the same, and nobody else's."""
    if run is None:
        return f"unnamed_{secrets.token_hex(8)}"
    note = f"boinc run at {project}"
    safe = re.sub(r"[^A-Za-z0-9.-]+", "-", run.name)[:40]
    return run.note(note) or run.note(note, f"{safe}_{secrets.token_hex(4)}") or ""


def _refuse_what_is_missing(batch: Batch, backend: str) -> None:
    options = batch.call.options
    if not isinstance(options.agree, str):
        raise UnsupportedOption("agree", backend, "so far results are compared by 'exact' and 'close:RTOL'")
    tolerance(options.agree)


def _host(job: control.JobOutcome) -> str:
    """Whose result was taken."""
    kept = next((attempt for attempt in job.attempts if attempt.validate_state == ValidateState.VALID), None)
    return f"host {kept.host_id}" if kept is not None else "a volunteer's host"


def _attempt(attempt: control.Attempt) -> Attempt:
    started = float(attempt.sent_time) if attempt.sent_time else None
    return Attempt(f"host {attempt.host_id}", _ending_in_words(attempt), started, attempt.elapsed, attempt.stderr)


def _ending_in_words(attempt: control.Attempt) -> str:
    if attempt.outcome == ServerOutcome.SUCCESS:
        return "its result was one among results that did not agree"
    if attempt.outcome == ServerOutcome.CLIENT_ERROR:
        return f"failed there with exit status {attempt.exit_status}"
    return {
        ServerOutcome.NO_REPLY: "no reply within its deadline",
        ServerOutcome.VALIDATE_ERROR: "what it sent could not be read",
        ServerOutcome.CLIENT_DETACHED: "the host left the project",
        ServerOutcome.DIDNT_NEED: "not needed any more",
        ServerOutcome.COULDNT_SEND: "could not be sent to any host",
    }.get(attempt.outcome, attempt.outcome.name.lower().replace("_", " "))


def _state_in_words(job: control.JobState | None, quorum: int) -> str:
    if job is None or job.state == "over":
        return "its result is on the way"
    if not job.hosts:
        return "no host has taken it yet" + (
            f"; it needs {quorum} that belong to different users" if quorum > 1 else ""
        )
    due = time.strftime("%d %B %H:%M", time.localtime(job.deadline))
    return f"in progress on {', '.join(f'host {host}' for host in job.hosts)}, due by {due}"


def _slices(items: Iterable[tuple[Unit, control.Job]], size: int) -> Iterator[list[tuple[Unit, control.Job]]]:
    slice_ = []
    for item in items:
        slice_.append(item)
        if len(slice_) == size:
            yield slice_
            slice_ = []
    if slice_:
        yield slice_


@contextlib.contextmanager
def _as_backend_error() -> Iterator[None]:
    try:
        yield
    except BoincServerError as error:
        raise BackendError(str(error)) from None  # it says all there is to say
