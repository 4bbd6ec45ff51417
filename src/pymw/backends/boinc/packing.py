"""Pack calls for volunteers: code once, arguments by chunk, one workunit for each chunk."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boincserver import control
from pymw import codec, envelope
from pymw.agree import tolerance
from pymw.backends.boinc.chunks import chunk_size, cut
from pymw.backends.boinc.experience import Experience
from pymw.backends.boinc.packages import Copies, Packages
from pymw.backends.boinc.project import Project
from pymw.backends.boinc.readable import check_readable
from pymw.backends.boinc.rehearsal import rehearse
from pymw.backends.boinc.rules import Rule, Rules, name_for
from pymw.backends.boinc.worker_app import Worker
from pymw.backends.protocol import Batch, Call, RunHandle
from pymw.bundle import Bundle, SourceMissing, bundle, bundle_of_byte_code
from pymw.bundle.sourceless import MINOR
from pymw.errors import UnshippableError
from pymw.files import named
from pymw.task import ADAPTIVE, TaskOptions
from pymw.volunteer import BUNDLE, FILES, OUTCOMES, SIGNATURE, TASKS, TRUSTED

__all__ = ["ADAPTIVE_APP", "APP", "Code", "Packer", "Unit"]

APP = "pymw"
ADAPTIVE_APP = "pymw-adaptive"  # the same program, whose results go unchecked once a host is proven
MAX_OUTPUT = 64 << 20  # bytes of one job's outcomes
DEADLINE = 7 * 86400
REFERENCE_FLOPS = 1e9  # what the stock client assumes of a processor that it has not measured
UNKNOWN_SECONDS = 60.0  # a call's duration for the client's planning, where nothing is known of it
VALID_SECONDS = 30 * 86400.0  # of a code signature, beyond the time for which its jobs may be out
LEAST_BOUND = 86400 * 100 * REFERENCE_FLOPS  # a day on a fast processor; `time_limit` is kept by the supervisor
SPARE_RESULTS = 6  # copies that may disagree, or be lost, before a workunit is given up
MEMORY, DISK = 256 << 20, 512 << 20
PUT_AGAIN = 6 * 3600.0  # seconds after which a file is put again: the server keeps one that no job uses for a day


_PLAIN = {type(None), bool, int, float, complex, str, bytes}


@dataclass(frozen=True, slots=True)
class Code:
    """A function as volunteers get it."""

    bundle: Bundle
    files: Mapping[str, bytes]  # what each of its jobs takes along, by name
    seconds: float | None  # that one call took at the rehearsal
    nbytes: int = 0  # of what it returned there
    expires: float = 0.0  # until when volunteers' computers accept it


@dataclass(slots=True)
class Unit:
    """One workunit: the tasks that it holds, in order, and how often their workers were lost before."""

    name: str
    batch: Batch
    code: Code
    lost: int = 0  # how often a worker was lost over its tasks before
    positions: Sequence[int] | None = None  # where in the workunit its tasks are; None: the batch is all there is
    size: int = 0  # tasks in the workunit, of other calls as well
    quorum: int = 0  # results that must agree; 0: as many as the call's options say
    cancelled: set[int] = field(default_factory=set)  # indices of tasks that nobody waits for any more
    begun: float = 0.0  # since when a host has it, by this process's clock; 0: none has
    hurried: bool = False  # whether another copy was asked for because its host is slow

    def __post_init__(self) -> None:
        self.size = self.size or len(self.batch)
        self.quorum = self.quorum or self.batch.call.options.copies


class Packer:
    """Turns batches into jobs for the server, and remembers what it has sent already."""

    def __init__(
        self,
        server: Project,
        worker: Worker,
        name: str,
        run: RunHandle | None,
        rules: Rules,
        packages: Packages | None,
        *,
        rehearse: bool,
    ) -> None:
        self._server = server
        self._worker = worker
        self._name = name  # of the run on the server
        self._run = run  # None: an unnamed one
        self._rules = rules
        self._packages = packages  # None: only the project's own machine has them
        self._rehearse = rehearse
        self.tell_every = 10.0  # seconds between two messages about a job's progress, at least
        self._bundles: dict[tuple[object, ...], Bundle] = {}  # by function, modules, classes
        self._codes: dict[str, Code] = {}  # by digest
        self.experience: defaultdict[str, Experience] = defaultdict(Experience)  # by digest
        self._put: dict[object, tuple[str, float]] = {}  # names on the server, and until when they surely are there
        self._serials = itertools.count(1)  # taken by any thread

    def pack(self, batch: Batch) -> Iterator[tuple[Unit, control.Job]]:
        """The workunits of a batch; UnshippableError where something of it cannot travel."""
        if not len(batch):
            return
        code = self.code(batch)
        size = batch.call.chunksize or 1
        if batch.call.chunksize is None and len(batch) > 1:
            cores = sum(host.ncpus for host in self._server.hosts())
            known = max(code.nbytes, self.experience[code.bundle.digest].nbytes)
            nbytes = max(known, len(_arguments(batch, 0))) if known else 0
            size = chunk_size(len(batch), seconds=self.seconds(batch.call, code), cores=cores, nbytes=nbytes)
        for piece in cut(batch, size):
            yield self._unit(piece, code)

    def seconds(self, call: Call, code: Code) -> float | None:
        """How long a call takes: as hosts measured it, else as its user or the rehearsal says."""
        return self.experience[code.bundle.digest].seconds or call.options.est_seconds or code.seconds

    def again(self, unit: Unit, positions: Sequence[int]) -> tuple[Unit, control.Job]:
        """A workunit for those of another's tasks that lost their worker."""
        return self._unit(unit.batch.pick(positions), unit.code, lost=unit.lost + 1)

    def confirmation(self, unit: Unit, positions: Sequence[int]) -> tuple[Unit, control.Job]:
        """A workunit for those of another's tasks of which one host alone says that they raised an exception."""
        return self._unit(unit.batch.pick(positions), unit.code, lost=unit.lost, quorum=2)

    def _unit(self, batch: Batch, code: Code, *, lost: int = 0, quorum: int = 0) -> tuple[Unit, control.Job]:
        attempt = lost + 1
        content: object = next(self._serials)
        if self._run is not None and batch.keys is not None:
            # The name follows from the tasks, and from how often they were placed before: creating it twice is once.
            content = codec.digest(tuple(batch.keys))[:24]
            attempt = 1 + max((placed.attempt for placed in self._run.placements(batch.keys).values()), default=0)
        unit = Unit(
            name_for(f"{APP}_{self._name}", content, attempt, self._rule(batch.call)), batch, code, lost, quorum=quorum
        )
        if self._run is not None and batch.keys is not None:
            self._run.place(unit.name, batch.keys, attempt)
        return unit, self._job(unit)

    def _job(self, unit: Unit) -> control.Job:
        batch, options = unit.batch, unit.batch.call.options
        files = named(options)
        items = tuple(self._item(batch, i) for i in range(len(batch)))
        job = envelope.Job(items, tuple(files), tuple(options.outputs), options.time_limit or 0.0, self.tell_every)
        seconds = self.seconds(batch.call, unit.code) or UNKNOWN_SECONDS
        left = options.attempts - unit.lost
        work = REFERENCE_FLOPS * max(seconds, 0.1) * len(items)
        return control.Job(
            name=unit.name,
            inputs={
                **{name: self._there(content, content) for name, content in unit.code.files.items()},
                **{f"{FILES}/{name}": self._upload(path) for name, path in files.items()},
                TASKS: envelope.pack_job(job),
            },
            outputs={OUTCOMES: MAX_OUTPUT},
            app=self._app(options, unit.code.bundle.python),
            min_quorum=unit.quorum,
            target_nresults=unit.quorum,
            max_error_results=left - 1,
            # At most once means no second copy, whatever becomes of the first.
            max_total_results=unit.quorum + (0 if options.attempts == 1 else left - 1 + SPARE_RESULTS),
            max_success_results=unit.quorum + SPARE_RESULTS,
            delay_bound=math.ceil(options.deadline or DEADLINE),
            rsc_fpops_est=work,
            rsc_fpops_bound=max(work * 1000, LEAST_BOUND),  # of running time: a misjudged task is still allowed to end
            rsc_memory_bound=options.memory or MEMORY,
            rsc_disk_bound=options.disk or DISK,
            priority=options.priority,
        )

    def _app(self, options: TaskOptions, python: str) -> str:
        adaptive = options.quorum == ADAPTIVE
        if not (options.packages or python) or self._packages is None:
            return ADAPTIVE_APP if adaptive else ""
        alike = options.copies > 1 and isinstance(options.agree, str) and tolerance(options.agree) is None
        return self._packages.app(
            options.packages, Copies.ADAPTIVE if adaptive else Copies.ALIKE if alike else Copies.ANYWHERE
        )

    def _item(self, batch: Batch, i: int) -> envelope.Item:
        return envelope.Item(str(batch.indices[i]), _arguments(batch, i), self._seed(batch, i))

    def _seed(self, batch: Batch, i: int) -> int | None:
        """Where the task's global random generators start: its own place, and the same for every copy of it."""
        seed = batch.call.options.seed
        if seed is None:
            return None
        key = batch.keys[i] if batch.keys is not None else f"{self._name}/{batch.call.id}/{batch.indices[i]}"
        root = "" if seed == "auto" else str(seed)
        return int.from_bytes(hashlib.sha256(f"{root}/{key}".encode()).digest()[:8], "little")

    def _upload(self, path: Path) -> str:
        """The name on the server of a data file."""
        status = path.stat()
        return self._there((path, status.st_mtime_ns, status.st_size), path)

    def _there(self, key: object, source: Path | bytes) -> str:
        """The name on the server of what it is sent once for each content, and again before it lets that go."""
        name, until = self._put.get(key, ("", 0.0))
        if (now := time.time()) >= until:
            name = self._server.put_file(source)
            self._put[key] = name, now + PUT_AGAIN
        return name

    def code(self, batch: Batch) -> Code:
        """The batch's function, packed, rehearsed and uploaded once."""
        function, options = _unwrapped(batch.call), batch.call.options
        modules = tuple(getattr(module, "__name__", str(module)) for module in options.modules)
        classes = frozenset(cls for i in range(len(batch)) for cls in _classes(batch, i))
        key = (function, modules, classes)
        made = self._bundles.get(key)
        if made is None or not made.is_current():  # a helper may have been edited in a notebook: never send stale code
            made = self._bundles[key] = self._bundle(function, modules, classes)
        code = self._codes.get(made.digest)
        needed = time.time() + 3 * (options.deadline or DEADLINE)  # as long as its jobs may be out, and go out again
        if code is None or code.expires < needed:
            code = self._codes[made.digest] = self._send(made, batch, needed + VALID_SECONDS)
        return code

    def _bundle(self, function: Callable[..., Any], modules: Sequence[str], classes: Collection[type]) -> Bundle:
        try:
            return bundle(function, modules=modules, classes=classes)
        except SourceMissing as missing:
            if self._packages is None:
                told = "only boinc:DIR, on the project's machine, can see to that"
            elif (there := self._packages.python) == MINOR:
                return bundle_of_byte_code(function, modules=modules, classes=classes)
            else:
                told = (
                    f"this project has {f'interpreters of Python {there}' if there else 'no interpreters of its own'}"
                )
            raise UnshippableError(f"{missing}. Byte code needs volunteers with Python {MINOR}, and {told}") from None

    def _rule(self, call: Call) -> Rule:
        """How results of the call must agree; a function of the user's is kept here, and never sent."""
        agree = call.options.agree
        if isinstance(agree, str):
            return Rule(tolerance(agree))
        function = _unwrapped(call)
        made = self._bundles.get((agree, function))
        if made is None or not made.is_current():
            made = self._bundles[agree, function] = bundle(agree, beside=[function])
            self._rules.use(made.digest[:24], made.data)
        return Rule(digest=made.digest[:24])

    def _send(self, made: Bundle, batch: Batch, expires: float) -> Code:
        check_readable(made, self._packages.python if self._packages is not None else "", batch.call.name)
        signed = self._worker.key.sign(self._worker.project, self._name, {BUNDLE: made.digest}, int(expires))
        files = {BUNDLE: made.data, SIGNATURE: signed}
        seconds, nbytes = None, 0
        if self._rehearse:
            trusted = {TRUSTED: self._worker.trusted}
            options = batch.call.options
            job = envelope.Job((self._item(batch, 0),), tuple(named(options)), tuple(options.outputs))  # no time limit
            python, packages = sys.executable, list[str]()
            if options.packages and self._packages is not None:
                python, packages = self._packages.here(options.packages)
            seconds, nbytes = rehearse(
                self._worker.program,
                files | trusted,
                named(options),
                job,
                name=batch.call.name,
                python=python,
                packages=packages,
            )
        return Code(made, files, seconds, nbytes, expires)


def _unwrapped(call: Call) -> Callable[..., Any]:
    function: Callable[..., Any] = call.function
    return function.func if isinstance(function, functools.partial) else function


def _all_arguments(batch: Batch, i: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    function = batch.call.function
    if isinstance(function, functools.partial):
        return (*function.args, *batch.args(i)), {**function.keywords, **batch.kwargs}
    return batch.args(i), dict(batch.kwargs)


def _arguments(batch: Batch, i: int) -> bytes:
    try:
        return envelope.pack_call(*_all_arguments(batch, i))
    except codec.CodecError as error:
        raise UnshippableError(f"{batch.call.name}, task {batch.indices[i]}: {error}") from error


def _classes(batch: Batch, i: int) -> set[type]:
    """The classes of the user's own among the arguments of a task."""
    arguments = _all_arguments(batch, i)
    if all(type(each) in _PLAIN for each in arguments[0]) and not arguments[1]:
        return set()
    try:
        return codec.classes(arguments)
    except codec.CodecError:
        _arguments(batch, i)  # says the same, from the outside
        raise
