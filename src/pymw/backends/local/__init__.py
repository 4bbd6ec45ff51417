"""The reference backend: fresh interpreters on this machine.

    caller's thread                     collecting thread                worker process
    submit: pickle, queue ──▶ chunks ──▶ socket ─────────────────────▶  child: runs the chunk item by item,
                                                                         publishes the running position in shared memory
    future / map iterator ◀── Collector.deliver ◀── socket ◀───────────  flushes values at least every 100 ms
                                                    live page ◀───────▶  "item 17 runs" / "stop before item 40"

A worker that dies costs the item whose position it had published; the unflushed rest of its chunk moves on. When
workers are idle the pool takes back what a busy worker has not begun, by lowering the limit in its live page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymw.backends.protocol import Backend, Setup

__all__ = ["open_local"]


def open_local(address: str, setup: Setup) -> Backend:
    """``local`` or ``local:N`` for N workers."""
    from pymw.backends.local.pool import LocalBackend

    return LocalBackend(address, setup)
