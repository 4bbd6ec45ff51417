"""System calls that the standard library has no function for."""

from __future__ import annotations

import ctypes
import os

_NO_NEW_PRIVILEGES = 38

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong)


def call(number: int, *arguments: object) -> int:
    """A system call by number; an OSError if it fails."""
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def prctl(option: int, value: int = 0, pointer: object = None) -> int:
    """prctl(2); an OSError if it fails."""
    result = int(libc.prctl(option, value, pointer, 0, 0))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def forbid_new_privileges() -> None:
    """No program started from here on gains rights by its file; both Landlock and seccomp ask for that."""
    prctl(_NO_NEW_PRIVILEGES, 1)
