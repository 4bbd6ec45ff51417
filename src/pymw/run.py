"""Named runs: which task is which for ever, and what is known of it already."""

from __future__ import annotations

import dataclasses
import logging
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pymw import codec
from pymw.backends.protocol import Batch, Call, Ended, Event, Placement, Returned
from pymw.dependencies import replaced
from pymw.errors import UnshippableError
from pymw.files import Left, digests
from pymw.identity import identify
from pymw.journal import Journal, Recorded, Unreadable
from pymw.keys import SIZE, Keys, Occurrences, UnderWay
from pymw.outcome import Ending, Outcome, resolve_imported
from pymw.owners import owner_of
from pymw.sharing import Shared
from pymw.turns import Turns
from pymw.written import remember_sources

__all__ = ["BACKEND", "Run", "error_of"]

log = logging.getLogger("pymw")
BACKEND = "backend"  # the note of the URL of a backend that outlives its master


class Run:
    """A run that this process holds: the master's side of a journal, and the backend's RunHandle."""

    def __init__(self, name: str, *, retry_failed: bool = True) -> None:
        self.name = name
        self._journal = Journal(name, write=True)
        self._retry_failed = retry_failed
        remember_sources()  # before somebody goes on editing
        self.turns = Turns()
        self._occurrences = Occurrences()
        self._under_way: dict[Call, UnderWay] = {}
        self._identities: dict[Call, str] = {}  # of their functions, as these were at the call
        self._kinds: dict[Call, dict[type, str]] = {}  # the same of the classes of their arguments
        self._equal: dict[Call, dict[str, list[int]]] = {}  # of calls with `reuse`: who waits for which task
        self._sharing = threading.Lock()
        self._told: dict[str, str] = {}  # digest of the function -> its name

    @property
    def folder(self) -> Path:
        """Where the run's files are: the journal, checkpoints."""
        return self._journal.folder

    # What the master asks.

    def opened_on(self, url: str) -> None:
        """Remember where the run goes on while nobody holds it; nowhere, if `url` is empty."""
        if (self.note(BACKEND) or "") != url:
            self.note(BACKEND, url)

    def answer(self, cancel: Callable[[], int]) -> None:
        """Other processes may have the run cancelled from now on: by `cancel`, which says how many tasks it hit."""
        assert self._journal.lease is not None
        method = weakref.WeakMethod(cancel)
        self._journal.lease.answer(lambda: found() if (found := method()) is not None else 0)

    def keys(self, call: Call, columns: Sequence[Sequence[Any]], count: int, kwargs: Mapping[str, Any]) -> Keys:
        """The keys of tasks of the call, in the order of their arguments, for whoever has the turn."""
        if (function := self._identities.get(call)) is None:
            function = self._identities[call] = self._identity(call)
        if call.options.files or call.options.outputs:
            function += codec.digest((digests(call.options), tuple(call.options.outputs)))
        if call.options.packages:
            function += codec.digest(tuple(sorted(call.options.packages)))
        calls = [f"{function} {self._given(call, columns, i, kwargs)}" for i in range(count)]
        occurrences = [0] * count if call.options.reuse else self._occurrences.numbers(calls)
        keys = (codec.digest((self.name, *one))[: 2 * SIZE] for one in zip(calls, occurrences, strict=True))
        return Keys(keys)

    def _given(self, call: Call, columns: Sequence[Sequence[Any]], i: int, kwargs: Mapping[str, Any]) -> str:
        options = call.options
        args = tuple(column[i] for column in columns)
        what: Any = (_by_key(args), dict(zip(kwargs, _by_key(kwargs.values()), strict=True)))
        if options.key is not None:
            what = ("key", options.key(*args, **kwargs) if callable(options.key) else options.key)
        try:
            digest, classes = codec.examine(what)
            if not classes or options.key is not None:
                return digest
            return " ".join([digest, *self._own_classes(call, classes)])
        except codec.CodecError as error:
            path = str(error.path)
            if options.key is not None:
                raise UnshippableError(f"key=: {error.reason}; use what the codec knows") from error
            told = f"kwargs{path[3:]}" if path.startswith("[1]") else f"args{path[3:]}" if path else "the arguments"
            raise UnshippableError(
                f"{told}: {error.reason}; in a named run the arguments tell tasks apart: "
                "use what the codec knows, or say what to tell them apart by with options(key=...)"
            ) from error

    def _own_classes(self, call: Call, classes: Collection[type]) -> list[str]:
        """The identities of those that are the user's own: a function may call their methods."""
        known = self._kinds.setdefault(call, {})
        for kind in classes:
            if kind not in known:
                known[kind] = "" if owner_of(kind.__module__) else identify(kind).digest
        return sorted(filter(None, (known[kind] for kind in classes)))

    def _identity(self, call: Call) -> str:
        identity = identify(call.function)
        name = _name(call)
        if identity.digest not in self._told and "<lambda>" not in name:
            # Several of one name in one script, as closures and partials are, were not edited.
            alike = name in self._told.values()
            self._told[identity.digest] = name
            before = self._journal.remember_function(name, identity.digest, identity.parts)
            if before is not None and not alike and (results := self._journal.function_results(name)):
                changed = ", ".join(identity.changed_from(before))
                told = "run %r: %s is not what it was (%s): its %d recorded results do not count"
                log.warning(told, self.name, name, changed, results)
        return identity.digest

    def begin(self, batch: Batch) -> tuple[Batch | None, list[Event]]:
        """What of the batch has to be computed, and what is known already."""
        assert batch.keys is not None
        known = self._journal.ended(batch.keys) if len(batch) else {}
        events: list[Event] = []
        missing = []
        for position, key in enumerate(batch.keys):
            event = self._known(batch.call, batch.indices[position], known.get(key))
            if event is None:
                if not self._waits(batch.call, key, batch.indices[position]):
                    missing.append(position)
            else:
                _append(events, event)
        if not missing:
            return None, events
        wanted = batch
        if len(missing) < len(batch):
            wanted = dataclasses.replace(batch.pick(missing), keys=Keys(batch.keys[position] for position in missing))
        assert wanted.keys is not None
        self._journal.ask(wanted.keys, _name(batch.call))
        self._under_way.setdefault(batch.call, UnderWay()).add(wanted)
        return wanted, events

    def _known(self, call: Call, index: int, end: tuple[Recorded, Any] | None) -> Event | None:
        if end is None or isinstance(end[1], Unreadable) or (end[0] is Recorded.FAILED and self._retry_failed):
            return None
        if isinstance(end[1], Left):
            return Ended(call, index, Left.apart(Outcome(Ending.RETURNED, end[1])))
        if end[0] is Recorded.RETURNED:
            return Returned(call, index, [end[1]])
        return Ended(call, index, end[1], error_of(end[1]))

    def _waits(self, call: Call, key: str, index: int) -> bool:
        """Whether the task waits for an equal one of its call that is under way, or else the next ones for it.

        With retries an equal one may have to be tried again, by which time others cannot wait.
        """
        if not call.options.reuse or call.options.retries:
            return False
        with self._sharing:
            waiting = self._equal.setdefault(call, {})
            if key in waiting:
                waiting[key].append(index)
                return True
            waiting[key] = []
            return False

    def _equal_to(self, call: Call, key: str) -> Sequence[int]:
        """The tasks that wait for this one, which ends with this."""
        if call not in self._equal:
            return ()
        with self._sharing:
            return self._equal[call].pop(key, ())

    def record(self, events: Sequence[Event]) -> list[Event]:
        """What ended is on disk when this returns; and what ended with it, as it is equal."""
        ends: list[tuple[str, Recorded, Any]] = []
        also: list[Event] = []
        for event in events:
            if isinstance(event, Returned) and event.call in self._under_way:
                under_way = self._under_way[event.call]
                taken = under_way.take(event.index, len(event.values))
                for key, value in zip(taken, event.values, strict=True):
                    if key is not None:
                        ends.append((key, Recorded.RETURNED, value))
                        also += (Returned(event.call, index, [value]) for index in self._equal_to(event.call, key))
            elif isinstance(event, Ended) and event.outcome.ending is not Ending.CANCELLED:
                last = not event.call.options.retries  # with them this may not have been the last word
                theirs = self._under_way.get(event.call)
                if theirs is not None and (key := theirs.key(event.index, ends=last)) is not None:
                    ends.append((key, *_end(event)))
                    also += (dataclasses.replace(event, index=index) for index in self._equal_to(event.call, key))
        if ends:
            self._journal.record(ends)
        return also

    def forget(self, call: Call) -> None:
        """The call is over."""
        self._under_way.pop(call, None)
        self._identities.pop(call, None)
        self._kinds.pop(call, None)
        self._equal.pop(call, None)

    def close(self) -> None:
        """Let go of the run."""
        self.turns.close()
        with self.turns:  # somebody may just be asking for a key
            self._occurrences.close()
            self._journal.close()

    # RunHandle.

    def place(self, unit: str, keys: Sequence[str], attempt: int = 1) -> None:
        """As RunHandle says."""
        self._journal.place(unit, keys, attempt)

    def placements(self, keys: Iterable[str]) -> Mapping[str, Placement]:
        """As RunHandle says."""
        return self._journal.placements(keys)

    def keys_of(self, unit: str) -> Sequence[str]:
        """As RunHandle says."""
        return self._journal.keys_of(unit)

    def has_ended(self, unit: str) -> bool:
        """As RunHandle says."""
        return not self._journal.unfinished(unit)

    def note(self, name: str, value: str | None = None) -> str | None:
        """As RunHandle says."""
        return self._journal.note(name, value)


