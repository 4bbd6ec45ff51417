"""How what waits is cut into chunks: no processes, no clock."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pymw.backends.local.chunks import LARGEST, LONGEST, SHORTEST, Chunk, Queue, Stretch, worth
from pymw.backends.local.live import LONGEST_CHUNK
from pymw.backends.protocol import Batch, Call
from pymw.outcome import Attempt
from pymw.shipping import Shipment
from pymw.task import TaskOptions


class Nobody:
    def begin(self, index: int, count: int, worker: str) -> bool:
        return True

    def receive(self, event: object) -> None:
        raise AssertionError


def stretch(count: int, shipment: Shipment | None = None, *, many: bool = True, **options: Any) -> Stretch:
    call = Call(abs, TaskOptions(**options), Nobody(), many=many)
    return Stretch(Batch(call, range(count), (range(count),)), shipment or Shipment(b""), 0, count)


def measured(pace: float, size: float = 0.0, items: int = 10**6) -> Shipment:
    return Shipment(b"", items=items, pace=pace, size=size)


def take(queue: Queue, workers: int = 2) -> list[int]:
    return [len(taken) for taken in queue.take(workers)]


def test_nothing_is_known_of_the_first_task() -> None:
    queue = Queue()
    queue.put(stretch(1000))
    assert take(queue) == [1]
    assert queue.tasks == 999


def test_a_chunk_holds_no_more_than_a_tenth_of_a_second() -> None:
    assert worth(measured(0.01), share=1000) == LONGEST / 0.01
    assert worth(measured(1.0), share=1000) == 1


def test_a_chunk_is_no_smaller_than_what_its_message_costs() -> None:
    assert worth(measured(1e-6), share=1) == int(SHORTEST / 1e-6)


def test_large_values_travel_in_small_chunks() -> None:
    assert worth(measured(1e-6, size=1 << 20), share=1000) == LARGEST >> 20


def test_trust_in_a_measurement_grows() -> None:
    assert worth(measured(1e-6, items=1), share=10_000) == 16


def test_single_tasks_of_a_known_function_share_a_chunk() -> None:
    queue, known = Queue(), measured(1e-4)
    for _ in range(100):
        queue.put(stretch(1, known, many=False))
    assert 10 < len(take(queue)) <= 25  # a fair share for two workers is a quarter of what waits


def test_what_took_a_worker_along_runs_alone() -> None:
    queue, known = Queue(), measured(1e-4)
    suspect = stretch(1, known)
    suspect.lost = (Attempt("process 1", "killed by SIGKILL"),)
    for one in (stretch(1, known), suspect, stretch(1, known)):
        queue.put(one)
    assert [take(queue), take(queue), take(queue)] == [[1], [1], [1]]


def test_at_most_once_is_one_task_at_a_time() -> None:
    queue = Queue()
    queue.put(stretch(3, measured(1e-6), attempts=1))
    assert [take(queue) for _ in range(4)] == [[1], [1], [1], []]


def test_higher_priority_comes_first() -> None:
    queue = Queue()
    low, high = stretch(1), stretch(1, priority=2)
    queue.put(low)
    queue.put(high)
    assert [queue.take(1)[0].batch, queue.take(1)[0].batch] == [high.batch, low.batch]


def test_what_is_dropped_leaves_the_others_in_their_turn() -> None:
    queue = Queue()
    first, dropped, last = stretch(1), stretch(10**12), stretch(1)
    for one in (first, dropped, last, stretch(1, priority=1)):
        queue.put(one)
    queue.put(dropped.part(0, 5), front=True)
    for _ in range(2):
        queue.drop(dropped.batch.call)
    assert queue.tasks == 3
    queue.take(1)
    assert [queue.take(1)[0].batch, queue.take(1)[0].batch] == [first.batch, last.batch]
    assert queue.tasks == 0


@settings(deadline=None, max_examples=40)  # the machine may be busy
@given(
    sizes=st.lists(st.integers(1, 2000), min_size=1, max_size=20),
    pace=st.floats(0, 2, allow_nan=False),
    items=st.integers(0, 10**6),
    workers=st.integers(1, 64),
)
def test_every_task_is_handed_out_once(sizes: list[int], pace: float, items: int, workers: int) -> None:
    queue, shipment = Queue(), measured(max(pace, 1e-4), items=items)
    batches = [stretch(size, shipment) for size in sizes]
    for one in batches:
        queue.put(one)
    handed: dict[int, list[int]] = {}
    while taken := queue.take(workers):
        assert sum(map(len, taken)) <= LONGEST_CHUNK
        for part in taken:
            handed.setdefault(id(part.batch), []).extend(range(part.start, part.end))
    assert queue.tasks == 0
    assert all(handed[id(one.batch)] == list(range(len(one.batch))) for one in batches)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9), data=st.data())
def test_positions_lead_to_tasks_and_back(sizes: list[int], data: st.DataObject) -> None:
    chunk = Chunk(1, [stretch(size) for size in sizes], sum(sizes), 0.0)
    flat = [(which, index) for which, size in enumerate(sizes) for index in range(size)]
    for position, (which, index) in enumerate(flat):
        found, offset = chunk.at(position)
        assert (chunk.stretches.index(found), found.index(offset)) == (which, index)
    start = data.draw(st.integers(0, len(flat)))
    end = data.draw(st.integers(start, len(flat)))
    parts = list(chunk.parts(start, end))
    assert [part.index(i) for part in parts for i in range(len(part))] == [index for _, index in flat[start:end]]
