"""The boinc backends: volunteers' computers, through a BOINC project here or at the other end of the network."""

from __future__ import annotations

from pymw.backends.protocol import Backend, Setup

__all__ = ["open_boinc", "open_boinc_http", "open_boinc_https"]


def open_boinc(address: str, setup: Setup) -> Backend:
    """The backend for ``boinc:DIR``."""
    from pymw.backends.boinc.backend import BoincBackend  # only who uses it loads the server's client

    return BoincBackend.open(address, setup)


def open_boinc_https(address: str, setup: Setup) -> Backend:
    """The backend for ``boinc+https://host/project``."""
    from pymw.backends.boinc.backend import BoincBackend

    return BoincBackend.open_remote(f"https:{address}", setup)


def open_boinc_http(address: str, setup: Setup) -> Backend:
    """The backend for ``boinc+http://127.0.0.1:8080``: unencrypted, so for this machine alone."""
    from pymw.backends.boinc.backend import BoincBackend

    return BoincBackend.open_remote(f"http:{address}", setup)
