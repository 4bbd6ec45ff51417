"""The scheduler request of a client: bytes in, a frozen record out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from boincserver.protocol.text import (
    clean,
    fields,
    integer,
    number,
    section,
    sections,
    split_section,
    split_sections,
    without_stray_bytes,
)

__all__ = [
    "HostInfo",
    "OutputFile",
    "ReportedResult",
    "SchedulerRequest",
    "TrickleUp",
    "is_name",
    "parse_request",
    "plain_stderr",
]

# A result ends at a line `</result>` behind which the request goes on with something of its own; a program that prints
# such a line to stderr does not end it.
_RESULT_START: Final = "<result>\n"
_RESULT_END: Final = re.compile(
    r"</result>[ \t]*\n(?=[ \t]*(?:<result>\n[ \t]*<name>|</?(?:app_versions|other_results|msg_from_host|file_info|"
    r"in_progress_results|client_opaque|coprocs|scheduler_request)>))"
)
_STDERR_END: Final = "\n</stderr_out>"
_TRICKLE_HEAD: Final = re.compile(r"\s*<result_name>([^<\n]*)</result_name>\s*<time>([^<\n]*)</time>\n?")
_STDERR_TAG: Final = re.compile(r"</?(?:stderr_txt|message)>\n?")
_NAME: Final = re.compile(r"[A-Za-z0-9_.+=-]{1,254}")
_HEX: Final = re.compile(r"[0-9a-f]{32}")
_MAX_RESULTS: Final = 5000
_MAX_KEPT: Final = 1000
_MAX_HELD: Final = 20_000
_MAX_TRICKLES: Final = 1000
_MAX_STDERR: Final = 65536


@dataclass(frozen=True, slots=True)
class OutputFile:
    """An output file as the client says it uploaded it."""

    name: str
    nbytes: int
    md5: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class ReportedResult:
    """One finished copy of a job."""

    name: str
    state: int
    exit_status: int
    cpu_time: float
    elapsed_time: float
    version_num: int
    stderr: str
    files: tuple[OutputFile, ...]
    peak_working_set_size: float = 0.0
    peak_swap_size: float = 0.0
    peak_disk_usage: float = 0.0


@dataclass(frozen=True, slots=True)
class TrickleUp:
    """A message of a running program."""

    result_name: str
    time: int
    variety: str
    text: str


@dataclass(frozen=True, slots=True)
class HostInfo:
    """What a client says of its computer; the names are columns of the host table."""

    timezone: int = 0
    domain_name: str = ""
    host_cpid: str = ""
    p_ncpus: int = 1
    p_vendor: str = ""
    p_model: str = ""
    p_fpops: float = 1e9
    p_iops: float = 1e9
    p_membw: float = 1e9
    m_nbytes: float = 0.0
    m_cache: float = 0.0
    m_swap: float = 0.0
    d_total: float = 0.0
    d_free: float = 0.0
    os_name: str = ""
    os_version: str = ""
    product_name: str = ""
    on_frac: float = 1.0
    connected_frac: float = 1.0
    active_frac: float = 1.0
    n_bwup: float = 0.0
    n_bwdown: float = 0.0
    d_boinc_used_total: float = 0.0
    d_boinc_used_project: float = 0.0
    d_boinc_max: float = 0.0


@dataclass(frozen=True, slots=True)
class SchedulerRequest:
    """What a client says and wants; whatever it did not say has its default."""

    authenticator: str = ""
    hostid: int = 0
    rpc_seqno: int = 0
    client_version: tuple[int, int, int] = (0, 0, 0)
    platforms: tuple[str, ...] = ()
    code_sign_key: str = ""
    work_req_seconds: float = 0.0
    cpu_req_secs: float = 0.0
    cpu_req_instances: float = 0.0
    estimated_delay: float = 0.0
    wants_work: bool = False
    allow_multiple_clients: bool = False
    cross_project_id: str = ""
    preferences: Mapping[str, float] = field(default_factory=dict)
    host: HostInfo = field(default_factory=HostInfo)
    p_features: str = ""
    results: tuple[ReportedResult, ...] = ()
    other_results: tuple[str, ...] | None = None
    trickles: tuple[TrickleUp, ...] = ()
    kept_files: tuple[str, ...] = ()
    """Sticky files that the host has."""
    complete: bool = False


def parse_request(body: bytes) -> SchedulerRequest:
    """Read a request; never raises. `complete` is false if the closing tag is missing."""
    text = body.decode("utf-8", "replace").replace("\r\n", "\n")
    results, text = _cut_results(text)
    messages, text = split_sections(text, "msg_from_host")
    trickles = tuple(filter(None, map(_trickle, messages[:_MAX_TRICKLES])))
    other, text = split_section(text, "other_results")
    _, text = split_section(text, "app_versions")
    _, text = split_section(text, "client_opaque")
    _, text = split_section(text, "coprocs")
    preferences, text = split_section(text, "working_global_preferences")
    _, text = split_section(text, "global_preferences")
    key, text = split_section(text, "code_sign_key")
    _, text = split_section(text, "in_progress_results")
    kept, text = split_sections(text, "file_info")
    found = fields(text)
    seconds = number(found.get("cpu_req_secs"))
    instances = number(found.get("cpu_req_instances"), high=4096)
    return SchedulerRequest(
        authenticator=found.get("authenticator", "").strip(),
        hostid=integer(found.get("hostid"), low=0),
        rpc_seqno=integer(found.get("rpc_seqno"), low=0),
        client_version=(
            integer(found.get("core_client_major_version")),
            integer(found.get("core_client_minor_version")),
            integer(found.get("core_client_release")),
        ),
        platforms=_platforms(text, found),
        code_sign_key=(key or "").strip(),
        work_req_seconds=number(found.get("work_req_seconds")),
        cpu_req_secs=seconds,
        cpu_req_instances=instances,
        estimated_delay=number(found.get("estimated_delay")),
        wants_work=(seconds > 0 or instances > 0) and found.get("dont_send_work", "0") == "0",
        allow_multiple_clients=found.get("allow_multiple_clients", "0") != "0",
        cross_project_id=_hex32(found.get("cross_project_id", "")),
        preferences={name: number(value) for name, value in fields(preferences or "").items()},
        host=_host(found),
        p_features=found.get("p_features", ""),
        results=results,
        other_results=None if other is None else _names(other),
        trickles=trickles,
        kept_files=tuple(filter(is_name, (fields(info).get("name", "") for info in kept[:_MAX_KEPT]))),
        complete="</scheduler_request>" in text,
    )


def is_name(name: str) -> bool:
    """True for what may name a file, result or workunit: nothing that means anything to a path, to SQL or to HTML."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def _cut_results(text: str) -> tuple[tuple[ReportedResult, ...], str]:
    found: list[ReportedResult] = []
    rest: list[str] = []
    position = 0
    while (start := text.find(_RESULT_START, position)) >= 0:
        end = _RESULT_END.search(text, start)
        if end is None:
            break
        rest.append(text[position:start])
        position = end.end()
        result = _result(text[start + len(_RESULT_START) : end.start()])
        if result is not None and len(found) < _MAX_RESULTS:
            found.append(result)
    rest.append(text[position:])
    return tuple(found), "".join(rest)


