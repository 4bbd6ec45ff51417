"""Calls become workunits of a BOINC project, outcomes come back through its outbox.

    submit: rehearse once ─▶ bundle the code ─▶ cut into chunks ─▶ create jobs in bulk
                                                                     │ (its socket, or HTTP)
    one collector thread ◀── finished jobs by sequence number ◀── boincserver ◀── volunteers' clients

The server keeps every outcome until it is acknowledged, and that happens only after `Collector.deliver` returned.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from boincserver import control
from boincserver.errors import BoincServerError
from boincserver.official import is_official
from pymw import codec, envelope
from pymw.agree import tolerance
from pymw.backends.boinc.attaching import Attachments, left_behind
from pymw.backends.boinc.canaries import Canaries
from pymw.backends.boinc.cancelling import Cancelling
from pymw.backends.boinc.collecting import Collecting
from pymw.backends.boinc.homecoming import AT_ONCE, Homecoming, first_difference
from pymw.backends.boinc.ledger import Ledger
from pymw.backends.boinc.packing import ADAPTIVE_APP, APP, Packer, Unit
from pymw.backends.boinc.place import Place, local_place, name_on_server, official_place, remote_place
from pymw.backends.boinc.rules import Packed, Rule, Rules
from pymw.backends.boinc.telling import in_words, state_in_words
from pymw.backends.protocol import BackendStatus, Batch, Broken, Call, Capabilities, Setup
from pymw.errors import BackendError, BrokenBackend, UnsupportedOption
from pymw.task import ADAPTIVE
from pymw.volunteer import OUTCOMES

__all__ = ["BoincBackend"]

GONE_AFTER = 86400.0  # seconds without a word from a host; those that are idle come once an hour
LEASE = 600.0  # seconds after which the server gives up unnamed work whose master is gone


class BoincBackend:
    """Carries tasks to the volunteers of a BOINC project, here or elsewhere."""

    capabilities = Capabilities(
        outlives_master=True,
        survives_worker_loss=True,
        cancels_running=True,
        kills_tasks=True,
        deadlines=True,
        redundancy=True,
        progress=True,
        logs=True,
        output=True,
        files=True,
        packages=True,
        priorities=True,
        memory_limit=True,
        disk_limit=True,
        max_result_bytes=codec.DEFAULT_LIMITS.size,
    )

    def __init__(self, place: Place, setup: Setup) -> None:
        self.name = place.name
        self._master = setup.collector
        self._run = setup.run
        self._ledger = Ledger()
        self._broken: BrokenBackend | None = None
        self._closed = False
        self._place, self._server = place, place.project
        name = self._name_there = name_on_server(setup.run, place.worker.project)
        with _as_backend_error():
            self._batch = self._server.create_batch(APP, name, lease=LEASE if setup.run is None else None).id
            if setup.run is not None:
                place.gather(self._batch)
            alive, cancelled = (
                left_behind(self._server, self._batch, setup.run) if setup.run is not None else (set(), set())
            )
        self._rules = Rules(place.directory)
        self._packer = Packer(
            self._server, place.worker, name, setup.run, self._rules, place.packages, rehearse=setup.rehearse
        )
        self._attachments = Attachments(setup.run, self._ledger, alive, cancelled)
        self._canaries = Canaries(self._server, self._packer.experience)
        self._cancelling = cancelling = Cancelling(self._server, self._batch, self._ledger)
        self._homecoming = homecoming = Homecoming(
            self._server, self._batch, self._ledger, self._packer, self._canaries, cancelling, self._rules, self._master
        )
        self._collecting = Collecting(
            self._server, self._batch, self._attachments, homecoming, cancelling, self._break, self.name
        )

    @classmethod
    def open(cls, address: str, setup: Setup) -> BoincBackend:
        """The backend for an address, which is the project's directory."""
        if not address:
            raise BackendError("say which project: boinc:DIR, where DIR was made by `boincserver create DIR --url URL`")
        _refuse_unsupported(setup, f"boinc:{address}")
        directory = Path(address).expanduser().absolute()
        with _as_backend_error():
            place = official_place(directory) if is_official(directory) else local_place(directory)
        return cls._at(place, setup)

    @classmethod
    def open_remote(cls, url: str, setup: Setup) -> BoincBackend:
        """The backend for a project at the other end of the network."""
        _refuse_unsupported(setup, f"boinc+{url}")
        with _as_backend_error():
            place = remote_place(url)
        return cls._at(place, setup)

    @classmethod
    def _at(cls, place: Place, setup: Setup) -> BoincBackend:
        try:
            return cls(place, setup)
        except BaseException:
            place.close()
            raise

    # -- outwards

    def submit(self, batches: Sequence[Batch]) -> None:
        """Pack the tasks and create their workunits, in bulk."""
        if self._broken is not None:
            raise self._broken
        if self._closed:
            raise BackendError(f"{self.name} is closed")
        self._collecting.start()
        created: list[Unit] = []
        attached: list[Unit] = []
        try:
            with _as_backend_error():
                for batch in batches:
                    self._check(batch.call)
                    self._create(self._attach(batch, attached), created)
        except BaseException:  # none of them was accepted
            self._ledger.drop(attached)  # not taken back: an earlier process placed them
            self._forget(self._ledger.drop(created))
            raise
        if self._broken is not None:
            raise self._broken  # it broke meanwhile, and did not know of these

    def _check(self, call: Call) -> None:
        agree = call.options.agree
        if not self._place.compares and "agree" in call.options.given():
            raise UnsupportedOption("agree", self.name, "how results are compared there, its operator has chosen")
        if not self._place.compares and call.options.quorum == ADAPTIVE:
            raise UnsupportedOption(
                "quorum", self.name, "an official server keeps its record of hosts to itself; ask for quorum=2"
            )
        if call.options.quorum == ADAPTIVE and not self._place.replicates:
            raise UnsupportedOption(
                "quorum", self.name, f"its application {ADAPTIVE_APP} needs a target_nresults of 2 and a version"
            )
        if isinstance(agree, str):
            tolerance(agree)
        elif self._place.directory is None:
            raise UnsupportedOption("agree", self.name, "a function runs only where the project is: boinc:DIR")
        if call.options.packages and self._place.packages is None:
            raise UnsupportedOption(
                "packages", self.name, "they are made ready where `boincserver` serves the project: boinc:DIR"
            )

    def _attach(self, batch: Batch, attached: list[Unit]) -> Batch:
        """Wait for those tasks of a named run that an earlier process placed and that are still alive; the others."""
        parts, rest = self._attachments.placed(batch)
        if not parts:
            return batch
        attached += self._attachments.attach(batch, parts, self._packer.code(batch))
        return batch.pick(rest)

    def _create(self, batch: Batch, created: list[Unit]) -> None:
        for slice_ in _slices(self._packer.pack(batch), AT_ONCE):
            units = [unit for unit, _ in slice_]
            self._ledger.add(units)
            created += units
            if go := self._canaries.admit(slice_):
                with self._cancelling.creating([unit for unit, _ in go]):
                    self._server.create_jobs(self._batch, [job for _, job in go])

    def _send_what_is_held_back(self) -> None:
        """A run that goes on without its master has nobody who waits for its canaries."""
        with contextlib.suppress(BoincServerError):  # who runs the script again sends it
            for slice_ in _slices(self._canaries.give_up(), AT_ONCE):
                self._server.create_jobs(self._batch, [job for _, job in slice_])

    def cancel(self, call: Call, indices: Sequence[int] | None = None, *, running: bool = False) -> None:
        """Forget these tasks; a workunit that holds no others is cancelled, on its hosts too."""
        self._forget(self._ledger.cancel(call, indices))

    def _forget(self, names: Sequence[str]) -> int:
        """Cancel these; how many workunits wait for a server that answers."""
        self._attachments.give_up(names)
        self._cancelling.add(self._canaries.drop(names))
        return 0 if self._closed else self._cancelling.go_on()

    def _break(self, reason: str, cause: BaseException | None) -> None:
        error = BrokenBackend(reason)
        error.__cause__ = cause
        self._broken = error
        self._master.deliver([Broken(error)])

    # -- telling

    def explain(self, call: Call, index: int) -> str:
        """Why this task is not done."""
        unit = self._ledger.holding(call, index)
        if unit is None:
            return f"{call.name} has ended or was cancelled"
        where = f"{call.name} is in workunit {unit.name}"
        if self._canaries.holds(unit.name):
            return f"{where}: it waits here until the first task of this function came home from a volunteer"
        try:
            copies = self._server.copies(self._batch, unit.name)
            hosts = self._server.hosts()
        except BoincServerError as error:
            return f"{where}; the server does not tell more: {error}"

        def difference() -> str:
            return first_difference(_item_of(copies, unit, index), self._rules, Rule.of(f"{unit.name}_0"))

        by_user = self._place.one_result_per_user
        state = state_in_words(copies, unit.quorum, hosts, time.time(), difference, by_user=by_user)
        return f"{where}: {state}"

    def status(self) -> BackendStatus:
        """How many tasks wait, and how many computers are there."""
        units = self._ledger.units()
        running = sum(len(unit.batch) for unit in units if unit.begun)
        queued = sum(len(unit.batch) for unit in units) - running
        try:
            hosts = self._server.hosts()
        except BoincServerError as error:
            return BackendStatus(running=running, queued=queued, lines=(str(error),))
        here = [host for host in hosts if host.last_contact > time.time() - GONE_AFTER]
        cores = sum(host.ncpus for host in here)
        lines = [f"{len(here)} hosts with {cores} cores"]
        if len(here) < len(hosts):
            lines[0] += f", and {len(hosts) - len(here)} of which nothing was heard for a day"
        if held := self._canaries.tasks:
            lines.append(f"{held} tasks are held back until the first of their function came home")
        if units:
            seconds = self._packer.seconds(units[0].batch.call, units[0].code)
            left = self._homecoming.rate.left(running + queued, seconds, cores)
            unknown = "nothing came home yet that would tell how long it takes" if here else "no host has joined yet"
            lines.append(f"done {in_words(left)}" if left is not None else unknown)
        if page := self._place.page(self._name_there):
            lines.append(f"on the web: {page}")
        return BackendStatus(cores, running, queued, lines=tuple(lines))

    def close(self, *, detach: bool = False) -> None:
        """Free everything. What has not ended is cancelled, on the volunteers' computers too; a named run may go on."""
        if self._closed:
            return
        self._collecting.close()  # first, or what is cancelled here would come home, and be recorded, as failed
        units = self._ledger.units()
        # Of a named run also what earlier processes left and nobody has asked for.
        unfinished = sorted({unit.name for unit in units} | self._attachments.alive)
        if detach and self._run is not None:
            self._send_what_is_held_back()
            unfinished = []
        self._ledger.drop(units)  # a collector that is still busy finds nobody who waits
        if (left := self._forget(unfinished)) and self._run is not None:  # else the lease ends them
            name = self._run.name
            told = f"{left} cancelled workunits of run {name!r} are still there: {self.name} does not answer"
            sys.stderr.write(f"pymw: {told}; `pymw cancel {shlex.quote(name)}` ends them when it does\n")
        self._closed = True
        self._rules.close()
        self._place.close()


def _refuse_unsupported(setup: Setup, backend: str) -> None:
    for name in ("initializer", "max_tasks_per_child", "mp_context", "max_workers"):
        if getattr(setup, name) is not None:
            raise UnsupportedOption(name, backend, "volunteers come and go, and start each job afresh")


def _item_of(copies: Sequence[control.Copy], unit: Unit, index: int) -> list[Packed]:
    """What the copies of a workunit that are here say of one task."""
    position = list(unit.batch.indices).index(index)
    if unit.positions is not None:
        position = unit.positions[position]
    found = []
    for copy in copies:
        with contextlib.suppress(codec.CodecError, IndexError, KeyError):
            found.append(Packed(envelope.unpack_outcomes(copy.outputs[OUTCOMES])[position]))
    return found


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
