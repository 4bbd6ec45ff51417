"""The child and everything it starts, on Windows: a job object holds them all."""

# ruff: noqa: E402 (on other systems type checkers must not read on)

from __future__ import annotations

import sys

assert sys.platform == "win32"

import _winapi
import ctypes
import mmap
import msvcrt
import os
import subprocess
from ctypes import wintypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

from pyboinc.channels import SEGMENT_SIZE
from pyboinc.pipes import Pipes

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
    ("ResumeThread", wintypes.DWORD, (wintypes.HANDLE,)),
    ("OpenFileMappingW", wintypes.HANDLE, (wintypes.DWORD, wintypes.BOOL, wintypes.LPCWSTR)),
    ("CloseHandle", wintypes.BOOL, (wintypes.HANDLE,)),
    ("GetProcessTimes", wintypes.BOOL, (wintypes.HANDLE, *[ctypes.c_void_p] * 4)),
    ("OpenProcess", wintypes.HANDLE, (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)),
):
    _entry = getattr(_kernel32, _function)
    _entry.restype, _entry.argtypes = _result, _arguments
_ntdll.NtSuspendProcess.argtypes = _ntdll.NtResumeProcess.argtypes = (wintypes.HANDLE,)

_ACCOUNTING, _PROCESS_IDS, _EXTENDED_LIMITS = 1, 3, 9
_KILL_ON_JOB_CLOSE = 0x2000
_CREATE_SUSPENDED, _CREATE_NO_WINDOW, _UNICODE_ENVIRONMENT = 0x4, 0x08000000, 0x400
_SUSPEND_RESUME, _QUERY_LIMITED_INFORMATION = 0x0800, 0x1000
_STILL_ACTIVE, _ACCESS_DENIED = 259, 5
_FILE_MAP_ALL_ACCESS = 0xF001F
_MOST_PROCESSES = 1024
_KILLED = 195
_FAULTS = 0xC0000000
"""Exit codes from here on are exceptions that nobody handled."""


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
        ("ids", ctypes.c_size_t * _MOST_PROCESSES),
    )


class Child(Pipes):
    """A process and its descendants in a job object, which ends them all when we end."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: str = "",
        prepare: Callable[[], None] | None = None,
    ) -> None:
        if prepare is not None:
            raise ValueError("Windows has no moment between a process and its program: nothing to prepare in it")
        self.returncode: int | None = None
        self._job = _make_job()
        messages, child_messages = os.pipe()
        child_orders, orders = os.pipe()
        errors, child_errors = os.pipe()
        super().__init__(messages, errors, orders, read_available)
        nothing = os.open(os.devnull, os.O_RDWR)
        handles = [_inheritable(fd) for fd in (child_messages, child_orders, child_errors, nothing)]
        env = {**env, "PYBOINC_PIPES": f"{handles[0]},{handles[1]}"}
        try:
            self._process, self.pid = self._start(command, env, cwd, handles)
        finally:
            for descriptor in (child_messages, child_orders, child_errors, nothing):
                os.close(descriptor)

    def _start(self, command: Sequence[str], env: Mapping[str, str], cwd: str, handles: list[int]) -> tuple[int, int]:
        startup = subprocess.STARTUPINFO(
            dwFlags=subprocess.STARTF_USESTDHANDLES,
            hStdInput=handles[3],
            hStdOutput=handles[3],
            hStdError=handles[2],
            lpAttributeList={"handle_list": handles},
        )
        flags = _CREATE_SUSPENDED | _CREATE_NO_WINDOW | _UNICODE_ENVIRONMENT
        process, thread, pid, _ = _winapi.CreateProcess(
            None, subprocess.list2cmdline(list(command)), None, None, True, flags, dict(env), cwd or None, startup
        )
        try:
            # Suspended until it is in the job, so that it cannot start anything outside of it.
            if not _kernel32.AssignProcessToJobObject(self._job, process):
                _winapi.TerminateProcess(process, _KILLED)
                raise ctypes.WinError(ctypes.get_last_error())
            _kernel32.ResumeThread(thread)
        finally:
            _winapi.CloseHandle(thread)
        return process, pid

    def wait(self, seconds: float) -> int | None:
        """Wait at most so long for the child's end; its return code, or None."""
        if self.returncode is None and _winapi.WaitForSingleObject(self._process, int(seconds * 1000)) == 0:
            self.returncode = _winapi.GetExitCodeProcess(self._process)
        return self.returncode

    def suspend(self) -> None:
        """Let everything stand still, also inside a long C call."""
        self._each(_ntdll.NtSuspendProcess)

    def resume(self) -> None:
        """Let everything go on."""
        self._each(_ntdll.NtResumeProcess)

    def kill(self) -> None:
        """End the child and all below it."""
        _kernel32.TerminateJobObject(self._job, _KILLED)
        self.wait(5)

    def cpu_time(self) -> float:
        """CPU seconds of the child and all below it, those that have ended included."""
        accounting = _Accounting()
        self._query(_ACCOUNTING, accounting)
        counted = int(accounting.user_time) + int(accounting.kernel_time)
        # Wine does not count for a job; there the child's own time has to do.
        return max(counted, _process_time(self._process)) / 1e7

    def memory(self) -> int:
        """The most bytes that the job has had committed at a time."""
        limits = _ExtendedLimits()
        self._query(_EXTENDED_LIMITS, limits)
        return int(limits.peak_job_memory)

    def close(self) -> None:
        """Close the pipes and handles."""
        super().close()
        _winapi.CloseHandle(self._process)
        _kernel32.CloseHandle(self._job)

    def _each(self, act: Callable[[int], object]) -> None:
        members = _ProcessIds()
        self._query(_PROCESS_IDS, members)
        for pid in members.ids[: members.listed]:
            process = _kernel32.OpenProcess(_SUSPEND_RESUME, False, pid)
            if process:
                act(process)
                _kernel32.CloseHandle(process)

    def _query(self, kind: int, into: ctypes.Structure) -> None:
        _kernel32.QueryInformationJobObject(self._job, kind, ctypes.byref(into), ctypes.sizeof(into), None)


