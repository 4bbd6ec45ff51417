"""The boinc backend: volunteers' computers, through the BOINC project in a directory."""

from __future__ import annotations

from pymw.backends.protocol import Backend, Setup

__all__ = ["open_boinc"]


def open_boinc(address: str, setup: Setup) -> Backend:
    """The backend for ``boinc:DIR``."""
    from pymw.backends.boinc.backend import BoincBackend  # only who uses it loads the server's client

    return BoincBackend.open(address, setup)