def _result(text: str) -> ReportedResult | None:
    stderr = ""
    start, end = text.find("<stderr_out>"), text.rfind(_STDERR_END)
    if 0 <= start < end:
        stderr = _stderr(text[start + len("<stderr_out>") : end])
        text = text[:start] + text[end + len(_STDERR_END) :]
    files = tuple(filter(None, map(_file, sections(text, "file_info"))))
    found = fields(text[: text.find("<file_info>")] if files else text)
    name = found.get("name", "")
    if not is_name(name):
        return None
    return ReportedResult(
        name=name,
        state=integer(found.get("state")),
        exit_status=integer(found.get("exit_status")),
        cpu_time=number(found.get("final_cpu_time"), high=1e10),
        elapsed_time=number(found.get("final_elapsed_time"), high=1e10),
        version_num=integer(found.get("app_version_num"), low=0),
        stderr=stderr,
        files=files,
        peak_working_set_size=number(found.get("final_peak_working_set_size"), high=1e18),
        peak_swap_size=number(found.get("final_peak_swap_size"), high=1e18),
        peak_disk_usage=number(found.get("final_peak_disk_usage"), high=1e18),
    )


def _stderr(raw: str) -> str:
    _, cdata, inside = raw.strip("\n").partition("<![CDATA[")
    text = inside.removesuffix("]]>").strip("\n") if cdata else raw.strip("\n")
    return without_stray_bytes(text)[-_MAX_STDERR:]


