"""A folder of finished things, each named by the digest of what it was made from."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def default() -> Path:
    """The user's cache: $PYBOINC_CACHE, else below $XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("PYBOINC_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyboinc"


def entry(folder: Path, digest: str, make: Callable[[Path], None]) -> Path:
    """The finished folder `digest`, made by one process while others wait; a half-made one is never seen."""
    if sys.platform == "win32":
        raise RuntimeError("applications are packaged on Linux or macOS")
    import fcntl

    done = folder / digest
    if done.exists():
        return done
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{digest}.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
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
