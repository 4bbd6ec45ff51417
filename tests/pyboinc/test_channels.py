"""The flag protocol of the shared memory, on Unix' file and on Windows' named section."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyboinc import channels
from pyboinc.channels import CHANNEL_SIZE, SEGMENT_SIZE, ChannelError, Channels


def test_a_message_goes_through_once() -> None:
    memory = bytearray(SEGMENT_SIZE)
    ours, theirs = Channels(memory), Channels(memory)
    assert theirs.receive(channels.APP_STATUS) is None
    assert ours.send(channels.APP_STATUS, "<fraction_done>0.5</fraction_done>\n")
    assert theirs.receive(channels.APP_STATUS) == "<fraction_done>0.5</fraction_done>\n"
    assert theirs.receive(channels.APP_STATUS) is None


def test_an_unread_message_is_not_overwritten() -> None:
    pair = Channels(bytearray(SEGMENT_SIZE))
    assert pair.send(channels.TRICKLE_UP, "first")
    assert not pair.send(channels.TRICKLE_UP, "second")
    assert pair.receive(channels.TRICKLE_UP) == "first"


def test_channels_do_not_touch_each_other() -> None:
    memory = bytearray(SEGMENT_SIZE)
    pair = Channels(memory)
    longest = "x" * (CHANNEL_SIZE - 2)
    for channel in range(8):
        assert pair.send(channel, longest)
    assert [pair.receive(channel) for channel in range(8)] == [longest] * 8


def test_what_does_not_fit_is_refused_whole() -> None:
    pair = Channels(bytearray(SEGMENT_SIZE))
    with pytest.raises(ValueError, match="does not fit"):
        pair.send(channels.APP_STATUS, "x" * (CHANNEL_SIZE - 1))
    assert not pair.full(channels.APP_STATUS)


def test_layout_is_flag_text_nul() -> None:
    memory = bytearray(b"\xff" * SEGMENT_SIZE)
    memory[channels.HEARTBEAT * CHANNEL_SIZE] = 0
    Channels(memory).send(channels.HEARTBEAT, "<heartbeat/>")
    start = channels.HEARTBEAT * CHANNEL_SIZE
    assert memory[start : start + 14] == b"\1<heartbeat/>\0"


class Watched(bytearray):
    """Memory that tells which of its bytes were written, in order."""

    def __init__(self) -> None:
        super().__init__(SEGMENT_SIZE)
        self.written: list[object] = []

    def __setitem__(self, place: object, value: object) -> None:
        self.written.append(place)
        super().__setitem__(place, value)  # type: ignore[index]


def test_the_flag_comes_last() -> None:
    """The other side may look at any moment, and believes the flag."""
    memory = Watched()
    Channels(memory).send(0, "<quit/>")
    assert memory.written == [slice(1, 9), 0]
    Channels(memory).receive(0)
    assert memory.written[2:] == [0]


def test_bytes_that_are_no_text_do_not_break_the_reader() -> None:
    memory = bytearray(SEGMENT_SIZE)
    memory[:CHANNEL_SIZE] = b"\1" + b"\xff" * (CHANNEL_SIZE - 1)
    assert Channels(memory).receive(channels.PROCESS_CONTROL) == "\N{REPLACEMENT CHARACTER}" * (CHANNEL_SIZE - 1)


def test_the_file_is_shared(tmp_path: Path) -> None:
    path = tmp_path / channels.MMAP_FILE
    path.write_bytes(bytes(SEGMENT_SIZE))
    one, other = channels.attach_file(str(path)), channels.attach_file(str(path))
    one.send(channels.APP_STATUS, "seen")
    assert other.receive(channels.APP_STATUS) == "seen"
    assert path.read_bytes()[channels.APP_STATUS * CHANNEL_SIZE] == 0
    one.close()
    other.close()


@pytest.mark.parametrize("size", [None, 0, SEGMENT_SIZE - 1])
def test_a_missing_or_short_file_is_said(tmp_path: Path, size: int | None) -> None:
    path = tmp_path / channels.MMAP_FILE
    if size is not None:
        path.write_bytes(bytes(size))
    with pytest.raises(ChannelError, match="boinc_mmap_file"):
        channels.attach_file(str(path))


class Sections:
    """Windows' named sections, as far as an application sees them."""

    def __init__(self, *names: str) -> None:
        self.existing = {name: bytearray(SEGMENT_SIZE) for name in names}
        self.asked: list[str] = []

    def open(self, name: str) -> bytearray | None:
        self.asked.append(name)
        return self.existing.get(name)


@pytest.mark.parametrize("name", ["Global\\shm_boinc_3", "shm_boinc_3"])
def test_a_named_section_is_found_in_both_namespaces(name: str) -> None:
    sections = Sections(name)
    attached = channels.attach_section("boinc_3", sections.open)
    Channels(sections.existing[name]).send(channels.PROCESS_CONTROL, "<quit/>")
    assert attached.receive(channels.PROCESS_CONTROL) == "<quit/>"


def test_the_section_of_a_service_comes_first() -> None:
    sections = Sections("Global\\shm_boinc_3", "shm_boinc_3")
    channels.attach_section("boinc_3", sections.open)
    assert sections.asked == ["Global\\shm_boinc_3"]


def test_no_section_is_said_with_both_names() -> None:
    with pytest.raises(ChannelError, match=r"Global\\shm_boinc_3 and shm_boinc_3"):
        channels.attach_section("boinc_3", Sections().open)
