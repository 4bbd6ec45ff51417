"""What a team holds at a moment: processes, threads, memory, space on the disk; read from outside, by Linux's /proc."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pacman_ctf import scratch
from pacman_ctf.limits import Limits
from pacman_ctf.processes import descendants

_FIELDS: Final = re.compile(r"^(State|Threads|RssAnon|VmSwap):\s+(\w+)", re.MULTILINE)
_GONE: Final = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, slots=True)
class Usage:
    """All that is below one process together."""

    processes: int
    threads: int
    memory: int  # bytes that belong to processes
    disk: int  # bytes of the folder, and of what has no name any more: deleted files, shared memory
    hidden: str = ""  # what cannot be counted, as a word about who hides it

    def excess(self, limits: Limits) -> str:
        """What is over a limit, as a sentence about the team; "" if nothing is."""
        if self.processes > limits.processes:
            return f"started {self.processes} processes; {limits.processes} are allowed"
        if self.threads > limits.threads:
            return f"started {self.threads} threads; {limits.threads} are allowed"
        if self.memory > limits.memory:
            return f"used {_mega(self.memory)} of memory; {_mega(limits.memory)} are allowed"
        if self.disk > limits.disk:
            return f"keeps {_mega(self.disk)} of files and shared memory; {_mega(limits.disk)} are allowed"
        return self.hidden


def _mega(size: int) -> str:
    return f"{size / (1 << 20):.0f} MB"


def usage(top: int, folder: Path, limits: Limits) -> Usage:
    """What everything below `top` holds, with its folder."""
    pids = descendants(top)
    threads = memory = 0
    nameless: dict[tuple[int, int], int] = {}
    hidden = ""
    for pid in pids:
        try:
            facts = dict(_FIELDS.findall(Path(f"/proc/{pid}/status").read_text(errors="replace")))
        except OSError:
            continue
        threads += int(facts.get("Threads", 0))
        memory += (int(facts.get("RssAnon", 0)) + int(facts.get("VmSwap", 0))) << 10
        try:
            _nameless_files(pid, nameless)
            _nameless_maps(pid, nameless)
        except _GONE:
            continue
        except PermissionError:
            if facts.get("State") not in (None, "Z", "X"):
                hidden = "hid a process from being counted"
    if memory > limits.memory:  # what forked processes share was counted for each of them
        memory = sum(_exact_memory(pid) for pid in pids)
    disk = sum(nameless.values())
    try:
        disk += scratch.size(folder)
    except scratch.Hidden as swamp:
        hidden = hidden or str(swamp)
    return Usage(len(pids), threads, memory, disk, hidden)


def _nameless_files(pid: int, found: dict[tuple[int, int], int]) -> None:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            file = descriptor.stat()
            if stat.S_ISREG(file.st_mode) and not file.st_nlink:
                found[file.st_dev, file.st_ino] = file.st_blocks * 512


def _nameless_maps(pid: int, found: dict[tuple[int, int], int]) -> None:
    """Mapped memory that has no name is counted as far as it is mapped, touched or not."""
    for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
        if not line.endswith("(deleted)"):
            continue
        addresses, _, offset, device, inode, *_ = line.split(None, 5)
        begin, end = (int(address, 16) for address in addresses.split("-"))
        major, minor = (int(number, 16) for number in device.split(":"))
        key = os.makedev(major, minor), int(inode)
        found[key] = max(found.get(key, 0), int(offset, 16) + end - begin)


def _exact_memory(pid: int) -> int:
    """A process's share of the memory that it has together with others."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        found = dict(re.findall(r"^(Pss_Anon|Pss|SwapPss):\s+(\d+)", text, re.MULTILINE))
        return (int(found.get("Pss_Anon") or found.get("Pss", 0)) + int(found.get("SwapPss", 0))) << 10
    return 0
