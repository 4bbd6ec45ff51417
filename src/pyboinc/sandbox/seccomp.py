"""seccomp: which system calls a process may make. What is denied fails with EPERM, so programs can tell.

The filter is a list of calls that no job needs, not of those that it may use: libraries change too much for that.
Calls that may name another process are left for the caller itself.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
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
    "process_mrelease": (448, 448),
    "quotactl_fd": (443, 443),
    "fanotify_init": (300, 262),
}
# Objects of the whole system: they outlive who made them, and whoever has the same user reaches them.
_SHARED = {
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semctl": (66, 191),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgctl": (71, 187),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
}
# What would take a process out of sight of whoever counts and ends all that was started.
_LEAVING = {
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "pidfd_send_signal": (424, 424),
}
# Which of the first arguments of a call must be what. These change how another process runs, or look into it.
_SELF = -1
_ON_ITSELF = {
    "prlimit64": ((302, 261), (_SELF,)),
    "setpriority": ((141, 140), (0, _SELF)),
    "ioprio_set": ((251, 30), (1, _SELF)),
    "sched_setaffinity": ((203, 122), (_SELF,)),
    "sched_setscheduler": ((144, 119), (_SELF,)),
    "sched_setparam": ((142, 118), (_SELF,)),
    "sched_setattr": ((314, 274), (_SELF,)),
    "migrate_pages": ((256, 238), (_SELF,)),
    "move_pages": ((279, 239), (_SELF,)),
    "get_robust_list": ((274, 100), (_SELF,)),
}
# The same for signals, where Landlock cannot tell own processes from others.
_SIGNALS = {
    "kill": ((62, 129), (_SELF,)),
    "tkill": ((200, 130), (_SELF,)),
    "tgkill": ((234, 131), (_SELF,)),
    "rt_sigqueueinfo": ((129, 138), (_SELF,)),
    "rt_tgsigqueueinfo": ((297, 240), (_SELF,)),
}
# Values of an argument that are denied: signals by way of a file (F_SETOWN, F_SETOWN_EX, FIOSETOWN, SIOCSPGRP), words
# put into a terminal (TIOCSTI, TIOCLINUX), a core shared with another (PR_SCHED_CORE).
_WAYS_ROUND = {
    "fcntl": ((72, 25), 1, (8, 15)),
    "ioctl": ((16, 29), 1, (0x8901, 0x8902, 0x5412, 0x541C)),
    "prctl": ((157, 167), 0, (62,)),
}
_SET_DUMPABLE = 4
"""Of prctl: hides a process's files and memory from others of the same user."""
_SIGACTION = (13, 134)
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


def program(
    machine: str,
    own: int,
    *,
    network: bool,
    unix_sockets: bool,
    shared_memory: bool = True,
    accountable: bool = False,
    signals: bool = True,
) -> bytes:
    """The filter as the kernel reads it, for the process `own`."""
    place, audit = _MACHINES[machine]
    code = [
        _instruction(_LOAD, _MACHINE),
        _instruction(_EQUAL, audit, 1, 0),
        _DENY,
        _instruction(_LOAD, _CALL),
    ]
    if machine == "x86_64":
        code += [_instruction(_AT_LEAST, _X32, 0, 1), _DENY]
    denied = dict(_DENIED)
    if not shared_memory:
        denied.update(_SHARED)
    if accountable:
        denied.update(_LEAVING)
        code += _unless(_SIGACTION[place], _NO_HANDLER_OF_CHILDREN)
    for numbers in denied.values():
        code += [_instruction(_EQUAL, numbers[place], 0, 1), _DENY]
    for numbers, arguments in (_ON_ITSELF if signals else {**_ON_ITSELF, **_SIGNALS}).values():
        code += _unless(numbers[place], _required_values(arguments, own))
    for name, (numbers, argument, values) in _WAYS_ROUND.items():
        hidden = (_SET_DUMPABLE,) if accountable and name == "prctl" else ()
        code += _unless(numbers[place], _denied_values(argument, values + hidden))
    # clone3 hides its flags in memory; told that it does not exist, libraries use clone.
    code += [_instruction(_EQUAL, _CLONE3, 0, 1), _instruction(_RETURN, _FAIL | errno.ENOSYS)]
    code += _unless(_CLONE[place], [_load_argument(0), _instruction(_ANY_BIT, _NEW_USER_NAMESPACE, 0, 1), _DENY])
    if not network:
        family = _AF_UNIX if unix_sockets else 0xFFFFFFFF
        code += _unless(_SOCKET[place], [_load_argument(0), _instruction(_EQUAL, family, 1, 0), _DENY])
    return b"".join([*code, _ALLOWED])


def apply(
    *, network: bool, unix_sockets: bool, shared_memory: bool = True, accountable: bool = False, signals: bool = True
) -> None:
    """Filter the calls of this thread and of all that it starts from now on."""
    code = program(
        os.uname().machine, os.getpid(), network=network, unix_sockets=unix_sockets,
        shared_memory=shared_memory, accountable=accountable, signals=signals,
    )  # fmt: skip
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    kernel.forbid_new_privileges()
    kernel.prctl(_SET_SECCOMP, _FILTER, ctypes.create_string_buffer(header, len(header)))


def _instruction(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", operation, if_true, if_false, value)


def _load_argument(number: int, *, upper: bool = False) -> bytes:
    return _instruction(_LOAD, _FIRST_ARGUMENT + 8 * number + 4 * upper)


def _unless(call: int, tests: list[bytes]) -> list[bytes]:
    """For this call, tests that may end in a denial; without one it is allowed."""
    return [_instruction(_EQUAL, call, 0, len(tests) + 1), *tests, _ALLOWED]


def _denied_values(argument: int, values: tuple[int, ...]) -> list[bytes]:
    tests = [_load_argument(argument)]
    for value in values:
        tests += [_instruction(_EQUAL, value, 0, 1), _DENY]
    return tests


def _required_values(arguments: tuple[int, ...], own: int) -> list[bytes]:
    """One value for each of the first arguments; a process is itself by its number or by 0."""
    tests = []
    for number, value in enumerate(arguments):
        allowed = (0, own) if value == _SELF else (value,)
        tests.append(_load_argument(number))
        tests += [_instruction(_EQUAL, one, len(allowed) - place, 0) for place, one in enumerate(allowed)]
        tests.append(_DENY)
    return tests


_DENY, _ALLOWED = _instruction(_RETURN, _FAIL | errno.EPERM), _instruction(_RETURN, _ALLOW)
# Who ignores this signal has children that vanish with the time that they used. To ask (no new handler) is harmless.
_NO_HANDLER_OF_CHILDREN = [
    _load_argument(0),
    _instruction(_EQUAL, signal.SIGCHLD, 0, 5),
    _load_argument(1),
    _instruction(_EQUAL, 0, 0, 2),
    _load_argument(1, upper=True),
    _instruction(_EQUAL, 0, 1, 0),
    _DENY,
]
