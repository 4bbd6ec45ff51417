"""The main program's loop: it stands between the client and a child that runs the user's code.

    client  <-- shared memory -->  supervisor  <-- pipes -->  child

The child may crash, hang in one long C call or misbehave in any other way; the supervisor goes on answering
the client ten times a second, measures and limits the child, and reports how it ended.
"""

from __future__ import annotations

import os
import sys
import time

from pyboinc import client as clients
from pyboinc import control, outgoing, slot, wire
from pyboinc.channels import ChannelError
from pyboinc.ending import ChildExit
from pyboinc.limits import Limits
from pyboinc.process import Child, kill_leftovers
from pyboinc.watch import Watch, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyboinc.confine import Confinement
    from pyboinc.sandbox import Policy

    AfterExit = Callable[[ChildExit], Sequence[str] | int]

__all__ = ["ChildExit", "Limits", "supervise"]

TICK = 0.1
REPORT_INTERVAL = 1.0
FINISH_PATIENCE = 2.0
"""Seconds for the client to read the last report; it looks once a second."""
FLUSH_PATIENCE = 10.0
"""Seconds for the client to take trickles that still wait when the work is done."""
LOCK_RETRY_DELAY = 600
INTERRUPTED = 130
"""What a shell makes of Ctrl-C, which only a program without a client gets."""
CPU_FILE = "pyboinc_cpu_time"
CHILD_FILE = "pyboinc_child"


def supervise(
    command: Sequence[str],
    *,
    after_exit: AfterExit | None = None,
    env: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    cwd: str = "",
    sandbox: Policy | None = None,
    outputs: Sequence[str] = (),
    directory: str = "",
) -> int:
    """Run `command` as the child of a BOINC task in `directory`, its slot, and return what to exit with.

    `after_exit` is asked at each end of a child: with a command it starts another one for the rest of the work,
    with a number it ends the task by that exit code, where 0 means success. Without it a child's failure is the
    task's. `limits` are those of the job unless given. With a `sandbox` the child works in the folder `work`, reads
    the job's files and nothing else of the volunteer's, and its outputs are taken from that folder when it ends;
    `outputs` names those that the client wants as real files in the slot, which look like nothing before.
    Without a client the same runs by itself. The caller exits at once with the returned code.
    """
    directory = os.path.abspath(directory)
    try:
        lock = slot.SlotLock(directory)
    except slot.SlotBusyError as busy:
        slot.write_temporary_exit(LOCK_RETRY_DELAY, str(busy), slot=directory)
        return 0
    client: clients.Client | clients.NoClient | None = None
    try:
        slot.clear_temporary_exit(directory)
        client = clients.find(directory)
        confinement = None
        if sandbox is not None:
            # Not everybody ships the sandbox, and it costs some milliseconds.
            from pyboinc.confine import Confinement
            from pyboinc.sandbox import SandboxUnavailableError

            try:
                confinement = Confinement(sandbox, directory, outputs)
            except SandboxUnavailableError as error:
                say(str(error))
                return slot.EXIT_INIT_FAILURE
        task = _Task(client, directory, limits, dict(os.environ if env is None else env), cwd, confinement)
        return task.run(command, after_exit or ChildExit.exit_code)
    except ChannelError as error:
        say(f"{error}")
        return slot.EXIT_INIT_FAILURE
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        if client is not None:
            client.close()
        lock.release()


