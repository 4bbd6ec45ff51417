"""The calls of remote job submission, one method for each."""

from __future__ import annotations

import hashlib
import os
import secrets
import ssl
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from boincserver.errors import ControlError, SubmissionRefused
from boincserver.protocol.submission import xml_text
from boincserver.protocol.text import element
from boincserver.records import Changes, HostInfo
from boincserver.remote import told
from boincserver.remote.replies import parse_reply
from boincserver.remote.told import BatchStatus, CompletedJob, Instance
from boincserver.remote.transport import Body, Transport

__all__ = ["Inline", "RemoteJob", "RemoteServer"]

_CALLS: Final = "submit_rpc_handler.php"
_FILES: Final = "job_file.php"
_PIECE: Final = 1 << 18
MOST_FILES: Final = 20
"""Files in one upload: what PHP takes unless it is told otherwise."""
PART: Final = 8 << 20
"""Bytes of a large file that go in one call."""
MOST_BYTES: Final = 32 << 20
"""Bytes in one upload of several files."""
_ASKED_AT_ONCE: Final = 1000
_KEPT: Final = 7 * 86400.0

Source = bytes | str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Inline:
    """The content of a small text file that travels with its job."""

    text: str


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """A job. Its inputs are names of files on the server, or texts; templates are XML in the official form."""

    name: str
    inputs: Sequence[str | Inline] = ()
    command_line: str = ""
    input_template: str = ""
    output_template: str = ""
    rsc_fpops_est: float = 0.0
    priority: int | None = None


