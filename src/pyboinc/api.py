"""BOINC's calls for the program that does the work.

They work the same without a client, for development: reports go nowhere, files lie in the current directory.
Handlers of trickles run inside `poll`, `fraction_done` and `checkpoint.due`, never in between.
"""

from __future__ import annotations

import os
import sys
import time

from pyboinc.checkpoints import Checkpoint
from pyboinc.link import Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import NoReturn, TypeVar

    from pyboinc.initdata import InitData

    Handler = TypeVar("Handler", bound=Callable[[str], object])

SMALLEST_STEP = 0.0005
"""A smaller change of the fraction is not worth a message."""


class Session:
    """This process as part of a task."""

    def __init__(self) -> None:
        self.link = Link()
        self.standalone = not self.link.supervised or bool(os.environ.get("PYBOINC_STANDALONE"))
        self.slot = os.environ.get("PYBOINC_SLOT", "")
        self.directory = os.environ.get("PYBOINC_WORK", self.slot)
        self.outputs = frozenset(os.environ.get("PYBOINC_OUTPUTS", "").splitlines())
        self.fraction = -1.0
        self._init_data: InitData | None = None

    def init_data(self) -> InitData:
        """The record, read when first asked for."""
        if self._init_data is None:
            from pyboinc import initdata

            self._init_data = initdata.parse(os.environ.get("PYBOINC_INIT", ""))
        return self._init_data


_session = Session()

checkpoint = Checkpoint(_session)
"""The state of this task: `load`, `save`, `due`."""


def fraction_done(fraction: float) -> None:
    """Show how much of the work is done, from 0 to 1."""
    _session.link.poll()
    if abs(fraction - _session.fraction) >= SMALLEST_STEP:
        _session.fraction = fraction
        _session.link.say("fraction", float(fraction))


def poll() -> None:
    """Take in what the client said meanwhile: trickles, a wish to quit, network, finished uploads."""
    _session.link.poll()


def quit_requested() -> bool:
    """Whether the client wants the task to stop for now; there are some seconds to save its state."""
    _session.link.poll()
    return _session.link.quit_requested


def init_data() -> InitData:
    """What the client told the task: names, bounds, the volunteer's preferences. It holds no secret."""
    return _session.init_data()


def is_standalone() -> bool:
    """Whether no client runs this program."""
    return _session.standalone


def resolve(name: str) -> str:
    """The real path of a file that the job calls `name`."""
    from pyboinc import slot

    if name in _session.outputs:
        return os.path.join(_session.directory, name)
    return slot.resolve(name, _session.slot)


def cpu_time() -> float:
    """CPU seconds that the task has used, in earlier episodes too."""
    before = float(os.environ.get("PYBOINC_CPU_BEFORE", "0"))
    times = os.times()
    return before + time.process_time() + times.children_user + times.children_system


def trickle_up(variety: str, text: str) -> None:
    """Send a message to the server while the task runs; `variety` names its kind."""
    _session.link.say("trickle", variety, text)


def on_trickle_down(handler: Handler) -> Handler:
    """Call `handler` with the text of each message from the server; usable as a decorator."""
    _session.link.trickle_handlers.append(handler)
    return handler


def upload(name: str) -> None:
    """Upload the output file that the job calls `name` now, before the task ends."""
    _session.link.say("upload", os.fspath(name))


def uploaded(name: str) -> int | None:
    """How the upload asked for with `upload` ended: 0 is success, None is not yet."""
    _session.link.poll()
    return _session.link.uploaded.get(name)


def want_network(wanted: bool = True) -> None:
    """Ask the volunteer for the network, where the client has suspended it; take it back with False."""
    _session.link.say("network", wanted)


def network_allowed() -> bool:
    """Whether the client lets tasks use the network at this time."""
    _session.link.poll()
    return _session.link.network_allowed


def temporary_exit(delay: float, reason: str, *, notice: bool = False) -> NoReturn:
    """Leave now, to be started again after `delay` seconds; `notice` shows the reason to the volunteer."""
    _session.link.say("temporary", delay, str(reason), notice)
    sys.exit(0)


def time_limit(seconds: float) -> None:
    """End this process, as one that took too long, if it runs for so many seconds from now; 0 takes that back.

    Seconds in which the client suspends it do not count. For a program that does several pieces of work in turn.
    """
    _session.link.say("limit", float(seconds))


class critical_section:  # noqa: N801 (a context manager that reads like the call it is)
    """`with critical_section():` neither suspended nor ended by the client, for half a minute at most."""

    _depth = 0

    def __enter__(self) -> None:
        critical_section._depth += 1
        if critical_section._depth == 1:
            _session.link.say("critical", True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        critical_section._depth -= 1
        if critical_section._depth == 0:
            _session.link.say("critical", False)
