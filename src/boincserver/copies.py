"""Every copy of one job as it stands, with the outputs that are kept: what a submitter looks at when copies differ."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import bindparam, select

from boincserver.database import Session
from boincserver.framing import Blobs, pack
from boincserver.lifecycle import Result
from boincserver.pipeline import Pipeline
from boincserver.protocol.request import plain_stderr
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import Outcome

__all__ = ["copies"]

_COPIES: Final = (
    select(
        result_table.c.id,
        result_table.c.name,
        result_table.c.server_state,
        result_table.c.outcome,
        result_table.c.validate_state,
        result_table.c.hostid,
        result_table.c.userid,
        result_table.c.exit_status,
        result_table.c.report_deadline,
        result_table.c.stderr_out,
    )
    .join(workunit_table, workunit_table.c.id == result_table.c.workunitid)
    .where(workunit_table.c.name == bindparam("workunit_name"), workunit_table.c.batch == bindparam("batch"))
    .order_by(result_table.c.id)
)
_MOST_BYTES: Final = 32 << 20
"""Of outputs in one answer; further ones are left out."""


def copies(db: Session, pipeline: Pipeline, batch: int, name: str) -> bytes:
    """The answer to `Control.copies`."""
    blobs = Blobs()
    listed: list[Any] = []
    for number, *columns, stderr in db.all(_COPIES, workunit_name=name, batch=batch):
        outputs = {}
        if columns[2] == Outcome.SUCCESS and blobs.size <= _MOST_BYTES:
            files = pipeline.result_files(db, Result(number, columns[0]))
            here = {open_name: path for open_name, path in files.paths.items() if path.exists()}
            outputs = {open_name: blobs.add(path.read_bytes()) for open_name, path in here.items()}
        listed.append([*columns, plain_stderr(stderr or ""), outputs])
    return pack({"value": listed}, blobs)
