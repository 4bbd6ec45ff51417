"""What travels between master and volunteer, and what a hostile volunteer may send instead."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymw import envelope
from pymw.codec import CodecError, encode
from pymw.outcome import Ending, ExceptionData, Outcome


def raised(error: BaseException, **changes: Any) -> Outcome:
    data = ExceptionData.of(error, envelope.encodable)
    return Outcome(Ending.RAISED, exception=dataclasses.replace(data, **changes))


def test_a_job_there_and_back() -> None:
    job = envelope.Job((envelope.Item("0", envelope.pack_call((1, "x"), {"y": None}), 7), envelope.Item("1", b"")))
    assert envelope.unpack_job(envelope.pack_job(job)) == job
    assert envelope.unpack_call(job.items[0].arguments, ()) == ((1, "x"), {"y": None})


def test_an_argument_that_cannot_travel_is_named() -> None:
    with pytest.raises(CodecError, match=r"args\[1\]\['lock'\]: _thread.lock cannot be sent"):
        envelope.pack_call((0, {"lock": threading.Lock()}), {})
    with pytest.raises(CodecError, match=r"kwargs\['n'\]: object cannot"):
        envelope.pack_call((), {"n": object()})


def test_outcomes_there_and_back() -> None:
    outcome = Outcome(Ending.RETURNED, value=[1, 2.5], stdout="hi", seconds=0.25)
    back = envelope.unpack_outcome(envelope.pack_outcome(outcome), (), worker="host 3")
    assert back == dataclasses.replace(outcome, worker="host 3")
    (packed,) = envelope.unpack_outcomes(envelope.pack_outcomes([envelope.pack_outcome(outcome)]))
    assert envelope.running_time(packed) == 0.25


def test_exceptions_come_home_as_data_with_their_causes() -> None:
    try:
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError("bad", 3) from error
    except ValueError as error:
        error.add_note("look here")
        packed = envelope.pack_outcome(Outcome(Ending.RAISED, exception=ExceptionData.of(error, envelope.encodable)))
    back = envelope.unpack_outcome(packed, ()).error("t")
    assert type(back) is ValueError
    assert back.args == ("bad", 3)
    assert back.__notes__ == ["look here"]
    assert "KeyError: 'missing'" in str(back.__cause__)


def test_a_result_that_cannot_come_back_says_where_it_is() -> None:
    packed = envelope.pack_outcome(Outcome(Ending.RETURNED, value={"a": [object()]}))
    back = envelope.unpack_outcome(packed, ())
    assert back.ending is Ending.UNSENDABLE
    assert "result['a'][0]: object cannot be sent" in back.detail


def test_copies_agree_on_values_and_exceptions_and_on_nothing_else() -> None:
    def mark(outcome: Outcome) -> str:
        return envelope.fingerprint(envelope.pack_outcome(outcome))

    value = Outcome(Ending.RETURNED, value={"x": float("nan"), "y": {2, 1}}, stdout="one", seconds=1.0)
    assert mark(value) == mark(
        dataclasses.replace(value, stdout="two", seconds=9.0, value={"y": {1, 2}, "x": float("nan")})
    )
    assert mark(value) != mark(dataclasses.replace(value, value={"x": 0.0, "y": {2, 1}}))
    assert mark(Outcome(Ending.RETURNED, value=1)) != mark(Outcome(Ending.RETURNED, value=True))
    assert mark(raised(ValueError(1))) == mark(raised(ValueError(1), message="other", traceback="elsewhere"))
    assert mark(raised(ValueError(1))) != mark(raised(ValueError(2)))
    assert mark(raised(ValueError(1))) != mark(raised(TypeError(1)))


GOOD = envelope.pack_outcome(raised(ValueError("x")))


@given(st.data())
def test_hostile_bytes_are_refused_and_nothing_else(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD) - 1))
    hostile = GOOD[:at] + data.draw(st.binary(max_size=8)) + GOOD[at + 1 :]
    for read in (lambda: envelope.unpack_outcome(hostile, ()), lambda: envelope.agreement(hostile)):
        try:
            read()
        except CodecError:
            pass


@pytest.mark.parametrize(
    "value", [None, 3, [], {"format": 1}, {"format": 1, "outcomes": [1]}, {"format": 2, "outcomes": []}]
)
def test_a_file_of_something_else_is_refused(value: Any) -> None:
    with pytest.raises(CodecError):
        envelope.unpack_outcomes(encode(value))


@pytest.mark.parametrize(
    "change",
    [
        {"ending": "won"}, {"ending": 3}, {"value": 3}, {"detail": None}, {"seconds": "long"}, {"files": []}, {"files": {"a": 1}}, {"exception": []}, {"exception": {}},
        {"ending": "raised", "exception": {"module": 3}}, {"extra": 1},
    ],
)  # fmt: skip
def test_fields_of_the_wrong_kind_are_refused(change: dict[str, Any]) -> None:
    fields = {"ending": "returned", "value": encode(1), "exception": None, "detail": "", "stdout": "", "stderr": ""}
    fields |= {"started": None, "seconds": None, "cpu_seconds": None, "files": {}}
    assert envelope.unpack_outcome(encode(fields), ()).value == 1
    with pytest.raises(CodecError):
        envelope.unpack_outcome(encode(fields | change), ())
