"""Where a copy of a job is, and how it ended, for people."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from boincserver.states import Outcome, ServerState, ValidateState

__all__ = ["exit_of", "in_words"]

_ENDS: Final = {
    Outcome.INIT: "over",
    Outcome.SUCCESS: "success",
    Outcome.COULDNT_SEND: "could not be sent",
    Outcome.CLIENT_ERROR: "failed",
    Outcome.NO_REPLY: "no reply",
    Outcome.DIDNT_NEED: "not needed",
    Outcome.VALIDATE_ERROR: "output missing",
    Outcome.CLIENT_DETACHED: "client detached",
}


def in_words(state: ServerState, outcome: Outcome, validation: ValidateState) -> str:
    """The three in a few words."""
    if state != ServerState.OVER:
        return _words(state)
    if outcome == Outcome.SUCCESS and validation != ValidateState.INIT:
        return f"success, {_words(validation)}"
    return _ENDS[outcome]


def _words(state: IntEnum) -> str:
    return state.name.lower().replace("_", " ")


def exit_of(outcome: Outcome, exit_status: int) -> int | str:
    """The exit status of a program that ended."""
    return exit_status if outcome in (Outcome.SUCCESS, Outcome.CLIENT_ERROR) else ""
