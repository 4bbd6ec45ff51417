"""The official templates of jobs: what inputs a job takes, under which names and limits, and what it brings back."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from boincserver.errors import SubmissionRefused
from boincserver.protocol.documents import OutputSpec
from boincserver.protocol.text import element, escape, flag

__all__ = ["FileUse", "InputTemplate", "format_input_template", "parse_document", "parse_input", "parse_output"]

_LIMITS: Final[Mapping[str, type[int] | type[float]]] = {
    "rsc_fpops_est": float, "rsc_fpops_bound": float, "rsc_memory_bound": float, "rsc_disk_bound": float,
    "delay_bound": int, "min_quorum": int, "target_nresults": int, "max_error_results": int, "max_total_results": int,
    "max_success_results": int, "priority": int,
}  # fmt: skip
DEFAULT_LIMITS: Final[Mapping[str, float]] = {
    "rsc_fpops_est": 3.6e12, "rsc_fpops_bound": 8.64e13, "rsc_memory_bound": 5e8, "rsc_disk_bound": 1e9,
    "delay_bound": 7 * 86400, "min_quorum": 2, "target_nresults": 2, "max_error_results": 3, "max_total_results": 10,
    "max_success_results": 6,
}  # fmt: skip
"""What the official tools take where neither the template nor the call says anything."""
_OUTFILE: Final = re.compile(r"OUTFILE_(\d{1,3})")
_MOST_FILES: Final = 100


@dataclass(frozen=True, slots=True)
class FileUse:
    """An input under the name by which the program opens it; `keep`: the end of a job does not delete it."""

    open_name: str
    copy: bool = False
    sticky: bool = False
    keep: bool = False


@dataclass(frozen=True, slots=True)
class InputTemplate:
    """What a job takes: as many input files as `inputs`, and what its own limits are."""

    inputs: tuple[FileUse, ...]
    command_line: str = ""
    limits: Mapping[str, float] = field(default_factory=dict)


def parse_document(text: str) -> ET.Element:
    """The root of an XML text of a stranger's; SubmissionRefused for what is none, or wants to be expanded."""
    if "<!" in text and re.search(r"<!(?!\[CDATA\[|--)", text):
        raise SubmissionRefused("a document type or an entity has no place in a request")
    try:
        return ET.fromstring(text)  # noqa: S314 - entities were refused above
    except (ET.ParseError, ValueError) as error:
        raise SubmissionRefused(f"can't parse request message: {error}") from error


def parse_input(template: ET.Element) -> InputTemplate:
    """The template of a job's inputs."""
    files = template.findall("file_info")
    workunit = template.find("workunit")
    if workunit is None:
        raise SubmissionRefused("the input template has no workunit")
    if any(info.find("physical_name") is not None for info in files):
        raise SubmissionRefused("an input template with a physical_name is not supported; name the file in each job")
    names = dict(map(_input_ref, workunit.findall("file_ref")))
    if len(files) > _MOST_FILES or sorted(names) != list(range(len(files))):
        raise SubmissionRefused("the input template must have one file_ref for each file_info, numbered from 0")
    sticky = [info.find("sticky") is not None for info in files]
    inputs = tuple(
        FileUse(open_name, copy, sticky[number]) for number, (open_name, copy) in sorted(names.items())
    )  # fmt: skip
    if len({use.open_name for use in inputs}) != len(inputs):
        raise SubmissionRefused("the input template uses an open_name twice")
    command_line = (workunit.findtext("command_line") or "").strip()
    return InputTemplate(inputs, command_line, parse_limits(workunit))


def _input_ref(ref: ET.Element) -> tuple[int, tuple[str, bool]]:
    number = (ref.findtext("file_number") or "").strip()
    if not number.isdecimal():
        raise SubmissionRefused("a file_ref of the input template has no file_number")
    return int(number), ((ref.findtext("open_name") or "").strip(), ref.find("copy_file") is not None)


def parse_limits(parent: ET.Element) -> dict[str, float]:
    """Those limits of jobs that are given."""
    found: dict[str, float] = {}
    for name, kind in _LIMITS.items():
        text = (parent.findtext(name) or "").strip()
        if not text:
            continue
        try:
            number = float(text)
        except ValueError:
            raise SubmissionRefused(f"{name} must be a number, not {text[:40]!r}") from None
        lowest = -(2**31) if name == "priority" else 0
        if not lowest <= number < (2**31 if kind is int else 1e30):
            raise SubmissionRefused(f"{name} cannot be {text[:40]}")
        found[name] = kind(number)
    return found


def parse_output(template: ET.Element) -> tuple[OutputSpec, ...]:
    """The template of a job's outputs, in the order of their files."""
    sizes = [_size(info) for info in template.findall("file_info")]
    result = template.find("result")
    refs = [] if result is None else result.findall("file_ref")
    specs = dict(map(_output_ref, refs))
    if len(sizes) > _MOST_FILES or sorted(specs) != list(range(len(sizes))):
        raise SubmissionRefused("the output template must have one file_ref for each file_info, with OUTFILE_0 first")
    return tuple(
        OutputSpec(
            (ref.findtext("open_name") or "").strip(),
            sizes[number],
            ref.find("copy_file") is not None,
            ref.find("optional") is not None,
        )
        for number, ref in sorted(specs.items())
    )


def _size(info: ET.Element) -> int:
    try:
        size = float((info.findtext("max_nbytes") or "").strip())
    except ValueError:
        size = -1.0
    if not 0 < size < 2**53:
        raise SubmissionRefused("a file_info of the output template has no max_nbytes")
    return int(size)


def _output_ref(ref: ET.Element) -> tuple[int, ET.Element]:
    name = ref.find("file_name")
    inside = None if name is None or not len(name) else _OUTFILE.fullmatch(name[0].tag)
    if inside is None:
        raise SubmissionRefused("the file_name of a file_ref of the output template must be <OUTFILE_0/> or the like")
    return int(inside[1]), ref


def format_input_template(inputs: Sequence[FileUse], command_line: str, limits: Mapping[str, float]) -> str:
    """The official form of a job's inputs and limits."""
    infos = "".join(
        f"<file_info>\n{flag('sticky', use.sticky)}{flag('no_delete', use.keep)}</file_info>\n" for use in inputs
    )
    refs = "".join(
        f"<file_ref>\n{element('file_number', number)}{element('open_name', use.open_name)}"
        f"{flag('copy_file', use.copy)}</file_ref>\n"
        for number, use in enumerate(inputs)
    )
    command = f"<command_line>{escape(command_line)}</command_line>\n" if command_line else ""
    numbers = "".join(f"<{name}>{value:.15g}</{name}>\n" for name, value in limits.items())
    return f"<input_template>\n{infos}<workunit>\n{refs}{command}{numbers}</workunit>\n</input_template>\n"
