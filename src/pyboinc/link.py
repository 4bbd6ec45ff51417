"""The child's end of its pipes: what it says to the supervisor, and what the supervisor told it."""

from __future__ import annotations

import os
import stat
import sys

from pyboinc import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyboinc.wire import Field


class Link:
    """Messages out, orders in. Without a supervisor messages go nowhere and no order ever comes.

    Nothing happens behind the program's back: orders are taken in when it calls `poll`, and handlers run then.
    """

    def __init__(self) -> None:
        self.quit_requested = False
        self.network_allowed = True
        self.period: float | None = None
        self.uploaded: dict[str, int] = {}
        self.trickle_handlers: list[Callable[[str], object]] = []
        self._trickles: list[str] = []
        self._lines = wire.Lines()
        self._out, self._in = _pipes()

    @property
    def supervised(self) -> bool:
        """Whether a supervisor listens."""
        return self._out is not None

    def say(self, verb: str, *fields: Field) -> None:
        """Send a message; it is lost only with the supervisor itself, which takes this process along."""
        fields = wire.checked(verb, fields)
        if self._out is None:
            return
        data = wire.line(verb, *fields)
        if len(data) > wire.MAX_LINE:
            raise ValueError(
                f"a message of {len(data) // 2} bytes is too long to send; {wire.MAX_LINE // 2} is the most"
            )
        try:
            while data:
                data = data[os.write(self._out, data) :]
        except OSError:
            pass

    def poll(self) -> None:
        """Take in the orders that have come, and run the handlers of trickles."""
        for line in self._lines.feed(_available(self._in)) if self._in is not None else ():
            verb, fields = wire.parse(line, wire.TO_CHILD) or ("", ())
            if verb == "quit":
                self.quit_requested = True
            elif verb == "network":
                self.network_allowed = bool(fields[0])
            elif verb == "period":
                self.period = float(fields[0])
            elif verb == "uploaded":
                self.uploaded[str(fields[0])] = int(fields[1])
            elif verb == "trickle":
                self._trickles.append(str(fields[0]))
        # A trickle waits for the first handler; a handler may call the API, so the list is emptied first.
        if self._trickles and self.trickle_handlers:
            texts, self._trickles = self._trickles, []
            for text in texts:
                for handler in self.trickle_handlers:
                    handler(text)


def _pipes() -> tuple[int | None, int | None]:
    # Taken out of the environment: descendants have no business on these pipes.
    named = os.environ.pop("PYBOINC_PIPES", "")
    try:
        out, orders = map(_open, named.split(","))
    except (ValueError, OSError):
        return None, None
    return out, orders


def _open(number: str) -> int:
    if sys.platform == "win32":
        import msvcrt

        return msvcrt.open_osfhandle(int(number), os.O_BINARY)
    descriptor = int(number)
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        raise ValueError(number)
    os.set_inheritable(descriptor, False)
    return descriptor


def _available(descriptor: int) -> bytes:
    """What can be read without waiting."""
    if sys.platform == "win32":
        from pyboinc.windows import read_available

        return read_available(descriptor, 1 << 16)
    import select

    data = b""
    while select.select([descriptor], [], [], 0)[0]:
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            break
        data += chunk
    return data
