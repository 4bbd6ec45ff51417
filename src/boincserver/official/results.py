"""The copies of a job in an official project's tables, and their outputs in its upload hierarchy."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

from sqlalchemy import bindparam, select

from boincserver.database import Session
from boincserver.files import FileStore
from boincserver.official.ended import Instance
from boincserver.official.settings import Settings
from boincserver.official.tables import text
from boincserver.pipeline import output_digests
from boincserver.protocol import documents
from boincserver.protocol.request import plain_stderr
from boincserver.records import Copy
from boincserver.schema import result as table
from boincserver.states import Outcome, ServerState, ValidateState
from boincserver.validator import ResultFiles

__all__ = ["files_of", "instances"]

_DOCUMENTS: Final = ("name", "hostid", "xml_doc_in", "xml_doc_out", "stderr_out")
_COPIES: Final = (
    select(*(table.c[name] for name in (
        "id", "name", "server_state", "outcome", "validate_state", "hostid", "userid", "exit_status",
        "report_deadline", "stderr_out", "xml_doc_in", "elapsed_time", "cpu_time", "sent_time", "received_time",
    )))
    .where(table.c.workunitid == bindparam("wuid"))
    .order_by(table.c.id)
)  # fmt: skip
_MOST_BYTES: Final = 256 << 20
"""Of outputs of one job that are kept together; further ones are left out."""


def files_of(db: Session, settings: Settings, resultid: int) -> ResultFiles:
    """The outputs of a result; OSError where nobody can tell now, because the hierarchy is not there."""
    uploads = _uploads(settings)
    row = db.get(table, _DOCUMENTS, id=resultid)
    name, hostid, ordered, reported, stderr = row or ("", 0, "", "", "")
    digests = output_digests(text(reported))
    expected = documents.expected_outputs(text(ordered))
    return ResultFiles(
        name,
        {output.open_name: uploads.path(output.name) for output in expected},
        {output.open_name: digests.get(output.name, "") for output in expected},
        text(stderr),
        hostid,
        settings.directory,
    )


def instances(
    db: Session, settings: Settings, workunitid: int, *, with_outputs: Container[int] | None
) -> list[Instance]:
    """Every copy of a job; outputs of those results (None: of all that brought any)."""
    uploads = _uploads(settings)
    found: list[Instance] = []
    size = 0
    for number, *columns, stderr, ordered, elapsed, cpu, sent, received in db.all(_COPIES, wuid=workunitid):
        outputs: dict[str, bytes] = {}
        if columns[2] == Outcome.SUCCESS and (with_outputs is None or number in with_outputs) and size < _MOST_BYTES:
            outputs = _read(uploads, text(ordered))
            size += sum(map(len, outputs.values()))
        found.append(Instance(_copy(columns, text(stderr), outputs), elapsed, cpu, sent, received, number))
    return found


def _copy(columns: list[Any], stderr: str, outputs: dict[str, bytes]) -> Copy:
    name, state, outcome, validated, host, user, exit_status, deadline = columns
    return Copy(
        name, ServerState(state), Outcome(outcome), ValidateState(validated), host, user, exit_status, deadline,
        plain_stderr(stderr), outputs,
    )  # fmt: skip


def _uploads(settings: Settings) -> FileStore:
    settings.upload_dir.stat()  # a network file system that is away is no reason to call results bad
    return settings.uploads


def _read(uploads: FileStore, ordered: str) -> dict[str, bytes]:
    """The outputs that are there, by the names that programs know them by."""
    outputs = {}
    for output in documents.expected_outputs(ordered):
        try:
            outputs[output.open_name] = uploads.path(output.name).read_bytes()
        except FileNotFoundError:
            continue
    return outputs
