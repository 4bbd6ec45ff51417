"""`pymw volunteer URL`: a stock BOINC client for a machine that its owner lends to one project."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pymw.errors import PyMWError

__all__ = ["LendingError", "lend"]

PATIENCE = 60.0  # seconds for the client to answer, and for its tasks to end
CONFIGURATION = """<cc_config>
<options>
<allow_multiple_clients>1</allow_multiple_clients>
<allow_remote_gui_rpc>0</allow_remote_gui_rpc>
<dont_contact_ref_site>1</dont_contact_ref_site>
<ncpus>{cores}</ncpus>
<no_info_fetch>1</no_info_fetch>
<report_results_immediately>1</report_results_immediately>
<skip_cpu_benchmarks>1</skip_cpu_benchmarks>
<start_delay>0</start_delay>
</options>
</cc_config>
"""
# A machine that people may sit at: the tasks run at the lowest priority, and leave memory and disk to others.
PREFERENCES = """<global_preferences>
<run_on_batteries>0</run_on_batteries>
<run_if_user_active>1</run_if_user_active>
<suspend_cpu_usage>50</suspend_cpu_usage>
<cpu_usage_limit>100</cpu_usage_limit>
<ram_max_used_busy_pct>50</ram_max_used_busy_pct>
<ram_max_used_idle_pct>80</ram_max_used_idle_pct>
<disk_max_used_gb>20</disk_max_used_gb>
<disk_max_used_pct>50</disk_max_used_pct>
<disk_min_free_gb>1</disk_min_free_gb>
<work_buf_min_days>0.001</work_buf_min_days>
<work_buf_additional_days>0</work_buf_additional_days>
</global_preferences>
"""


class LendingError(PyMWError):
    """This machine cannot be lent; it says why."""


def lend(url: str, *, key_file: Path | None, email: str, folder: Path | None, cores: int | None) -> int:
    """Run a client that works for the project until Ctrl-C or SIGTERM; returns its exit code.

    With no key it makes an account for `email`, where the project lets anybody do so. The folder keeps the client's
    identity, files and checkpoints, so that the next start goes on.
    """
    if not (shutil.which("boinc") and shutil.which("boinccmd")):
        raise LendingError("there is no BOINC client here; on Debian and Ubuntu: apt install boinc-client")
    url = url.rstrip("/") + "/"
    if not re.fullmatch(r"https?://[^/\s]+/(\S+/)?", url):
        raise LendingError(f"{url} is no address of a project; it begins with https:// or http://")
    key = _key(key_file)
    folder = (
        folder.absolute() if folder else _state() / re.sub(r"[^A-Za-z0-9.-]+", "_", url.partition("://")[2]).strip("_")
    )
    joined = _joined(folder)
    if not (joined or key or email):
        raise LendingError(
            "say who lends it: --key-file FILE with an account's key, PYMW_ACCOUNT_KEY in the environment, or --email "
            "ADDRESS for a new account"
        )
    client = _Client(folder, cores)
    with _ended_by_signals(), client:
        if not joined:
            client.attach(url, key or client.account(url, email))
        sys.stderr.write(f"this machine works for {url} until Ctrl-C; it keeps its files in {folder}\n")
        return client.wait()


def _key(file: Path | None) -> str:
    if file is None:
        return os.environ.get("PYMW_ACCOUNT_KEY", "")
    try:
        if os.name == "posix" and file.stat().st_mode & 0o077:
            raise LendingError(f"others can read {file}; chmod 600 it")
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LendingError(f"the key in {file} cannot be read: {error}") from error


def _state() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "pymw" / "volunteer"


def _joined(folder: Path) -> bool:
    return any(folder.glob("account_*.xml"))


class _Client:
    """The client's process, from its start to the end of the last of its tasks."""

    def __init__(self, folder: Path, cores: int | None) -> None:
        self._folder = folder
        self._cores = cores
        self._password = secrets.token_hex(16)
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Client:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._folder / "cc_config.xml").write_text(CONFIGURATION.format(cores=self._cores or -1))
        (self._folder / "global_prefs_override.xml").write_text(PREFERENCES)
        password = self._folder / "gui_rpc_auth.cfg"
        password.touch(mode=0o600)
        password.write_text(self._password)
        command = ["boinc", "--dir", str(self._folder), "--gui_rpc_port", str(self._port), "--allow_multiple_clients"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--insecure")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=self._folder, start_new_session=True)
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *about: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._run("--client_version").returncode != 0:
            if process.poll() is not None:
                raise LendingError(f"the BOINC client ended with status {process.returncode}; above it says why")
            if time.monotonic() > deadline:
                raise LendingError(f"the BOINC client does not answer on port {self._port}")
            time.sleep(0.2)

    def attach(self, url: str, key: str) -> None:
        """Join the project."""
        self._told("--project_attach", url, key)

    def account(self, url: str, email: str) -> str:
        """The key of a new account; its password is thrown away, the key is all that it takes."""
        said = self._told("--create_account", url, email, secrets.token_hex(16), email.partition("@")[0])
        found = re.search(r"account key: (\S+)", said)
        if found is None:
            raise LendingError(f"{url} makes no account for {email}: {said.strip()}")
        return found[1]

    def wait(self) -> int:
        """Until the client ends by itself."""
        assert self._process is not None
        return self._process.wait()

    def _told(self, *arguments: str) -> str:
        done = self._run(*arguments)
        if done.returncode != 0:
            raise LendingError(f"the BOINC client refuses: {(done.stdout + done.stderr).strip()}")
        return done.stdout

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["boinccmd", "--host", f"127.0.0.1:{self._port}", "--passwd", self._password, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=self._folder, check=False)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block, quietly."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("\nthe client has ended; the next start goes on from its checkpoints\n")
        raise SystemExit(0) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
