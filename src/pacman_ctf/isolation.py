"""What the team's process gives up before it runs anything of the team's; how far, the host's kernel decides."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pyboinc import sandbox

FILE_BYTES: Final = 64 << 20  # of one file that a team writes
OPEN_FILES: Final = 256

_SET_CHILD_SUBREAPER: Final = 36  # from <linux/prctl.h>
_SET_PDEATHSIG: Final = 1


class TooWeak(Exception):
    """The host cannot isolate as far as was asked; told to the referee, which raises `SandboxTooWeak`."""


def _prctl(option: int, value: int) -> None:
    try:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
    except (OSError, AttributeError):
        pass  # not Linux: what can be done without it is done


def adopt_orphans() -> None:
    """Processes whose parent ended become this one's children; it ends when the referee does."""
    _prctl(_SET_CHILD_SUBREAPER, 1)
    _prctl(_SET_PDEATHSIG, 15)


def enter(scratch: str, memory: int, require: Sequence[str]) -> str:
    """Bind this process for good: its own folder to write to, the interpreter to read, no network, bounded memory.

    Returns the layers that hold, as the record tells them. Raises `TooWeak` when one that is required is missing.
    """
    _prctl(_SET_PDEATHSIG, 9)
    try:
        policy = sandbox.Policy(
            write=[scratch], memory=memory, file_size=FILE_BYTES, open_files=OPEN_FILES, require=require,
            accountable=True,
        )  # fmt: skip
        return str(sandbox.apply(policy))
    except (sandbox.SandboxUnavailableError, ValueError) as error:
        raise TooWeak(str(error)) from error


def import_ahead() -> None:
    """Have imported what `enter` needs, so that it takes well under a millisecond."""
    sandbox.available()


def environment() -> dict[str, str]:
    """The whole environment of a team's process: nothing of the host's own, and the same on every host."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    roots = {str(Path(module).absolute().parent.parent) for module in (__file__, sandbox.__path__[0])}
    return dict.fromkeys(threads, "1") | {
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPATH": ":".join(sorted(roots)),
        "PYTHONSAFEPATH": "1",
    }