def _process_time(process: int) -> int:
    times = [wintypes.FILETIME() for _ in range(4)]  # created, ended, kernel, user
    _kernel32.GetProcessTimes(process, *map(ctypes.byref, times))
    return sum((time.dwHighDateTime << 32) + time.dwLowDateTime for time in times[2:])


def open_section(name: str) -> mmap.mmap | None:
    """The named section if it exists; `mmap` alone would make a new, empty one."""
    existing = _kernel32.OpenFileMappingW(_FILE_MAP_ALL_ACCESS, False, name)
    if not existing:
        return None
    try:
        return mmap.mmap(-1, SEGMENT_SIZE, tagname=name)
    finally:
        _kernel32.CloseHandle(existing)


def process_exists(pid: int) -> bool:
    """Whether a process of that id runs, somebody else's included."""
    try:
        process = _winapi.OpenProcess(_QUERY_LIMITED_INFORMATION, False, pid)
    except OSError as error:
        return error.winerror == _ACCESS_DENIED
    try:
        return _winapi.GetExitCodeProcess(process) == _STILL_ACTIVE
    finally:
        _winapi.CloseHandle(process)


def read_available(descriptor: int, limit: int) -> bytes:
    """What can be read of a pipe without waiting."""
    try:
        available = int(_winapi.PeekNamedPipe(msvcrt.get_osfhandle(descriptor), 0)[-2])
    except OSError:
        return b""  # the other end is closed
    return os.read(descriptor, min(available, limit)) if available else b""


def kill_leftovers(slot: str, note: str) -> None:
    """Nothing to do: a job object ends with the supervisor that held it."""


def _make_job() -> int:
    job: int | None = _kernel32.CreateJobObjectW(None, None)
    limits = _ExtendedLimits()
    limits.basic.flags = _KILL_ON_JOB_CLOSE
    if not job or not _kernel32.SetInformationJobObject(
        job, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
    ):
        raise ctypes.WinError(ctypes.get_last_error())
    return job


def _inheritable(descriptor: int) -> int:
    handle = msvcrt.get_osfhandle(descriptor)
    os.set_handle_inheritable(handle, True)
    return handle
