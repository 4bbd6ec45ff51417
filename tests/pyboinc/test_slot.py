"""Soft links, the lock, and the files by which a task ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyboinc import slot
from pyboinc.testing import FakeClient


def test_a_soft_link_leads_to_the_project(client: FakeClient) -> None:
    target = client.link("in", "wu_1_in")
    assert Path(slot.resolve("in", str(client.slot))) == target


def test_a_logical_name_may_have_folders(client: FakeClient) -> None:
    client.link("data/table", "t1")  # as the stock client writes it: from the slot, whatever folder the link is in
    assert Path(slot.resolve("data/table", str(client.slot))) == client.project / "t1"


def test_a_relative_slot_gives_the_clients_own_path(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client.link("in", "wu_1_in")
    monkeypatch.chdir(client.slot)
    assert slot.resolve("in") == f"..{os.sep}..{os.sep}projects{os.sep}example.org{os.sep}wu_1_in"


@pytest.mark.parametrize(
    "content", [b"", b"plain data\n", b"x<soft_link>elsewhere</soft_link>", b"<soft_link>" + b"x" * 600]
)
def test_a_real_file_is_itself(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in").write_bytes(content)
    assert slot.resolve("in", str(tmp_path)) == str(tmp_path / "in")


def test_a_symbolic_link_and_a_missing_file_are_themselves(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("<soft_link>trap</soft_link>")
    (tmp_path / "in").symlink_to("real")
    assert slot.resolve("in", str(tmp_path)) == str(tmp_path / "in")
    assert slot.resolve("none", str(tmp_path)) == str(tmp_path / "none")


HOLDER = "from pyboinc.slot import SlotLock; lock = SlotLock(); print('held', flush=True); input(); lock.release()"


def test_one_process_at_a_time_has_the_slot(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        with pytest.raises(slot.SlotBusyError, match="boinc_lockfile"):
            slot.SlotLock(str(tmp_path), patience=0.1, step=0.02)
        holder.communicate(b"\n")
        slot.SlotLock(str(tmp_path), patience=0).release()
    assert not (tmp_path / slot.LOCK_FILE).exists()


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        holder.kill()
    assert (tmp_path / slot.LOCK_FILE).exists()
    slot.SlotLock(str(tmp_path), patience=0).release()


def test_a_busy_slot_is_waited_for(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout and holder.stdin and holder.stdout.readline() == b"held\n"
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        slot.SlotLock(str(tmp_path), patience=30, step=0.02).release()


def test_finish_file(tmp_path: Path) -> None:
    slot.write_finish(0, slot=str(tmp_path))
    assert (tmp_path / slot.FINISH_FILE).read_text() == "0\n"
    slot.write_finish(3, "no\nluck", notice=True, slot=str(tmp_path))
    assert (tmp_path / slot.FINISH_FILE).read_text() == "3\nno luck\nnotice\n"


@pytest.mark.parametrize(
    ("delay", "reason", "text"),
    [
        (20, "wait", "20\nwait\n"),
        (-1, "wait", "300\nwait\n"),
        (1e6, "wait", "300\nwait\n"),
        (5, "", "5\nno reason given\n"),
    ],
)
def test_temporary_exit_always_has_delay_and_reason(tmp_path: Path, delay: float, reason: str, text: str) -> None:
    slot.write_temporary_exit(delay, reason, slot=str(tmp_path))
    assert (tmp_path / slot.TEMPORARY_EXIT_FILE).read_text() == text
    slot.clear_temporary_exit(str(tmp_path))
    slot.clear_temporary_exit(str(tmp_path))
    assert not (tmp_path / slot.TEMPORARY_EXIT_FILE).exists()
