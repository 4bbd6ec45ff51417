"""Large values: where they lie, who may use them when, and that nothing of them is left behind."""

from __future__ import annotations

import itertools
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pymw.test_losses import eventually, gone, how

from pymw import Master
from pymw.backends.local.memory import MAPPED, Heap, Place, Window, create
from pymw.backends.local.store import RECENT, Store
from pymw.backends.local.wire import APART

LIMIT = 60.0
MIB = 1 << 20

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="all values go by the pipes there")


@pytest.fixture
def master() -> Iterator[Master]:
    with Master("local", max_workers=2) as master:
        yield master


def where(array: Any) -> tuple[int, int, bool]:
    return os.getpid(), array.__array_interface__["data"][0], bool(array.flags.writeable)


def doubled(array: Any) -> Any:
    return array * 2


def same(x: Any) -> Any:
    return x


# The heap and the store, without processes.


@settings(deadline=None, max_examples=60)
@given(steps=st.lists(st.tuples(st.integers(1, 3 * MIB), st.integers(0, 9)), min_size=1, max_size=40))
def test_what_lies_in_a_heap_stays_as_it_is_until_it_is_freed(steps: list[tuple[int, int]]) -> None:
    heap, window = Heap(create(), 1 << 26), Window(-1)
    window.descriptor = os.dup(heap.descriptor)
    held: list[tuple[Place, bytes]] = []
    for number, (size, action) in enumerate(steps):
        if action < 3 and held:
            heap.free(held.pop(size % len(held))[0])
        content = number.to_bytes(4, "big") * -(-size // 4)
        if (place := heap.put([content[: size // 2], content[size // 2 : size]], size)) is not None:
            held.append((place, content[:size]))
        spans = sorted(place for place, _ in held)
        assert all(sum(a) <= b[0] for a, b in itertools.pairwise(spans))
    for place, content in held:
        assert bytes(window.at(place)) == content
    for place, _ in held:
        heap.free(place)
    whole = heap.put([bytes(MIB)], MIB)
    assert whole == (0, MIB)  # what was freed is one piece again
    heap.close()
    window.close()


def test_a_heap_gives_back_what_it_has_no_more_use_for() -> None:
    heap = Heap(create(), 1 << 29)
    size = 200 * MIB
    place = heap.put([], size)
    assert place == (0, size)
    heap.free(place)
    assert os.fstat(heap.descriptor).st_blocks * 512 < size
    small = heap.put([b"x" * MIB], MIB)
    assert small is not None
    assert bytes(heap.at(small)) == b"x" * MIB
    heap.close()


def test_a_heap_has_a_limit_and_a_closed_one_no_room() -> None:
    heap = Heap(create(), MAPPED)
    assert heap.put([b"x"], MAPPED + 1) is None
    assert heap.put([b"x"], 1) is not None
    heap.close()
    assert heap.put([b"x"], 1) is None
    assert Heap(-1, MAPPED).put([b"x"], 1) is None  # a system without such memory


def test_what_is_lent_is_gone_with_its_last_view() -> None:
    heap = Heap(create(), MAPPED)
    window = Window(os.dup(heap.descriptor))
    place = heap.put([bytes(range(200))], 200)
    assert place is not None
    view = window.lend(place)
    again = window.lend(place)
    part = again[100:]
    view.release()
    again.release()
    assert (window.lent(), list(window.gone)) == ([0], [])
    assert part[0] == 100
    part.release()
    del view, again, part
    assert (window.lent(), list(window.gone)) == ([], [place])
    window.close()
    heap.close()


def test_a_store_has_each_content_once_as_long_as_it_is_of_use() -> None:
    store = Store()
    content = os.urandom(MIB)
    first = store.keep(memoryview(content))
    assert first is not None
    assert store.keep(memoryview(bytearray(content))) is first
    changed = bytearray(content)
    changed[12345] ^= 1  # where no sample is taken
    other = store.keep(memoryview(changed))
    assert other is not None
    assert other is not first
    place = first.place
    del first
    for number in range(RECENT // MIB + 1):  # content that was not asked for lately makes room
        store.keep(memoryview(number.to_bytes(4, "big") * (MIB // 4)))
    assert store.keep(memoryview(content)) is not None
    taken = store.put([b"y"], 1)
    assert taken is not None
    assert place[0] <= taken.place[0] or taken.place[0] < other.place[0]
    store.close()


# Through workers.


def test_arrays_are_used_where_they_lie_and_are_not_to_be_changed(master: Master) -> None:
    array = np.arange(APART, dtype=np.float64)
    futures = [master.submit(where, array.copy()) for _ in range(40)]
    seen = {future.result(LIMIT) for future in futures}
    assert len(seen) <= 2  # one place for each worker, whatever the number of tasks
    assert not any(writeable for *_, writeable in seen)
    captured = [master.submit(lambda: where(array)) for _ in range(10)]
    again = {future.result(LIMIT) for future in captured}
    met = {pid for pid, *_ in seen}  # a busy machine may have given everything before to one worker
    assert {place for place in again if place[0] in met} <= seen
    assert not any(writeable for *_, writeable in again)


def test_what_comes_home_is_the_callers_own(master: Master) -> None:
    arrays = [np.full(APART, n) for n in range(30)]
    first = list(master.map(doubled, arrays))
    for result in first:
        result += 1  # writable
    for _ in range(5):  # does not touch what is held
        again = list(master.map(doubled, arrays))
    assert all((result == 2 * n + 1).all() for n, result in enumerate(first))
    assert all((result == 2 * n).all() for n, result in enumerate(again))


def test_what_a_worker_keeps_stays_as_it_was(master: Master) -> None:
    def keep(array: Any) -> list[float]:
        import builtins

        kept = builtins.__dict__.setdefault("kept", [])
        kept.append(array)
        return [float(one[-1]) for one in kept if (one == one[0]).all()]

    with Master("local", max_workers=1) as one:
        for n in range(1, 31):
            assert one.submit(keep, np.full(APART, float(n))).result(LIMIT) == [float(k) for k in range(1, n + 1)]


def test_large_values_of_all_kinds_go_there_and_back(master: Master) -> None:
    values = [
        os.urandom(3 * MIB),
        bytearray(b"x" * MIB),
        "ä" * MIB,
        list(range(200_000)),
        {"array": np.arange(MIB), "more": [np.ones((300, 300)), b"z" * MIB]},
        np.arange(2 * APART)[::2],  # not in one piece
        np.asfortranarray(np.arange(2 * APART).reshape(2, APART)),
        np.array(["a", None] * APART, dtype=object),
        np.zeros(0),
    ]
    for returned in ([master.submit(same, value).result(LIMIT) for value in values], list(master.map(same, values))):
        for value, back in zip(values, returned, strict=True):
            assert type(back) is type(value)
            np.testing.assert_equal(back, value)


def test_results_outlive_the_worker_and_the_master() -> None:
    with Master("local", max_workers=1) as master:
        kept = master.submit(doubled, np.arange(APART)).result(LIMIT)
        pid = master.submit(os.getpid).result(LIMIT)
        os.kill(pid, signal.SIGKILL)
        again = master.submit(doubled, np.arange(APART)).result(LIMIT)
    assert (kept == again).all()
    assert kept[-1] == 2 * (APART - 1)


def in_shared_memory() -> set[Path]:
    return set(Path("/dev/shm").glob("pymw*"))


SCRIPT = """
import os, signal, sys, threading
import numpy
from pymw import Master

def work(array, shared, captured=None):
    return array + shared[0], os.getpid()

with Master("local", max_workers=2) as master:
    shared = master.share(numpy.ones(1000_000))
    big = numpy.ones(1000_000)
    results = list(master.map(work, [big + n for n in range(20)], [shared] * 20))
    pids = {pid for _, pid in results} | {master.submit(lambda: (big.sum(), os.getpid())).result()[1]}
    print(*pids, flush=True)
    threading.Event().wait(60)
"""


@pytest.mark.parametrize("victim", ["master", "worker"])
def test_nothing_is_left_of_who_is_killed(victim: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    before = in_shared_memory()
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert pids
        for pid in pids if victim == "worker" else []:
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait(LIMIT)
    assert eventually(lambda: all(gone(pid) for pid in pids))
    assert not [path.name for path in tmp_path.iterdir() if path != script]
    assert in_shared_memory() <= before


HUGE = 256 * MIB


def huge(flag: str, first: str) -> Any:
    """At the first try, say which process is about to write so much shared memory."""
    result = np.full(HUGE, 7, dtype=np.uint8)
    if not Path(first).exists():
        Path(first).touch()
        Path(flag).write_text(str(os.getpid()))
    return result


def shared_by(pid: int) -> list[Path]:
    """The pieces of shared memory that a process has open."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if descriptor.readlink().name.startswith("memfd:pymw"):
                found.append(descriptor)
        except FileNotFoundError:
            pass  # closed meanwhile
    return found


def stopped_in_the_middle(pid: int) -> bool:
    """Stop the process while it writes: the first of its bytes are there, and the last are not."""
    deadline = time.monotonic() + LIMIT
    while not (grown := [memory for memory in shared_by(pid) if memory.stat().st_blocks * 512 >= HUGE]):
        assert time.monotonic() < deadline
    os.kill(pid, signal.SIGSTOP)
    content = grown[0].open("rb", buffering=0)
    with content, mmap.mmap(content.fileno(), HUGE, prot=mmap.PROT_READ) as memory:
        return memory[HUGE - MIB] == 0


@pytest.mark.parametrize("mapped", [False, True])
def test_a_worker_killed_while_it_writes_shared_memory_costs_an_attempt_and_leaves_nothing(
    mapped: bool, tmp_path: Path
) -> None:
    flag, first, before = tmp_path / "pid", tmp_path / "first", in_shared_memory()
    mine = len(shared_by(os.getpid()))
    with Master("local", max_workers=2) as master:
        for _ in range(20):  # the system may well give this process its turn too late
            if mapped:
                results = master.map(huge, [str(flag)], [str(first)], timeout=LIMIT)
            else:
                future = master.submit(huge, str(flag), str(first))
            assert eventually(lambda: flag.exists() and flag.read_text())
            pid = int(flag.read_text())
            in_the_middle = stopped_in_the_middle(pid)
            os.kill(pid, signal.SIGKILL)
            array = next(results) if mapped else future.result(LIMIT)
            assert int(array.sum(dtype=np.int64)) == 7 * HUGE
            if in_the_middle:
                break
            flag.unlink()
            first.unlink()
        assert in_the_middle
        assert mapped or [how(attempt) for attempt in future.attempts] == ["killed by SIGKILL"]
        assert list(master.map(abs, range(-100, 0), timeout=LIMIT)) == list(range(100, 0, -1))
        array = future = results = None  # type: ignore[assignment]
    assert eventually(lambda: gone(pid))
    assert in_shared_memory() <= before
    assert len(shared_by(os.getpid())) == mine


SCARCE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
import numpy
from pymw import Master

def same(x):
    return x

with Master("local", max_workers=2) as master:
    blobs = [bytes([n]) * (1 << 20) for n in range(60)]
    arrays = [numpy.full(1 << 17, n) for n in range(60)]
    assert list(master.map(same, blobs)) == blobs
    assert [int(a.sum()) for a in master.map(same, arrays)] == [int(a.sum()) for a in arrays]
    assert [f.result() for f in [master.submit(same, blob) for blob in blobs]] == blobs
    shared = master.share(arrays[-1])
    assert master.submit(lambda a: int(a[0]), shared).result() == 59
print("done")
"""


@pytest.mark.parametrize("room", [0, 40 * MIB])
def test_where_shared_memory_is_scarce_values_go_by_the_sockets(room: int) -> None:
    script = [sys.executable, "-c", SCARCE, str(max(room, 200_000))]
    done = subprocess.run(script, capture_output=True, text=True, timeout=2 * LIMIT, check=False)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
