"""The remote job submission calls: requests of XML in, replies of XML out; no database and no network."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from boincserver.errors import SubmissionRefused
from boincserver.protocol.documents import OutputSpec
from boincserver.protocol.request import is_name
from boincserver.protocol.templates import (
    DEFAULT_LIMITS,
    InputTemplate,
    parse_document,
    parse_input,
    parse_limits,
    parse_output,
)
from boincserver.protocol.text import element

__all__ = [
    "BatchRequest",
    "InputFile",
    "JobRequest",
    "children",
    "error_reply",
    "parse_batch",
    "parse_request",
    "reply",
    "stderr_element",
    "whole_number",
    "xml_text",
]

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ROOT: Final = re.compile(r"[A-Za-z_]\w{0,60}", re.ASCII)
_UNSUPPORTED: Final = ("target_user", "target_team", "target_host")


def parse_request(text: str) -> ET.Element:
    """The call: its root's tag is its name."""
    return parse_document(text)


def reply(name: str, body: str) -> str:
    """The answer to a call."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{name}>\n{body}</{name}>\n'


def error_reply(name: str | None, message: str) -> str:
    """The call is refused; without a name it could not be read at all."""
    error = f"<error>\n<error_num>-1</error_num>\n{element('error_msg', xml_text(message))}</error>\n"
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return reply(name, error) if name is not None and _ROOT.fullmatch(name) else head + error


def xml_text(text: str) -> str:
    """The text without what no XML can hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def stderr_element(text: str) -> str:
    """A program's output in the official form: escaped, and in a CDATA section besides."""
    return f"<stderr_out><![CDATA[\n{html.escape(xml_text(text))}\n]]></stderr_out>\n"


