"""The shared memory between client and application: eight channels, each one message deep.

    client  --->  PROCESS_CONTROL, HEARTBEAT, TRICKLE_DOWN  --->  application
    client  <---  APP_STATUS, TRICKLE_UP                    <---  application

Byte 0 of a channel says whether a message waits in it, the rest is its text, ended by a NUL.
Who sends writes only into an empty channel; who receives copies and then empties it.
"""

from __future__ import annotations

import mmap
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Memory = mmap.mmap | bytearray

CHANNEL_SIZE = 1024
SEGMENT_SIZE = 8 * CHANNEL_SIZE

(
    PROCESS_CONTROL,
    PROCESS_REPLY,
    GRAPHICS_REQUEST,
    GRAPHICS_REPLY,
    HEARTBEAT,
    APP_STATUS,
    TRICKLE_UP,
    TRICKLE_DOWN,
) = range(8)

MMAP_FILE = "boinc_mmap_file"


class ChannelError(OSError):
    """The client's shared memory is missing or too small."""


class Channels:
    """Both sides of the shared memory; the client's side serves tests."""

    def __init__(self, memory: Memory) -> None:
        if len(memory) < SEGMENT_SIZE:
            raise ChannelError(f"the shared memory has {len(memory)} bytes, not {SEGMENT_SIZE}")
        self._memory = memory

    def full(self, channel: int) -> bool:
        """Whether a message waits that its receiver has not yet taken."""
        return self._memory[channel * CHANNEL_SIZE] != 0

    def receive(self, channel: int) -> str | None:
        """The waiting message, which empties the channel; None if there is none."""
        if not self.full(channel):
            return None
        start = channel * CHANNEL_SIZE
        text = bytes(self._memory[start + 1 : start + CHANNEL_SIZE])
        self._memory[start] = 0
        return text.partition(b"\0")[0].decode("utf-8", "replace")

    def send(self, channel: int, text: str) -> bool:
        """Put a message into an empty channel; False if the last one was not yet taken."""
        if self.full(channel):
            return False
        data = text.encode()
        if len(data) > CHANNEL_SIZE - 2:
            raise ValueError(f"a message of {len(data)} bytes does not fit into a channel: {text[:40]!r}...")
        start = channel * CHANNEL_SIZE
        self._memory[start + 1 : start + 2 + len(data)] = data + b"\0"
        # The flag goes last and alone: the other side may look at any moment.
        self._memory[start] = 1
        return True

    def close(self) -> None:
        """Let go of the memory."""
        if isinstance(self._memory, mmap.mmap):
            self._memory.close()


def attach_file(path: str) -> Channels:
    """The channels in the mapped file that a client on Unix puts into the slot."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError as error:
        raise ChannelError(f"no shared memory at {path}: {error.strerror}") from error
    try:
        if os.fstat(descriptor).st_size < SEGMENT_SIZE:
            raise ChannelError(f"{path} has {os.fstat(descriptor).st_size} bytes, not {SEGMENT_SIZE}")
        return Channels(mmap.mmap(descriptor, SEGMENT_SIZE))
    finally:
        os.close(descriptor)


def attach_section(comm_obj_name: str, open_section: Callable[[str], Memory | None]) -> Channels:
    """The channels in a named section of Windows; a client that runs as a service made it under Global."""
    names = [f"Global\\shm_{comm_obj_name}", f"shm_{comm_obj_name}"]
    for name in names:
        memory = open_section(name)
        if memory is not None:
            return Channels(memory)
    raise ChannelError(f"no shared memory by the names {' and '.join(names)}")


def attach(slot: str, comm_obj_name: str) -> Channels:
    """The channels of the client that started this program in `slot`."""
    if sys.platform == "win32":
        from pyboinc.windows import open_section

        return attach_section(comm_obj_name, open_section)
    return attach_file(os.path.join(slot, MMAP_FILE))
