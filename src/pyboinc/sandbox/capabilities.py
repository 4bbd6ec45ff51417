"""A superuser's powers, given up: as root, too, no limit can be raised again and no device be made."""

from __future__ import annotations

import ctypes
import struct

from pyboinc.sandbox import kernel

_VERSION_3 = 0x20080522
_CLEAR_AMBIENT = 47, 4


def drop() -> None:
    """Have none, nor any program that is started from here on."""
    kernel.forbid_new_privileges()
    kernel.libc.prctl(*_CLEAR_AMBIENT, 0, 0, 0)
    if kernel.libc.capset(struct.pack("Ii", _VERSION_3, 0), bytes(24)):
        raise OSError(ctypes.get_errno(), "the kernel refused to take the capabilities")