def whole_number(parent: ET.Element, name: str, default: int = 0) -> int:
    """A whole number among the children; `default` where there is none."""
    text = (parent.findtext(name) or "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        raise SubmissionRefused(f"{name} must be a number, not {text[:40]!r}") from None
    if not -(2**62) <= number <= 2**62:
        raise SubmissionRefused(f"{name} cannot be {text[:40]}")
    return int(number)


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input of a job: the name of a file on the server (`local_staged`), or its content (`inline`)."""

    mode: str
    source: str


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job as it was asked for."""

    name: str
    inputs: tuple[InputFile, ...]
    template: InputTemplate
    outputs: tuple[OutputSpec, ...]
    command_line: str = ""
    limits: Mapping[str, float] = field(default_factory=dict)
    rsc_fpops_est: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A batch of jobs as it was asked for."""

    app_name: str
    batch_id: int
    batch_name: str
    allocation_priority: bool
    jobs: tuple[JobRequest, ...]

    @property
    def fpops(self) -> float:
        """The estimated work of all jobs."""
        return sum(job.rsc_fpops_est or job.limits["rsc_fpops_est"] for job in self.jobs)


def parse_batch(call: ET.Element, read_template: Callable[[str], str | None], most: int) -> BatchRequest:
    """The batch in a call; `read_template` gives a template's text by its file's name, None where there is none."""
    batch = call.find("batch")
    if batch is None:
        raise SubmissionRefused("the request has no batch")
    elements = batch.findall("job")
    if len(elements) > most:
        raise SubmissionRefused(f"{len(elements)} jobs are more than the {most} that one call may bring; send several")
    if whole_number(batch, "app_version_num"):
        raise SubmissionRefused("app_version_num is not supported: jobs run on the newest version")
    app_name = (batch.findtext("app_name") or "").strip()
    reader = _Templates(batch, app_name, read_template)
    params = batch.find("job_params")
    limits = {**DEFAULT_LIMITS, **(parse_limits(params) if params is not None else {})}
    if batch.find("priority") is not None:
        limits["priority"] = whole_number(batch, "priority")
    names: set[str] = set()
    jobs = []
    for number, job in enumerate(elements):
        jobs.append(_job(job, number, reader, limits))
        if jobs[-1].name and jobs[-1].name in names:
            raise SubmissionRefused(f"two jobs are called {jobs[-1].name}")
        names.add(jobs[-1].name)
    return BatchRequest(
        app_name,
        whole_number(batch, "batch_id"),
        (batch.findtext("batch_name") or "").strip(),
        batch.find("allocation_priority") is not None,
        tuple(jobs),
    )


class _Templates:
    """Templates of a call; many jobs have the same ones."""

    def __init__(self, batch: ET.Element, app_name: str, read: Callable[[str], str | None]) -> None:
        self._read = read
        self._names = {
            kind: (batch.findtext(f"{kind}_template_filename") or "").strip() or f"{app_name}_{short}"
            for kind, short in (("input", "in"), ("output", "out"))
        }
        self._inputs: dict[bytes, InputTemplate] = {}
        self._outputs: dict[bytes, tuple[OutputSpec, ...]] = {}

    def input(self, job: ET.Element) -> InputTemplate:
        """The template of a job's inputs: its own, or the batch's."""
        element = self._element(job, "input")
        key = ET.tostring(element)
        if key not in self._inputs:
            self._inputs[key] = parse_input(element)
        return self._inputs[key]

    def output(self, job: ET.Element) -> tuple[OutputSpec, ...]:
        """The template of a job's outputs."""
        element = self._element(job, "output")
        key = ET.tostring(element)
        if key not in self._outputs:
            self._outputs[key] = parse_output(element)
        return self._outputs[key]

    def _element(self, job: ET.Element, kind: str) -> ET.Element:
        own = job.find(f"{kind}_template")
        if own is not None:
            return own
        name = self._names[kind]
        text = self._read(name) if is_name(name) else None
        if text is None:
            raise SubmissionRefused(f"a job has no {kind}_template, and the project has no file templates/{name[:100]}")
        return parse_document(_rooted(text, kind))


def _rooted(text: str, kind: str) -> str:
    """A template file as one element; the older ones have no root."""
    body = re.sub(r"<\?xml[^>]*\?>", "", text).strip()
    return body if body.startswith(f"<{kind}_template") else f"<{kind}_template>{body}</{kind}_template>"


def _job(job: ET.Element, number: int, templates: _Templates, limits: Mapping[str, float]) -> JobRequest:
    for name in _UNSUPPORTED:
        if whole_number(job, name):
            raise SubmissionRefused(f"job {number}: {name} is not supported")
    template = templates.input(job)
    inputs = tuple(_input(file, number) for file in job.findall("input_file"))
    if len(inputs) != len(template.inputs):
        raise SubmissionRefused(
            f"wrong # of input files for job {number}: need {len(template.inputs)}, got {len(inputs)}"
        )
    command_line = (job.findtext("command_line") or "").strip()
    if command_line and template.command_line:
        raise SubmissionRefused(f"job {number}: both the job and its template have a command_line")
    own = {**limits, **template.limits}
    if job.find("priority") is not None:
        own["priority"] = whole_number(job, "priority")
    estimate = parse_limits(job).get("rsc_fpops_est", 0.0)
    return JobRequest(
        (job.findtext("name") or "").strip(),
        inputs,
        template,
        templates.output(job),
        command_line or template.command_line,
        own,
        estimate,
    )


def _input(file: ET.Element, number: int) -> InputFile:
    mode, source = (file.findtext("mode") or "").strip(), file.findtext("source") or ""
    if mode not in ("local_staged", "inline"):
        raise SubmissionRefused(
            f"job {number}: unsupported file mode: {mode[:40]}; upload the file and use local_staged"
        )
    return InputFile(mode, source.strip() if mode == "local_staged" else source)


def children(pairs: Sequence[tuple[str, object]]) -> str:
    """Elements of plain values."""
    return "".join(element(name, xml_text(str(value))) for name, value in pairs)
