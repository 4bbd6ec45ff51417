"""Assimilation in an official project: how a job ended is filed for its submitter, then its rows and files may go.

Only jobs of batches that were created by `OfficialProject` are taken; those that came by the project's own remote
submission stay as they are, for whoever submitted them fetches their outputs by himself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import bindparam, select, update

from boincserver import durable
from boincserver.database import Row
from boincserver.official.batches import Batches
from boincserver.official.ended import Ended
from boincserver.official.progress import take_progress
from boincserver.official.results import instances
from boincserver.official.sweeping import Sweep
from boincserver.official.tables import Tables
from boincserver.schema import app as app_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import AssimilateState, ErrorMask

__all__ = ["Assimilation"]

log = logging.getLogger(__name__)

_AT_ONCE: Final = 200
_TO_DO: Final = (
    select(*(workunit_table.c[name] for name in ("id", "name", "batch", "error_mask", "canonical_resultid")))
    .where(
        workunit_table.c.appid == bindparam("app"),
        workunit_table.c.assimilate_state == int(AssimilateState.READY),
        workunit_table.c.id > bindparam("beyond"),
    )
    .order_by(workunit_table.c.id)
    .limit(_AT_ONCE)
)
_DONE: Final = (
    update(workunit_table)
    .where(
        workunit_table.c.id == bindparam("wuid"), workunit_table.c.assimilate_state == int(AssimilateState.READY)
    )
    .values(
        assimilate_state=int(AssimilateState.DONE), error_mask=bindparam("errors"), transition_time=bindparam("now")
    )
)  # fmt: skip


@dataclass
class Assimilation:
    """One pass after the other over the jobs of these applications."""

    tables: Tables
    batches: Batches
    apps: Sequence[str]
    sweep: Sweep = field(init=False)

    def __post_init__(self) -> None:
        self.sweep = Sweep(self.tables, self.batches)

    def one_pass(self, stops: Callable[[], bool] = lambda: False) -> int:
        """File what is ready now; returns how many workunits were."""
        done = 0
        for name in self.apps:
            with self.tables.asked():
                row = self.tables.reader().get(app_table, ("id",), name=name)
                if row is None:
                    log.error("there is no application %s yet", name)
                    continue
                beyond = 0
                while not stops() and (found := self.tables.reader().all(_TO_DO, app=row[0], beyond=beyond)):
                    known = self.batches.known()
                    done += self._file([each for each in found if each[2] in known])
                    beyond = found[-1][0]
        with self.tables.asked():
            done += take_progress(self.tables, self.batches)
            self.sweep.now_and_then()
        return done

    def _file(self, rows: Sequence[Row]) -> int:
        filed: list[tuple[int, int]] = []
        paths: list[Path] = []
        for number, name, batch, errors, canonical in rows:
            try:
                ended = self._ended(number, name, errors, canonical)
                paths.append(self.batches.file(batch, name, ended.packed()))
            except OSError as error:
                log.error("%s cannot be filed now, and will be tried again: %s", name, error)
                continue
            filed.append((number, int(ended.error_mask)))
            log.info("%s: filed, %s", name, ended.error_mask.name if ended.error_mask else f"result {ended.canonical}")
        durable.sync(paths)
        if filed:
            with self.tables.transaction() as db:
                db.many(
                    _DONE, [{"wuid": number, "errors": errors, "now": int(time.time())} for number, errors in filed]
                )
        return len(filed)

    def _ended(self, number: int, name: str, errors: int, canonical: int) -> Ended:
        """The job with its canonical output; without one, with all that came, for they may agree in part."""
        wanted = {canonical} if canonical and not errors else None
        found = instances(self.tables.reader(), self.tables.settings, number, with_outputs=wanted)
        mask = ErrorMask(errors & 63)
        chosen = next((one.copy.result_name for one in found if one.id == canonical), "")
        if not chosen and not mask:
            mask = ErrorMask.NO_CANONICAL_RESULT
        return Ended(name, mask, chosen if not mask else "", tuple(found))
