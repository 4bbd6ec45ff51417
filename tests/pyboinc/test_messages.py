"""What is said through the channels, and the lines between supervisor and child."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyboinc import messages, wire


def test_words_come_in_their_own_order() -> None:
    assert messages.words("<resume/>\n<suspend/>\n", messages.CONTROLS) == ["resume", "suspend"]
    assert messages.words("<dance/>", messages.CONTROLS) == []


def test_a_status_always_has_both_times() -> None:
    text = messages.status(cpu_time=7.91, checkpoint_cpu_time=6.59, fraction=0, want_network=False)
    assert float(messages.element(text, "current_cpu_time") or "") == 7.91
    assert float(messages.element(text, "checkpoint_cpu_time") or "") == 6.59
    assert messages.element(text, "fraction_done") is None


def test_two_checkpoints_of_a_long_task_differ() -> None:
    def text(time: float) -> str:
        return messages.status(cpu_time=time, checkpoint_cpu_time=time, fraction=0.5, want_network=True)

    stamps = {messages.element(text(time), "checkpoint_cpu_time") for time in (9_999_999.01, 9_999_999.02)}
    assert len(stamps) == 2


@given(st.text(), st.text())
def test_texts_survive_the_pipe(variety: str, text: str) -> None:
    expected = tuple(field.encode("utf-8", "replace").decode() for field in (variety, text))
    line = wire.line("trickle", *expected)
    assert line.count(b"\n") == 1
    assert wire.parse(line[:-1], wire.FROM_CHILD) == ("trickle", expected)


@pytest.mark.parametrize(
    "line",
    [b"", b"fraction", b"fraction nan", b"fraction inf", b"fraction x", b"fraction 1 2", b"critical 7",
     b"trickle xzz x00", b"trickle 00 x00", b"launch x00", b"\xff\xfe", b"temporary 1 x61"],
)  # fmt: skip
def test_noise_is_no_message(line: bytes) -> None:
    assert wire.parse(line, wire.FROM_CHILD) is None


@given(st.binary())
def test_no_line_breaks_the_parser(line: bytes) -> None:
    message = wire.parse(line, wire.FROM_CHILD)
    if message and message[0] == "fraction":
        assert math.isfinite(float(message[1][0]))


@given(st.lists(st.binary(max_size=40)), st.integers(1, 20))
def test_lines_are_the_same_however_they_are_cut(parts: list[bytes], size: int) -> None:
    stream = b"\n".join(parts) + b"\n"
    whole = wire.Lines(limit=30).feed(stream)
    cut = wire.Lines(limit=30)
    pieces = [line for i in range(0, len(stream), size) for line in cut.feed(stream[i : i + size])]
    assert pieces == whole == [line for line in stream.split(b"\n")[:-1] if len(line) <= 30]


def test_an_endless_line_needs_no_memory() -> None:
    lines = wire.Lines(limit=10)
    for _ in range(1000):
        assert lines.feed(b"x" * 1000) == []
        assert len(lines._rest) <= 10
    assert lines.feed(b"end\nnext\n") == [b"next"]
