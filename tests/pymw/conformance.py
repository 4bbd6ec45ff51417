"""What every backend must do: one mixin per behaviour, a few tasks each, so that slow backends can run it too.

A backend comes under the suite by a test module with a class that provides `master`:

    class TestMine(Suite):
        @pytest.fixture(scope="class")          # one master for all the tests, where opening one is slow
        @classmethod
        def master(cls): ...
        limit = 60.0                            # seconds that any one result may take
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import sys
import threading
import time
import types
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Executor, Future
from pathlib import Path

import pytest

import pymw
from pymw import Master, RemoteError, TaskFuture, TaskState


def square(x: int) -> int:
    return x * x


def add(a: int, b: int, *, c: int = 0) -> int:
    return a + b + c


def fail(x: int) -> int:
    raise ValueError(f"no {x}")


def fail_on_two(x: int) -> int:
    if x == 2:
        raise LookupError("two")
    return x


def tell(fraction: float) -> str:
    pymw.progress(fraction)
    pymw.log("telling")
    pymw.log(fraction)
    pymw.checkpoint.save({"fraction": fraction})
    return "told"


def tell_and_fail() -> None:
    pymw.log("so far")
    print("and then")
    raise ValueError("no further")


def saved_and_due() -> tuple[object, object, bool]:
    before = pymw.checkpoint.load("nothing")
    pymw.checkpoint.save([1, 2])
    return before, pymw.checkpoint.load("nothing"), pymw.checkpoint.due()


def speak(words: str) -> int:
    print(words)
    thread = threading.Thread(target=print, args=("aside",))
    thread.start()
    thread.join()
    print(words.upper(), file=sys.stderr)
    return len(words)


class TwoArguments(Exception):
    def __init__(self, left: int, right: int) -> None:
        super().__init__(left, right)
        self.left, self.right = left, right


def raise_two(left: int, right: int) -> None:
    raise TwoArguments(left, right)


def raise_with_cause() -> None:
    try:
        {}["missing"]
    except KeyError as error:
        problem = RuntimeError("outer")
        problem.add_note("look here")
        raise problem from error


def raise_group() -> None:
    raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])


def leave() -> None:
    raise SystemExit(3)


def interrupt() -> None:
    raise KeyboardInterrupt("from inside")


class Unsendable(ValueError):
    def __init__(self, text: str) -> None:
        super().__init__(text, threading.Lock())
        self.lock = threading.Lock()


def raise_unsendable() -> None:
    raise Unsendable("holds a lock")


def raise_unheard_of() -> None:
    """Of a class in a module that only the worker has."""
    module = types.ModuleType("only_at_the_worker")
    exec("class Odd(KeyError):\n    def __init__(self, a, b): super().__init__(a + b)", vars(module))
    raise module.Odd("un", "heard")


def shout(word: str) -> int:
    Path("loud.txt").write_text(Path("hello.txt").read_text().upper() + word)
    return len(word)


class Backed:
    """What the mixins need of the class that they are mixed into."""

    limit = 60.0

    @pytest.fixture
    def master(self) -> Iterator[Master]:
        raise NotImplementedError


class Submits(Backed):
    def test_is_an_executor(self, master: Master) -> None:
        assert isinstance(master, Executor)
        future = master.submit(square, 3)
        assert isinstance(future, Future)
        assert isinstance(future, TaskFuture)
        assert future.result(self.limit) == 9
        assert future.state is TaskState.DONE
        assert future.progress == 1.0

    def test_passes_positional_and_keyword_arguments(self, master: Master) -> None:
        assert master.submit(add, 1, 2, c=3).result(self.limit) == 6

    def test_as_completed_and_wait_are_the_standard_ones(self, master: Master) -> None:
        futures = [master.submit(square, n) for n in range(6)]  # more than four: the limit of 2009
        assert sorted(future.result() for future in pymw.as_completed(futures, self.limit)) == [0, 1, 4, 9, 16, 25]
        done, left = pymw.wait(futures, self.limit, FIRST_EXCEPTION)
        assert (len(done), len(left)) == (6, 0)

    def test_a_callback_is_called(self, master: Master) -> None:
        called = threading.Event()
        future = master.submit(square, 2)
        future.add_done_callback(lambda _: called.set())
        assert called.wait(self.limit)

    def test_can_be_awaited(self, master: Master) -> None:
        async def main() -> int:
            return await asyncio.wait_for(asyncio.wrap_future(master.submit(square, 5)), self.limit)

        assert asyncio.run(main()) == 25

    def test_a_future_tells(self, master: Master) -> None:
        future = master.submit(square, 4)
        assert future.name == "square"
        assert future.id
        before = time.time()
        future.result(self.limit)
        assert "square" in repr(future)
        assert before - self.limit < future.submitted <= time.time()
        assert future.started is None or future.submitted - 5 <= future.started <= time.time() + 5
        assert future.worker
        assert future.attempts == ()
        assert "returned" in future.explain()
        assert "square" in future._repr_html_()


class Maps(Backed):
    def test_keeps_the_order(self, master: Master) -> None:
        assert list(master.map(square, range(8), timeout=self.limit)) == [n * n for n in range(8)]

    def test_takes_rows_of_several_inputs(self, master: Master) -> None:
        assert list(master.map(add, [1, 2, 3], itertools.repeat(10), timeout=self.limit)) == [11, 12, 13]
        assert list(master.map(add, (1, 2, 3), iter([5, 5]), timeout=self.limit)) == [6, 7]

    def test_of_nothing_is_nothing(self, master: Master) -> None:
        assert list(master.map(square, [])) == []
        assert list(master.map(square, iter([]))) == []

    def test_never_swallows_an_endless_input(self, master: Master) -> None:
        numbers = itertools.count()
        results = master.map(square, numbers, buffersize=3, timeout=self.limit)
        assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
        del results
        assert next(numbers) <= 5 + 3

    def test_reads_an_endless_input_no_further_than_the_workers_need(self, master: Master) -> None:
        numbers = itertools.count()
        results = master.map(square, numbers, timeout=self.limit)
        assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
        read = next(numbers)
        assert read < 1 << 18  # the largest window, however late the first result came
        assert next(numbers) == read + 1  # nobody goes on reading behind the caller's back

    def test_gives_results_as_they_come(self, master: Master) -> None:
        assert sorted(master.map(square, range(6), ordered=False, timeout=self.limit)) == [0, 1, 4, 9, 16, 25]

    def test_a_failing_item_neither_hangs_nor_hides_the_others(self, master: Master) -> None:
        kept = list(master.map(fail_on_two, range(4), on_error="return", timeout=self.limit))
        assert kept[:2] == [0, 1]
        assert isinstance(kept[2], LookupError)
        assert kept[3] == 3
        assert list(master.map(fail_on_two, range(4), on_error="skip", timeout=self.limit)) == [0, 1, 3]
        results = master.map(fail_on_two, range(4), timeout=self.limit)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(LookupError, match="two"):
            next(results)

    def test_reads_a_sized_input_once_and_at_the_call(self, master: Master) -> None:
        numbers = [1, 2, 3]
        results = master.map(square, numbers, timeout=self.limit)
        numbers.clear()
        assert list(results) == [1, 4, 9]

    def test_refuses_nonsense(self, master: Master) -> None:
        for wrong in ({"chunksize": 0}, {"buffersize": 0}, {"on_error": "ignore"}):
            with pytest.raises(ValueError):
                master.map(square, [1], **wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            master.map(square, [1], buffersize="many")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            list(master.map(square, 5))  # type: ignore[arg-type]


class Functions(Backed):
    def test_a_lambda(self, master: Master) -> None:
        assert master.submit(lambda x: x + 1, 1).result(self.limit) == 2

    def test_a_closure(self, master: Master) -> None:
        step = 10

        def forward(x: int) -> int:
            return square(x) + step

        assert master.submit(forward, 2).result(self.limit) == 14

    def test_a_function_of_a_notebook_cell_in_its_newest_form(self, master: Master) -> None:
        cells: dict[str, object] = {"__name__": "__main__"}
        exec("def helper(x): return x + 1\ndef function(x): return helper(x)", cells)
        assert master.submit(cells["function"], 1).result(self.limit) == 2  # type: ignore[arg-type]
        exec("def helper(x): return x + 100", cells)
        assert master.submit(cells["function"], 1).result(self.limit) == 101  # type: ignore[arg-type]


class Failures(Backed):
    def test_an_exception_comes_home_with_its_traceback(self, master: Master) -> None:
        future = master.submit(fail, 7)
        with pytest.raises(ValueError, match="no 7") as caught:
            future.result(self.limit)
        told = str(caught.value.__cause__)
        assert 'raise ValueError(f"no {x}")' in told, told
        assert future.state is TaskState.FAILED
        assert "ValueError: no 7" in future.explain()

    def test_an_exception_with_any_constructor_comes_home(self, master: Master) -> None:
        error = master.submit(raise_two, 1, 2).exception(self.limit)
        assert isinstance(error, TwoArguments)
        assert (error.left, error.right) == (1, 2)

    def test_notes_and_causes_are_kept(self, master: Master) -> None:
        error = master.submit(raise_with_cause).exception(self.limit)
        assert isinstance(error, RuntimeError)
        assert error.__notes__ == ["look here"]
        assert "KeyError" in str(error.__cause__)

    def test_a_group_comes_home(self, master: Master) -> None:
        error = master.submit(raise_group).exception(self.limit)
        assert isinstance(error, ExceptionGroup)
        assert [type(member) for member in error.exceptions] == [ValueError, TypeError]

    def test_leaving_the_interpreter_is_only_an_exception(self, master: Master) -> None:
        error = master.submit(leave).exception(self.limit)
        assert isinstance(error, SystemExit)
        assert error.code == 3
        assert isinstance(master.submit(interrupt).exception(self.limit), KeyboardInterrupt)
        kept = list(master.map(lambda x: interrupt() if x == 1 else x, range(3), on_error="return", timeout=self.limit))
        assert [type(value) for value in kept] == [int, KeyboardInterrupt, int]
        assert master.submit(square, 2).result(self.limit) == 4

    def test_an_exception_that_cannot_be_encoded_comes_home_as_what_it_is(self, master: Master) -> None:
        error = master.submit(raise_unsendable).exception(self.limit)
        assert isinstance(error, ValueError)
        assert "holds a lock" in str(error)
        assert type(error).__name__ == "Unsendable"
        assert "raise Unsendable" in str(error.__cause__)

    def test_an_exception_of_a_class_that_the_master_lacks_is_caught_by_its_ancestor(self, master: Master) -> None:
        try:
            master.submit(raise_unheard_of).result(self.limit)
        except KeyError as error:
            assert "unheard" in str(error)
            if master.backend != "memory" and "Thread" not in master.backend:
                assert isinstance(error, RemoteError)
                assert error.data is not None
                assert (error.data.module, error.data.qualname) == ("only_at_the_worker", "Odd")

    def test_exceptions_are_retried_when_asked_and_only_then(self, master: Master) -> None:
        assert isinstance(
            master.options(retries=1, retry_on=KeyError).submit(fail, 1).exception(self.limit), ValueError
        )
        assert isinstance(master.options(retries=1).submit(fail, 1).exception(self.limit), ValueError)


class Beside(Backed):
    def test_progress_log_and_checkpoint_do_no_harm(self, master: Master) -> None:
        future = master.submit(tell, 0.5)
        assert future.result(self.limit) == "told"
        assert future.log == (("telling", "0.5") if master.capabilities.logs else ())
        assert list(master.map(tell, [0.1, 0.9], timeout=self.limit)) == ["told", "told"]

    def test_what_is_logged_in_a_map_is_seen_too(self, master: Master, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("INFO", "pymw.task"):
            assert list(master.map(tell, [0.1, 0.9], timeout=self.limit)) == ["told", "told"]
        lines = ["tell 0: 0.1", "tell 0: telling", "tell 1: 0.9", "tell 1: telling"]
        assert sorted(caplog.messages) == (lines if master.capabilities.logs else [])

    def test_what_is_printed_comes_home_and_only_that(self, master: Master) -> None:
        futures = [master.submit(speak, words) for words in ("hello", "good bye")]
        assert [future.result(self.limit) for future in futures] == [5, 8]
        told = [(future.stdout, future.stderr) for future in futures]
        if master.capabilities.output:
            assert told == [("hello\naside\n", "HELLO\n"), ("good bye\naside\n", "GOOD BYE\n")]
        else:
            assert told == [("", ""), ("", "")]

    def test_standard_output_is_as_usual(self, master: Master) -> None:
        def look() -> tuple[bool, object, str]:
            return sys.stdout.writable(), getattr(sys.stdout, "errors", None), type(sys.stdout.buffer).__name__

        alone = [master.submit(look).result(self.limit) for _ in range(2)]
        assert alone[0] == alone[1]
        assert alone[0][0]

    def test_a_task_that_fails_tells_what_it_had_to_tell(self, master: Master) -> None:
        future = master.submit(tell_and_fail)
        with pytest.raises(ValueError, match="no further"):
            future.result(self.limit)
        assert future.log == (("so far",) if master.capabilities.logs else ())
        assert future.stdout == ("and then\n" if master.capabilities.output else "")

    def test_a_checkpoint_is_there_again_and_never_anothers(self, master: Master) -> None:
        for _ in range(2):
            assert master.submit(saved_and_due).result(self.limit) == ("nothing", [1, 2], False)
        seen = list(master.map(lambda _: saved_and_due(), range(3), timeout=self.limit))
        assert seen == [("nothing", [1, 2], False)] * 3

    def test_progress_is_seen_while_the_task_runs_if_that_is_promised(self, master: Master, tmp_path: Path) -> None:
        if master.capabilities.outlives_master:
            return  # volunteers tell now and then, and see no file of ours: proved beside, by tasks that take longer
        go = tmp_path / "go"

        def wait_for(file: str) -> float:
            pymw.progress(0.25)
            deadline = time.monotonic() + 60
            while not Path(file).exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            return 1.0

        if not master.capabilities.progress:
            go.touch()
        future = master.submit(wait_for, str(go))
        deadline = time.monotonic() + self.limit
        while master.capabilities.progress and future.progress != 0.25:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        go.touch()
        assert future.result(self.limit) == 1.0
        assert future.progress == 1.0

    def test_status_tells(self, master: Master) -> None:
        assert master.backend in str(master.status())
        assert "<table>" in master._repr_html_()


class Files(Backed):
    def test_files_are_there_and_outputs_come_back_or_both_are_refused(self, master: Master, tmp_path: Path) -> None:
        (tmp_path / "hello.txt").write_text("hello ")
        options = {"files": [tmp_path / "hello.txt"], "outputs": ["loud.txt"]}
        if not master.capabilities.files:
            for name, value in options.items():
                with pytest.raises(pymw.UnsupportedOption, match=f"{name}="):
                    master.options(**{name: value})
            return
        future = master.options(**options).submit(shout, "you")
        assert future.result(self.limit) == 3
        assert future.files == {"loud.txt": b"HELLO you"}
        into = master.options(**options, into=tmp_path / "out")
        assert list(into.map(shout, ["a", "bc"], timeout=self.limit)) == [1, 2]
        assert [(tmp_path / f"out/{i}/loud.txt").read_text() for i in range(2)] == ["HELLO a", "HELLO bc"]
        with pytest.raises(FileNotFoundError, match=r"the function left no file none\.txt"):
            master.options(outputs=["none.txt"]).submit(square, 2).result(self.limit)


class Modules(Backed):
    """Modules of the user's own, in a folder that no worker has on its path when it starts."""

    @pytest.fixture
    def own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        stem = f"own_{id(tmp_path):x}"
        (tmp_path / f"{stem}_deep.py").write_text("FACTOR = 2\n\ndef double(x):\n    return FACTOR * x\n")
        (tmp_path / f"{stem}.py").write_text(
            f"from {stem}_deep import double\n\n"
            "class Odd(Exception):\n    def __init__(self, left, right): super().__init__(left, right)\n\n"
            "def quadruple(x):\n    return double(double(x))\n\n"
            f"def inside(x):\n    import {stem}_deep\n    return {stem}_deep.double(x)\n\n"
            "def fail():\n    raise Odd(1, 2)\n"
        )
        (tmp_path / f"{stem}_late.py").write_text("def triple(x):\n    return 3 * x\n")
        monkeypatch.syspath_prepend(tmp_path)
        yield stem
        for name in [name for name in sys.modules if name.startswith(stem)]:
            del sys.modules[name]

    def test_are_found_and_shipped_without_being_named(self, master: Master, own: str) -> None:
        module = importlib.import_module(own)
        assert master.submit(module.quadruple, 3).result(self.limit) == 12
        assert list(master.map(module.inside, [1, 2], timeout=self.limit)) == [2, 4]
        assert isinstance(master.submit(module.fail).exception(self.limit), module.Odd)

    def test_those_imported_by_a_name_that_is_computed_are_named(self, master: Master, own: str) -> None:
        def by_name(module: str, x: int) -> int:
            import importlib

            return importlib.import_module(module).triple(x)  # type: ignore[no-any-return]

        late = f"{own}_late"
        assert master.options(modules=[late]).submit(by_name, late, 3).result(self.limit) == 9
        with pytest.raises(pymw.UnshippableError, match="no_such_module"):
            master.options(modules=["no_such_module"]).submit(by_name, late, 3)