class RemoteServer:
    """A project over HTTP, for the account with this key; usable from any number of threads."""

    def __init__(
        self, url: str, authenticator: str, *, patience: float = 20.0, context: ssl.SSLContext | None = None
    ) -> None:
        self._transport = Transport(url, patience=patience, context=context)
        self._key = authenticator
        self.url = self._transport.url

    def __repr__(self) -> str:
        return f"RemoteServer({self.url!r})"

    def close(self) -> None:
        """Close what is open."""
        self._transport.close()

    # --- batches ----------------------------------------------------------------------------------------------------

    def ping(self) -> str:
        """Who answers: "boincserver", or "" for an official server. Needs no account."""
        return told.text_of(self._call("ping", "", again=True), "software")

    def create_batch(self, app: str, name: str = "", *, expire_time: float = 0) -> int:
        """A batch without jobs; 0: it never expires. Returns its number."""
        body = element("app_name", app) + element("batch_name", name) + element("expire_time", int(expire_time))
        return self._number(self._call("create_batch", body, again=False), "batch_id")

    def submit_batch(self, app: str, jobs: Iterable[RemoteJob], batch: int | str = 0) -> int:
        """Jobs for a batch that was created, or (a name) for a new one. Returns the batch's number."""
        where = element("batch_name", batch) if isinstance(batch, str) else element("batch_id", batch)
        body = f"<batch>\n{element('app_name', app)}{where}{''.join(map(_job_text, jobs))}</batch>\n"
        return self._number(self._call("submit_batch", body, again=False), "batch_id")

    def estimate_batch(self, app: str, fpops: Iterable[float]) -> float:
        """About how many seconds the volunteers need for jobs of so many operations."""
        jobs = "".join(f"<job>{element('rsc_fpops_est', f'{each:.15g}')}</job>\n" for each in fpops)
        reply = self._call("estimate_batch", f"<batch>\n{element('app_name', app)}{jobs}</batch>\n", again=True)
        return told.number_of(reply, "seconds")

    def query_batch(self, batch: int | str, *, details: bool = False, cpu_time: bool = False) -> BatchStatus:
        """A batch by its number or name, with its jobs."""
        flags = element("get_cpu_time", int(cpu_time)) + element("get_job_details", int(details))
        return told.batch_of(self._call("query_batch", _named(batch) + flags, again=True))

    def query_batches(self, *, cpu_time: bool = False) -> list[BatchStatus]:
        """Every batch of the account, without jobs."""
        reply = self._call("query_batches", element("get_cpu_time", int(cpu_time)), again=True)
        return [told.batch_of(batch) for batch in reply.iter("batch")]

    def query_job(self, job: int) -> list[Instance]:
        """The copies of a job."""
        reply = self._call("query_job", element("job_id", job), again=True)
        return [told.instance_of(instance) for instance in reply.iter("instance")]

    def query_completed_job(self, name: str) -> CompletedJob:
        """How a job ended."""
        reply = self._call("query_completed_job", element("job_name", name), again=True)
        return told.completed_of(next(reply.iter("completed_job"), reply))

    def abort_batch(self, batch: int | str) -> None:
        """End what is not over, on hosts too."""
        self._call("abort_batch", _named(batch), again=True)

    def retire_batch(self, batch: int | str) -> None:
        """The batch is not asked for any more; its files may go."""
        self._call("retire_batch", _named(batch), again=True)

    def abort_jobs(self, names: Iterable[str]) -> None:
        """End these jobs, on hosts too."""
        self._call("abort_jobs", "".join(element("job_name", name) for name in names), again=True)

    def hurry_jobs(self, names: Iterable[str]) -> None:
        """One more copy of each of these jobs; SubmissionRefused by servers of another kind."""
        self._call("hurry_jobs", "".join(element("job_name", name) for name in names), again=True)

    def set_expire_time(self, batch: int | str, expire_time: float) -> None:
        """When the batch is to be ended; 0: never."""
        self._call("set_expire_time", _named(batch) + element("expire_time", int(expire_time)), again=True)

    def query_changes(self, batch: int, epoch: str = "", after: int = 0) -> Changes:
        """Which jobs changed since a number of an epoch; SubmissionRefused by servers of another kind."""
        body = _named(batch) + element("epoch", epoch) + element("after", after)
        reply = self._call("query_changes", body, again=True)
        jobs = tuple(map(told.change_of, reply.findall("job")))
        return Changes(told.text_of(reply, "epoch"), int(told.number_of(reply, "seq")), jobs)

    def query_hosts(self) -> tuple[list[HostInfo], bool]:
        """The volunteers' computers, and whether copies go to different users; SubmissionRefused by other servers."""
        reply = self._call("query_hosts", "", again=True)
        by_user = told.text_of(reply, "one_result_per_user") != "0"
        return [told.host_of(host) for host in reply.findall("host")], by_user

    def master_url(self) -> str:
        """The address by which volunteers know the project, which need not be the one that is asked here."""
        answer = self._transport.request("GET", "get_project_config.php", again=True)
        reply = parse_reply("project_config", answer.body, f"{self.url}get_project_config.php")
        return told.text_of(reply, "master_url") or self.url

    def job_counts(self) -> dict[str, int]:
        """How many jobs are where, in the whole project."""
        answer = self._transport.request("GET", "server_status.php?counts=1", again=True)
        reply = parse_reply("job_counts", answer.body, f"{self.url}server_status.php")
        return {child.tag: int(told.number_of(reply, child.tag)) for child in reply if child.tag.islower()}

    # --- files ------------------------------------------------------------------------------------------------------

    def absent_files(self, names: Sequence[str], batch: int = 0) -> list[str]:
        """Those of these files that are not on the server; the others belong to the batch from now on."""
        absent = []
        for start in range(0, len(names), _ASKED_AT_ONCE):
            part = names[start : start + _ASKED_AT_ONCE]
            reply = self._call("query_files", self._files_text(part, batch), again=True, page=_FILES)
            places = next(reply.iter("absent_files"), None)
            if places is None:
                raise ControlError(f"{self.url} does not tell which files it has")
            absent += [part[int(place.text or 0)] for place in places.findall("file")]
        return absent

    def put_files(self, sources: Sequence[Source], batch: int = 0) -> list[str]:
        """Have these files on the server, named by their content; only absent ones are sent. Returns their names."""
        named = {name_of(source): source for source in dict.fromkeys(sources)}
        absent = self.absent_files(list(named), batch)
        whole = [
            name for name in absent if _size(named[name]) <= PART or not self._sent_in_parts(name, named[name], batch)
        ]
        for portion in _portions([(name, named[name]) for name in whole]):
            self._upload(portion, batch)
        names = {source: name for name, source in named.items()}
        return [names[source] if source in names else name_of(source) for source in sources]

    def _sent_in_parts(self, name: str, source: Source, batch: int) -> bool:
        """A large file goes on where it broke off; false where the server takes files as a whole alone."""
        try:
            reply = self._call("query_part", element("phys_name", name), again=True, page=_FILES)
        except SubmissionRefused as error:
            if "no such action" in str(error):
                return False
            raise
        total = _size(source)
        here = int(told.number_of(reply, "size"))
        while here < total:
            about = element("phys_name", name) + element("nbytes", total) + element("offset", here)
            kept = element("batch_id", batch) + element("delete_time", int(time.time() + _KEPT))
            form = _Form(self._request_text("upload_part", about + kept), [(name, _piece(source, here))])
            reply = self._post("upload_part", _FILES, form.pieces, form.headers, again=True)
            before, here = here, int(told.number_of(reply, "size"))
            if here == before:
                raise ControlError(f"{self.url} takes no more of {name} than {here} of {total} bytes")
        return True

    def _upload(self, files: Sequence[tuple[str, Source]], batch: int) -> None:
        try:
            self._send(files, batch)
        except SubmissionRefused:
            # Somebody else brought one of them meanwhile, or an earlier try did and its answer was lost.
            absent = set(self.absent_files([name for name, _ in files], batch))
            left = [(name, source) for name, source in files if name in absent]
            if len(left) == len(files):
                raise
            if left:
                self._send(left, batch)

    def _send(self, files: Sequence[tuple[str, Source]], batch: int) -> None:
        text = self._request_text("upload_files", self._files_text([name for name, _ in files], batch))
        form = _Form(text, files)
        self._post("upload_files", _FILES, form.pieces, form.headers, again=True)

    def _files_text(self, names: Sequence[str], batch: int) -> str:
        kept = element("batch_id", batch) + element("delete_time", int(time.time() + _KEPT))
        return kept + "".join(element("phys_name", name) for name in names)

    def output(self, instance: str, number: int = 0) -> bytes:
        """An output file of a copy, by the copy's name; SubmissionRefused says why there is none."""
        proof = hashlib.md5((self._key + instance).encode()).hexdigest()
        query = {"cmd": "result_file", "result_name": instance, "file_num": number, "auth_str": proof}
        return self._download(query)

    def batch_archive(self, batch: int) -> bytes:
        """A zip of the outputs of a batch that were kept."""
        proof = hashlib.md5((self._key + str(batch)).encode()).hexdigest()
        return self._download({"cmd": "batch_files", "batch_id": batch, "auth_str": proof})

    def _download(self, query: dict[str, object]) -> bytes:
        answer = self._transport.request("GET", f"get_output.php?{urlencode(query)}", again=True)
        # A file comes as an attachment; anything else is the server's own words.
        if "content-disposition" in answer.headers:
            return answer.body
        said = answer.body[:300].decode("utf-8", "replace").strip()
        raise SubmissionRefused(f"{self.url}: {said.removeprefix('ERROR:').strip()}")

    # --- the wire ---------------------------------------------------------------------------------------------------

    def _request_text(self, name: str, body: str) -> str:
        return f"<{name}>\n{element('authenticator', self._key)}{body}</{name}>\n"

    def _call(self, name: str, body: str, *, again: bool, page: str = _CALLS) -> ET.Element:
        form = urlencode({"request": self._request_text(name, xml_text(body))}).encode()
        return self._post(name, page, form, {"Content-Type": "application/x-www-form-urlencoded"}, again=again)

    def _post(self, name: str, page: str, body: Body, headers: dict[str, str], *, again: bool) -> ET.Element:
        answer = self._transport.request("POST", page, body, headers, again=again)
        return parse_reply(name, answer.body, f"{self.url}{page}")

    def _number(self, reply: ET.Element, name: str) -> int:
        number = int(told.number_of(reply, name))
        if not number:
            raise ControlError(f"{self.url} did not answer the call {reply.tag} with a number")
        return number


