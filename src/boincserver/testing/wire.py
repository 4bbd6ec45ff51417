"""The client's side of the wire protocol: what a simulated volunteer says and understands."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape

from boincserver.protocol.text import element, fields, number, section, sections

__all__ = ["Finished", "Reply", "RequestParts", "format_request", "format_upload", "parse_reply"]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that a reply describes."""

    name: str
    urls: tuple[str, ...]
    md5: str
    nbytes: int
    max_nbytes: int
    executable: bool
    signature: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A file under a program's name for it."""

    file: RemoteFile
    open_name: str
    main_program: bool
    copy: bool


@dataclass(frozen=True, slots=True)
class Assignment:
    """A copy of a job as the reply describes it."""

    name: str
    workunit: str
    app: str
    command_line: str
    report_deadline: int
    inputs: tuple[Reference, ...]
    outputs: tuple[Reference, ...]
    program: tuple[Reference, ...]
    fpops_est: float
    memory_bound: float = 0.0
    disk_bound: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client reads from a scheduler's reply."""

    hostid: int
    userid: int
    acknowledged: tuple[str, ...]
    aborted: tuple[str, ...]
    assignments: tuple[Assignment, ...]
    messages: tuple[str, ...]
    code_sign_key: str
    request_delay: float
    next_rpc_delay: float
    trickles_received: bool


def parse_reply(body: bytes) -> Reply:
    """Read a reply; ValueError if it is none."""
    text = body.decode("utf-8")
    if "<scheduler_reply>" not in text or "</scheduler_reply>" not in text:
        raise ValueError(f"not a scheduler's reply: {text[:200]!r}")
    files = {file.name: file for file in map(_remote_file, sections(text, "file_info"))}
    programs = {
        fields(version).get("app_name", ""): _references(version, files) for version in sections(text, "app_version")
    }
    workunits = {fields(workunit)["name"]: workunit for workunit in sections(text, "workunit")}
    head = fields(text)
    return Reply(
        hostid=int(number(head.get("hostid"))),
        userid=int(number(head.get("userid"))),
        acknowledged=_named(text, "result_ack"),
        aborted=_named(text, "result_abort") + _named(text, "result_abort_if_not_started"),
        assignments=tuple(_assignment(item, workunits, programs, files) for item in sections(text, "result")),
        messages=tuple(unescape(line) for line in _messages(text)),
        code_sign_key=(section(text, "code_sign_key") or "").strip(),
        request_delay=number(head.get("request_delay")),
        next_rpc_delay=number(head.get("next_rpc_delay")),
        trickles_received="message_ack" in head,
    )


def _named(text: str, tag: str) -> tuple[str, ...]:
    return tuple(fields(item)["name"] for item in sections(text, tag))


def _messages(text: str) -> list[str]:
    found = []
    for part in text.split("<message ")[1:]:
        found.append(part.partition(">")[2].partition("</message>")[0])
    return found


def _remote_file(text: str) -> RemoteFile:
    found = fields(text)
    return RemoteFile(
        name=found["name"],
        urls=tuple(unescape(url) for url in sections(text, "url")),
        md5=found.get("md5_cksum", ""),
        nbytes=int(number(found.get("nbytes"))),
        max_nbytes=int(number(found.get("max_nbytes"))),
        executable="executable" in found,
        signature=(section(text, "file_signature") or "").strip(),
    )


def _references(text: str, files: Mapping[str, RemoteFile]) -> tuple[Reference, ...]:
    return tuple(
        Reference(
            files[found["file_name"]],
            unescape(found.get("open_name", found["file_name"])),
            "main_program" in found,
            "copy_file" in found,
        )
        for found in map(fields, sections(text, "file_ref"))
    )


def _assignment(
    text: str,
    workunits: Mapping[str, str],
    programs: Mapping[str, tuple[Reference, ...]],
    files: Mapping[str, RemoteFile],
) -> Assignment:
    found = fields(text)
    workunit = workunits[found["wu_name"]]
    app = fields(workunit)["app_name"]
    return Assignment(
        name=found["name"],
        workunit=found["wu_name"],
        app=app,
        command_line=unescape(section(workunit, "command_line") or ""),
        report_deadline=int(number(found.get("report_deadline"))),
        inputs=_references(workunit, files),
        outputs=_references(text, files),
        program=programs[app],
        fpops_est=number(fields(workunit).get("rsc_fpops_est")),
        memory_bound=number(fields(workunit).get("rsc_memory_bound")),
        disk_bound=number(fields(workunit).get("rsc_disk_bound")),
    )


