"""master.share(obj): stored once, read once by each worker process, as an argument of any number of tasks."""

from __future__ import annotations

import hashlib
import mmap
import os
import pickle
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pymw.shipping import pack

__all__ = ["Shared", "Shelf"]

KEPT = 16  # shared objects that a worker process keeps at hand

# Where the pickle and each of its buffers lie in the file: offset and length.
Layout = tuple[tuple[int, int], ...]


class Shared:
    """Stands for a shared object: the function that it is passed to gets the object itself, not to be changed."""

    def __init__(self, path: str, digest: str, layout: Layout) -> None:
        self._path, self.digest, self._layout = path, digest, layout

    def __reduce__(self) -> Any:
        return _load, (self._path, self.digest, self._layout)

    def __repr__(self) -> str:
        return f"<shared {self.digest[:12]}>"


class Shelf:
    """Where one master's shared objects lie: in memory without a name where the system has that, else in files."""

    def __init__(self) -> None:
        self._shared: dict[str, Shared] = {}
        self._descriptors: list[int] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def put(self, value: Any) -> Any:
        """What stands for the value; the same content is stored once. The value itself where there is no room."""
        buffers: list[pickle.PickleBuffer] = []
        parts = [memoryview(pack(value, "share", buffers.append)), *(buffer.raw() for buffer in buffers)]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        name = digest.hexdigest()
        if name not in self._shared:
            try:
                path, descriptor = self._new(name)
                with open(descriptor, "wb", closefd=False) as file:
                    layout = _write(parts, file)
            except OSError:
                return value
            self._shared[name] = Shared(path, name, layout)
        return self._shared[name]

    def _new(self, name: str) -> tuple[str, int]:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("pymw-shared", os.MFD_CLOEXEC)
            self._descriptors.append(descriptor)
            path = f"/proc/{os.getpid()}/fd/{descriptor}"  # the kernel frees it with its last user, even after SIGKILL
            if Path(path).exists():
                return path, descriptor
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="pymw-shared-")
        path = str(Path(self._folder.name, name))
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o600)
        self._descriptors.append(descriptor)
        return path, descriptor

    def close(self) -> None:
        """Delete them all; what a worker has mapped stays until it ends."""
        while self._descriptors:
            os.close(self._descriptors.pop())
        self._shared.clear()
        if self._folder is not None:
            self._folder.cleanup()


def _write(parts: Sequence[memoryview], file: Any) -> Layout:
    layout = []
    for part in parts:
        start = -(-file.tell() // mmap.PAGESIZE) * mmap.PAGESIZE
        file.seek(start)
        file.write(part)
        layout.append((start, part.nbytes))
    return tuple(layout)


@lru_cache(maxsize=KEPT)
def _load(path: str, digest: str, layout: Layout) -> Any:
    """In the worker, once: arrays are mapped into memory, read-only, and shared with the other workers."""
    with Path(path).open("rb") as file, memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as view:
        stream, *buffers = [view[start : start + size] for start, size in layout]
        return pickle.loads(stream, buffers=buffers)  # noqa: S301 - written by the master
