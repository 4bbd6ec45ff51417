"""The one thread that learns what volunteers have done: outcomes by number, changes by number, in bulk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from boincserver import control
from boincserver.errors import ControlError, ServerNotRunning
from pymw.backends.boinc.attaching import Attachments
from pymw.backends.boinc.cancelling import Cancelling
from pymw.backends.boinc.homecoming import Homecoming
from pymw.backends.boinc.project import Project

__all__ = ["Collecting"]

OUTAGE = 600.0  # seconds for which a server that does not answer is waited for
POLL = 1.0  # seconds that one question for finished jobs waits at the server; closing takes no longer than that
LOOK_EVERY = 1.0  # seconds between two questions for what changed with jobs that hosts have


class Collecting:
    """Asks the server for what is new, has it taken home, and only then lets the server forget it."""

    def __init__(
        self,
        server: Project,
        batch: int,
        attachments: Attachments,
        homecoming: Homecoming,
        cancelling: Cancelling,
        broken: Callable[[str, BaseException | None], None],
        name: str,
    ) -> None:
        self._server, self._batch = server, batch
        self._attachments, self._homecoming, self._cancelling = attachments, homecoming, cancelling
        self._broken, self._name = broken, name
        self._after = self._acknowledged = 0
        self._at_hand: list[control.JobOutcome] = []  # not delivered yet
        self._epoch, self._change, self._next_look = "", 0, 0.0
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, unless that was done before."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._collect, name="pymw boinc collector", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop; nothing is delivered any more."""
        self._closed.set()
        with self._lock:
            if self._thread is not None and self._thread is not threading.current_thread():
                self._thread.join(timeout=10)

    def _collect(self) -> None:
        silent_since = None
        while not self._closed.is_set():
            try:
                self._round()
                silent_since = None
            except (ServerNotRunning, ControlError) as error:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > OUTAGE:
                    self._broken(f"{self._name} has not answered for {OUTAGE:.0f} s: {error}", None)
                    return
                self._closed.wait(1.0)
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
                if not self._closed.is_set():
                    self._broken(f"{self._name}: collecting results failed: {error}", error)
                return

    def _round(self) -> None:
        self._homecoming.create_waiting()
        finished = self._server.outcomes(self._batch, after=self._after, wait=POLL)
        self._cancelling.go_on()  # what was cancelled while the server was away
        self._look()  # before they are handed on: a host's name for a task comes before its end
        self._at_hand += self._attachments.sort(finished)
        if finished:
            self._after = finished[-1].seq
        self._homecoming.deliver(self._at_hand)  # if the server goes away meanwhile, again in the next round
        self._at_hand.clear()
        self._homecoming.create_waiting()
        upto = self._attachments.acknowledge_upto(self._after)
        if upto > self._acknowledged:
            self._server.acknowledge(self._batch, upto)
            self._acknowledged = upto

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY
        changes = self._server.changes(self._batch, self._epoch, self._change)
        self._epoch, self._change = changes.epoch, changes.seq
        self._homecoming.hear(changes.jobs)
        self._homecoming.look_for_failed_comparisons()
        self._homecoming.hurry()