def _named(batch: int | str) -> str:
    return element("batch_name", batch) if isinstance(batch, str) else element("batch_id", batch)


def _job_text(job: RemoteJob) -> str:
    inputs = "".join(
        f"<input_file>\n{element('mode', 'inline' if isinstance(each, Inline) else 'local_staged')}"
        f"{element('source', each.text if isinstance(each, Inline) else each)}</input_file>\n"
        for each in job.inputs
    )
    more = element("command_line", job.command_line) if job.command_line else ""
    more += element("rsc_fpops_est", f"{job.rsc_fpops_est:.15g}") if job.rsc_fpops_est else ""
    more += element("priority", job.priority) if job.priority is not None else ""
    return f"<job>\n{element('name', job.name)}{more}{job.input_template}{job.output_template}{inputs}</job>\n"


def name_of(source: Source) -> str:
    """The name of a file on servers: by convention, from its MD5."""
    if isinstance(source, bytes):
        return f"jf_{hashlib.md5(source).hexdigest()}"
    with Path(source).expanduser().open("rb") as file:
        return f"jf_{hashlib.file_digest(file, 'md5').hexdigest()}"


def _piece(source: Source, start: int) -> bytes:
    if isinstance(source, bytes):
        return source[start : start + PART]
    with Path(source).expanduser().open("rb") as file:
        file.seek(start)
        return file.read(PART)


def _size(source: Source) -> int:
    return len(source) if isinstance(source, bytes) else Path(source).expanduser().stat().st_size


def _portions(files: Sequence[tuple[str, Source]]) -> Iterator[list[tuple[str, Source]]]:
    """What goes in one upload each."""
    portion: list[tuple[str, Source]] = []
    size = 0
    for name, source in files:
        more = _size(source)
        if portion and (len(portion) == MOST_FILES or size + more > MOST_BYTES):
            yield portion
            portion, size = [], 0
        portion.append((name, source))
        size += more
    if portion:
        yield portion


class _Form:
    """A multipart form: the request, then files, read in pieces whenever they are to be sent."""

    def __init__(self, request: str, files: Sequence[tuple[str, Source]]) -> None:
        boundary = secrets.token_hex(16)
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="request"\r\n\r\n{request}\r\n'
        self._head = head.encode()
        self._files = [(_file_head(boundary, number, name), source) for number, (name, source) in enumerate(files)]
        self._end = f"--{boundary}--\r\n".encode()
        size = len(self._head) + len(self._end)
        size += sum(len(part) + _size(source) + 2 for part, source in self._files)
        self.headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(size)}

    def pieces(self) -> Iterator[bytes]:
        """The body."""
        yield self._head
        for head, source in self._files:
            yield head
            if isinstance(source, bytes):
                yield source
            else:
                with Path(source).expanduser().open("rb") as file:
                    while piece := file.read(_PIECE):
                        yield piece
            yield b"\r\n"
        yield self._end


def _file_head(boundary: str, number: int, name: str) -> bytes:
    disposition = f'Content-Disposition: form-data; name="file_{number}"; filename="{name}"'
    return f"--{boundary}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
