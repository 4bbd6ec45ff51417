"""master.share(obj): stored once, read once by each worker process, as an argument of any number of tasks."""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from pymw.shipping import pack

__all__ = ["Shared", "Shelf"]

KEPT = 16  # shared objects that a worker process keeps at hand


class Shared:
    """Stands for a shared object: the function that it is passed to gets the object itself, not to be changed."""

    def __init__(self, path: Path, digest: str) -> None:
        self._path, self.digest = path, digest

    def __reduce__(self) -> Any:
        return _load, (str(self._path),)

    def __repr__(self) -> str:
        return f"<shared {self.digest[:12]}>"


class Shelf:
    """Where one master's shared objects lie, in memory where the system has a file system for that."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
        place = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
        self._folder = tempfile.TemporaryDirectory(prefix="pymw-shared-", dir=place)

    def put(self, value: Any) -> Shared:
        """The same content is stored once."""
        data = None
        if _is_array(value):
            import io

            import numpy

            file = io.BytesIO()
            numpy.save(file, value, allow_pickle=False)
            data, suffix = file.getvalue(), ".npy"
        else:
            data, suffix = pack(value, "share"), ".pickle"
        digest = hashlib.sha256(data).hexdigest()
        path = Path(self._folder.name, digest + suffix)
        if not path.exists():
            path.write_bytes(data)
        return Shared(path, digest)

    def close(self) -> None:
        """Delete them all; what a worker has mapped stays until it ends."""
        self._folder.cleanup()


def _is_array(value: Any) -> bool:
    import sys

    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and not value.dtype.hasobject


@lru_cache(maxsize=KEPT)
def _load(path: str) -> Any:
    """In the worker, once: an array is mapped into memory, read-only, and shared with the other workers."""
    if path.endswith(".npy"):
        import numpy

        return numpy.load(path, mmap_mode="r", allow_pickle=False)
    return pickle.loads(Path(path).read_bytes())  # noqa: S301 - written by the master
