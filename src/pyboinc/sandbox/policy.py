"""What a process may do, and how much of that the system enforces."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    Path = str | os.PathLike[str]

LIMITS = "limits"
"""Memory, size of files, processes, open files: rlimits."""
FILES = "files"
"""No file outside of the named paths: Landlock, from Linux 5.13."""
NETWORK = "network"
"""No socket but between own processes: seccomp."""
SYSCALLS = "syscalls"
"""No debugging, mounting, loading, namespaces, no other process's limits or priority: seccomp."""
SIGNALS = "signals"
"""No signal to processes outside: Landlock, from Linux 6.12; seccomp for who is `accountable`."""
LAYERS = (LIMITS, FILES, NETWORK, SYSCALLS, SIGNALS)


class Policy:
    """The bounds; numbers of zero set none."""

    def __init__(
        self,
        *,
        read: Iterable[Path] = (),
        write: Iterable[Path] = (),
        interpreter: bool = True,
        network: bool = False,
        unix_sockets: bool = False,
        shared_memory: bool = False,
        accountable: bool = False,
        memory: int = 0,
        file_size: int = 0,
        cpu_seconds: int = 0,
        processes: int = 4000,
        open_files: int = 1024,
        require: Iterable[str] = (),
    ) -> None:
        self.read = tuple(read)
        """Files and folders to read and to run programs from."""
        self.write = tuple(write)
        """Files and folders in which everything is allowed."""
        self.interpreter = interpreter
        """Whether this Python, all of `sys.path`, the system's libraries and harmless devices are readable as well."""
        self.network = network
        self.unix_sockets = unix_sockets
        """Sockets by path reach the user's desktop and its services, so only unnamed pairs are allowed without."""
        self.shared_memory = shared_memory
        """Whether /dev/shm and other memory that processes share by name are open, which others use too and which
        outlives a process; locks, queues and pools of multiprocessing need it."""
        self.accountable = accountable
        """Whether all that it starts is to be counted and ended to the last from outside, as a stranger's code among
        others' is. It cannot leave its process group, nor hide, nor let a child vanish with the time it used, nor have
        memory that no process shows; on older kernels it signals no other process at all, not even its own."""
        self.memory = memory
        """Bytes that one process may allocate; beyond it allocation fails, in Python by a MemoryError."""
        self.file_size = file_size
        self.cpu_seconds = cpu_seconds
        self.processes = processes
        """Processes and threads of this user, those outside included."""
        self.open_files = open_files
        self.require = frozenset(require)
        """Layers without which not to go on."""
        unknown = self.require.difference(LAYERS)
        if unknown:
            raise ValueError(f"no such layer: {', '.join(sorted(unknown))}; there are {', '.join(LAYERS)}")


class Level:
    """The layers that hold."""

    def __init__(self, layers: Iterable[str]) -> None:
        self._layers = frozenset(layers)

    def __contains__(self, layer: object) -> bool:
        return layer in self._layers

    def __iter__(self) -> Iterator[str]:
        return (layer for layer in LAYERS if layer in self._layers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Level) and self._layers == other._layers

    def __hash__(self) -> int:
        return hash(self._layers)

    def __str__(self) -> str:
        return ", ".join(self) or "none"

    def __repr__(self) -> str:
        return f"Level({list(self)})"
