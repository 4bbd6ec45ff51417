"""What travels between a master and a volunteer's computer, as bytes of `pymw.codec` and nothing else.

A job is a chunk of calls of one function; its outcomes come back in the same order. Each argument list and each value
is encoded by itself, so that one that cannot be read costs its own task alone. Whatever is read here may come from a
stranger: every field is checked. Standard library only, Python 3.9 or later: both sides run this.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pymw import codec
from pymw.outcome import Ending, ExceptionData, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "Item",
    "Job",
    "agreement",
    "encodable",
    "fingerprint",
    "pack_call",
    "pack_job",
    "pack_outcome",
    "pack_outcomes",
    "packed_value",
    "running_time",
    "unpack_call",
    "unpack_job",
    "unpack_outcome",
    "unpack_outcomes",
]

FORMAT = 1
MAX_TEXT = 64 << 10  # of what a task printed, its end is kept
MAX_LINES, MAX_LINE = 200, 1000  # of what a task logs: lines, and characters of each
MAX_TRACEBACK = 32 << 10
MAX_CHAIN = 20  # exceptions that hang together, as deep as pymw.outcome describes them
FRAME = codec.Limits(size=1 << 30, count=1_000_000)  # around values that have limits of their own


@dataclass(frozen=True)
class Item:
    """One call: `arguments` is made by `pack_call`; `seed` is for the global random generators, None leaves them."""

    id: str
    arguments: bytes
    seed: int | None = None


@dataclass(frozen=True)
class Job:
    """The calls of one workunit, in order; `files` are in each call's working directory, `outputs` it leaves there."""

    items: tuple[Item, ...]
    files: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    time_limit: float = 0.0  # seconds that one call may run; 0: as long as it likes
    tell_every: float = 10.0  # seconds between two messages about progress, at least


def pack_call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """Encode the arguments of one call; CodecError leads to the culprit as ``args[0]...`` or ``kwargs['x']...``."""
    try:
        return codec.encode((tuple(args), dict(kwargs)))
    except codec.CodecError as error:
        for number, name in enumerate(("args", "kwargs")):
            if error.path.startswith(f"[{number}]"):
                raise codec.CodecError(error.reason, name + error.path[3:]) from None
        raise


