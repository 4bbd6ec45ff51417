"""Output files on their way to whoever submitted the job: `get_output.php` and `get_output2.php`."""

from __future__ import annotations

import hashlib
import hmac
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from boincserver.errors import SubmissionRefused
from boincserver.protocol import documents
from boincserver.schema import batch as batch_table
from boincserver.schema import result as result_table
from boincserver.schema import user as user_table
from boincserver.schema import workunit as workunit_table
from boincserver.service import Service
from boincserver.submission import batches

__all__ = ["Outputs", "output_paths"]


def output_paths(service: Service, result: int) -> list[Path]:
    """Where the outputs of a copy are or would be, in the order of its template."""
    return list(_named_paths(service, result).values())


def _named_paths(service: Service, result: int) -> dict[str, Path]:
    """By the names under which the program wrote them."""
    row = service.database.reader().get(result_table, ("xml_doc_in",), id=result)
    expected = documents.expected_outputs(row[0] or "") if row else ()
    return {output.open_name: service.uploads.store.path(output.name) for output in expected}


class Outputs:
    """Finds the file that a query asks for; SubmissionRefused says why there is none."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def find(self, query: Mapping[str, str]) -> tuple[str, Path | IO[bytes]]:
        """`get_output.php`: a name for the file, and the file or a new archive."""
        proof = query.get("auth_str", "")
        command = query.get("cmd", "")
        if command == "result_file":
            result = self._row(result_table, ("id", "name", "workunitid"), name=query.get("result_name", ""))
            self._authorise(result[2], proof, result[1])
            return self._one(result[0], query)
        if command == "workunit_file":
            workunit = self._row(workunit_table, ("id", "canonical_resultid"), name=query.get("wu_name", ""))
            self._authorise(workunit[0], proof, None)
            return self._one(_canonical(workunit[1]), query)
        if command == "workunit_files":
            workunit = self._row(workunit_table, ("id", "canonical_resultid"), id=_number(query, "wu_id"))
            self._authorise(workunit[0], proof, str(workunit[0]))
            return f"{workunit[0]}.zip", _archive(_named_paths(self._service, _canonical(workunit[1])).items())
        if command == "batch_files":
            number = self._batch_number(query)
            self._authorise_batch(number, proof, str(number))
            return f"batch_{number}.zip", _archive(self._of_batch(number))
        raise SubmissionRefused("bad command")

    def find2(self, query: Mapping[str, str]) -> tuple[str, Path | IO[bytes]]:
        """`get_output2.php`: the same for another form of query, with the key itself."""
        proof = query.get("auth", "")
        command = query.get("cmd", "")
        if command in ("result", "file"):
            result = self._row(result_table, ("id", "workunitid"), id=_number(query, "result_id"))
            self._authorise(result[1], proof, None)
            return self._one(result[0], query) if command == "file" else self._all(result[0])
        if command == "workunit":
            workunit = self._row(workunit_table, ("id", "canonical_resultid"), id=_number(query, "wu_id"))
            self._authorise(workunit[0], proof, None)
            return self._all(_canonical(workunit[1]))
        if command == "batch":
            number = _number(query, "batch_id")
            self._authorise_batch(number, proof, None)
            return f"batch_{number}.zip", _archive(self._of_batch(number))
        raise SubmissionRefused("bad command")

    def _row(self, table: Any, columns: tuple[str, ...], **equal: object) -> tuple[Any, ...]:
        row = self._service.database.reader().get(table, columns, **equal)
        if row is None:
            raise SubmissionRefused(f"no such {'job instance' if table is result_table else 'job'}")
        return row

    def _batch_number(self, query: Mapping[str, str]) -> int:
        if "batch_id" in query:
            return _number(query, "batch_id")
        row = self._service.database.reader().get(batch_table, ("id",), name=query.get("batch_name", ""))
        return int(row[0]) if row else 0

    def _authorise(self, workunit: int, proof: str, about: str | None) -> None:
        row = self._row(workunit_table, ("batch",), id=workunit)
        self._authorise_batch(row[0], proof, about)

    def _authorise_batch(self, number: int, proof: str, about: str | None) -> None:
        """The proof is the owner's key, or the MD5 of the key and of what is asked for."""
        db = self._service.database.reader()
        batch = db.get(batch_table, ("user_id",), id=number) if number else None
        user = db.get(user_table, ("authenticator",), id=batch[0]) if batch and batch[0] else None
        expected = user[0] if user else ""
        if expected and about is not None:
            expected = hashlib.md5((expected + about).encode()).hexdigest()
        if not expected or not hmac.compare_digest(expected.encode(), proof.encode()):
            raise SubmissionRefused("bad authenticator")

    def _one(self, result: int, query: Mapping[str, str]) -> tuple[str, Path]:
        number = _number(query, "file_num")
        found = list(_named_paths(self._service, result).items())
        if not 0 <= number < len(found):
            raise SubmissionRefused(f"bad file num: {number}; there are {len(found)}")
        return _existing(*found[number])

    def _all(self, result: int) -> tuple[str, Path | IO[bytes]]:
        found = _named_paths(self._service, result)
        return _existing(*next(iter(found.items()))) if len(found) == 1 else (f"{result}.zip", _archive(found.items()))

    def _of_batch(self, number: int) -> Iterator[tuple[str, Path]]:
        for job in batches.jobs_of(self._service.database.reader(), number):
            if job.canonical_resultid:
                for open_name, path in _named_paths(self._service, job.canonical_resultid).items():
                    yield f"{job.canonical_name}/{open_name}", path


def _canonical(result: int) -> int:
    if not result:
        raise SubmissionRefused("no canonical result for this job")
    return result


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "")
    if not text.isdecimal() or len(text) > 18:
        raise SubmissionRefused(f"{name} must be a number")
    return int(text)


def _existing(open_name: str, path: Path) -> tuple[str, Path]:
    if not path.is_file():
        raise SubmissionRefused(f"no such file: {open_name}; it is not there yet, or was let go")
    return open_name.rpartition("/")[2], path


def _archive(files: Any) -> IO[bytes]:
    """A zip of those of these files that are there, on disk: it may be large."""
    archive = tempfile.TemporaryFile()  # noqa: SIM115 - whoever sends it closes it
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as made:
        for name, path in files:
            if path.is_file():
                made.write(path, name)
    archive.seek(0)
    return archive
