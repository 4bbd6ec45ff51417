"""The client that started this program, as its supervisor sees it."""

from __future__ import annotations

import os
import sys
import time

from pyboinc import channels, initdata, messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PID_CHECK_INTERVAL = 2.0
HEARTBEAT_PATIENCE = 30.0
"""Seconds without a heartbeat after which a client that named no process id counts as dead."""


class Client:
    """The client behind the shared memory. What it says comes out of `poll`, as words."""

    standalone = False

    def __init__(self, slot: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        text = initdata.read(os.path.join(slot, initdata.INIT_DATA_FILE))
        own = initdata.ClientData(text)
        self.init_data = initdata.parse(text)
        self.network_suspended = False
        self._slot = slot
        self._pid = own.client_pid
        self._clock = clock
        self._channels = channels.attach(slot, own.comm_obj_name)
        self._heard = self._checked = clock()

    def poll(self) -> list[str]:
        """What the client has said since: its controls, `have_trickle_down`, `upload_file_status`, or `dead`."""
        heartbeat = self._channels.receive(channels.HEARTBEAT)
        if heartbeat is not None:
            self._heard = self._clock()
            self.network_suspended = "<network_suspended/>" in heartbeat
        said = messages.words(self._channels.receive(channels.PROCESS_CONTROL) or "", messages.CONTROLS)
        said += messages.words(
            self._channels.receive(channels.TRICKLE_DOWN) or "", ("have_trickle_down", "upload_file_status")
        )
        if "reread_app_info" in said:
            self._reread()
        if self._dead():
            said.append("dead")
        return said

    def report(self, *, cpu_time: float, checkpoint_cpu_time: float, fraction: float, want_network: bool) -> bool:
        """Say how the task is doing; False while the client has not yet taken the last word on it."""
        text = messages.status(
            cpu_time=cpu_time, checkpoint_cpu_time=checkpoint_cpu_time, fraction=fraction, want_network=want_network
        )
        return self._channels.send(channels.APP_STATUS, text)

    def took_report(self) -> bool:
        """Whether the client has read the last report."""
        return not self._channels.full(channels.APP_STATUS)

    def announce(self, message: str) -> bool:
        """Tell the client of a trickle or an upload that waits in the slot."""
        return self._channels.send(channels.TRICKLE_UP, message)

    def took_announcement(self) -> bool:
        """Whether the client has read the last announcement."""
        return not self._channels.full(channels.TRICKLE_UP)

    def close(self) -> None:
        """Let go of the shared memory."""
        self._channels.close()

    def _reread(self) -> None:
        try:
            self.init_data = initdata.parse(initdata.read(os.path.join(self._slot, initdata.INIT_DATA_FILE)))
        except OSError:
            pass  # the old preferences hold until the client has written the new ones

    def _dead(self) -> bool:
        now = self._clock()
        if not self._pid:
            return now - self._heard > HEARTBEAT_PATIENCE
        if now - self._checked < PID_CHECK_INTERVAL:
            return False
        self._checked = now
        return not process_exists(self._pid)


class NoClient:
    """No client: the program runs by itself, for development."""

    standalone = True
    network_suspended = False

    def __init__(self) -> None:
        self.init_data = initdata.InitData()

    def poll(self) -> list[str]:
        """Nobody says anything."""
        return []

    def report(self, *, cpu_time: float, checkpoint_cpu_time: float, fraction: float, want_network: bool) -> bool:
        """Nobody listens."""
        return True

    def took_report(self) -> bool:
        """Nobody listens."""
        return True

    def announce(self, message: str) -> bool:
        """Nobody listens."""
        return True

    def took_announcement(self) -> bool:
        """Nobody listens."""
        return True

    def close(self) -> None:
        """Nothing is open."""


def find(slot: str = "") -> Client | NoClient:
    """The client of this slot, or none where there is no init data."""
    if os.path.exists(os.path.join(slot, initdata.INIT_DATA_FILE)):
        return Client(slot)
    return NoClient()


def process_exists(pid: int) -> bool:
    """Whether a process of that id runs, somebody else's included."""
    if sys.platform == "win32":
        from pyboinc.windows import process_exists as exists

        return exists(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
