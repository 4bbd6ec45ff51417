"""A client for tests: it plays the other side of the shared memory in a slot directory of its own.

>>> with FakeClient(tmp_path) as client:
...     client.start([sys.executable, "main.py"])
...     client.until(lambda: client.fraction == 0.5)
...     client.say("suspend")
...     assert client.finish() == 0
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pyboinc import channels, messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

_INIT_DATA = """<app_init_data>
<major_version>7</major_version>
<minor_version>20</minor_version>
<release>5</release>
<app_version>101</app_version>
<userid>7</userid>
<teamid>0</teamid>
<hostid>3</hostid>
<app_name>work</app_name>
<project_preferences>
<color>red & <b>blue</color>
</project_preferences>
<user_name>Ada &amp; Co</user_name>
<project_dir>{project}</project_dir>
<boinc_dir>{boinc}</boinc_dir>
<authenticator>0123456789abcdef0123456789abcdef</authenticator>
<wu_name>wu_1</wu_name>
<result_name>wu_1_0</result_name>
<shm_key>-1</shm_key>
<comm_obj_name>{comm_obj_name}</comm_obj_name>
<slot>0</slot>
<client_pid>{client_pid}</client_pid>
<wu_cpu_time>{wu_cpu_time}</wu_cpu_time>
<checkpoint_period>{checkpoint_period}</checkpoint_period>
<ncpus>1.000000</ncpus>
<rsc_memory_bound>{rsc_memory_bound}</rsc_memory_bound>
<rsc_disk_bound>{rsc_disk_bound}</rsc_disk_bound>
<host_info>
    <ncpus>64</ncpus>
