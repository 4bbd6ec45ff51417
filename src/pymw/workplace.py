"""Where a task with data files runs: in a folder of its own, its files there under their names, gone afterwards.

Standard library only, Python 3.9 or later: this also runs on volunteers' computers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

__all__ = ["left_behind", "workplace"]

LARGE = 4 << 20  # bytes: copied in a millisecond or two


@contextlib.contextmanager
def workplace(
    folder: Path,
    files: Mapping[str, Union[Path, bytes]],  # noqa: UP007 - Python 3.9
    *,
    again: bool = False,
) -> Iterator[None]:
    """Be in `folder`, made anew, among `files`: copies, links to large ones, or their content written there.

    `again`: it will be the next task's too; an empty folder is then as good as a new one, and a thousandfold cheaper.
    """
    before = Path.cwd()
    if not (again and _is_empty(folder)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    for name, content in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        else:
            _put(content, target)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        if not (again and _is_empty(folder)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_empty(folder: Path) -> bool:
    try:
        return not folder.is_symlink() and not any(folder.iterdir())
    except OSError:
        return False


def left_behind(names: Sequence[str], most: int) -> dict[str, bytes]:
    """The files that a task left in the current folder; OSError says which is missing, or that they are too large."""
    files, room = {}, most
    for name in names:
        try:
            room -= Path(name).stat().st_size
            if room < 0:
                raise OSError(f"outputs=: the files that it left take more than {most} bytes")
            files[name] = Path(name).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            raise FileNotFoundError(f"outputs=: the function left no file {name}") from None
    return files


def _put(file: Path, at: Path) -> None:
    """A copy, so that what a task writes there is nobody else's; a link where that would take long."""
    try:
        if file.stat().st_size > LARGE:
            at.symlink_to(file)
            return
    except OSError:  # Windows keeps links for administrators
        pass
    mode = file.stat().st_mode & 0o777 | 0o600
    with file.open("rb") as source, open(at, "wb", opener=lambda path, flags: os.open(path, flags, mode)) as copy:
        shutil.copyfileobj(source, copy)
