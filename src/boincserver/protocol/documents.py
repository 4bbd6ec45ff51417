"""The XML documents that stand in the tables and travel to clients: application versions, jobs, outputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from boincserver.protocol.text import element, escape, flag

__all__ = [
    "FileInfo",
    "FileRef",
    "OutputSpec",
    "app_version_document",
    "output_template",
    "version_text",
    "with_processors",
    "workunit_document",
]

_MAX_NBYTES: Final = re.compile(r"<name>([^<]*)</name>.*?<max_nbytes>([\d.e+]+)</max_nbytes>", re.DOTALL)
_FILE_REF: Final = re.compile(
    r"<file_ref>\s*<file_name>([^<]*)</file_name>\s*<open_name>([^<]*)</open_name>(.*?)</file_ref>", re.DOTALL
)


_OUTFILE: Final = re.compile(r"<OUTFILE_(\d+)/>")
_PREFIX: Final = "<PREFIX/>"


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file that clients download."""

    name: str
    url: str
    md5: str
    nbytes: int
    signature: str = ""
    executable: bool = False
    sticky: bool = False
    """The host keeps it for later jobs."""
    gzipped_url: str = ""
    """Where the same is to be had compressed; a client that knows of it fetches nothing else."""
    sticky_seconds: int = 0
    """For how long after its last use a host keeps it; 0: until it is told to delete it."""
    keep: bool = False
    """The official server's file deleter leaves it alone."""


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file under the name by which the program opens it."""

    name: str
    open_name: str
    main_program: bool = False
    copy: bool = False


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """An output file that a job is to make."""

    open_name: str
    max_nbytes: int
    copy: bool = False
    optional: bool = False


def _file_info(info: FileInfo) -> str:
    signature = f"<file_signature>\n{info.signature}</file_signature>\n" if info.signature else ""
    gzipped = element("gzipped_url", info.gzipped_url) if info.gzipped_url else ""
    lifetime = element("sticky_lifetime", info.sticky_seconds) if info.sticky_seconds else ""
    return (
        f"<file_info>\n{element('name', info.name)}{element('url', info.url)}{gzipped}"
        f"{flag('executable', info.executable)}{flag('sticky', info.sticky)}{lifetime}"
        f"{flag('no_delete', info.keep)}{signature}"
        f"{element('md5_cksum', info.md5)}{element('nbytes', info.nbytes)}</file_info>\n"
    )


def _file_ref(ref: FileRef) -> str:
    flags = flag("main_program", ref.main_program) + flag("copy_file", ref.copy)
    return f"<file_ref>\n{element('file_name', ref.name)}{element('open_name', ref.open_name)}{flags}</file_ref>\n"


def app_version_document(
    app_name: str,
    version_num: int,
    platform: str,
    plan_class: str,
    api_version: str,
    files: Sequence[FileInfo],
    refs: Sequence[FileRef],
) -> str:
    """An application version with its files, signed."""
    plan = element("plan_class", plan_class) if plan_class else ""
    return (
        "".join(map(_file_info, files))
        + f"<app_version>\n{element('app_name', app_name)}{element('version_num', version_num)}"
        + f"{element('platform', platform)}{plan}{element('api_version', api_version)}"
        + "".join(map(_file_ref, refs))
        + "</app_version>\n"
    )


def with_processors(document: str, processors: float) -> str:
    """An application version's document for a computer where it uses so many processors."""
    if processors == 1:
        return document
    count = f"<avg_ncpus>{processors:f}</avg_ncpus>\n<max_ncpus>{processors:f}</max_ncpus>\n"
    return document.replace("<api_version>", f"{count}<api_version>", 1)


def version_text(number: int) -> str:
    """A version's number as people write it: 102 is 1.02."""
    return f"{number // 100}.{number % 100:02}"


def workunit_document(files: Sequence[FileInfo], refs: Sequence[FileRef], command_line: str) -> str:
    """A job's inputs; name, application and limits are put in when it is sent."""
    command = f"<command_line>{escape(command_line)}</command_line>\n" if command_line else ""
    unique = {info.name: info for info in files}
    return (
        "".join(map(_file_info, unique.values())) + f"<workunit>\n{''.join(map(_file_ref, refs))}{command}</workunit>\n"
    )


def output_template(outputs: Sequence[OutputSpec]) -> str:
    """The official form of a result template: OUTFILE_n and UPLOAD_URL are put in for each copy."""
    infos = "".join(
        f"<file_info>\n<name><OUTFILE_{n}/></name>\n<generated_locally/>\n<upload_when_present/>\n"
        f"<max_nbytes>{spec.max_nbytes}</max_nbytes>\n<url><UPLOAD_URL/></url>\n</file_info>\n"
        for n, spec in enumerate(outputs)
    )
    refs = "".join(
        f"<file_ref>\n<file_name><OUTFILE_{n}/></file_name>\n<open_name>{escape(spec.open_name)}</open_name>\n"
        f"{flag('copy_file', spec.copy)}{flag('optional', spec.optional)}</file_ref>\n"
        for n, spec in enumerate(outputs)
    )
    return f"<output_template>\n{infos}<result>\n{refs}</result>\n</output_template>\n"


def template_for_copies(template: str, upload_url: str) -> str:
    """What the template says of any copy: `_PREFIX` stands for how the names of its files begin."""
    body = template.replace("<output_template>\n", "").replace("</output_template>\n", "")
    return _OUTFILE.sub(rf"{_PREFIX}_\1", body).replace("<UPLOAD_URL/>", escape(upload_url))


def result_document(template: str, file_prefix: str) -> str:
    """One copy's outputs, from the template for copies."""
    return template.replace(_PREFIX, file_prefix)


@dataclass(frozen=True, slots=True)
class ExpectedOutput:
    """An output file of one copy: its physical name, and the name by which the program knows it."""

    name: str
    open_name: str
    max_nbytes: int
    optional: bool


# A copy's document is asked several times: by its upload, its report, its validator and whoever deletes its files.
@lru_cache(maxsize=2048)
def expected_outputs(result_xml: str) -> tuple[ExpectedOutput, ...]:
    """The output files that a copy is to bring back, in order."""
    sizes = {name: int(float(size)) for name, size in _MAX_NBYTES.findall(result_xml)}
    return tuple(
        ExpectedOutput(name, open_name, sizes.get(name, 0), "<optional/>" in rest)
        for name, open_name, rest in _FILE_REF.findall(result_xml)
    )


def input_names(workunit_xml: str) -> tuple[str, ...]:
    """The physical names of a job's inputs."""
    return tuple(name for name, _, _ in _FILE_REF.findall(workunit_xml))
