"""What the team's process gives up before it runs anything of the team's; how far, the host's kernel decides."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any, Final

LEVELS: Final = ("process", "limits", "sandbox")  # each includes those before it

_SET_CHILD_SUBREAPER: Final = 36  # from <linux/prctl.h>
_SET_PDEATHSIG: Final = 1


def _prctl(option: int, value: int) -> None:
    import ctypes

    try:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
    except (OSError, AttributeError):
        pass  # not Linux: the process group is ended all the same


def adopt_orphans() -> None:
    """Processes whose parent ended become this one's children; it ends when the referee does."""
    _prctl(_SET_CHILD_SUBREAPER, 1)
    _prctl(_SET_PDEATHSIG, 15)


class TooWeak(Exception):
    """The host cannot isolate as far as was asked."""


def enter(memory: int, minimum: str) -> dict[str, Any]:
    """Give up what can be given up. Returns what the record tells: the level that was reached and its layers."""
    _prctl(_SET_PDEATHSIG, 9)
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 64 << 20)
    _limit(resource.RLIMIT_NOFILE, 128)
    reached, layers = "limits", ["rlimits"]
    if minimum not in LEVELS[: LEVELS.index(reached) + 1]:
        raise TooWeak(f"this host reaches the isolation {reached!r}, and {minimum!r} is asked for")
    return {"level": reached, "layers": layers}


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def environment() -> dict[str, str]:
    """The whole environment of a team's process: nothing of the host's own, and the same on every host."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    package = str(Path(__file__).absolute().parent.parent)
    return dict.fromkeys(threads, "1") | {
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPATH": package,
        "PYTHONSAFEPATH": "1",
    }
