"""BOINC's state constants, with the official server's numbers."""

from __future__ import annotations

from enum import IntEnum, IntFlag

__all__ = [
    "NEVER",
    "AssimilateState",
    "BatchState",
    "ClientState",
    "ErrorMask",
    "ExitStatus",
    "FileDeleteState",
    "Outcome",
    "ServerState",
    "ValidateState",
]

NEVER = 2**31 - 1
"""A transition_time that does not come: the largest number that fits the official column."""


class ServerState(IntEnum):
    """Where a result (one copy of a job) is, as the server sees it."""

    INACTIVE = 1
    UNSENT = 2
    IN_PROGRESS = 4
    OVER = 5


class Outcome(IntEnum):
    """How a result that is OVER ended."""

    INIT = 0
    SUCCESS = 1
    COULDNT_SEND = 2
    CLIENT_ERROR = 3
    NO_REPLY = 4  # the deadline passed
    DIDNT_NEED = 5  # never sent: the job was settled without it
    VALIDATE_ERROR = 6  # reported as a success, but its output is missing or cannot be read
    CLIENT_DETACHED = 7


class ValidateState(IntEnum):
    """What validation says of a result."""

    INIT = 0
    VALID = 1
    INVALID = 2
    NO_CHECK = 3  # the job ended in error before anybody looked
    INCONCLUSIVE = 4  # looked at, no quorum yet
    TOO_LATE = 5  # came when the output to compare with was already deleted


class AssimilateState(IntEnum):
    """Whether a workunit's outcome was handed over."""

    INIT = 0
    READY = 1
    DONE = 2


class FileDeleteState(IntEnum):
    """Whether the files of a workunit or result may go, or are gone."""

    INIT = 0
    READY = 1
    DONE = 2
    ERROR = 3


class ErrorMask(IntFlag):
    """Why a workunit ended without a canonical result."""

    NONE = 0
    COULDNT_SEND_RESULT = 1
    TOO_MANY_ERROR_RESULTS = 2
    TOO_MANY_SUCCESS_RESULTS = 4
    TOO_MANY_TOTAL_RESULTS = 8
    CANCELLED = 16
    NO_CANONICAL_RESULT = 32


class ClientState(IntEnum):
    """What the client says of a result when it reports it."""

    NEW = 0
    DOWNLOADING = 1
    DOWNLOADED = 2
    COMPUTE_ERROR = 3
    UPLOADING = 4
    UPLOADED = 5
    ABORTED = 6
    UPLOAD_FAILED = 7


class ExitStatus(IntEnum):
    """Exit codes that the client itself makes up and the server treats in a way of their own."""

    ABORTED_BY_PROJECT = 202
    ABORTED_VIA_GUI = 203


class BatchState(IntEnum):
    """A batch's life."""

    INIT = 0
    IN_PROGRESS = 1
    COMPLETE = 2
    ABORTED = 3
    RETIRED = 4
