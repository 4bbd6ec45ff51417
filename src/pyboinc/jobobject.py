"""Windows' job object: the processes in it are measured, bounded and ended together, and none gets out of it."""

# ruff: noqa: E402 (on other systems type checkers must not read on)

from __future__ import annotations

import sys

assert sys.platform == "win32"

import ctypes
from ctypes import wintypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MOST_PROCESSES = 1024
"""As many as can be listed at a time, since each has to be found to be suspended."""

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_ntdll = ctypes.WinDLL("ntdll")
for _function, _result, _arguments in (
    ("CreateJobObjectW", wintypes.HANDLE, (ctypes.c_void_p, wintypes.LPCWSTR)),
    ("SetInformationJobObject", wintypes.BOOL, (wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD)),
    (
        "QueryInformationJobObject",
        wintypes.BOOL,
        (wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD, ctypes.c_void_p),
    ),
    ("AssignProcessToJobObject", wintypes.BOOL, (wintypes.HANDLE, wintypes.HANDLE)),
    ("TerminateJobObject", wintypes.BOOL, (wintypes.HANDLE, wintypes.UINT)),
    ("OpenProcess", wintypes.HANDLE, (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)),
    ("GetProcessTimes", wintypes.BOOL, (wintypes.HANDLE, *[ctypes.c_void_p] * 4)),
    ("K32GetProcessMemoryInfo", wintypes.BOOL, (wintypes.HANDLE, ctypes.c_void_p, wintypes.DWORD)),
    ("CloseHandle", wintypes.BOOL, (wintypes.HANDLE,)),
):
    _entry = getattr(_kernel32, _function)
    _entry.restype, _entry.argtypes = _result, _arguments
_ntdll.NtSuspendProcess.argtypes = _ntdll.NtResumeProcess.argtypes = (wintypes.HANDLE,)

_ACCOUNTING, _PROCESS_IDS, _EXTENDED_LIMITS = 1, 3, 9
_ACTIVE_PROCESSES, _JOB_MEMORY, _DIE_ON_FAULT, _KILL_ON_CLOSE = 0x8, 0x200, 0x400, 0x2000
_SUSPEND_RESUME, _READ_MEMORY, _QUERY = 0x0800, 0x0010, 0x1000


class _BasicLimits(ctypes.Structure):
    _fields_ = (
        ("per_process_time", ctypes.c_int64),
        ("per_job_time", ctypes.c_int64),
        ("flags", wintypes.DWORD),
        ("minimum_working_set", ctypes.c_size_t),
        ("maximum_working_set", ctypes.c_size_t),
        ("active_processes", wintypes.DWORD),
        ("affinity", ctypes.c_size_t),
        ("priority_class", wintypes.DWORD),
        ("scheduling_class", wintypes.DWORD),
    )


class _ExtendedLimits(ctypes.Structure):
    _fields_ = (
        ("basic", _BasicLimits),
        ("io_counters", ctypes.c_uint64 * 6),
        ("process_memory", ctypes.c_size_t),
        ("job_memory", ctypes.c_size_t),
        ("peak_process_memory", ctypes.c_size_t),
        ("peak_job_memory", ctypes.c_size_t),
    )


class _Accounting(ctypes.Structure):
    _fields_ = (
        ("user_time", ctypes.c_int64),
        ("kernel_time", ctypes.c_int64),
        ("period_user_time", ctypes.c_int64),
        ("period_kernel_time", ctypes.c_int64),
        ("page_faults", wintypes.DWORD),
        ("processes", wintypes.DWORD),
        ("active_processes", wintypes.DWORD),
        ("terminated_processes", wintypes.DWORD),
    )


class _ProcessIds(ctypes.Structure):
    _fields_ = (
        ("assigned", wintypes.DWORD),
        ("listed", wintypes.DWORD),
        ("ids", ctypes.c_size_t * MOST_PROCESSES),
    )


