"""New jobs in an official project: inputs into its download hierarchy, rows into its table of workunits.

The project's own transitioner makes the copies, names and signs their outputs, and gives up what is past its deadline.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import bindparam, update

from boincserver import durable
from boincserver.errors import BoincServerError, UnknownApp
from boincserver.files import Stored, digest_file
from boincserver.official.batches import Batches
from boincserver.official.tables import Tables
from boincserver.protocol import documents
from boincserver.protocol.documents import FileInfo, FileRef, OutputSpec
from boincserver.records import Job
from boincserver.schema import app as app_table
from boincserver.schema import batch as batch_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import BatchState

__all__ = ["Creation"]

_KEPT_BY_HOSTS: Final = 14 * 86400
"""Seconds after its last use for which a host keeps a file that many jobs share."""
_LONGEST_DOCUMENT: Final = 65535
_LONGEST_NAME: Final = 150
"""Of a workunit; the official columns have room for 191, and copies and outputs are named after it."""
_MORE_JOBS: Final = (
    update(batch_table)
    .where(batch_table.c.id == bindparam("batch_id"))
    .values(njobs=batch_table.c.njobs + bindparam("more"), state=int(BatchState.IN_PROGRESS))
)
_CHUNK: Final = 1 << 20


class Creation:
    """Puts files and makes workunits; usable from any number of threads."""

    def __init__(self, tables: Tables, batches: Batches) -> None:
        self._tables, self._batches = tables, batches
        settings = tables.settings
        self._settings = settings
        self._downloads = settings.downloads
        self._templates = settings.directory / "templates"
        self._shared: dict[str, Stored] = {}

    # --- files ------------------------------------------------------------------------------------------------------

    def put(self, source: str | os.PathLike[str] | bytes) -> str:
        """Keep a file that jobs share, unless it is there; its name holds the digest of its content."""
        digest = (
            hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else digest_file(Path(source), "sha256")
        )
        name = digest[:40]
        # Said first: from then on nobody deletes it.
        with self._batches.locked():
            self._batches.share(name)
        if not self._downloads.path(name).exists():
            with self._downloads.incoming() as incoming:
                if isinstance(source, bytes):
                    incoming.write(source)
                else:
                    with Path(source).open("rb") as file:
                        while piece := file.read(_CHUNK):
                            incoming.write(piece)
                incoming.finish(name)
        return name

    def _stored(self, name: str) -> Stored:
        path = self._downloads.path(name)
        if not path.is_file():
            raise BoincServerError(f"there is no file {name!r} in {self._settings.download_dir} any more; put it again")
        if name not in self._shared:
            self._shared[name] = Stored(name, path.stat().st_size, digest_file(path, "md5"))
        return self._shared[name]

    # --- jobs -------------------------------------------------------------------------------------------------------

    def create(self, batch: int, app: int, wanted: Sequence[Job], now: int) -> int:
        """Create those of these jobs whose names are new, in one transaction; returns how many."""
        there = self._tables.reader().ids_of(workunit_table, [job.name for job in wanted])
        new = [job for job in wanted if job.name not in there]
        if not new:
            return 0
        apps = {name: self.app(name) if name else app for name in {job.app for job in new}}
        with self._batches.locked():
            shared = {content for job in new for content in job.inputs.values() if isinstance(content, str)}
            for name in shared:
                self._stored(name)
            self._batches.use(batch, shared)
        written: list[Path] = []
        rows = [self._row(job, apps[job.app], batch, written, now) for job in new]
        durable.sync(written)
        with self._tables.transaction() as db:
            self._tables.insert(db, "workunit", rows)
            db.run(_MORE_JOBS, batch_id=batch, more=len(rows))
        return len(rows)

    def app(self, name: str) -> int:
        """The number of an application."""
        row = self._tables.reader().get(app_table, ("id",), name=name)
        if row is None:
            raise UnknownApp(
                f"{self._settings.directory} has no application {name!r}; for one of its project.xml say bin/xadd there"
            )
        return int(row[0])

    def _row(self, job: Job, app: int, batch: int, written: list[Path], now: int) -> dict[str, Any]:
        if len(job.name) > _LONGEST_NAME:
            raise BoincServerError(f"{job.name} is too long to name a job: {_LONGEST_NAME} characters at most")
        document = self._document(job, written)
        if len(document.encode()) > _LONGEST_DOCUMENT:
            raise BoincServerError(f"{job.name} has too many input files: {len(job.inputs)}")
        return {
            "create_time": now, "appid": app, "name": job.name, "xml_doc": document, "batch": batch,
            "rsc_fpops_est": job.rsc_fpops_est, "rsc_fpops_bound": job.rsc_fpops_bound,
            "rsc_memory_bound": job.rsc_memory_bound, "rsc_disk_bound": job.rsc_disk_bound,
            "delay_bound": math.ceil(job.delay_bound), "min_quorum": job.min_quorum,
            "target_nresults": job.target_nresults or job.min_quorum, "max_error_results": job.max_error_results,
            "max_total_results": job.max_total_results, "max_success_results": job.max_success_results,
            "result_template_file": self._template(job, written), "priority": job.priority,
            "transition_time": now,  # at once: it has no copies yet
        }  # fmt: skip

    def _document(self, job: Job, written: list[Path]) -> str:
        infos, refs = [], []
        for open_name, content in job.inputs.items():
            info = self._own(job, content, written) if isinstance(content, bytes) else self._info(self._stored(content))
            infos.append(info)
            refs.append(FileRef(info.name, open_name, copy=_is_copied(job, open_name)))
        return documents.workunit_document(infos, refs, job.command_line)

    def _own(self, job: Job, content: bytes, written: list[Path]) -> FileInfo:
        """A file of this job alone, which the project's file deleter removes with it."""
        digest = hashlib.sha256(job.name.encode() + b"\0" + content).hexdigest()
        stored = Stored(digest[:40], len(content), hashlib.md5(content).hexdigest())
        written.append(self._downloads.put(content, stored))
        return replace(self._info(stored), sticky=False, sticky_seconds=0, keep=False)

    def _info(self, stored: Stored) -> FileInfo:
        url = f"{self._settings.download_url}/{self._downloads.within(stored.name)}"
        return FileInfo(
            stored.name, url, stored.md5, stored.nbytes, sticky=True, sticky_seconds=_KEPT_BY_HOSTS, keep=True
        )

    def _template(self, job: Job, written: list[Path]) -> str:
        """The file in which the transitioner finds what outputs a copy has."""
        specs = [
            OutputSpec(name, size, _is_copied(job, name), name in job.optional) for name, size in job.outputs.items()
        ]
        content = documents.output_template(specs)
        path = self._templates / f"boincserver_{hashlib.sha256(content.encode()).hexdigest()[:32]}.xml"
        if not path.exists():
            self._templates.mkdir(exist_ok=True)
            durable.write_new(path, content.encode(), 0o664)
            written.append(path)
        return f"{self._templates.name}/{path.name}"


def _is_copied(job: Job, open_name: str) -> bool:
    return job.copy_files if isinstance(job.copy_files, bool) else open_name in job.copy_files
