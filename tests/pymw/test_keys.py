"""Keys in little memory: they are what they are as a list and as numbers, however they are cut."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymw.backends.protocol import Batch
from pymw.keys import Keys, Occurrences, UnderWay
from pymw.turns import Turns

LIMIT = 30.0
some_keys = st.lists(st.binary(min_size=20, max_size=20).map(bytes.hex), max_size=30)


@given(keys=some_keys, start=st.integers(-40, 40), stop=st.integers(-40, 40), step=st.sampled_from([1, 2, -1]))
def test_keys_are_a_list_of_them(keys: list[str], start: int, stop: int, step: int) -> None:
    packed = Keys(keys)
    assert list(packed) == keys
    assert [packed[i] for i in range(len(packed))] == keys
    assert list(packed[start:stop:step]) == keys[start:stop:step]
    if keys:
        assert packed[-1] == keys[-1]
    with pytest.raises(IndexError):
        packed[len(keys)]


def test_a_key_takes_twenty_bytes() -> None:
    packed = Keys(f"{n:040x}" for n in range(10_000))
    assert sys.getsizeof(packed._packed) < 20 * 10_000 + 100


@pytest.mark.parametrize("at_hand", [3, 1 << 14])
@given(calls=st.lists(st.lists(st.sampled_from("abcdef"), max_size=1200), max_size=5))
def test_occurrences_count_equal_calls_in_their_order(at_hand: int, calls: list[list[str]]) -> None:
    occurrences, seen = Occurrences(), Counter[str]()
    with mock.patch("pymw.keys.AT_HAND", at_hand):
        for some in calls:
            expected = []
            for call in some:
                expected.append(seen[call])
                seen[call] += 1
            assert occurrences.numbers(some) == expected
    occurrences.close()


@given(seed=st.integers(0, 1 << 32))
def test_a_key_is_given_once_and_only_to_its_task(seed: int) -> None:
    chance = random.Random(seed)
    call: Any = None
    under_way, keys, first = UnderWay(), dict[int, str](), 0
    for _ in range(chance.randrange(1, 5)):
        count = chance.randrange(1, 12)
        indices: Any = range(first, first + count)
        if chance.random() < 0.5:  # the run knew some of them already
            indices = sorted(chance.sample(indices, chance.randrange(1, count + 1)))
        first += count
        named = Keys(f"{index:040x}" for index in indices)
        keys |= dict(zip(indices, named, strict=True))
        under_way.add(Batch(call, indices, (), {}, named))
    while keys or chance.random() < 0.5:
        at, count = chance.randrange(-1, first + 1), chance.randrange(1, 5)
        if chance.random() < 0.3:
            assert under_way.key(at, ends=False) == keys.get(at)
        assert under_way.take(at, count) == [keys.pop(index, None) for index in range(at, at + count)]
    assert not under_way._parts


def test_a_turn_goes_over_to_a_thread_and_others_wait_for_it() -> None:
    turns, order, go = Turns(), list[str](), threading.Event()

    def steps() -> Any:
        assert go.wait(LIMIT)
        order.append("the rest")
        with turns:  # once more, in the thread that has it
            yield

    def another() -> None:
        with turns:
            order.append("another")

    with turns, turns:
        turns.hand_over(steps())
    waiting = threading.Thread(target=another)
    waiting.start()
    assert order == []
    go.set()
    waiting.join(LIMIT)
    assert order == ["the rest", "another"]
    turns.close()
    turns.close()


def test_closing_ends_the_steps() -> None:
    turns, taken, first = Turns(), list[int](), threading.Event()

    def steps() -> Any:
        while True:
            taken.append(1)
            first.set()
            yield

    with turns:
        turns.hand_over(steps())
    assert first.wait(LIMIT)
    turns.close()
    count = len(taken)
    with turns:
        assert len(taken) == count