class _MemoryCounters(ctypes.Structure):
    _fields_ = (
        ("size", wintypes.DWORD),
        ("page_faults", wintypes.DWORD),
        *((name, ctypes.c_size_t) for name in ("peak_resident", "resident", "p1", "p2", "p3", "p4")),
        ("committed", ctypes.c_size_t),
        ("peak_committed", ctypes.c_size_t),
    )


class Job:
    """A job object. Its processes end when it is closed, be it by our own end; a fault ends them without a dialogue.

    `memory` is how many bytes they may have committed together: beyond that allocation fails, in Python by a
    MemoryError. `processes` is how many there may be at a time.
    """

    def __init__(self, *, memory: float = 0, processes: int = 0) -> None:
        limits = _ExtendedLimits()
        limits.basic.flags = _KILL_ON_CLOSE | _DIE_ON_FAULT | _ACTIVE_PROCESSES
        limits.basic.active_processes = min(processes or MOST_PROCESSES, MOST_PROCESSES)
        if memory:
            limits.basic.flags |= _JOB_MEMORY
            limits.job_memory = int(memory)
        self._handle: int | None = _kernel32.CreateJobObjectW(None, None)
        if not self._handle or not _kernel32.SetInformationJobObject(
            self._handle, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
        ):
            raise ctypes.WinError(ctypes.get_last_error())

    def take(self, process: int) -> None:
        """Have a process in it, and whatever it starts from now on."""
        if not _kernel32.AssignProcessToJobObject(self._handle, process):
            raise ctypes.WinError(ctypes.get_last_error())

    def suspend(self) -> None:
        """Let everything stand still, also inside a long C call."""
        self._each(_SUSPEND_RESUME, _ntdll.NtSuspendProcess)

    def resume(self) -> None:
        """Let everything go on."""
        self._each(_SUSPEND_RESUME, _ntdll.NtResumeProcess)

    def end(self, code: int) -> None:
        """End all of it."""
        _kernel32.TerminateJobObject(self._handle, code)

    def cpu_time(self) -> float:
        """CPU seconds of all, those that have ended included; 0 under Wine, which does not count for a job."""
        accounting = _Accounting()
        self._query(_ACCOUNTING, accounting)
        return (int(accounting.user_time) + int(accounting.kernel_time)) / 1e7

    def memory(self) -> int:
        """The most bytes that they have had committed at a time; under Wine what they have now."""
        limits = _ExtendedLimits()
        self._query(_EXTENDED_LIMITS, limits)
        now: list[int] = []
        if not limits.peak_job_memory:
            self._each(_QUERY | _READ_MEMORY, lambda process: now.append(_committed(process)))
        return int(limits.peak_job_memory) or sum(now)

    def close(self) -> None:
        """Let go of it, which ends what is still in it."""
        _kernel32.CloseHandle(self._handle)

    def _each(self, access: int, act: Callable[[int], object]) -> None:
        members = _ProcessIds()
        self._query(_PROCESS_IDS, members)
        for pid in members.ids[: members.listed]:
            process = _kernel32.OpenProcess(access, False, pid)
            if process:
                act(process)
                _kernel32.CloseHandle(process)

    def _query(self, kind: int, into: ctypes.Structure) -> None:
        _kernel32.QueryInformationJobObject(self._handle, kind, ctypes.byref(into), ctypes.sizeof(into), None)


def _committed(process: int) -> int:
    counters = _MemoryCounters()
    counters.size = ctypes.sizeof(counters)
    _kernel32.K32GetProcessMemoryInfo(process, ctypes.byref(counters), ctypes.sizeof(counters))
    return int(counters.committed)


def process_time(process: int) -> float:
    """CPU seconds of one process."""
    times = [wintypes.FILETIME() for _ in range(4)]  # created, ended, kernel, user
    _kernel32.GetProcessTimes(process, *map(ctypes.byref, times))
    return sum((time.dwHighDateTime << 32) + time.dwLowDateTime for time in times[2:]) / 1e7
