"""Options, dependencies and files, beyond what the conformance suite has."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pymw
from pymw import DependencyFailed, Master, TaskState, UnsupportedOption

LIMIT = 60.0


@pytest.fixture
def master() -> Iterator[Master]:
    with Master("local", max_workers=2) as master:
        yield master


def fail_until(folder: str, times: int) -> str:
    """Raise so many times, counted by files."""
    done = len(list(Path(folder).iterdir()))
    Path(folder, str(done)).touch()
    if done < times:
        raise OSError(f"try {done}")
    return f"returned at try {done}"


def test_retries_are_about_exceptions(master: Master, tmp_path: Path) -> None:
    assert master.options(retries=2).submit(fail_until, str(tmp_path), 2).result(LIMIT) == "returned at try 2"


def test_retries_end(master: Master, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="try 1"):
        master.options(retries=1).submit(fail_until, str(tmp_path), 5).result(LIMIT)


def test_retry_on_chooses_the_exceptions(master: Master, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="try 0"):
        master.options(retries=3, retry_on=ValueError).submit(fail_until, str(tmp_path), 5).result(LIMIT)


def test_a_map_retries_each_item(master: Master, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    results = list(master.options(retries=1).map(fail_until, map(str, folders), [1, 0, 1], timeout=LIMIT))
    assert results == ["returned at try 1", "returned at try 0", "returned at try 1"]


def test_higher_priority_runs_earlier(tmp_path: Path) -> None:
    log, go = tmp_path / "log", tmp_path / "go"

    def wait_for(file: str) -> None:
        while not Path(file).exists():
            time.sleep(0.005)

    def note(what: str) -> None:
        with log.open("a") as file:
            file.write(what)

    with Master("local", max_workers=1) as master:
        first = master.submit(wait_for, str(go))
        low = [master.submit(note, "l") for _ in range(3)]
        high = [master.options(priority=5).submit(note, "h") for _ in range(3)]
        go.touch()
        pymw.wait([first, *low, *high], LIMIT)
    assert log.read_text() == "hhhlll"


def test_wrong_values_are_refused_at_once(master: Master) -> None:
    for wrong in ({"retries": -1}, {"attempts": 0}, {"time_limit": 0}, {"quorum": 1.5}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
            master.options(**wrong)
    for wrong in ({"time_limit": "5"}, {"deadline": float("nan")}, {"memory": "1 GB"}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}= must be positive"):
            Master("memory").options(**wrong)
    for wrong in ({"retry_on": "ValueError"}, {"retry_on": [int]}, {"priority": "high"}):
        with pytest.raises(TypeError, match=f"{next(iter(wrong))}= "):
            master.options(**wrong)
    for wrong in ({"files": __file__}, {"outputs": "loud.txt"}, {"modules": os}):
        with pytest.raises(TypeError, match=rf"write {next(iter(wrong))}=\["):
            master.options(**wrong)
    with pytest.raises(ValueError, match="a run's name has 1 to 100 characters: 3"):
        Master("memory", run=3)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedOption, match="key=: it is for named runs"):
        master.options(key="a")


def test_a_bound_master_is_an_executor_whose_end_is_not_the_masters(master: Master) -> None:
    with master.options(name="mine") as bound:
        assert bound.submit(abs, -1).name == "mine"
    assert bound.submit(abs, -1).result(LIMIT) == 1
    assert bound.options(retries=2).submit(abs, -2).result(LIMIT) == 2
    assert "name='mine'" in repr(bound)


def test_a_future_among_the_arguments_is_waited_for(master: Master) -> None:
    one = master.submit(abs, -1)
    two = master.submit(pow, 2, one)
    three = master.submit(dict, a=one, b=two)
    assert three.result(LIMIT) == {"a": 1, "b": 2}


def test_futures_in_a_list_or_tuple_are_waited_for(master: Master, tmp_path: Path, monkeypatch) -> None:
    powers = [master.submit(pow, 2, n) for n in range(5)]
    assert master.submit(sum, [*powers, 100]).result(LIMIT) == 131
    assert master.submit(max, *powers, key=abs).result(LIMIT) == 16
    assert master.submit(type, tuple(powers)).result(LIMIT) is tuple
    with pytest.raises(DependencyFailed, match="sum needs the result of int, which failed"):
        master.submit(sum, [1, master.submit(int, "x")]).result(LIMIT)
    monkeypatch.setenv("PYMW_HOME", str(tmp_path))
    for _ in range(2):
        with Master("memory", run="lists") as named:
            first = [named.submit(pow, 2, n) for n in range(5)]
            total = named.submit(sum, [*first])
            assert total.result(LIMIT) == 31
            assert total.key != named.submit(sum, first[:4]).key
    with pymw.open_run("lists") as view:
        assert len(view) == 7


def test_a_long_chain_of_dependencies(master: Master) -> None:
    future = master.submit(int, 0)
    for _ in range(50):
        future = master.submit(lambda x: x + 1, future)
    assert future.result(LIMIT) == 50


def test_the_failure_of_a_dependency_is_the_cause(master: Master) -> None:
    broken = master.submit(int, "x")
    after = master.submit(abs, broken)
    error = after.exception(LIMIT)
    assert isinstance(error, DependencyFailed)
    assert isinstance(error.__cause__, ValueError)
    assert after.state is TaskState.FAILED
    assert isinstance(master.submit(abs, after).exception(LIMIT), DependencyFailed)


def test_a_dependencys_key_enters_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path))
    log: list[int] = []

    def double(x: int) -> int:
        log.append(x)
        return 2 * x

    for _ in range(2):
        with Master("memory", run="chain") as master:
            future = master.submit(abs, -1)
            # The list is the test's own; its content must not count as what the function is.
            assert master.options(key="double").submit(double, future).result(LIMIT) == 2
            assert master.submit(pow, future, 2).result(LIMIT) == 1
    with pymw.open_run("chain") as view:
        assert view.counts()["returned"] == len(view) <= 4


def read_and_write() -> str:
    text = Path("input.txt").read_text()
    Path("output.txt").write_text(text.upper())
    return text


def test_files_are_there_under_their_names_and_outputs_come_back(master: Master, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("hello")
    options = master.options(files={"input.txt": tmp_path / "data.txt"}, outputs=["output.txt"])
    future = options.submit(read_and_write)
    assert future.result(LIMIT) == "hello"
    assert future.files == {"output.txt": b"HELLO"}
    assert not list(tmp_path.glob("output.txt"))


def test_files_in_a_map(master: Master, tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text("abc")

    def letter(i: int) -> str:
        return Path("input.txt").read_text()[i]

    assert list(master.options(files=[tmp_path / "input.txt"]).map(letter, range(3), timeout=LIMIT)) == ["a", "b", "c"]


def test_a_map_leaves_the_files_of_each_item_in_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))
    (tmp_path / "input.txt").write_text("abc")

    def split(i: int) -> int:
        text = Path("input.txt").read_text()
        Path("parts").mkdir()
        Path("parts/letter.txt").write_text(text[i])
        return i

    options = {"files": [tmp_path / "input.txt"], "outputs": ["parts/letter.txt"]}
    for folder in ("first", "again"):  # the second time they come from the journal
        with Master("local:1", run="split") as master:
            results = master.options(**options, into=tmp_path / folder).map(split, range(3), timeout=LIMIT)
            assert list(results) == [0, 1, 2]
        letters = [(tmp_path / folder / str(i) / "parts" / "letter.txt").read_text() for i in range(3)]
        assert letters == ["a", "b", "c"]
    with pymw.open_run("split") as view:
        assert [future.result() for future in view] == [0, 1, 2]


def test_outputs_of_a_map_need_a_folder(master: Master, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="outputs= of a map needs into="):
        master.options(outputs=["x"]).map(abs, range(3))
    with pytest.raises(ValueError, match="into= is the folder for outputs="):
        master.options(into=tmp_path)
    (tmp_path / "occupied").touch()  # a file where the folder should be: the task fails, and nobody hangs

    def leave() -> None:
        Path("x").touch()

    one = master.options(outputs=["x"], into=tmp_path / "occupied")
    assert isinstance(one.submit(leave).exception(LIMIT), OSError)
    many = one.map(lambda _: leave(), range(2), on_error="return", timeout=LIMIT)
    assert all(isinstance(error, OSError) for error in many)
    future = master.options(outputs=["x"], into=tmp_path / "free").submit(leave)
    future.result(LIMIT)
    assert (tmp_path / "free" / "x").exists()


def test_files_that_are_not_there_or_lead_out_are_refused(master: Master, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.txt"):
        master.options(files=["nothing.txt"])
    (tmp_path / "a").touch()
    with pytest.raises(ValueError, match="leads out"):
        master.options(files={"../a": tmp_path / "a"})
    error = master.options(outputs=["never"]).submit(abs, 1).exception(LIMIT)
    assert isinstance(error, FileNotFoundError)
    assert "left no file never" in str(error)


def test_a_task_that_writes_to_its_data_file_leaves_the_original_alone(master: Master, tmp_path: Path) -> None:
    data = tmp_path / "input.txt"
    data.write_text("#!/bin/sh\necho a\n")
    data.chmod(0o755)

    def change() -> bool:
        with Path("input.txt").open("a") as file:
            file.write("b")
        return os.access("input.txt", os.X_OK)

    assert master.options(files=[data]).submit(change).result(LIMIT)
    assert data.read_text() == "#!/bin/sh\necho a\n"


def test_a_changed_data_file_is_computed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))
    data = tmp_path / "input.txt"

    def size() -> int:
        return len(Path("input.txt").read_text())

    for text in ("a", "ab", "ab"):
        data.write_text(text)
        with Master("local:1", run="files") as master:
            assert master.options(files=[data]).submit(size).result(LIMIT) == len(text)
    with pymw.open_run("files") as view:
        assert len(view) == 2


def test_retries_in_a_named_run_record_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))
    tries = tmp_path / "tries"
    tries.mkdir()
    for _ in range(2):
        with Master("local:1", run="retried") as master:
            assert master.options(retries=1).submit(fail_until, str(tries), 1).result(LIMIT) == "returned at try 1"


def test_a_name_is_what_people_read_and_a_hint_of_the_time_is_taken_everywhere(master: Master) -> None:
    future = master.options(name="the sum of all", est_seconds=0.5).submit(sum, [1, 2])
    assert future.result(LIMIT) == 3
    assert future.name == "the sum of all"
    assert "the sum of all" in repr(future)
    assert future.explain().startswith("the sum of all returned")


def test_nested_masters_share_the_cores(master: Master) -> None:
    def inner() -> tuple[int, int]:
        with Master("local") as nested:
            return nested.status().carried.workers or 0, nested.submit(abs, -4).result()

    workers, result = master.submit(inner).result(LIMIT)
    assert (workers, result) == (max(1, len(os.sched_getaffinity(0)) // 2), 4)


def test_callbacks_may_submit(master: Master) -> None:
    done = threading.Event()
    results: list[int] = []

    def again(future: object) -> None:
        def keep(after: pymw.TaskFuture) -> None:
            results.append(after.result())
            done.set()

        master.submit(abs, -8).add_done_callback(keep)  # type: ignore[arg-type]

    master.submit(abs, -7).add_done_callback(again)
    assert done.wait(LIMIT)
    assert results == [8]
