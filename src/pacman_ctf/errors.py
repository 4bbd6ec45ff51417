"""What can go wrong outside a game. What a team does wrong is an outcome, never an exception here.

PacmanError
├── SubmissionError     a team's files cannot be taken as a team
├── RecordError         a record that is damaged
│   └── Forged          a record that claims what its moves do not give
├── SandboxTooWeak      the host cannot isolate as far as was asked
└── HostError           this machine failed, and no team is to blame
LayoutError (ValueError, in `layout`)
"""

from __future__ import annotations


class PacmanError(Exception):
    """The root of this package's errors."""


class SubmissionError(PacmanError):
    """A team's files cannot be taken as a team; the message says why and what to do."""


class RecordError(PacmanError, ValueError):
    """A record that is damaged or incomplete."""


class Forged(RecordError):
    """A record that claims what its moves do not give."""


class SandboxTooWeak(PacmanError):
    """The host cannot isolate teams as far as was asked."""


class HostError(PacmanError):
    """This machine failed; no team is to blame, so the match has no outcome."""
