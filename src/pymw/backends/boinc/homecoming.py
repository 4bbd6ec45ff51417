"""From a finished workunit to the ends of its tasks.

    canonical result ──────────────────────────▶ an outcome for each task
    copies that did not agree ──task by task──▶ those that agree all the same, the others lost
    every copy failed ─────────────────────────▶ all lost
    cancelled at the project ──────────────────▶ all ended, and nothing is recorded of them

A task that lost its worker goes out again, together with the others of its workunit and without those that ended, as
often as its option `attempts` says.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterable, Sequence

from boincserver import control
from boincserver.states import ErrorMask, ValidateState
from boincserver.validator import judge
from pymw import codec, envelope
from pymw.backends.boinc.canaries import Canaries
from pymw.backends.boinc.cancelling import Cancelling
from pymw.backends.boinc.experience import Rate
from pymw.backends.boinc.judge import ComparisonFailed
from pymw.backends.boinc.ledger import Ledger
from pymw.backends.boinc.packing import Packer, Unit
from pymw.backends.boinc.project import Project
from pymw.backends.boinc.rules import Packed, Rule, Rules
from pymw.backends.boinc.telling import ending_in_words
from pymw.backends.protocol import AttemptLost, Call, Collector, Ended, Event, Logged, Progressed
from pymw.errors import BackendError
from pymw.outcome import Attempt, Ending, Outcome, resolve_imported
from pymw.task import ADAPTIVE
from pymw.volunteer import OUTCOMES

__all__ = ["Homecoming"]

AT_ONCE = 1000  # jobs created by one call to the server
MOST_STRAGGLERS = 100  # workunits that are left, at most, when the end of a run is in sight
LATE, LATE_AFTER = 3.0, 120.0  # times the expected duration, and seconds, after which a workunit is late
PROVEN = 10  # good results without a failure after which a host's word for an exception is taken
HOSTS_FOR = 10.0  # seconds for which what is known of the hosts is good enough
_GO_ON = (
    "What is left was not sent, and counts as not tried: mend the function, or the computers, and run it again; "
    "options(canaries=False) sends it all the same."
)
_CANCELLED = (
    "was cancelled at the project: by its operator, or because nothing was heard of the master for too long; it counts "
    "as not tried, so run it again"
)
_PROGRESS = re.compile(r"(\d{1,6}) (0\.\d{1,6}|1\.0{1,6})")


class Homecoming:
    """Used by the collector's thread alone."""

    def __init__(
        self,
        server: Project,
        batch: int,
        ledger: Ledger,
        packer: Packer,
        canaries: Canaries,
        cancelling: Cancelling,
        rules: Rules,
        collector: Collector,
    ) -> None:
        self._server, self._batch = server, batch
        self._ledger, self._packer, self._canaries, self._rules = ledger, packer, canaries, rules
        self._cancelling = cancelling
        self._collector = collector
        self.rate = Rate()
        self._hosts: Sequence[control.HostInfo] = ()
        self._hosts_until = 0.0
        self._attempts: dict[tuple[Call, int], tuple[Attempt, ...]] = {}  # of tasks that lost workers
        self._again: list[tuple[Unit, control.Job]] = []  # to be created: tasks that are tried again or need not wait

    # -- tasks that go out again, or now at last

    def create_waiting(self) -> None:
        """Create the workunits of tasks that are to be tried again, or need not wait; what fails stays for later."""
        self._again = [each for each in (*self._again, *self._canaries.released()) if self._ledger.holds(each[0].name)]
        while self._again:
            some = self._again[:AT_ONCE]
            # Those that are there already are left alone: it may be that only the answer was lost.
            with self._cancelling.creating([unit for unit, _ in some]):
                self._server.create_jobs(self._batch, [job for _, job in some])
            del self._again[: len(some)]

    def _go_out(self, made: tuple[Unit, control.Job]) -> None:
        self._ledger.add([made[0]])
        self._again += self._canaries.admit([made])

    # -- outcomes

    def deliver(self, finished: Sequence[control.JobOutcome]) -> None:
        """Tell the master how the tasks of these workunits ended; where the server is away, give the same again."""
        events: list[Event] = []
        try:
            for job in finished:
                for unit in self._ledger.named(job.name):
                    self._end(unit, job, events)
                    self._ledger.drop([unit])
        finally:  # also what comes before one that the server must be asked about
            if events:
                self.rate.ended(sum(isinstance(event, Ended) for event in events))
                self._collector.deliver(events)
        self._stop_what_is_hopeless()

    def _end(self, unit: Unit, job: control.JobOutcome, events: list[Event]) -> None:
        if job.error_mask & ErrorMask.CANCELLED:
            # Not by this master, which does not wait any more for what it cancels. No worker was lost.
            self._canaries.ended(unit)
            events += self._failed(unit, f"workunit {unit.name} {_CANCELLED}", Ending.CANCELLED)
            return
        packed = self._unpacked(unit, job)
        # What needs the server comes first: it may be away, and then nothing has happened yet.
        try:
            outcomes = self._outcomes(unit, job, packed)
        except ComparisonFailed as error:
            events += self._failed(unit, f"results cannot be compared: {error}")
            return
        doubtful = [i for i, outcome in outcomes.items() if outcome.ending is Ending.RAISED]
        if doubtful and not self._is_doubtful(unit, job):
            doubtful = []
        lost = {i for i, outcome in outcomes.items() if outcome.ending is Ending.LOST and packed is not None}
        again = [i for i in sorted(lost) if self._may_go_on(unit, unit.batch.indices[i])]
        made = [self._packer.again(unit, again)] if again else []
        made += [self._packer.confirmation(unit, doubtful)] if doubtful else []
        for i in doubtful:
            del outcomes[i]

        experience = self._packer.experience[unit.code.bundle.digest]
        self._canaries.ended(unit)
        for attempt in job.attempts if packed is None else ():
            experience.failed(_attempt(attempt))
        for i, outcome in outcomes.items():
            index = unit.batch.indices[i]
            if i in lost:
                events.append(self._lost(unit, index, outcome))
            else:
                events += (Logged(unit.batch.call, index, line) for line in outcome.log)
                events.append(self._ended(unit, index, outcome))
                if outcome.ending is not Ending.LOST:
                    experience.ended(outcome.seconds, len(packed[_position(unit, i)]) if packed is not None else 0)
        for each in made:
            self._go_out(each)

    def _outcomes(self, unit: Unit, job: control.JobOutcome, packed: list[bytes] | None) -> dict[int, Outcome]:
        """What became of those tasks of a workunit that are waited for."""
        agreed, differences = ([], []) if packed is not None else self._agreed(unit, job)
        attempts, worker = [_attempt(attempt) for attempt in job.attempts], _host(job)
        outcomes = {}
        for i, index in enumerate(unit.batch.indices):
            if index in unit.cancelled:
                continue
            position = _position(unit, i)
            if packed is not None:
                outcomes[i] = self._outcome(unit, packed[position], worker)
            elif agreed and (taken := agreed[position]) is not None:
                outcomes[i] = self._outcome(unit, taken.data, "hosts that agree")
            else:
                told = differences[position] if differences else ""
                before = self._attempts.get((unit.batch.call, index), ())
                lost = tuple(_with_difference(attempt, told) for attempt in attempts)
                outcomes[i] = Outcome(Ending.LOST, attempts=(*before, *lost))
        return outcomes

    def _is_doubtful(self, unit: Unit, job: control.JobOutcome) -> bool:
        """An exception that a host alone tells of, which is not known for good work, is for others to confirm."""
        options = unit.batch.call.options
        if unit.quorum > 1 or options.quorum == ADAPTIVE or options.attempts == 1 or unit.size != len(unit.batch):
            return False
        now = time.monotonic()
        if now > self._hosts_until:
            self._hosts, self._hosts_until = self._server.hosts(), now + HOSTS_FOR
        if len({host.user_id for host in self._hosts}) < 2:
            return False  # nobody else is there to ask
        worked = {attempt.host_id for attempt in job.attempts if attempt.validate_state == ValidateState.VALID}
        return not any(host.succeeded >= PROVEN and not host.failed for host in self._hosts if host.id in worked)

    def _may_go_on(self, unit: Unit, index: int) -> bool:
        """Whether a task that lost its worker is tried again."""
        return len(self._attempts.get((unit.batch.call, index), ())) + 1 < unit.batch.call.options.attempts

    def _lost(self, unit: Unit, index: int, outcome: Outcome) -> AttemptLost | Ended:
        """A task lost its worker: another attempt, unless that was the last."""
        task = unit.batch.call, index
        lost = Attempt(outcome.worker, outcome.detail, outcome.started, outcome.seconds, outcome.stderr)
        self._packer.experience[unit.code.bundle.digest].failed(lost)
        tried = (*self._attempts.get(task, ()), lost)
        if self._may_go_on(unit, index):
            self._attempts[task] = tried
            return AttemptLost(unit.batch.call, index, lost)
        return self._ended(unit, index, Outcome(Ending.LOST, worker=outcome.worker, attempts=tried))

    def _ended(self, unit: Unit, index: int, outcome: Outcome) -> Ended:
        """The end of one task, whose exception is rebuilt by the classes of its own bundle alone."""
        call = unit.batch.call

        def resolve(module: str, qualname: str) -> type | None:
            return resolve_imported(module, qualname) if module in unit.code.bundle.modules else None

        self._attempts.pop((call, index), None)
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
        return _readable(job.outputs[OUTCOMES], unit.size)

    def _outcome(self, unit: Unit, packed: bytes, worker: str) -> Outcome:
        try:
            return envelope.unpack_outcome(packed, unit.code.bundle.modules, worker=worker)
        except codec.CodecError as error:
            detail = f"what {worker} sent back cannot be read: {error}"
            return Outcome(Ending.UNSENDABLE, detail=detail, worker=worker)

    # -- copies that did not agree

    def _agreed(self, unit: Unit, job: control.JobOutcome) -> tuple[list[Packed | None], list[str]]:
        """Of a workunit without a canonical result: what its copies agree on, item by item, and where they differ."""
        if sum(attempt.validate_state == ValidateState.NO_CHECK for attempt in job.attempts) < 2:
            return [], []
        here = (copy.outputs.get(OUTCOMES, b"") for copy in self._server.copies(self._batch, unit.name))
        results = [outcomes for data in here if data and (outcomes := _readable(data, unit.size)) is not None]
        rule = Rule.of(f"{unit.name}_0")
        agreed: list[Packed | None] = []
        differences = []
        for position in range(unit.size):
            copies = {number: Packed(outcomes[position]) for number, outcomes in enumerate(results, 1)}
            verdict = judge(copies, lambda a, b: self._rules.agree(a, b, rule), min_quorum=max(2, unit.quorum))
            agreed.append(copies[verdict.canonical] if verdict.canonical else None)
            differences.append("" if verdict.canonical else first_difference(list(copies.values()), self._rules, rule))
        return agreed, differences

    # -- what happens meanwhile

    def hear(self, jobs: Iterable[control.JobState]) -> None:
        """Say which tasks have reached a host, and how far their functions say to be."""
        events: list[Event] = []
        for job in jobs:
            for unit in self._ledger.named(job.name):
                if job.hosts and not unit.begun:
                    unit.begun = time.monotonic()
                    self.rate.begun(unit.begun)
                    for index in unit.batch.indices:
                        self._collector.begin(unit.batch.call, index, 1, f"host {job.hosts[0]}")
                if (told := _PROGRESS.fullmatch(job.said)) is not None:
                    position = int(told[1])
                    where = range(len(unit.batch)) if unit.positions is None else unit.positions
                    if position in where:
                        index = unit.batch.indices[where.index(position)]
                        events.append(Progressed(unit.batch.call, index, float(told[2])))
        if events:
            self._collector.deliver(events)

    def hurry(self) -> None:
        """When all that is left is with hosts, ask for another copy of what takes far longer than it should."""
        units = [unit for unit in self._ledger.units() if unit.batch.call.options.quorum != ADAPTIVE]
        if not units or len(units) > MOST_STRAGGLERS or not all(unit.begun for unit in units):
            return
        now, late = time.monotonic(), []
        for unit in units:
            expected = unit.size * (self._packer.seconds(unit.batch.call, unit.code) or 0.0)
            if not unit.hurried and now - unit.begun > max(LATE_AFTER, LATE * expected):
                unit.hurried = True
                late.append(unit.name)
        if late:
            self._server.hurry(self._batch, late)

    def look_for_failed_comparisons(self) -> None:
        """An `agree=` function that failed, here or at the server, is the error of every task that it is for."""
        for digest, reason in self._rules.failures():
            self._stop(
                [unit for unit in self._ledger.units() if Rule.of(f"{unit.name}_0").digest == digest],
                f"results cannot be compared: {reason}",
            )

    def _stop_what_is_hopeless(self) -> None:
        """Volunteers are not to be sent a thousand times what fails wherever it is sent."""
        for digest, experience in list(self._packer.experience.items()):
            if why := experience.hopeless:
                units = [unit for unit in self._ledger.units() if _is_guarded(unit, digest)]
                if units:
                    del self._packer.experience[digest]  # whoever submits it again finds out again
                    self._stop(units, f"the run is paused: {why}\n{_GO_ON}", Ending.CANCELLED)

    def _stop(self, units: Sequence[Unit], why: str, ending: Ending = Ending.LOST) -> None:
        if units:
            names = self._canaries.drop(self._ledger.drop(units))
            self._again = [(unit, job) for unit, job in self._again if self._ledger.holds(unit.name)]
            self._collector.deliver([event for unit in units for event in self._failed(unit, why, ending)])
            self._cancelling.add(names)
            self._cancelling.go_on()

    def _failed(self, unit: Unit, why: str, ending: Ending = Ending.LOST) -> Iterable[Event]:
        error = BackendError(f"{unit.batch.call.name}: {why}")
        for index in unit.batch.indices:
            if index not in unit.cancelled:
                yield Ended(unit.batch.call, index, Outcome(ending, detail=str(error)), error)


