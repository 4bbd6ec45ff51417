"""The stock BOINC client in a folder of its own, on a port of its own, and with libfaketime as fast as a test wants."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from .serving import free_port
from .waiting import wait_until

__all__ = ["StockClient", "StockTask", "missing_programs"]

_CC_CONFIG: Final = """<cc_config>
<log_flags>
<task>1</task>
<file_xfer>1</file_xfer>
<sched_ops>1</sched_ops>
</log_flags>
<options>
<report_results_immediately>1</report_results_immediately>
<skip_cpu_benchmarks>1</skip_cpu_benchmarks>
<no_info_fetch>1</no_info_fetch>
<dont_contact_ref_site>1</dont_contact_ref_site>
<allow_multiple_clients>1</allow_multiple_clients>
<allow_remote_gui_rpc>0</allow_remote_gui_rpc>
<ncpus>{ncpus}</ncpus>
<no_gpus>1</no_gpus>
<start_delay>0</start_delay>
<max_file_xfers>16</max_file_xfers>
<max_file_xfers_per_project>16</max_file_xfers_per_project>
<fetch_on_update>1</fetch_on_update>
</options>
</cc_config>
"""
_PREFERENCES: Final = """<global_preferences>
<run_on_batteries>1</run_on_batteries>
<run_if_user_active>1</run_if_user_active>
<suspend_cpu_usage>0</suspend_cpu_usage>
<max_ncpus_pct>100</max_ncpus_pct>
<cpu_usage_limit>100</cpu_usage_limit>
<disk_max_used_gb>0</disk_max_used_gb>
<disk_max_used_pct>100</disk_max_used_pct>
<disk_min_free_gb>0.1</disk_min_free_gb>
<ram_max_used_busy_pct>95</ram_max_used_busy_pct>
<ram_max_used_idle_pct>95</ram_max_used_idle_pct>
<work_buf_min_days>0.001</work_buf_min_days>
<work_buf_additional_days>0</work_buf_additional_days>
<max_bytes_sec_up>{upload}</max_bytes_sec_up>
</global_preferences>
"""
_TASK: Final = re.compile(r"^\d+\) -+$", re.MULTILINE)
_LIBRARIES: Final = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
)


@dataclass(frozen=True, slots=True)
class StockTask:
    """A task as `boinccmd --get_tasks` tells of it."""

    name: str
    workunit: str
    state: str
    active_state: str
    fraction_done: float
    exit_status: int
    ready_to_report: bool


def missing_programs(speed: float = 1.0) -> list[str]:
    """Which Debian packages are not here that a StockClient of this speed needs."""
    missing = [] if shutil.which("boinc") and shutil.which("boinccmd") else ["boinc-client"]
    return missing if speed == 1.0 or faketime_library() else [*missing, "faketime"]


def faketime_library() -> str:
    """Where Debian's libfaketime is; empty if it is not installed."""
    return next((library for library in _LIBRARIES if Path(library).exists()), "")


