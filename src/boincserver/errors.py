"""The errors of boincserver, all on one screen.

BoincServerError
├── NotAProject         the directory holds no project
├── ProjectExists       the directory cannot become a project: something is there already
├── UnusableUrl         volunteers' clients could not use this URL
├── ConfigError         project.toml says something that cannot be
├── PortInUse           another program listens there
├── AlreadyServed       another server runs this project
├── ServerNotRunning    nobody answers on the project's control socket
├── ControlError        the server refused or failed a call of its control interface
├── BackupError         a backup cannot be made
├── RestoreError        a backup cannot be restored
├── KeyRotationError    a new signing key cannot take the place of the old one
├── SigningKeyMissing   the private key is not on this machine
├── UnknownApp, UnknownBatch, UnknownValidator, UnknownAssimilator
├── AccountError        an account cannot be made or found (with the protocol's error number)
├── Conflict            another process changed a row in the meantime
├── SubmissionRefused   a remote submitter asks for what cannot be, or may not
├── InvalidResult       raised by a validator: this output cannot be right
└── SchemaError         the database is of another time or kind
"""

from __future__ import annotations

__all__ = [
    "AccountError",
    "AlreadyServed",
    "BackupError",
    "BoincServerError",
    "ConfigError",
    "Conflict",
    "ControlError",
    "InvalidResult",
    "KeyRotationError",
    "NotAProject",
    "PortInUse",
    "ProjectExists",
    "RestoreError",
    "SchemaError",
    "ServerNotRunning",
    "SigningKeyMissing",
    "SubmissionRefused",
    "UnknownApp",
    "UnknownAssimilator",
    "UnknownBatch",
    "UnknownValidator",
    "UnusableUrl",
]


class BoincServerError(Exception):
    """Anything that boincserver raises on purpose; its text is fit to be shown to a user."""


class NotAProject(BoincServerError):
    """The directory holds no project."""


class ProjectExists(BoincServerError):
    """The directory cannot become a project: something is there already."""


class UnusableUrl(BoincServerError):
    """Volunteers' clients could not use this URL."""


class ConfigError(BoincServerError):
    """The project's TOML file says something that cannot be."""


class Conflict(BoincServerError):
    """Another process changed a row that was read; the operation is to be run again."""


class PortInUse(BoincServerError):
    """Another program listens on the address."""


class AlreadyServed(BoincServerError):
    """Another server process runs this project."""


class ServerNotRunning(BoincServerError):
    """Nobody answers on the project's control socket."""


class ControlError(BoincServerError):
    """The server refused or failed a call of its control interface."""


class BackupError(BoincServerError):
    """A backup cannot be made."""


class RestoreError(BoincServerError):
    """A backup cannot be restored; nothing was changed."""


class SigningKeyMissing(BoincServerError):
    """The private signing key is not on this machine."""


class KeyRotationError(BoincServerError):
    """A new signing key cannot take the place of the old one; nothing was changed."""


class UnknownApp(BoincServerError):
    """No application of that name."""


class UnknownBatch(BoincServerError):
    """No batch with that id."""


class UnknownAssimilator(BoincServerError):
    """No assimilator of that name is installed."""


class UnknownValidator(BoincServerError):
    """No validator of that name is installed."""


class InvalidResult(BoincServerError):
    """Raised by a validator's `load`: this output cannot be right, whatever the others say."""


class SubmissionRefused(BoincServerError):
    """A remote submitter asks for what cannot be, or what its account may not do."""


class SchemaError(BoincServerError):
    """The database is newer than this program, or is none of ours."""


class AccountError(BoincServerError):
    """An account cannot be made or found; `number` is BOINC's error number for the client."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
