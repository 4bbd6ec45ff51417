"""The boinc backend: volunteers' computers, through the BOINC project in a directory."""

from pymw.backends.boinc.backend import BoincBackend, open_boinc

__all__ = ["BoincBackend", "open_boinc"]