@dataclass(frozen=True, slots=True)
class Finished:
    """A copy that was worked on, as the client reports it."""

    name: str
    state: int
    exit_status: int
    stderr: str = ""
    elapsed: float = 1.0
    cpu: float = 1.0
    files: tuple[tuple[str, int, str], ...] = ()
    """Name, size and MD5 of each uploaded output."""

    def text(self) -> str:
        """The element in a request."""
        infos = "".join(
            f"<file_info>\n    <name>{name}</name>\n    <nbytes>{nbytes:f}</nbytes>\n    <md5_cksum>{md5}</md5_cksum>\n"
            f"</file_info>\n"
            for name, nbytes, md5 in self.files
        )
        return (
            f"<result>\n    <name>{self.name}</name>\n    <final_cpu_time>{self.cpu:f}</final_cpu_time>\n"
            f"    <final_elapsed_time>{self.elapsed:f}</final_elapsed_time>\n"
            f"    <exit_status>{self.exit_status}</exit_status>\n    <state>{self.state}</state>\n"
            f"<stderr_out>\n<core_client_version>7.20.5</core_client_version>\n<![CDATA[\n<stderr_txt>\n{self.stderr}\n"
            f"</stderr_txt>\n]]>\n</stderr_out>\n{infos}</result>\n"
        )


@dataclass(frozen=True, slots=True)
class RequestParts:
    """What a simulated volunteer puts into a request."""

    authenticator: str
    hostid: int
    rpc_seqno: int
    host_cpid: str
    platform: str
    ncpus: int
    seconds: float
    instances: float
    code_sign_key: str
    results: Sequence[Finished]
    other_results: Sequence[str]
    trickles: Sequence[str] = ()
    domain_name: str = "simulated"
    fpops: float = 1e9
    os_name: str = "Linux simulated"


def format_request(parts: RequestParts) -> bytes:
    """A request as the stock client writes it, without what a server does not look at."""
    key = f"    <code_sign_key>\n{parts.code_sign_key}\n</code_sign_key>\n" if parts.code_sign_key else ""
    others = "".join(
        f"    <other_result>\n        <name>{name}</name>\n    </other_result>\n" for name in parts.other_results
    )
    return (
        f"<scheduler_request>\n    <authenticator>{parts.authenticator}</authenticator>\n"
        f"    <hostid>{parts.hostid}</hostid>\n    <rpc_seqno>{parts.rpc_seqno}</rpc_seqno>\n"
        f"    <core_client_major_version>7</core_client_major_version>\n"
        f"    <core_client_minor_version>20</core_client_minor_version>\n"
        f"    <core_client_release>5</core_client_release>\n    <allow_multiple_clients>1</allow_multiple_clients>\n"
        f"    <work_req_seconds>{parts.seconds:f}</work_req_seconds>\n"
        f"    <cpu_req_secs>{parts.seconds:f}</cpu_req_secs>\n"
        f"    <cpu_req_instances>{parts.instances:f}</cpu_req_instances>\n"
        f"    <platform_name>{parts.platform}</platform_name>\n{key}"
        f"<host_info>\n    <domain_name>{parts.domain_name}</domain_name>\n    <ip_addr>127.0.0.1</ip_addr>\n"
        f"    <host_cpid>{parts.host_cpid}</host_cpid>\n    <p_ncpus>{parts.ncpus}</p_ncpus>\n"
        f"    <p_fpops>{parts.fpops:f}</p_fpops>\n    <m_nbytes>8e9</m_nbytes>\n    <d_free>1e11</d_free>\n"
        f"    <os_name>{parts.os_name}</os_name>\n    <p_vendor>GenuineIntel</p_vendor>\n</host_info>\n"
        f"{''.join(result.text() for result in parts.results)}{''.join(parts.trickles)}"
        f"<other_results>\n{others}</other_results>\n</scheduler_request>\n"
    ).encode()


def format_upload(name: str, data: bytes, offset: int = 0) -> bytes:
    """An upload of a file from this offset to its end."""
    head = (
        f"<data_server_request>\n    <core_client_major_version>7</core_client_major_version>\n<file_upload>\n"
        f"<file_info>\n{element('name', name)}</file_info>\n<nbytes>{len(data):f}</nbytes>\n"
        f"<md5_cksum>{hashlib.md5(data).hexdigest()}</md5_cksum>\n<offset>{offset}</offset>\n<data>\n"
    )
    return head.encode() + data[offset:]


def size_query(name: str) -> bytes:
    """A question how much of a file is there."""
    return f"<data_server_request>\n{element('get_file_size', name)}</data_server_request>\n".encode()


__all__ += ["Assignment", "Reference", "RemoteFile", "size_query"]
