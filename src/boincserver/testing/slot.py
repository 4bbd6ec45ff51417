"""Runs a job's program as the client does: in a slot folder with link files, shared memory and a heartbeat."""

from __future__ import annotations

import mmap
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from boincserver.protocol.text import element, fields, number

from .wire import Assignment, Reference

__all__ = ["Outcome", "run_in_slot"]

_CHANNEL: Final = 1024
_CHANNELS: Final = 8
_HEARTBEAT: Final = 4
_STATUS: Final = 5
_TRICKLE_UP: Final = 6
_CONTROL: Final = 0
_POLL: Final = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended."""

    exit_status: int
    stderr: str
    elapsed: float
    cpu: float
    outputs: Mapping[str, bytes]
    """By physical name; missing is what the program did not write."""


def run_in_slot(
    assignment: Assignment,
    slot: Path,
    project: Path,
    *,
    authenticator: str,
    progress: Callable[[float], None] = lambda fraction: None,
    trickled: Callable[[str], None] = lambda text: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run the program; every file of the job is in `project` already. The slot is emptied before and after.

    `progress` hears of the fraction done, `trickled` is given each message to the server: its variety and its text.
    """
    shutil.rmtree(slot, ignore_errors=True)
    slot.mkdir(parents=True)
    try:
        for reference in (*assignment.program, *assignment.inputs):
            _place(reference, slot, project)
        for reference in assignment.outputs:
            (project / reference.file.name).unlink(missing_ok=True)
            if not reference.copy:
                _link(reference, slot, project)
        _write_init_data(assignment, slot, project, authenticator)
        return _run(assignment, slot, project, progress, trickled, cancelled)
    finally:
        shutil.rmtree(slot, ignore_errors=True)


def _place(reference: Reference, slot: Path, project: Path) -> None:
    if reference.copy:
        target = slot / reference.open_name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project / reference.file.name, target)
    else:
        _link(reference, slot, project)


def _link(reference: Reference, slot: Path, project: Path) -> None:
    target = slot / reference.open_name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"<soft_link>{os.path.relpath(project / reference.file.name, slot)}</soft_link>\n")


def _write_init_data(assignment: Assignment, slot: Path, project: Path, authenticator: str) -> None:
    values: Mapping[str, object] = {
        "major_version": 7,
        "minor_version": 20,
        "release": 5,
        "app_version": 100,
        "userid": 1,
        "hostid": 1,
        "app_name": assignment.app,
        "project_dir": project,
        "boinc_dir": slot.parent,
        "authenticator": authenticator,
        "wu_name": assignment.workunit,
        "result_name": assignment.name,
        "shm_key": -1,
        "slot": 0,
        "client_pid": os.getpid(),
        "wu_cpu_time": 0,
        "starting_elapsed_time": 0,
        "checkpoint_period": 60,
        "fraction_done_start": 0,
        "fraction_done_end": 1,
        "ncpus": 1,
        "rsc_fpops_est": assignment.fpops_est,
        "rsc_memory_bound": assignment.memory_bound,
        "rsc_disk_bound": assignment.disk_bound,
        "computation_deadline": assignment.report_deadline,
    }
    body = "".join(element(name, value) for name, value in values.items())
    (slot / "init_data.xml").write_text(f"<app_init_data>\n{body}</app_init_data>\n")
    (slot / "boinc_mmap_file").write_bytes(bytes(_CHANNEL * _CHANNELS))


def _run(
    assignment: Assignment,
    slot: Path,
    project: Path,
    progress: Callable[[float], None],
    trickled: Callable[[str], None],
    cancelled: Callable[[], bool],
) -> Outcome:
    main = next(reference for reference in assignment.program if reference.main_program)
    command = [os.path.relpath(project / main.file.name, slot), *shlex.split(assignment.command_line)]
    started = time.monotonic()
    with (slot / "stderr.txt").open("ab") as stderr, (slot / "boinc_mmap_file").open("r+b") as memory:
        segment = mmap.mmap(memory.fileno(), _CHANNEL * _CHANNELS)
        process = subprocess.Popen(
            command, cwd=slot, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
        )
        try:
            _attend(process, segment, slot, progress, trickled, cancelled)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            segment.close()
    elapsed = time.monotonic() - started
    text = (slot / "stderr.txt").read_text("utf-8", "replace")
    code = process.returncode
    if code == 0 and not (slot / "boinc_finish_called").exists():
        # The client would start it again, up to a hundred times; once is enough to know.
        code, text = -226, text + "\nthe program ended without boinc_finish_called\n"
    outputs = {}
    for reference in assignment.outputs:
        path = slot / reference.open_name if reference.copy else project / reference.file.name
        if path.is_file():
            outputs[reference.file.name] = path.read_bytes()
            (project / reference.file.name).unlink(missing_ok=True)
    return Outcome(code if code >= 0 or code == -226 else -code, text[-64_000:], elapsed, elapsed, outputs)


def _attend(
    process: subprocess.Popen[bytes],
    segment: mmap.mmap,
    slot: Path,
    progress: Callable[[float], None],
    trickled: Callable[[str], None],
    cancelled: Callable[[], bool],
) -> None:
    """Beat, listen and control until the program ends."""
    while True:
        _send(segment, _HEARTBEAT, "<heartbeat/><wss>0</wss><max_wss>0</max_wss>\n")
        status = _receive(segment, _STATUS)
        if status is not None:
            progress(number(fields(status).get("fraction_done"), high=1.0))
        if _receive(segment, _TRICKLE_UP) is not None and (waiting := slot / "trickle_up.xml").is_file():
            text = waiting.read_text("utf-8", "replace")
            waiting.unlink()
            trickled(text)
        if cancelled():
            _send(segment, _CONTROL, "<abort/>\n")
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
        try:
            process.wait(_POLL)
        except subprocess.TimeoutExpired:
            continue
        return


def _send(segment: mmap.mmap, channel: int, message: str) -> None:
    start = channel * _CHANNEL
    if segment[start] == 0:
        data = message.encode() + b"\0"
        segment[start + 1 : start + 1 + len(data)] = data
        segment[start] = 1


def _receive(segment: mmap.mmap, channel: int) -> str | None:
    start = channel * _CHANNEL
    if segment[start] == 0:
        return None
    data = segment[start + 1 : start + _CHANNEL].partition(b"\0")[0]
    segment[start] = 0
    return data.decode("utf-8", "replace")
