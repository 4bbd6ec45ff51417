"""The first lines of a worker process: take over what was inherited, then serve."""

from __future__ import annotations

import sys

__all__ = ["start"]


def start() -> None:
    """Called with the connection, the live page, the shared memory and the lifeline on the command line."""
    from pymw.backends.local.child import main
    from pymw.backends.local.live import LivePage

    handle, token, store, outbox, lifeline = sys.argv[1:6]
    if sys.platform == "win32":
        from multiprocessing.connection import PipeConnection as Connection
    else:
        from multiprocessing.connection import Connection

    main(Connection(int(handle)), LivePage.attach(token), int(store), int(outbox), int(lifeline))