def _append(events: list[Event], event: Event) -> None:
    """Values that follow each other are one event."""
    last = events[-1] if events else None
    if isinstance(event, Returned) and isinstance(last, Returned) and last.index + len(last.values) == event.index:
        assert isinstance(last.values, list)
        last.values.extend(event.values)
    else:
        events.append(event)


def _by_key(values: Iterable[Any]) -> tuple[Any, ...]:
    """The values; a task among them counts by its own key, a shared object by its content."""
    return tuple(_key_of(value) for value in values)


def _key_of(value: Any) -> Any:
    if isinstance(value, Shared):
        return ("shared", value.digest)
    return replaced(value, lambda future: ("task", future.key))


def _name(call: Call) -> str:
    """What the journal calls the function."""
    return getattr(call.function, "__qualname__", None) or call.name


def _end(event: Ended) -> tuple[Recorded, Any]:
    if event.error is None:
        value, files = event.outcome.value, event.outcome.files
        return Recorded.RETURNED, Left(value, files) if files else value
    detail = event.outcome.detail or str(event.error)
    return Recorded.FAILED, dataclasses.replace(event.outcome, value=None, detail=detail)


def error_of(outcome: Outcome) -> BaseException:
    """The exception that a recorded outcome stands for."""
    error = outcome.error("of a recorded run", resolve_imported)
    assert error is not None
    return error