class Refusals(Backed):
    @pytest.mark.parametrize(
        ("option", "capability"),
        [
            ({"quorum": 2}, "redundancy"),
            ({"time_limit": 5.0}, "kills_tasks"),
            ({"deadline": 60.0}, "deadlines"),
            ({"files": [__file__]}, "files"),
            ({"memory": 1 << 30}, "memory_limit"),
            ({"disk": 1 << 30}, "disk_limit"),
            ({"priority": 3}, "priorities"),
            ({"agree": "close"}, "redundancy"),
            ({"outputs": ["x"]}, "files"),
            ({"packages": ["numpy==2.2.6"]}, "packages"),
            ({"attempts": 1}, "counts_attempts"),
        ],
    )
    def test_an_option_is_promised_or_refused_by_name(
        self, master: Master, option: dict[str, object], capability: str
    ) -> None:
        if getattr(master.capabilities, capability):
            assert isinstance(master.options(**option), Executor)
        else:
            with pytest.raises(pymw.UnsupportedOption, match=f"{next(iter(option))}="):
                master.options(**option)

    def test_an_unknown_option_is_told_with_those_there_are(self, master: Master) -> None:
        with pytest.raises(TypeError, match=r"retires.*retries"):
            master.options(retires=3)

    def test_options_never_mix_with_the_arguments(self, master: Master) -> None:
        assert master.options(name="sum").submit(add, 1, 2, c=4).result(self.limit) == 7


class Suite(Submits, Maps, Functions, Failures, Beside, Files, Modules, Refusals):
    """All of it."""