def _is_guarded(unit: Unit, digest: str) -> bool:
    """Whether a workunit of this function is to be held back when the function turns out to be broken."""
    return unit.code.bundle.digest == digest and unit.batch.call.options.canaries


def first_difference(copies: Sequence[Packed], rules: Rules, rule: Rule) -> str:
    """Where two of these first differ, in words; empty where no two do."""
    for number, first in enumerate(copies):
        for other in copies[number + 1 :]:
            if (found := rules.difference(first, other, rule)) is not None:
                return f"two results differ{found if found.startswith((':', ' ')) else f' at {found}'}"
    return ""


def _position(unit: Unit, i: int) -> int:
    """Where in its workunit the outcome of the task at this place of the batch is."""
    return i if unit.positions is None else unit.positions[i]


def _readable(data: bytes, size: int) -> list[bytes] | None:
    try:
        packed = envelope.unpack_outcomes(data)
    except codec.CodecError:
        return None
    return packed if len(packed) == size else None


def _host(job: control.JobOutcome) -> str:
    """Whose result was taken."""
    kept = next((attempt for attempt in job.attempts if attempt.validate_state == ValidateState.VALID), None)
    return f"host {kept.host_id}" if kept is not None else "a volunteer's host"


def _attempt(attempt: control.Attempt) -> Attempt:
    started = float(attempt.sent_time) if attempt.sent_time else None
    ending = ending_in_words(attempt.outcome, attempt.exit_status)
    return Attempt(f"host {attempt.host_id}", ending, started, attempt.elapsed, attempt.stderr)


def _with_difference(attempt: Attempt, told: str) -> Attempt:
    if not told or "did not agree" not in attempt.ending:
        return attempt
    return dataclasses.replace(attempt, ending=f"{attempt.ending}: {told}")