class _Task:
    """One task from the start of its first child to the end of its last."""

    def __init__(
        self,
        client: clients.Client | clients.NoClient,
        directory: str,
        limits: Limits | None,
        env: dict[str, str],
        cwd: str,
        confinement: Confinement | None,
    ) -> None:
        self._client = client
        self._directory = directory
        self._limits = limits or Limits.of(client.init_data)
        self._confinement = confinement
        self._cwd = confinement.folder if confinement else cwd or directory
        self._control = control.Control()
        self._outgoing = outgoing.Outgoing(client, directory)
        self._cpu_before = max(client.init_data.wu_cpu_time, self._stored_cpu_time())
        self._cpu_time = self._checkpoint_cpu_time = self._cpu_before
        self._fraction = 0.0
        self._want_network = False
        self._network_allowed = not client.network_suspended
        self._temporary: tuple[float, str, bool] | None = None
        self._report_at = 0.0
        self._complaints: set[str] = set()
        self._env = {
            **env,
            "PYBOINC_SLOT": directory,
            "PYBOINC_INIT": client.init_data.to_text(),
            "PYBOINC_STANDALONE": "1" if client.standalone else "",
            **(confinement.environment if confinement else {}),
        }

    def run(self, command: Sequence[str], after_exit: AfterExit) -> int:
        """Children until there is an exit code; it is the client's wish, a child's, or `after_exit`'s."""
        kill_leftovers(self._directory, self._path(CHILD_FILE))
        while True:
            ended = self._run_child(command)
            if self._control.exit_code is not None:
                return self._control.exit_code  # the client ended it, and starts it again or not as it likes
            if self._temporary is not None:
                return self._leave_for_now(*self._temporary)
            self._collect()
            if ended.exit_code() != 0:
                say(str(ended))
            answer = after_exit(ended)
            if isinstance(answer, int):
                return self._finish(answer)
            command = answer

    def _run_child(self, command: Sequence[str]) -> ChildExit:
        """One child from start to end."""
        env = {**self._env, "PYBOINC_CPU_BEFORE": repr(self._cpu_before)}
        if self._confinement is not None:
            command = self._confinement.command(command)
        child = _start(command, env, self._cwd, self._limits, self._confinement)
        self._note(child.pid)
        watch = Watch(child, self._limits, live=self._client.standalone)
        try:
            while child.wait(TICK) is None and watch.verdict is None:
                self._tick(watch)
                if self._act(child):
                    break
            else:
                self._tick(watch)
        finally:
            child.kill()
            self._cpu_time = max(self._cpu_time, self._cpu_before + child.cpu_time())
            self._cpu_before = self._cpu_time
            self._hear(watch)
            watch.forward_errors()
            self._note(None)
        ended = watch.ended()
        child.close()
        return ended

    def _tick(self, watch: Watch) -> None:
        # The child's messages come first: it may just have entered a critical section.
        self._hear(watch)
        watch.forward_errors()
        for word in self._client.poll():
            self._obey(watch.child, word)
        allowed = not self._client.network_suspended
        if allowed != self._network_allowed:
            self._network_allowed = allowed
            watch.child.order(wire.line("network", allowed))
        now = time.monotonic()
        watch.count_time(running=not self._control.suspended)
        if now >= self._report_at:
            if not self._control.suspended:
                self._cpu_time = max(self._cpu_time, self._cpu_before + watch.child.cpu_time())
                watch.check_limits(self._directory)
            self._push()
            if self._report():
                self._report_at = now + REPORT_INTERVAL

    def _obey(self, child: Child, word: str) -> None:
        if word == "have_trickle_down":
            for text in outgoing.incoming(self._directory):
                child.order(wire.line("trickle", text))
        elif word == "upload_file_status":
            for name, status in outgoing.uploaded(self._directory).items():
                child.order(wire.line("uploaded", name, status))
        elif word == "reread_app_info":
            child.order(wire.line("period", self._client.init_data.checkpoint_period))
        else:
            self._control.hear(word)

    def _act(self, child: Child) -> bool:
        """Do what the client's wishes ask for; True when the child has to end now."""
        action = self._control.decide(time.monotonic())
        if action == control.SUSPEND:
            child.suspend()
        elif action == control.RESUME:
            child.resume()
        elif action == control.ASK:
            child.order(wire.line("quit"))
        return action == control.KILL

    def _hear(self, watch: Watch) -> None:
        """Take in what the child said; whatever is no message is user code's noise."""
        saved = False
        for line in watch.messages():
            verb, fields = wire.parse(line, wire.FROM_CHILD) or ("noise", ())
            if verb == "fraction":
                self._fraction = min(max(float(fields[0]), 0.0), 1.0)
            elif verb == "checkpoint":
                saved = True
            elif verb == "critical":
                self._control.critical(bool(fields[0]), time.monotonic())
            elif verb == "trickle":
                self._outgoing.trickle(str(fields[0]), str(fields[1]))
            elif verb == "upload":
                self._upload(str(fields[0]))
            elif verb == "network":
                self._want_network = bool(fields[0])
            elif verb == "limit":
                watch.limit_time(float(fields[0]))
            elif verb == "temporary":
                self._temporary = (float(fields[0]), str(fields[1]), bool(fields[2]))
        if saved:  # once for all of them: a child may save faster than this can look
            self._checkpoint(watch.child)

    def _checkpoint(self, child: Child) -> None:
        now = time.monotonic()
        self._cpu_time = max(self._cpu_time, self._cpu_before + child.cpu_time())
        self._checkpoint_cpu_time = self._cpu_time
        self._control.saved(now)
        self._report_at = min(self._report_at, now)
        # A report sent while the client asks us to quit is lost, so the time is kept here as well.
        try:
            path = self._path(CPU_FILE)
            with open(path + ".new", "w", encoding="ascii") as file:
                file.write(repr(self._cpu_time))
            os.replace(path + ".new", path)
        except OSError as error:
            self._complain(f"cannot store the CPU time: {error}")

    def _report(self) -> bool:
        return self._client.report(
            cpu_time=self._cpu_time,
            checkpoint_cpu_time=self._checkpoint_cpu_time,
            fraction=self._fraction,
            want_network=self._want_network,
        )

    def _push(self) -> bool:
        try:
            return self._outgoing.push()
        except OSError as error:
            self._complain(f"cannot hand a message to the client: {error}")
            return False

    def _finish(self, code: int) -> int:
        """The last report, what still waits for the client, then the file that ends the task."""
        if code == 0:
            self._fraction = 1.0
        if not self._client.standalone:
            _until(self._push, FLUSH_PATIENCE)
            if self._outgoing.dropped:
                say(f"{self._outgoing.dropped} trickles were dropped: they came faster than the client takes them")
            _until(self._report, FINISH_PATIENCE)
            _until(self._client.took_report, FINISH_PATIENCE)
            try:
                slot.write_finish(code, slot=self._directory)
            except OSError as error:
                self._complain(f"cannot tell the client of the end, so it will start again: {error}")
        return code

    def _leave_for_now(self, delay: float, reason: str, notice: bool) -> int:
        try:
            slot.write_temporary_exit(delay, reason, notice=notice, slot=self._directory)
        except OSError as error:
            self._complain(f"cannot ask for {delay:g} seconds, so the client will start again: {error}")
        return 0

    def _complain(self, text: str) -> None:
        """Say what is wrong, once: a full disk is not to fill with words about it."""
        if text not in self._complaints:
            self._complaints.add(text)
            say(text)

    def _stored_cpu_time(self) -> float:
        try:
            with open(self._path(CPU_FILE), "rb") as file:
                stored = float(file.read(64))
        except (OSError, ValueError):
            return 0.0
        return stored if 0 <= stored < 1e10 else 0.0

    def _note(self, pid: int | None) -> None:
        """Leave word of a running child, for the case that this process is killed."""
        try:
            if pid is None:
                os.unlink(self._path(CHILD_FILE))
            else:
                with open(self._path(CHILD_FILE), "w", encoding="ascii") as file:
                    file.write(str(pid))
        except OSError:
            pass

    def _collect(self) -> None:
        if self._confinement is not None:
            try:
                self._confinement.collect()
            except OSError as error:
                self._complain(f"cannot take over an output: {error}")

    def _upload(self, name: str) -> None:
        if self._confinement is not None:
            try:
                self._confinement.publish(name)
            except OSError as error:
                self._complain(f"cannot upload {name} yet: {error}")
                return
        self._outgoing.upload(name)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


def _start(
    command: Sequence[str], env: Mapping[str, str], cwd: str, limits: Limits, confinement: Confinement | None
) -> Child:
    """A child within its bounds: on Windows a job object holds it, elsewhere it binds itself before its program."""
    if sys.platform == "win32":
        if confinement is None:
            return Child(command, env, cwd=cwd, memory=limits.memory)
        say(f"sandbox: {confinement.level}")
        return Child(command, env, cwd=cwd, memory=limits.memory, processes=confinement.processes)
    if confinement is None:
        return Child(command, env, cwd=cwd)
    return Child(command, env, cwd=cwd, prepare=lambda: confinement.bind(command, limits.disk))


def _until(done: Callable[[], bool], patience: float) -> None:
    give_up = time.monotonic() + patience
    while not done() and time.monotonic() < give_up:
        time.sleep(TICK / 5)
