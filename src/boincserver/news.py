"""What changes with the jobs of a batch while somebody watches: where copies are, how far running programs say to be.

    copy sent, lost, reported ──> on_commit ──> Board of the batch ──> `changes` since a number, without a table read
    message of a running program ─────────────────^

All of it is in memory: after a restart of the server whoever watches begins with a new board.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from sqlalchemy import bindparam, select

from boincserver.database import Session
from boincserver.lifecycle import Job, is_over
from boincserver.records import Changes, JobState
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import ServerState

__all__ = ["PROGRESS", "Board", "News", "in_progress", "state_of"]

PROGRESS: Final = "boincserver.progress"
"""The variety, no application's own, of messages kept here alone, each until the next one of its copy."""
_MOST_TEXT: Final = 200
_IN_PROGRESS: Final = (
    select(workunit_table.c.name, result_table.c.hostid, result_table.c.report_deadline)
    .join(workunit_table, workunit_table.c.id == result_table.c.workunitid)
    .where(
        result_table.c.batch == bindparam("batch"),
        result_table.c.server_state == ServerState.IN_PROGRESS,
        workunit_table.c.error_mask == 0,
        workunit_table.c.canonical_resultid == 0,
    )
    .order_by(result_table.c.id)
)
_FORGOTTEN: Final = 600.0
"""Seconds without a question after which nobody watches any more."""


class Board:
    """The jobs of one batch that hosts have, each under the number of its last change, in that order."""

    def __init__(self, now: float) -> None:
        self.epoch = secrets.token_hex(8)
        self.seq = 0
        self.asked = now
        self._states: dict[str, tuple[int, JobState]] = {}

    def put(self, state: JobState) -> None:
        """This job is in another state now; one that no host has is told once and then forgotten."""
        was = self._states.pop(state.name, None)
        if state.state != "in progress" and was is None:
            return
        if was is not None and state.said == "" and state.hosts == was[1].hosts:
            state = replace(state, said=was[1].said)
        self.seq += 1
        self._states[state.name] = self.seq, state

    def fill(self, states: Iterable[JobState]) -> None:
        """What hosts had when the board began, as far as nothing newer is known."""
        for state in states:
            if state.name not in self._states:
                self.put(state)

    def drop(self, name: str) -> None:
        """The job is over: its outcome tells the rest."""
        self._states.pop(name, None)

    def said(self, name: str, hostid: int, text: str) -> None:
        """What a program says of a job that its host has; anything else is not believed."""
        was = self._states.get(name)
        if was is not None and hostid in was[1].hosts:
            self.put(replace(was[1], said=text[:_MOST_TEXT]))

    def held(self) -> list[JobState]:
        """Jobs that hosts have, as a look that changes nothing for whoever asks what changed."""
        return [state for _, state in self._states.values() if state.state == "in progress"]

    def since(self, after: int) -> list[JobState]:
        """Jobs that changed after this number."""
        changed = []
        for seq, state in reversed(self._states.values()):
            if seq <= after:
                break
            changed.append(state)
        for state in changed:
            if state.state != "in progress":
                del self._states[state.name]
        return changed[::-1]


class News:
    """The boards of all batches that are watched."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._boards: dict[int, Board] = {}

    def watches(self, batch: int) -> bool:
        """Whether anybody asks for what changes in this batch."""
        return batch in self._boards

    def board(self, batch: int, epoch: str) -> Board | None:
        """The batch's board, if there is one of this epoch."""
        now = self._clock()
        for number in [number for number, board in self._boards.items() if now - board.asked > _FORGOTTEN]:
            del self._boards[number]
        board = self._boards.get(batch)
        if board is None or board.epoch != epoch:
            return None
        board.asked = now
        return board

    def begin(self, batch: int) -> Board:
        """A new board, which changes are written on from now; `fill` it with what was before."""
        board = self._boards[batch] = Board(self._clock())
        return board

    async def changes(self, read: Callable[[], Session], batch: int, epoch: str, after: int) -> Changes:
        """What changed in a batch since a number of this epoch; with another epoch, all that hosts have."""
        board = self.board(batch, epoch)
        if board is None:
            board = self.begin(batch)
            board.fill(await asyncio.to_thread(lambda: in_progress(read(), batch)))
            after = 0
        return Changes(board.epoch, board.seq, tuple(board.since(after)))

    async def standing(self, read: Callable[[], Session], batch: int) -> list[JobState]:
        """The jobs of a batch that hosts have, and what their programs said last."""
        board = self._boards.get(batch)
        if board is None:
            board = self.begin(batch)
            board.fill(await asyncio.to_thread(lambda: in_progress(read(), batch)))
        board.asked = self._clock()
        return board.held()

    def changed(self, job: Job) -> None:
        """After an event of this job is durable."""
        board = self._boards.get(job.workunit.batch)
        if board is not None:
            if is_over(job.workunit):
                board.drop(job.workunit.name)
            else:
                board.put(state_of(job))

    def said(self, result_name: str, text: str, hostid: int) -> None:
        """A running program says how far it is."""
        said = text.rpartition("</variety>")[2].strip()
        for board in self._boards.values():
            board.said(result_name.rpartition("_")[0], hostid, said)


def in_progress(db: Session, batch: int) -> list[JobState]:
    """The jobs of a batch that hosts have."""
    states: dict[str, JobState] = {}
    for name, hostid, deadline in db.all(_IN_PROGRESS, batch=batch):
        was = states.get(name, JobState(name, "in progress"))
        states[name] = replace(was, hosts=(*was.hosts, hostid), deadline=max(was.deadline, deadline))
    return list(states.values())


def state_of(job: Job) -> JobState:
    """Where a job is, as its submitter is told."""
    out = [result for result in job.results if result.server_state == ServerState.IN_PROGRESS]
    state = "over" if is_over(job.workunit) else "in progress" if out else "unsent"
    hosts = tuple(result.hostid for result in out)
    return JobState(job.workunit.name, state, hosts, max((result.report_deadline for result in out), default=0))
