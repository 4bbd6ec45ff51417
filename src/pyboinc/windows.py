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
    from collections.abc import Mapping, Sequence

from pyboinc.channels import SEGMENT_SIZE
from pyboinc.jobobject import Job, process_time
from pyboinc.pipes import Pipes

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
for _function, _result, _arguments in (
    ("ResumeThread", wintypes.DWORD, (wintypes.HANDLE,)),
    ("OpenFileMappingW", wintypes.HANDLE, (wintypes.DWORD, wintypes.BOOL, wintypes.LPCWSTR)),
    ("CloseHandle", wintypes.BOOL, (wintypes.HANDLE,)),
):
    _entry = getattr(_kernel32, _function)
    _entry.restype, _entry.argtypes = _result, _arguments

_CREATE_SUSPENDED, _CREATE_NO_WINDOW, _UNICODE_ENVIRONMENT = 0x4, 0x08000000, 0x400
_QUERY_LIMITED_INFORMATION = 0x1000
_STILL_ACTIVE, _ACCESS_DENIED = 259, 5
_FILE_MAP_ALL_ACCESS = 0xF001F
_KILLED = 195
_ROOM = 1.25
"""Up to so many times its bound a child gets memory: it is then ended for that, as on other systems, and never more."""


class Child(Pipes):
    """A process and its descendants in a job object, which ends them all when we end.

    `memory` bounds what they have together, and `processes` their number.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], *, cwd: str = "", memory: float = 0, processes: int = 0
    ) -> None:
        self.returncode: int | None = None
        self._job = Job(memory=memory * _ROOM, processes=processes)
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
            self._job.take(process)
            _kernel32.ResumeThread(thread)
        except OSError:
            _winapi.TerminateProcess(process, _KILLED)
            raise
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
        self._job.suspend()

    def resume(self) -> None:
        """Let everything go on."""
        self._job.resume()

    def kill(self) -> None:
        """End the child and all below it."""
        self._job.end(_KILLED)
        self.wait(5)

    def cpu_time(self) -> float:
        """CPU seconds of the child and all below it, those that have ended included."""
        return max(self._job.cpu_time(), process_time(self._process))

    def memory(self) -> int:
        """The most bytes that the child and all below it have had committed at a time."""
        return self._job.memory()

    def close(self) -> None:
        """Close the pipes and handles."""
        super().close()
        _winapi.CloseHandle(self._process)
        self._job.close()


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


def _inheritable(descriptor: int) -> int:
    handle = msvcrt.get_osfhandle(descriptor)
    os.set_handle_inheritable(handle, True)
    return handle
