"""Packages that a job imports: archives among the project's files, unpacked once per host.

projects/X/DIGEST.tar             as the client fetched it; its name is the first 40 digits of its SHA-256
projects/X/pb_cache/DIGEST/       its content: checked on the way, made by one process while others wait,
                                  moved to its place when it is whole
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

CACHE = "pb_cache"
DIGITS = 40
PATIENCE = 600.0
"""Seconds for another process to unpack."""
LIBRARIES = "lib"
"""The folder, in an archive of system libraries, with those that a bare host may lack."""


class PackageError(Exception):
    """An archive cannot be used: it is not what its name says, or there is no room for it."""


def unpack(archive: str, cache: str = "") -> str:
    """Where an archive's content is: beside it, and swept once the client deletes it; or below `cache`, to stay."""
    swept = not cache
    cache = cache or os.path.join(os.path.dirname(os.path.abspath(archive)), CACHE)
    digest = os.path.splitext(os.path.basename(archive))[0]
    place = os.path.join(cache, digest)
    if os.path.isdir(place):
        return place
    try:
        os.makedirs(cache, exist_ok=True)
        with _Lock(os.path.join(cache, f".{digest}.lock")):
            if not os.path.isdir(place):
                _make(archive, digest, cache, place)
                if swept:
                    _sweep(cache)
    except OSError as error:
        raise PackageError(f"{archive} cannot be unpacked: {error}") from error
    return place


def _make(archive: str, digest: str, cache: str, place: str) -> None:
    new = tempfile.mkdtemp(prefix=f".{digest}-", dir=cache)
    try:
        with open(archive, "rb") as file:
            if _digest(file) != digest:
                raise PackageError(f"{archive} was tampered with: its content is not what its name says")
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    _extract(tar, member, new, archive)
        os.chmod(new, 0o755)  # noqa: S103 - public content
        os.rename(new, place)
    except (tarfile.TarError, EOFError) as error:
        raise PackageError(f"{archive} is damaged: {error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, into: str, archive: str) -> None:
    # Whatever made the archive: only files, and only below this folder.
    parts = member.name.split("/")
    if not member.isreg() or os.path.isabs(member.name) or ".." in parts or set(member.name) & set("\\:"):
        raise PackageError(f"{archive} holds what does not belong there: {member.name}")
    path = os.path.join(into, *parts)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None
    with open(path, "wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
    if member.mode & 0o100:
        os.chmod(path, 0o755)  # noqa: S103


def _digest(file: IO[bytes]) -> str:
    made = hashlib.sha256()
    while True:
        data = file.read(1 << 20)
        if not data:
            return made.hexdigest()[:DIGITS]
        made.update(data)


def _sweep(cache: str) -> None:
    """Remove what was unpacked from archives that the client has deleted."""
    project = os.path.dirname(cache)
    for name in os.listdir(cache):
        if not name.startswith(".") and not os.path.exists(os.path.join(project, f"{name}.tar")):
            shutil.rmtree(os.path.join(cache, name), ignore_errors=True)


def libraries(folders: list[str]) -> Iterator[str]:
    """Those of the shipped system libraries that this host lacks, in the order in which they need each other."""
    import ctypes

    for folder in folders:
        listed = os.path.join(folder, LIBRARIES, "order")
        if not os.path.exists(listed):
            continue
        with open(listed, encoding="utf-8") as file:
            names = file.read().split()
        for name in names:
            try:
                ctypes.CDLL(name)
            except OSError:
                yield os.path.join(folder, LIBRARIES, name)


def use(folders: list[str]) -> None:
    """Let this process import what is in these folders."""
    if sys.platform == "linux":
        import ctypes

        for path in libraries(folders):
            ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
    sys.path += folders


class _Lock:
    """One process at a time; the system lets go of it when its process dies."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o664)
        give_up = time.monotonic() + PATIENCE
        while not _try_lock(self._descriptor):
            if time.monotonic() > give_up:
                os.close(self._descriptor)
                raise PackageError(f"another process holds {self._path} for more than {PATIENCE:.0f} seconds")
            time.sleep(0.05)

    def __exit__(self, *of_no_interest: object) -> None:
        os.close(self._descriptor)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
