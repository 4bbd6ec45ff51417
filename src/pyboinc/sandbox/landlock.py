"""Landlock: which files a process may touch, and from Linux 6.7 on TCP, from 6.12 on signals to others."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys

from pyboinc.sandbox import kernel

assert sys.platform == "linux"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# The same numbers on all machines: these calls are younger than their common table.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_FIRST_RIGHTS = (1 << 13) - 1
_LATER_RIGHTS = {2: 1 << 13, 3: _TRUNCATE, 5: _IOCTL_DEV}  # by the ABI version that brought them
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_DEVICES = 1 << 6 | 1 << 11  # to make character and block devices, which no folder needs
ABI_OF_TCP, ABI_OF_SCOPES = 4, 6
_TCP = 1 | 2  # bind, connect
_SCOPES = 1 | 2  # abstract sockets, signals


def abi() -> int:
    """The version of the kernel's Landlock; 0 where it has none."""
    try:
        return kernel.call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    except OSError:
        return 0


def apply(read: Iterable[str | os.PathLike[str]], write: Iterable[str | os.PathLike[str]], *, network: bool) -> None:
    """Allow these paths and nothing else from now on; what does not exist is left out."""
    version = abi()
    rights = _FIRST_RIGHTS | sum(right for since, right in _LATER_RIGHTS.items() if version >= since)
    tcp = _TCP if version >= ABI_OF_TCP and not network else 0
    scopes = _SCOPES if version >= ABI_OF_SCOPES else 0
    size = 24 if version >= ABI_OF_SCOPES else 16 if version >= ABI_OF_TCP else 8
    attributes = struct.pack("QQQ", rights, tcp, scopes)[:size]
    rules = kernel.call(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for path in read:
            _allow(rules, path, _READ & rights)
        for path in write:
            _allow(rules, path, rights & ~_DEVICES)
        kernel.forbid_new_privileges()
        kernel.call(_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0))
    finally:
        os.close(rules)


def _allow(rules: int, path: str | os.PathLike[str], rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_RIGHTS
        rule = struct.pack("=Qi", rights, descriptor)
        kernel.call(_ADD_RULE, ctypes.c_int(rules), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(descriptor)
