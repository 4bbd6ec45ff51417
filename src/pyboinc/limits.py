"""What one child may use before the supervisor ends it."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyboinc.initdata import InitData

_MOST_FILES_LOOKED_AT = 100_000


class Limits:
    """Bounds on the child and everything it starts; zero is none.

    They are looked at once a second (disk: every five), so a quick offender is caught a little above them.
    """

    def __init__(self, *, memory: float = 0, disk: float = 0, time: float = 0) -> None:
        self.memory = memory
        """Resident bytes."""
        self.disk = disk
        """Bytes in the slot."""
        self.time = time
        """Seconds that one child runs; those it stands still do not count."""

    @classmethod
    def of(cls, init_data: InitData) -> Limits:
        """The bounds that the job declares. The client itself does not enforce the one on memory."""
        return cls(memory=init_data.rsc_memory_bound, disk=init_data.rsc_disk_bound)


def disk_usage(directory: str) -> int:
    """Bytes in a directory and below, counted without following links; a swamp of files is counted in part."""
    total = looked_at = 0
    waiting = [directory]
    while waiting and looked_at < _MOST_FILES_LOOKED_AT:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    looked_at += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # it vanished, or user code locked us out of it
    return total