def plain_stderr(text: str) -> str:
    """What a program wrote, behind what the client says of its end; without the client's tags."""
    return _STDERR_TAG.sub("", text).strip("\n")


def _file(text: str) -> OutputFile | None:
    found = fields(text)
    name = found.get("name", "")
    if not is_name(name):
        return None
    return OutputFile(
        name=name,
        nbytes=int(number(found.get("nbytes"), -1.0, low=-1.0, high=1e18)),
        md5=_hex32(found.get("md5_cksum", "")),
        error=clean(section(text, "error_msg") or ""),
    )


def _trickle(text: str) -> TrickleUp | None:
    head = _TRICKLE_HEAD.match(text)
    if head is None or not is_name(head.group(1)):
        return None
    body = text[head.end() :]
    return TrickleUp(
        result_name=head.group(1),
        time=integer(head.group(2), low=0),
        variety=clean(section(body, "variety") or ""),
        text=without_stray_bytes(body),
    )


def _platforms(text: str, found: Mapping[str, str]) -> tuple[str, ...]:
    names = [found.get("platform_name", "")]
    names += [fields(alternative).get("name", "") for alternative in sections(text, "alt_platform")]
    return tuple(dict.fromkeys(name for name in names if is_name(name)))


def _names(text: str) -> tuple[str, ...] | None:
    """The jobs that the client has; None, as if it had not said, where it says more than any has."""
    items = sections(text, "other_result")
    if len(items) > _MAX_HELD:
        return None
    return tuple(name for item in items if is_name(name := fields(item).get("name", "")))


def _hex32(value: str) -> str:
    return value if _HEX.fullmatch(value) else ""


def _host(found: Mapping[str, str]) -> HostInfo:
    def real(name: str, default: float = 0.0) -> float:
        return number(found.get(name), default, low=-1e18, high=1e18)

    def text(name: str) -> str:
        return clean(found.get(name, ""))

    return HostInfo(
        timezone=integer(found.get("timezone")),
        domain_name=text("domain_name"),
        host_cpid=_hex32(found.get("host_cpid", "")),
        p_ncpus=integer(found.get("p_ncpus"), 1, low=1, high=4096),
        p_vendor=text("p_vendor"),
        p_model=text("p_model"),
        p_fpops=number(found.get("p_fpops"), 1e9, low=1e6, high=1e13),
        p_iops=number(found.get("p_iops"), 1e9, low=1e6, high=1e13),
        p_membw=real("p_membw", 1e9),
        m_nbytes=real("m_nbytes"),
        m_cache=real("m_cache"),
        m_swap=real("m_swap"),
        d_total=real("d_total"),
        d_free=real("d_free"),
        os_name=text("os_name"),
        os_version=text("os_version"),
        product_name=text("product_name"),
        on_frac=number(found.get("on_frac"), 1.0, high=1.0),
        connected_frac=real("connected_frac", 1.0),
        active_frac=number(found.get("active_frac"), 1.0, high=1.0),
        n_bwup=real("bwup"),
        n_bwdown=real("bwdown"),
        d_boinc_used_total=real("d_boinc_used_total"),
        d_boinc_used_project=real("d_boinc_used_project"),
        d_boinc_max=real("d_project_share"),
    )
