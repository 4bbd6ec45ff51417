"""A folder of finished things, each named by the digest of what it was made from."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def default() -> Path:
    """The user's cache: $PYBOINC_CACHE, else below $XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("PYBOINC_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyboinc"


@contextlib.contextmanager
def alone(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Others on this machine who would do the same in this folder wait meanwhile."""
    if sys.platform == "win32":
        raise RuntimeError("applications are packaged on Linux or macOS")
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def entry(folder: Path, digest: str, make: Callable[[Path], None]) -> Path:
    """The finished folder `digest`, made by one process while others wait; a half-made one is never seen."""
    done = folder / digest
    if done.exists():
        return done
    with alone(folder, f".{digest}.lock"):
        if not done.exists():
            new = Path(tempfile.mkdtemp(prefix=f".{digest}-", dir=folder))
            try:
                make(new)
                new.chmod(0o755)
                new.rename(done)
            except BaseException:
                shutil.rmtree(new, ignore_errors=True)
                raise
    return done