class StockClient:
    """A `boinc` process. A context manager: process and folder are gone after the block, whatever happened in it."""

    def __init__(self, *, speed: float = 1.0, ncpus: int = 1, name: str = "stock", retry_quickly: bool = True) -> None:
        missing = missing_programs(speed)
        if missing:
            raise FileNotFoundError(f"install the Debian package {' and '.join(missing)}")
        self.name = name
        self.speed = speed
        self.directory = Path(tempfile.mkdtemp(prefix=f"boinc-{name}-"))
        self.port = free_port()
        self._password = secrets.token_hex(16)
        self._retry_quickly = retry_quickly
        self._process: subprocess.Popen[bytes] | None = None
        (self.directory / "cc_config.xml").write_text(_CC_CONFIG.format(ncpus=ncpus))
        self.limit_upload(0)
        password = self.directory / "gui_rpc_auth.cfg"
        password.touch(mode=0o600)
        password.write_text(self._password)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the process ------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the client and wait until it answers."""
        command = ["boinc", "--dir", str(self.directory), "--gui_rpc_port", str(self.port), "--allow_multiple_clients"]
        if os.geteuid() == 0:
            command.append("--insecure")
        if self._retry_quickly:
            for kind in ("sched", "pers"):
                command += [f"--{kind}_retry_delay_min", "2", f"--{kind}_retry_delay_max", "5"]
        environment = {**os.environ, "HOME": str(self.directory)}
        if self.speed != 1.0:
            environment |= {"LD_PRELOAD": faketime_library(), "FAKETIME": f"+0 x{self.speed:g}"}
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.directory,
                env=environment, start_new_session=True,
            )  # fmt: skip
        wait_until(self._answers, timeout=60.0, what=f"the client {self.name} to answer")
        return self

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"the client {self.name} ended:\n{self.log()[-2000:]}")
        try:
            return self._run(["--client_version"]).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def stop(self) -> None:
        """End the client as a user does, else by force; its folder stays, so that it can start again."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            self._command_of_end()
        try:
            process.wait(60.0)
        except subprocess.TimeoutExpired:
            pass
        # Programs of jobs are in the client's session; none may outlive it.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    def _command_of_end(self) -> None:
        try:
            self._run(["--quit"], timeout=10.0)
        except subprocess.TimeoutExpired:
            pass

    def kill(self) -> None:
        """End the client without warning."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End the client and remove its folder."""
        self.stop()

        def gone() -> bool:
            """Not at once, while programs of jobs that were killed still end."""
            shutil.rmtree(self.directory, ignore_errors=True)
            return not self.directory.exists()

        wait_until(gone, timeout=30.0, what=f"the folder of {self.name} to be removed")

    @property
    def log_path(self) -> Path:
        """Where the client's messages go."""
        return self.directory / "client.log"

    def log(self) -> str:
        """The client's messages so far."""
        return self.log_path.read_text("utf-8", "replace")

    # --- what a user can do -----------------------------------------------------------------------------------------

    def command(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run `boinccmd` with these arguments; returns what it says. RuntimeError if it fails."""
        done = self._run(arguments, timeout)
        if done.returncode != 0:
            raise RuntimeError(f"boinccmd {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def _run(self, arguments: Sequence[str], timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        command = ["boinccmd", "--host", f"127.0.0.1:{self.port}", "--passwd", self._password, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=self.directory, check=False)

    def attach(self, url: str, key: str) -> None:
        """Join a project; goes on in the background."""
        self.command("--project_attach", url, key)

    def create_account(self, url: str, email: str, password: str, name: str) -> str:
        """Create an account from the client; returns its key."""
        answer = self.command("--create_account", url, email, password, name)
        return _key(answer)

    def lookup_account(self, url: str, email: str, password: str) -> str:
        """The key of an account."""
        return _key(self.command("--lookup_account", url, email, password))

    def update(self, url: str) -> None:
        """Have the client contact the project now; one that is doing so already does not do it again."""
        self.command("--project", url, "update")

    def project_command(self, url: str, operation: str) -> None:
        """suspend, resume, nomorework, allowmorework, reset or detach."""
        self.command("--project", url, operation)

    def task_command(self, url: str, task: str, operation: str) -> None:
        """suspend, resume or abort a task."""
        self.command("--task", url, task, operation)

    def limit_upload(self, bytes_per_second: float) -> None:
        """Limit uploads, in bytes of the client's own seconds; 0: not at all."""
        text = _PREFERENCES.format(upload=bytes_per_second)
        (self.directory / "global_prefs_override.xml").write_text(text)
        if self._process is not None:
            self.command("--read_global_prefs_override")

    def tasks(self) -> list[StockTask]:
        """The tasks that the client has."""
        answer = self.command("--get_tasks")
        return [_task(_pairs(block)) for block in _TASK.split(answer)[1:]]


def _key(answer: str) -> str:
    found = re.search(r"account key: (\S+)", answer)
    if found is None:
        raise RuntimeError(f"boinccmd told no key: {answer}")
    return found.group(1)


def _pairs(block: str) -> Mapping[str, str]:
    lines = (line.strip().partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _task(found: Mapping[str, str]) -> StockTask:
    return StockTask(
        name=found.get("name", ""),
        workunit=found.get("WU name", ""),
        state=found.get("state", ""),
        active_state=found.get("active_task_state", ""),
        fraction_done=float(found.get("fraction done", "0") or 0),
        exit_status=int(float(found.get("exit_status", "0") or 0)),
        ready_to_report=found.get("ready to report") == "yes",
    )
