"""BOINC's application side in pure Python: standard library only.

In the program that does the work:

    import pyboinc

    pyboinc.fraction_done(0.5)

In the main program that the client starts:

    from pyboinc.supervisor import supervise

    raise SystemExit(supervise([sys.executable, "work.py"]))
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyboinc.api import (
        checkpoint,
        cpu_time,
        critical_section,
        fraction_done,
        init_data,
        is_standalone,
        network_allowed,
        on_trickle_down,
        poll,
        quit_requested,
        resolve,
        temporary_exit,
        time_limit,
        trickle_up,
        upload,
        uploaded,
        want_network,
    )

__all__ = [
    "checkpoint",
    "cpu_time",
    "critical_section",
    "fraction_done",
    "init_data",
    "is_standalone",
    "network_allowed",
    "on_trickle_down",
    "poll",
    "quit_requested",
    "resolve",
    "temporary_exit",
    "time_limit",
    "trickle_up",
    "upload",
    "uploaded",
    "want_network",
]


def __getattr__(name: str) -> object:
    # The supervisor has no use for these, and should start without them.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pyboinc import api

    value: object = getattr(api, name)
    return value
