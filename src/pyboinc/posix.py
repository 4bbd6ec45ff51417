"""The child and everything it starts, on Linux and macOS: start, stop, go on, kill, measure."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import time

from pyboinc import proc
from pyboinc.pipes import Pipes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

assert sys.platform != "win32"

_LINUX = sys.platform == "linux"
_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36
_PIPE_BYTES = 1 << 20
_KILL_PATIENCE = 5.0


class Child(Pipes):
    """A process, its descendants, and the three pipes to it: its messages, its stderr, our orders.

    On Linux whoever escapes from the process group is still found: orphans below us become our own children.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: str = "",
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.returncode: int | None = None
        self._waited_cpu = 0.0
        self._bystanders = _adopt_orphans()
        messages, child_messages = _pipe()
        child_orders, orders = _pipe()
        errors, child_errors = _pipe()
        env = {**env, "PYBOINC_PIPES": f"{child_messages},{child_orders}"}
        supervisor = os.getpid()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _become(command, env, cwd, (child_messages, child_orders), child_errors, supervisor, prepare)
            finally:
                os._exit(127)
        for descriptor in (child_messages, child_orders, child_errors):
            os.close(descriptor)
        for descriptor in (messages, errors, orders):
            os.set_blocking(descriptor, False)
        super().__init__(messages, errors, orders, _drain)
        try:
            os.setpgid(self.pid, self.pid)  # whoever comes first, child or we: the group is there from now on
        except OSError:
            pass
        self._pidfd = _pidfd(self.pid)

    def wait(self, seconds: float) -> int | None:
        """Wait at most so long for the child's end; its return code as `subprocess` gives it, or None."""
        if self.returncode is None and self._pidfd is not None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll(seconds * 1000)
            self._reap()
        else:
            give_up = time.monotonic() + seconds
            while self._reap() is None and time.monotonic() < give_up:
                time.sleep(min(0.02, seconds))
        return self.returncode

    def suspend(self) -> None:
        """Let everything stand still, also inside a long C call."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let everything go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the child and all below it, and see to it that none is left."""
        give_up = time.monotonic() + _KILL_PATIENCE
        while True:
            self._signal(signal.SIGKILL)
            self._reap()
            if not self._others() and self.returncode is not None:
                return
            if time.monotonic() > give_up:
                return  # stuck in the kernel, which will end it when it can
            time.sleep(0.005)

    def cpu_time(self) -> float:
        """CPU seconds of the child and all below it, those that have ended included."""
        if not _LINUX:
            return self._waited_cpu
        living = ([self.pid] if self.returncode is None else []) + self._others()
        return self._waited_cpu + sum(map(proc.cpu_time, living))

    def memory(self) -> int:
        """Resident bytes of the child and all below it; 0 where that cannot be told."""
        return sum(map(proc.memory, [self.pid, *self._others()])) if _LINUX else 0

    def close(self) -> None:
        """Close the pipes, and what the child's end is awaited by."""
        super().close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _reap(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._wait_for(self.pid)
        return self.returncode

    def _wait_for(self, pid: int) -> int | None:
        try:
            done, status, usage = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:
            return 0  # somebody else took its exit status
        if done == 0:
            return None
        self._waited_cpu += usage.ru_utime + usage.ru_stime
        return os.waitstatus_to_exitcode(status)

    def _others(self) -> list[int]:
        """The living descendants, also those that left the group or lost their parents."""
        if not _LINUX or (self.returncode is not None and not _has_children()):
            return []
        self._bury()
        tree = proc.children()
        orphans = [pid for pid in tree.get(os.getpid(), ()) if pid != self.pid and pid not in self._bystanders]
        found = proc.below(self.pid, tree)
        for orphan in orphans:
            found += [orphan, *proc.below(orphan, tree)]
        return found

    def _bury(self) -> None:
        """Wait for orphans that have ended; nobody else does."""
        if sys.platform != "linux":
            return
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid == 0 or ended.si_pid in self._bystanders:
                return
            if ended.si_pid == self.pid:
                self._reap()
            else:
                self._wait_for(ended.si_pid)

    def _signal(self, number: signal.Signals) -> None:
        if self.returncode is None or not _LINUX:
            _tolerant(os.killpg, self.pid, number)
        for pid in self._others():
            _tolerant(os.kill, pid, number)


def _become(
    command: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    inherited: tuple[int, ...],
    errors: int,
    supervisor: int,
    prepare: Callable[[], None] | None,
) -> None:
    """Turn this fork into the child; what goes wrong goes to its stderr."""
    try:
        os.setpgid(0, 0)
        os.dup2(errors, 2)
        for descriptor in inherited:
            os.set_inheritable(descriptor, True)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        if _LINUX:
            _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
            if os.getppid() != supervisor:
                return  # it died before it could take us along
        if cwd:
            os.chdir(cwd)
        if prepare is not None:
            prepare()
        os.execvpe(command[0], list(command), env)  # noqa: S606 (a shell is the last thing wanted here)
    except BaseException as error:  # noqa: BLE001 (a fork must not run on in its parent's code)
        os.write(2, f"pyboinc: cannot start {command[0]}: {error}\n".encode("utf-8", "replace"))


def _adopt_orphans() -> frozenset[int]:
    """Become the parent of descendants that lose theirs; the children that we have had before."""
    if not _LINUX:
        return frozenset()
    _prctl(_SET_CHILD_SUBREAPER, 1)
    return frozenset(proc.children().get(os.getpid(), ())) if _has_children() else frozenset()


def _prctl(option: int, value: int) -> None:
    import ctypes  # loads in some milliseconds, and only Linux needs it

    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _has_children() -> bool:
    """Whether this process has any child at all, living or not yet waited for."""
    if sys.platform == "linux":
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
    return True


def _pidfd(pid: int) -> int | None:
    if sys.platform == "linux":
        try:
            return os.pidfd_open(pid)
        except OSError:
            pass  # a kernel before 5.3
    return None


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    if _LINUX:
        import fcntl

        try:
            fcntl.fcntl(ends[0], 1031, _PIPE_BYTES)  # F_SETPIPE_SZ
        except OSError:
            pass  # above the user's limit; the default serves as well
    return ends


def _drain(descriptor: int, limit: int) -> bytes:
    chunks: list[bytes] = []
    while limit > 0:
        try:
            chunk = os.read(descriptor, min(limit, 1 << 16))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR):
                break
            raise
        if not chunk:
            break
        chunks.append(chunk)
        limit -= len(chunk)
    return b"".join(chunks)


def _tolerant(send: Callable[[int, int], None], target: int, number: int) -> None:
    try:
        send(target, number)
    except OSError:
        pass  # it has gone meanwhile, or became somebody we may not touch