def unpack_call(data: bytes, modules: Collection[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inverse of `pack_call`."""
    args, kwargs = codec.decode(data, modules=modules)
    return args, kwargs


def pack_job(job: Job) -> bytes:
    """The file of tasks that a workunit takes along."""
    items = [(item.id, item.arguments, item.seed) for item in job.items]
    rest = {name: getattr(job, name) for name in _JOB_FIELDS}
    return codec.encode({"format": FORMAT, "items": items, **rest}, limits=FRAME)


def unpack_job(data: bytes) -> Job:
    """The inverse of `pack_job`."""
    fields = codec.decode(data, limits=FRAME)
    if fields["format"] != FORMAT:
        raise codec.CodecError(f"the tasks have format {fields['format']}; this worker reads {FORMAT}")
    return Job(tuple(Item(*item) for item in fields["items"]), **{name: fields[name] for name in _JOB_FIELDS})


def encodable(value: Any) -> bool:
    """Whether a value could travel."""
    try:
        codec.encode(value)
    except codec.CodecError:
        return False
    return True


def pack_outcome(outcome: Outcome) -> bytes:
    """The end of one task; a value that cannot travel makes it UNSENDABLE, with the path to the culprit."""
    value = None
    if outcome.ending is Ending.RETURNED:
        try:
            value = codec.encode(outcome.value)
        except codec.CodecError as error:
            detail = f"the result cannot come back: {error.under('result')}"
            outcome = dataclasses.replace(outcome, ending=Ending.UNSENDABLE, value=None, detail=detail)
    fields = {
        "ending": outcome.ending.value,
        "value": value,
        "exception": _describe(outcome.exception),
        "detail": outcome.detail[-MAX_TEXT:],
        "stdout": outcome.stdout[-MAX_TEXT:],
        "stderr": outcome.stderr[-MAX_TEXT:],
        "log": [line[:MAX_LINE] for line in outcome.log[-MAX_LINES:]],
        "started": outcome.started,
        "seconds": outcome.seconds,
        "cpu_seconds": outcome.cpu_seconds,
        "files": dict(outcome.files),
    }
    # What is as usual does not travel: most outcomes are a value and its times.
    return codec.encode({name: value for name, value in fields.items() if value != _USUAL[name]}, limits=FRAME)


def pack_outcomes(outcomes: Sequence[bytes]) -> bytes:
    """The output file of a workunit: one `pack_outcome` for each item of its job."""
    return codec.encode({"format": FORMAT, "outcomes": list(outcomes)}, limits=FRAME)


def unpack_outcomes(data: bytes) -> list[bytes]:
    """The packed outcomes in an output file."""
    fields = codec.decode(data, limits=FRAME)
    outcomes = fields.get("outcomes") if isinstance(fields, dict) and fields.get("format") == FORMAT else None
    if not isinstance(outcomes, list) or not all(isinstance(outcome, bytes) for outcome in outcomes):
        raise codec.CodecError("this is not a file of outcomes")
    return outcomes


def unpack_outcome(data: bytes, modules: Collection[str], *, worker: str = "") -> Outcome:
    """The end of one task, as `worker` tells it; values may be of the classes in `modules`, already imported here.

    Raises CodecError for anything that no worker of ours would have sent.
    """
    with _well_formed():
        return _outcome(data, modules, worker)


def _outcome(data: bytes, modules: Collection[str], worker: str) -> Outcome:
    fields = _fields(data)
    ending = Ending(fields["ending"])
    value = None
    if ending is Ending.RETURNED:
        value = codec.decode(_bytes(fields["value"]), modules=modules)
    exception = fields["exception"]
    return Outcome(
        ending=ending,
        value=value,
        exception=None if exception is None else _rebuild(exception, modules),
        detail=_text(fields["detail"]),
        stdout=_text(fields["stdout"]),
        stderr=_text(fields["stderr"]),
        log=tuple(_text(line)[:MAX_LINE] for line in fields["log"][:MAX_LINES]),
        worker=worker,
        started=_number(fields["started"]),
        seconds=_number(fields["seconds"]),
        cpu_seconds=_number(fields["cpu_seconds"]),
        files={_text(name): _bytes(content) for name, content in fields["files"].items()},
    )


def running_time(data: bytes) -> float | None:
    """Seconds that the function ran, of a packed outcome."""
    return _number(_fields(data)["seconds"])


def packed_value(data: bytes) -> bytes:
    """The encoded value in a packed outcome of a task that returned."""
    return _bytes(_fields(data)["value"])


def agreement(data: bytes) -> tuple[str, Any]:
    """What of a packed outcome redundant copies must agree on, without knowing the classes in it.

    That is how it ended and the value with the files, or the exception's type and arguments; never text, timings or
    progress.
    """
    with _well_formed():
        return _agreement(_fields(data))


def _agreement(fields: dict[str, Any]) -> tuple[str, Any]:
    ending = Ending(fields["ending"])
    if ending is Ending.RETURNED:
        return ending.value, (codec.decode(_bytes(fields["value"]), modules=None), fields["files"])
    exception = fields["exception"]
    if ending is Ending.RAISED and isinstance(exception, dict):
        args = exception.get("args")
        content = None if args is None else codec.decode(_bytes(args), modules=None)
        return ending.value, (exception.get("module"), exception.get("qualname"), content)
    return ending.value, None


def fingerprint(data: bytes) -> str:
    """Equal for packed outcomes that agree exactly."""
    return codec.digest(agreement(data))


_JOB_FIELDS = ("files", "outputs", "time_limit", "tell_every")
_USUAL: dict[str, Any] = {
    **dict.fromkeys(("ending", "detail", "stdout", "stderr"), ""),
    **dict.fromkeys(("value", "exception", "started", "seconds", "cpu_seconds")),
    "files": {},
    "log": [],
}
_CHAINED: dict[str, Callable[[ExceptionData], Any]] = {
    "cause": lambda data: data.cause,
    "context": lambda data: data.context,
}


@contextlib.contextmanager
def _well_formed() -> Iterator[None]:
    try:
        yield
    except codec.CodecError:
        raise
    except Exception as error:
        raise codec.CodecError(f"this is not the outcome of a task: {error!r:.200}") from error


def _fields(data: bytes) -> dict[str, Any]:
    fields = codec.decode(data, limits=FRAME)
    if not isinstance(fields, dict) or "ending" not in fields or not _USUAL.keys() >= fields.keys():
        raise codec.CodecError("this is not the outcome of a task")
    fields = {**_USUAL, **fields}
    if fields["ending"] not in {ending.value for ending in Ending}:
        raise codec.CodecError(f"no task ends as {fields['ending']!r:.60}")
    return fields


def _describe(data: ExceptionData | None) -> dict[str, Any] | None:
    if data is None:
        return None
    return {
        "module": data.module,
        "qualname": data.qualname,
        "message": data.message[:MAX_TEXT],
        "args": None if data.args is None else codec.encode(data.args),
        "bases": [tuple(base) for base in data.bases],
        "notes": [note[:MAX_TEXT] for note in data.notes[:100]],
        "traceback": data.traceback[-MAX_TRACEBACK:],
        "suppress_context": data.suppress_context,
        "exceptions": [_describe(member) for member in data.exceptions],
        "state": codec.encode(dict(data.state)),
        **{name: _describe(linked(data)) for name, linked in _CHAINED.items()},
    }


def _rebuild(fields: Any, modules: Collection[str], depth: int = 0) -> ExceptionData:
    if not isinstance(fields, dict) or depth > MAX_CHAIN:
        raise codec.CodecError("this is not an exception")

    def linked(name: str) -> ExceptionData | None:
        return None if fields[name] is None else _rebuild(fields[name], modules, depth + 1)

    args = None if fields["args"] is None else codec.decode(_bytes(fields["args"]), modules=modules)
    state = codec.decode(_bytes(fields["state"]), modules=modules)
    if not isinstance(args, (tuple, type(None))) or not isinstance(state, dict) or not all(map(_is_name, state)):
        raise codec.CodecError("an exception whose arguments are none")
    return ExceptionData(
        module=_text(fields["module"]),
        qualname=_text(fields["qualname"]),
        message=_text(fields["message"]),
        args=args,
        bases=tuple((_text(module), _text(name)) for module, name in fields["bases"]),
        notes=tuple(_text(note) for note in fields["notes"]),
        traceback=_text(fields["traceback"]),
        cause=linked("cause"),
        context=linked("context"),
        suppress_context=fields["suppress_context"] is True,
        exceptions=tuple(_rebuild(member, modules, depth + 1) for member in fields["exceptions"]),
        state=state,
    )


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and not name.startswith("__")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise codec.CodecError(f"text was due, not {type(value).__name__}")
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise codec.CodecError(f"bytes were due, not {type(value).__name__}")
    return value


def _number(value: Any) -> float | None:
    if value is not None and type(value) not in (int, float):
        raise codec.CodecError(f"a number was due, not {type(value).__name__}")
    return None if value is None else float(value)
