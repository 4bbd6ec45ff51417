"""How jobs become rows: what neighbours have in common is worked out once, what is each one's own for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from boincserver import jobs
from boincserver.database import insert_into
from boincserver.downloads import Downloads
from boincserver.feeder import Entry
from boincserver.files import Stored, describe
from boincserver.jobs import Outputs
from boincserver.protocol import documents
from boincserver.protocol.documents import FileInfo, FileRef, OutputSpec
from boincserver.records import Job
from boincserver.schema import boincserver_file_use as use_table
from boincserver.schema import result as result_table
from boincserver.schema import workunit as workunit_table
from boincserver.states import NEVER
from boincserver.writer import Transaction

__all__ = ["create"]


def create(
    tx: Transaction,
    wanted: Sequence[Job],
    batch: int,
    apps: Mapping[str, int],
    first_copy: int,
    outputs: Outputs,
    downloads: Downloads,
    now: int,
) -> list[Entry]:
    """Make workunits, and first copies, of the jobs whose names are new; returns one entry for each copy.

    `apps` has the numbers of the jobs' applications by name; `first_copy` is the number of a job's first copy.
    """
    new = _with_new_names(tx, wanted)
    inputs = _Inputs(tx, downloads, now)
    workunits: list[dict[str, Any]] = []
    uses: list[set[str]] = []
    for _, alike in groupby(new, key=Job.alike):
        some = list(alike)
        common = _common_columns(some[0], apps[some[0].app], batch, outputs.add(_template(some[0])), now)
        for job, (names, document) in zip(some, inputs.documents(some), strict=True):
            workunits.append({**common, "name": job.name, "xml_doc": document})
            uses.append(names)
    tx.db.insert_named(workunit_table, workunits)
    copies = [
        jobs.new_result(
            name := f"{row['name']}_{first_copy + n}", row["id"], row["appid"], batch, row["priority"],
            outputs.document(row["result_template_file"], name), now,
        )
        for row in workunits
        for n in range(row["target_nresults"])
    ]  # fmt: skip
    tx.db.insert_named(result_table, copies)
    used = [
        {"workunitid": row["id"], "name": name} for row, names in zip(workunits, uses, strict=True) for name in names
    ]
    if used:
        tx.db.many(insert_into(use_table, "workunitid", "name"), used)
    return list(_entries(workunits, copies))


def _with_new_names(tx: Transaction, wanted: Sequence[Job]) -> list[Job]:
    seen = tx.db.ids_of(workunit_table, [job.name for job in wanted])
    new = []
    for job in wanted:
        if job.name not in seen:
            seen[job.name] = 0
            new.append(job)
    return new


def _entries(workunits: list[dict[str, Any]], copies: list[dict[str, Any]]) -> Iterator[Entry]:
    remaining = iter(copies)
    for row in workunits:
        for _, copy in zip(range(row["target_nresults"]), remaining):
            yield Entry(
                copy["id"], copy["name"], row["id"], row["appid"], row["priority"], row["rsc_fpops_est"],
                row["rsc_memory_bound"], row["rsc_disk_bound"], row["delay_bound"],
            )  # fmt: skip


@dataclass
class _Inputs:
    """The inputs of jobs, kept in the store and written down as used."""

    tx: Transaction
    downloads: Downloads
    now: int
    _known: dict[str, Stored] = field(default_factory=dict)

    def documents(self, alike: Sequence[Job]) -> Iterator[tuple[set[str], str]]:
        """For each of these jobs the physical names of its inputs, and the document that tells clients of them."""
        previous: Job | None = None
        found: tuple[set[str], str] = (set(), "")
        for job in alike:
            # Jobs of a batch often differ in nothing but their names.
            if previous is None or job.inputs != previous.inputs:
                previous = job
                stored = {open_name: self._stored(content) for open_name, content in job.inputs.items()}
                found = {file.name for file in stored.values()}, self._document(job, stored)
            yield found

    def _stored(self, content: bytes | str) -> Stored:
        if isinstance(content, str):
            if content not in self._known:
                self._known[content] = self.downloads.find(self.tx.db, content)
            return self._known[content]
        stored = describe(content)
        if stored.name not in self._known:
            # Written down first: from then on nobody deletes it.
            self.downloads.record(self.tx, [(stored, False)], self.now)
            self._known[stored.name] = stored
            self.tx.sync.append(self.downloads.store.put(content, stored))
        return stored

    def _document(self, job: Job, inputs: Mapping[str, Stored]) -> str:
        files = [
            # What was put beforehand is there for many jobs; hosts keep it until the project has it no more.
            FileInfo(
                stored.name, self.downloads.url(stored.name), stored.md5, stored.nbytes,
                sticky=isinstance(job.inputs[open_name], str),
            )
            for open_name, stored in inputs.items()
        ]  # fmt: skip
        refs = [
            FileRef(stored.name, open_name, copy=_is_copied(job, open_name)) for open_name, stored in inputs.items()
        ]
        return documents.workunit_document(files, refs, job.command_line)


def _is_copied(job: Job, open_name: str) -> bool:
    return job.copy_files if isinstance(job.copy_files, bool) else open_name in job.copy_files


def _template(job: Job) -> str:
    return documents.output_template(
        [
            OutputSpec(open_name, size, _is_copied(job, open_name), open_name in job.optional)
            for open_name, size in job.outputs.items()
        ]
    )


def _common_columns(job: Job, appid: int, batch: int, template: str, now: int) -> dict[str, Any]:
    return {
        "create_time": now,
        "appid": appid,
        "batch": batch,
        "rsc_fpops_est": job.rsc_fpops_est,
        "rsc_fpops_bound": job.rsc_fpops_bound,
        "rsc_memory_bound": job.rsc_memory_bound,
        "rsc_disk_bound": job.rsc_disk_bound,
        "delay_bound": int(job.delay_bound),
        "min_quorum": job.min_quorum,
        "target_nresults": job.target_nresults or job.min_quorum,
        "max_error_results": job.max_error_results,
        "max_total_results": job.max_total_results,
        "max_success_results": job.max_success_results,
        "result_template_file": template,
        "priority": job.priority,
        # Nothing is due before a copy is sent.
        "transition_time": NEVER,
    }