</host_info>
</app_init_data>
"""


class FakeClient:
    """The client of one task: files, channels, process."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        client_pid: int | None = None,
        wu_cpu_time: float = 0,
        checkpoint_period: float = 300,
        rsc_memory_bound: float = 0,
        rsc_disk_bound: float = 0,
    ) -> None:
        self.slot = Path(directory) / "slots" / "0"
        self.project = Path(directory) / "projects" / "example.org"
        self.slot.mkdir(parents=True, exist_ok=True)
        self.project.mkdir(parents=True, exist_ok=True)
        self._init: dict[str, object] = {
            "project": self.project,
            "comm_obj_name": f"boinc_test_{os.getpid()}",
            "boinc": directory,
            "client_pid": os.getpid() if client_pid is None else client_pid,
            "wu_cpu_time": wu_cpu_time,
            "checkpoint_period": checkpoint_period,
            "rsc_memory_bound": rsc_memory_bound,
            "rsc_disk_bound": rsc_disk_bound,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.fraction = self.cpu_time = self.checkpoint_cpu_time = 0.0
        self.want_network = False
        self.network_suspended = False
        self.trickles: list[str] = []
        """What came up, as the files that a client would send."""
        self.uploads: list[str] = []
        """Logical names that the program asked to upload early."""
        self.reports = 0
        """How many status messages came."""
        self.listens = True
        """A client that does not listen leaves every message unread."""
        self._prepare()

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._channels.close()

    def _prepare(self) -> None:
        self.write_init_data()
        if sys.platform == "win32":
            section = mmap.mmap(-1, channels.SEGMENT_SIZE, tagname=f"shm_{self._init['comm_obj_name']}")
            section[:] = bytes(channels.SEGMENT_SIZE)
            self._channels = channels.Channels(section)
            return
        memory = self.slot / channels.MMAP_FILE
        memory.write_bytes(bytes(channels.SEGMENT_SIZE))
        self._channels = channels.attach_file(str(memory))

    def write_init_data(self, **changes: object) -> None:
        """Write the file, as at each start and when preferences change."""
        self._init.update(changes)
        (self.slot / "init_data.xml").write_text(_INIT_DATA.format(**self._init))

    def link(self, name: str, target: str) -> Path:
        """Give the job a file `name` in the slot that stands for the file `target` of the project."""
        path = self.slot / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<soft_link>../../projects/{self.project.name}/{target}</soft_link>\n")
        return self.project / target

    def start(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start the main program as a client does; again after an end, with fresh shared memory."""
        if self.process is not None:
            self.process.wait()
            self._channels.close()
            self._prepare()
        with (self.slot / "stderr.txt").open("ab") as errors:
            self.process = subprocess.Popen(
                list(command),
                cwd=self.slot,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    def say(self, word: str, *, patience: float = 120) -> None:
        """Send `suspend`, `resume`, `quit`, `abort` or `reread_app_info` once the last word was taken."""
        self._send(channels.PROCESS_CONTROL, f"<{word}/>\n", patience)

    def trickle_down(self, text: str, *, patience: float = 120) -> None:
        """Put a message from the server into the slot and tell the program."""
        new = self.slot / ".trickle.new"
        new.write_text(text)
        new.replace(self.slot / f"trickle_down_{time.time_ns()}")  # whole from the beginning
        self._send(channels.TRICKLE_DOWN, "<have_trickle_down/>\n", patience)

    def upload_done(self, name: str, status: int, *, patience: float = 120) -> None:
        """Tell the program how an early upload ended."""
        (self.slot / f"boinc_ufs_{name}").write_text(f"<status>{status}</status>\n")
        self._send(channels.TRICKLE_DOWN, "<upload_file_status/>\n", patience)

    def step(self) -> None:
        """What a client does once a second: a heartbeat out, status, trickles and uploads in."""
        network = "<network_suspended/>" if self.network_suspended else ""
        self._channels.send(channels.HEARTBEAT, f"<heartbeat/>{network}<wss>1e6</wss><max_wss>1e9</max_wss>\n")
        if not self.listens:
            return
        status = self._channels.receive(channels.APP_STATUS)
        if status is not None:
            self.reports += 1
            self.cpu_time = float(messages.element(status, "current_cpu_time") or "0")
            self.checkpoint_cpu_time = float(messages.element(status, "checkpoint_cpu_time") or "0")
            self.fraction = float(messages.element(status, "fraction_done") or self.fraction)
            self.want_network = messages.element(status, "want_network") == "1"
        said = self._channels.receive(channels.TRICKLE_UP) or ""
        if "<have_new_trickle_up/>" in said:
            path = self.slot / "trickle_up.xml"
            self.trickles.append(path.read_text())
            path.unlink()
        if "<have_new_upload_file/>" in said:
            for path in self.slot.glob("boinc_ufr_*"):
                self.uploads.append(path.name[len("boinc_ufr_") :])
                path.unlink()

    def until(self, condition: Callable[[], bool], patience: float = 120) -> None:
        """Be a client until the condition holds; a TimeoutError with the program's stderr if it never does."""
        give_up = time.monotonic() + patience
        while not condition():
            if time.monotonic() > give_up:
                raise TimeoutError(f"it did not come to that in {patience:g} seconds; stderr:\n{self.stderr()}")
            self.step()
            time.sleep(0.02)

    def finish(self, patience: float = 120) -> int:
        """Wait for the program's end; its exit status."""
        process = self.process
        if process is None:
            raise RuntimeError("nothing was started")
        self.until(lambda: process.poll() is not None, patience)
        self.step()
        return process.wait()

    def finish_file(self) -> str | None:
        """What the program told about its end; without it exit code 0 is a premature exit."""
        path = self.slot / "boinc_finish_called"
        return path.read_text() if path.exists() else None

    def temporary_exit_file(self) -> str | None:
        """Delay and reason of a temporary exit."""
        path = self.slot / "boinc_temporary_exit"
        return path.read_text() if path.exists() else None

    def stderr(self) -> str:
        """What the client would report as stderr."""
        path = self.slot / "stderr.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self) -> None:
        """End the program the hard way."""
        if self.process is not None and self.process.poll() is None:
            if sys.platform == "win32":
                self.process.kill()
            else:
                self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def _send(self, channel: int, text: str, patience: float) -> None:
        self.until(lambda: not self._channels.full(channel), patience)
        self._channels.send(channel, text)
