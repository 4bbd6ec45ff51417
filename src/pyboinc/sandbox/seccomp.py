"""seccomp: which system calls a process may make. What is denied fails with EPERM, so programs can tell.

The filter is a list of calls that no job needs, not of those that it may use: libraries change too much for that.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

from pyboinc.sandbox import kernel

assert sys.platform != "win32"

_GET_SECCOMP, _SET_SECCOMP, _FILTER = 21, 22, 2

# Each call by its number on x86_64 and on aarch64.
_DENIED = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "quotactl": (179, 60),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "vhangup": (153, 58),
    "syslog": (103, 116),
    "personality": (135, 92),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "pidfd_getfd": (438, 438),
    "mount_setattr": (442, 442),
    "process_madvise": (440, 440),
}
_CLONE3 = 435
_SOCKET, _CLONE = (41, 198), (56, 220)
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""For each machine its place in those pairs, and the number by which the kernel's audit knows it."""
_NEW_USER_NAMESPACE = 0x10000000
_X32 = 0x40000000
"""x86_64 has a second set of calls behind this bit, which would go round the numbers above."""

# The filter's machine: load a word of the call, compare, answer.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_CALL, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_AF_UNIX = 1


def available() -> bool:
    """Whether this kernel filters system calls, and whether this machine's are known here."""
    try:
        kernel.prctl(_GET_SECCOMP)
    except OSError:
        return False
    return os.uname().machine in _MACHINES


def program(machine: str, *, network: bool, unix_sockets: bool) -> bytes:
    """The filter as the kernel reads it."""
    place, audit = _MACHINES[machine]
    deny = _instruction(_RETURN, _FAIL | errno.EPERM)
    code = [
        _instruction(_LOAD, _MACHINE),
        _instruction(_EQUAL, audit, 1, 0),
        deny,
        _instruction(_LOAD, _CALL),
    ]
    if machine == "x86_64":
        code += [_instruction(_AT_LEAST, _X32, 0, 1), deny]
    for numbers in _DENIED.values():
        code += [_instruction(_EQUAL, numbers[place], 0, 1), deny]
    # clone3 hides its flags in memory; told that it does not exist, libraries use clone.
    code += [_instruction(_EQUAL, _CLONE3, 0, 1), _instruction(_RETURN, _FAIL | errno.ENOSYS)]
    code += [
        _instruction(_EQUAL, _CLONE[place], 0, 4),
        _instruction(_LOAD, _FIRST_ARGUMENT),
        _instruction(_ANY_BIT, _NEW_USER_NAMESPACE, 0, 1),
        deny,
        _instruction(_RETURN, _ALLOW),
    ]
    if not network:
        code += [_instruction(_EQUAL, _SOCKET[place], 0, 3), _instruction(_LOAD, _FIRST_ARGUMENT)]
        code += [_instruction(_EQUAL, _AF_UNIX if unix_sockets else 0xFFFFFFFF, 1, 0), deny]
    return b"".join([*code, _instruction(_RETURN, _ALLOW)])


def apply(*, network: bool, unix_sockets: bool) -> None:
    """Filter the calls of this thread and of all that it starts from now on."""
    code = program(os.uname().machine, network=network, unix_sockets=unix_sockets)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    kernel.forbid_new_privileges()
    kernel.prctl(_SET_SECCOMP, _FILTER, ctypes.create_string_buffer(header, len(header)))


def _instruction(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", operation, if_true, if_false, value)
