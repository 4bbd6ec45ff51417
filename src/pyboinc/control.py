"""What the client asked for and what is still to be done about it: the supervisor's state machine.

    hear("suspend" | "resume" | "quit" | "abort" | "dead")      changes what is wanted
    decide(now, ...)                                            says what to do with the child about it

A suspend that was not yet acted on is cancelled by a resume. A child in a critical section is left alone, but
not for ever. To quit means to ask first: the child gets a few seconds to save its state, and a saved state ends them.
"""

from __future__ import annotations

from pyboinc.slot import EXIT_ABORTED_BY_CLIENT

SUSPEND, RESUME, ASK, KILL = "suspend", "resume", "ask", "kill"

QUIT_GRACE = 5.0
"""Seconds to save after a quit. The client kills after 60, and a shutting-down system is less patient."""
CRITICAL_LIMIT = 30.0
"""Seconds that a critical section holds the client's wishes up; longer is a child that does not let go."""


class Control:
    """Wishes and facts about one task; times are seconds of a monotonic clock."""

    def __init__(self, *, grace: float = QUIT_GRACE) -> None:
        self.exit_code: int | None = None
        """Set once the client wants the task to end; what to exit with then."""
        self.suspended = False
        """Whether the child stands still."""
        self._grace = grace
        self._want_suspended = False
        self._abort = False
        self._kill_at: float | None = None
        self._critical_since: float | None = None
        self._held_since: float | None = None  # when what is wanted was held up first

    def hear(self, word: str) -> None:
        """Take in what the client said."""
        if word == "suspend":
            self._want_suspended = True
        elif word == "resume":
            self._want_suspended = False
        elif word == "abort":
            self.exit_code, self._abort = EXIT_ABORTED_BY_CLIENT, True
        elif word in ("quit", "dead") and self.exit_code is None:
            self.exit_code = 0

    def critical(self, inside: bool, now: float) -> None:
        """The child entered or left a critical section."""
        self._critical_since = now if inside else None

    def saved(self, now: float) -> None:
        """The child's state is on disk, so there is nothing more to wait for."""
        if self._kill_at is not None:
            self._kill_at = now

    def decide(self, now: float) -> str | None:
        """The one thing to do now."""
        if self.exit_code is not None:
            return self._decide_to_leave(now)
        if self._want_suspended == self.suspended:
            self._held_since = None
            return None
        if self._want_suspended and self._held_up(now):
            return None
        self.suspended = self._want_suspended
        return SUSPEND if self.suspended else RESUME

    def _decide_to_leave(self, now: float) -> str | None:
        if self.suspended:
            return KILL
        if self._held_up(now):
            return None
        if self._abort:
            return KILL
        if self._kill_at is None:
            self._kill_at = now + self._grace
            return ASK
        return KILL if now >= self._kill_at else None

    def _held_up(self, now: float) -> bool:
        if self._critical_since is None:
            return False
        if self._held_since is None:
            self._held_since = now
        # One section after the other makes nobody deaf: what is wanted waits no longer than a section may last.
        return now - min(self._critical_since, self._held_since) < CRITICAL_LIMIT
