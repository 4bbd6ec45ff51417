"""Tasks that leave their worker: it is lost, it runs one for too long, or others have nothing to do.

Stretches that a function returns are to be queued again, at the front and in this order.
"""

from __future__ import annotations

import time

from pymw.backends.local.chunks import Chunk, Stretch
from pymw.backends.local.outgoing import apart
from pymw.backends.local.process import WorkerProcess
from pymw.backends.protocol import AttemptLost, Ended, Event
from pymw.outcome import Attempt, Ending, Outcome

__all__ = ["after_loss", "out_of_time", "overdue", "taken_back", "time_limit"]

STEAL_AFTER = 0.005  # seconds that an item runs before what waits behind it moves to an idle worker
BARRIER = 0.0002  # seconds in which a store to the live page surely reached the other core


def after_loss(worker: WorkerProcess, ending: str) -> tuple[list[Event], list[Stretch]]:
    """The worker is gone: the item that it ran is charged, the others move on."""
    events: list[Event] = []
    stretches: list[Stretch] = []
    for chunk in worker.chunks:
        told, left = _left_of(chunk, worker.position(chunk), Attempt(worker.name, ending))
        events += told
        stretches += left
    return events, stretches


def _left_of(chunk: Chunk, running: int, attempt: Attempt) -> tuple[list[Event], list[Stretch]]:
    home, limit = chunk.home, chunk.limit
    if running >= limit:  # it was about to send what became of these, and may have died of one: each goes alone then
        if limit - home != 1:
            return [], apart(chunk.parts(home, limit))
        running = home
    if running < home:
        return [], list(chunk.parts(home, limit))
    events, again = _charged(chunk, running, attempt)
    return events, [*chunk.parts(home, running), *again, *chunk.parts(running + 1, limit)]


def _charged(chunk: Chunk, position: int, attempt: Attempt) -> tuple[list[Event], list[Stretch]]:
    stretch, offset = chunk.at(position)
    one = stretch.part(offset, offset + 1)
    one.lost = (*one.lost, attempt)
    call, index = one.batch.call, one.index()
    if len(one.lost) < call.options.attempts:
        return [AttemptLost(call, index, attempt)], [one]
    outcome = Outcome(Ending.LOST, worker=attempt.worker, attempts=one.lost)
    return [Ended(call, index, outcome, outcome.error(f"{call.id} ({call.name})"))], []


def time_limit(chunk: Chunk) -> float | None:
    """The shortest time_limit of its tasks."""
    limits = [s.batch.call.options.time_limit for s in chunk.stretches if s.batch.call.options.time_limit is not None]
    return min(limits, default=None)


def overdue(worker: WorkerProcess) -> tuple[Chunk, int, float] | None:
    """The chunk in which an item exceeds its time limit, that item's position, and for how long it runs."""
    for chunk in worker.chunks[:1]:
        limit, running = time_limit(chunk), worker.position(chunk)
        if limit is not None and chunk.home <= running < chunk.limit:
            ran = worker.seconds_running()
            if ran > limit and worker.position(chunk) == running:
                return chunk, running, ran
    return None


def out_of_time(worker: WorkerProcess, chunk: Chunk, position: int, ran: float) -> tuple[Ended, list[Stretch]]:
    """How that item ends when its worker is ended for it; what had run before it and was not home goes once more."""
    stretch, offset = chunk.at(position)
    call, index = stretch.batch.call, stretch.index(offset)
    detail = f"ended after {ran:.2f} s, time_limit={call.options.time_limit}"
    outcome = Outcome(Ending.OUT_OF_TIME, detail=detail, worker=worker.name, seconds=ran)
    again = list(chunk.parts(chunk.home, position))
    chunk.home = position + 1
    return Ended(call, index, outcome, outcome.error(f"{call.id} ({call.name})")), again


def taken_back(worker: WorkerProcess, chunk: Chunk) -> list[Stretch]:
    """What the worker has not begun of the chunk, or half of it if it gets on well."""
    running = worker.position(chunk)
    left = chunk.limit - running - 1
    if left < 1 or time.monotonic() - chunk.sent < STEAL_AFTER:
        return []
    stuck = running >= 0 and worker.seconds_running() > STEAL_AFTER
    stop = running + 1 + (0 if stuck or running < 0 else left // 2)
    if stop >= chunk.limit:
        return []
    worker.stop_before(chunk, stop)
    time.sleep(BARRIER)
    if worker.position(chunk) >= stop:
        return []  # it went past meanwhile, will stop there and give back the rest by itself
    back = list(chunk.parts(stop, chunk.limit))
    chunk.limit = stop
    return back
