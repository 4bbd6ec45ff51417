"""The program that volunteers run, as a real process in a slot directory, without a client."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests import errands

import pyboinc
from boincserver.testing import wait_until
from pymw import envelope, items
from pymw.backends.boinc.keys import SigningKey
from pymw.backends.boinc.worker_app import worker_program
from pymw.bundle import bundle
from pymw.items import Journal
from pymw.outcome import Ending, Outcome
from pymw.volunteer import BUNDLE, JOURNAL, OUTCOMES, SIGNATURE, TASKS, TRUSTED

KEY: SigningKey


@pytest.fixture
def slot(tmp_path: Path) -> Path:
    (tmp_path / "worker.pyz").write_bytes(worker_program())
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    global KEY
    KEY = SigningKey.of(tmp_path_factory.mktemp("project"))
    return KEY


def sign(slot: Path) -> None:
    digest = hashlib.sha256((slot / BUNDLE).read_bytes()).hexdigest()
    (slot / SIGNATURE).write_bytes(KEY.sign("http://p/", "run", {BUNDLE: digest}, int(time.time()) + 1000))
    (slot / TRUSTED).write_bytes(KEY.trusted("http://p/"))


def prepare(
    slot: Path, function: Callable[..., Any], *calls: tuple[Any, ...], seed: int | None = None, time_limit: float = 0
) -> None:
    (slot / BUNDLE).write_bytes(bundle(function).data)
    sign(slot)
    items = tuple(envelope.Item(str(i), envelope.pack_call(args, {}), seed) for i, args in enumerate(calls))
    (slot / TASKS).write_bytes(envelope.pack_job(envelope.Job(items, time_limit=time_limit)))


def run(slot: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"]}
    command = [sys.executable, "-I", "worker.pyz"]
    return subprocess.run(command, cwd=slot, env=environment, capture_output=True, text=True, timeout=120, check=False)


def outcomes(slot: Path) -> list[Outcome]:
    packed = envelope.unpack_outcomes((slot / OUTCOMES).read_bytes())
    return [envelope.unpack_outcome(each, ["tests.errands"]) for each in packed]


def perform(
    slot: Path, function: Callable[..., Any], *calls: tuple[Any, ...], seed: int | None = None
) -> list[Outcome]:
    prepare(slot, function, *calls, seed=seed)
    done = run(slot)
    assert done.returncode == 0, done.stderr
    return outcomes(slot)


def test_values_and_what_was_printed_come_back(slot: Path) -> None:
    assert [outcome.value for outcome in perform(slot, errands.double, (1,), (2.5,), ("ab",))] == [2, 5.0, "abab"]
    (slot / OUTCOMES).unlink()
    (slot / "work" / JOURNAL).unlink()
    (outcome,) = perform(slot, errands.shout, ("hello",))
    assert (outcome.value, outcome.stdout, outcome.stderr) == (5, "HELLO\n", "hello\n")


def test_an_exception_is_an_outcome_with_its_traceback(slot: Path) -> None:
    (outcome,) = perform(slot, errands.fail, ("no",))
    error = outcome.error("t")
    assert type(error) is ValueError
    assert error.args == ("no", 42)
    assert "raise ValueError(message, 42)" in str(error.__cause__)


def test_a_call_that_kills_the_process_costs_itself_alone(slot: Path) -> None:
    result = perform(slot, errands.vanish, *((x, (2, 4)) for x in range(6)))
    assert [outcome.ending is Ending.LOST for outcome in result] == [False, False, True, False, True, False]
    assert [outcome.value for outcome in result if outcome.ending is Ending.RETURNED] == [0, 1, 3, 5]
    assert "SIGKILL" in result[2].detail


def test_a_call_that_takes_too_long_costs_itself_alone(slot: Path) -> None:
    prepare(slot, errands.nap, (0,), (600,), (0,), time_limit=8.0)
    assert run(slot).returncode == 0
    first, slow, last = outcomes(slot)
    assert (first.ending, slow.ending, last.ending) == (Ending.RETURNED, Ending.OUT_OF_TIME, Ending.RETURNED)
    assert "it ran longer than 8 seconds" in slow.detail


def test_what_is_finished_comes_home_from_a_host_that_cannot_go_on(slot: Path) -> None:
    prepare(slot, errands.double, (1,), (2,), (3,))
    (slot / "work").mkdir(exist_ok=True)
    journal = Journal(slot / "work" / JOURNAL)
    journal.finish(1, envelope.pack_outcome(Outcome(Ending.RETURNED, value="kept")))
    journal.close()
    (slot / SIGNATURE).unlink()
    assert run(slot).returncode == 0
    first, kept, last = outcomes(slot)
    assert kept.value == "kept"
    assert first.ending is last.ending is Ending.LOST
    assert "the host could not go on" in first.detail
    assert "FileNotFoundError" in first.stderr


def test_leaving_without_a_word_is_noticed(slot: Path) -> None:
    for outcome in perform(slot, errands.leave, (0,), (3,)):
        assert outcome.ending is Ending.LOST


def test_the_hosts_faults_are_not_the_functions(slot: Path) -> None:
    (outcome,) = perform(slot, errands.exhaust, ())
    assert outcome.ending is Ending.LOST
    assert "memory" in outcome.detail


def test_a_result_outside_the_codec_says_where(slot: Path) -> None:
    (outcome,) = perform(slot, errands.unsendable, ())
    assert outcome.ending is Ending.UNSENDABLE
    assert "result['a'][0]: object cannot be sent" in outcome.detail


def test_copies_of_a_task_draw_the_same_random_numbers_and_order_sets_alike(slot: Path, tmp_path: Path) -> None:
    first = [outcome.value for outcome in perform(slot, errands.unseeded, (), seed=5)]
    other = tmp_path / "other"
    other.mkdir()
    (other / "worker.pyz").write_bytes(worker_program())
    assert [outcome.value for outcome in perform(other, errands.unseeded, (), seed=5)] == first


def test_a_restarted_job_goes_on_behind_what_is_finished(slot: Path) -> None:
    prepare(slot, errands.double, (1,), (2,))
    (slot / "work").mkdir()
    journal = Journal(slot / "work" / JOURNAL)
    journal.begin(0)
    journal.finish(0, envelope.pack_outcome(Outcome(Ending.RETURNED, value="kept")))
    journal.begin(1)
    journal.close()
    with (slot / "work" / JOURNAL).open("ab") as file:
        file.write(b"\x01\0\0\0\xff")  # killed in the middle of writing
    assert run(slot).returncode == 0
    assert [outcome.value for outcome in outcomes(slot)] == ["kept", 4]


def test_code_that_does_not_load_is_the_attempts_end_with_the_reason(slot: Path) -> None:
    prepare(slot, errands.double, (1,))
    with zipfile.ZipFile(slot / BUNDLE) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["modules/tests/errands.py"] = b"def double(x) return\n"
    with zipfile.ZipFile(slot / BUNDLE, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    sign(slot)
    done = run(slot)
    assert done.returncode == 1
    assert "SyntaxError" in done.stderr
    assert not (slot / OUTCOMES).exists()


def test_code_that_was_changed_on_the_way_is_refused_and_never_run(slot: Path) -> None:
    prepare(slot, errands.double, (1,))
    with zipfile.ZipFile(slot / BUNDLE, "a") as archive:
        archive.writestr("modules/sitecustomize.py", "open('ran', 'w')")
    done = run(slot)
    assert done.returncode == 1
    assert "refused: code.zip is not what was signed" in done.stderr
    assert not (slot / "ran").exists()


def test_the_function_works_in_the_sandbox(slot: Path) -> None:
    (outcome,) = perform(slot, errands.pry, (str(slot), str(Path.home())))
    assert outcome.value.pop("its own children's state") == "allowed"
    if os.geteuid() == 0:
        outcome.value.pop("the supervisor's environment")  # a superuser may read anybody's
    assert set(outcome.value.values()) == {"denied"}, outcome.value


@pytest.mark.parametrize("trick", ["link", "hard link", "pipe", "huge"])
def test_the_supervisor_writes_into_no_file_that_user_code_lays_in_its_way(slot: Path, trick: str) -> None:
    """User code owns the folder of the journal, and the supervisor, which is free, appends to it when the code dies."""
    precious = slot / "work" / "precious"
    prepare(slot, errands.lay_a_trap, (trick, "precious"))
    done = run(slot)
    assert done.returncode == 195
    assert "cannot be used" in done.stderr
    assert precious.read_text() == "precious"


def test_there_is_no_master_on_a_volunteers_computer(slot: Path) -> None:
    (outcome,) = perform(slot, errands.be_a_master, ())
    assert "cannot be a master itself" in str(outcome.error("t"))


def test_the_program_is_the_same_bytes_each_time() -> None:
    assert worker_program() == worker_program()


def _oldest_python() -> str | None:
    """A Python 3.9 of this machine; Debian packages none any more."""
    installed = sorted(Path.home().glob(".pyenv/versions/3.9*/bin/python3.9"))
    for candidate in (shutil.which("python3.9"), *map(str, installed)):
        if candidate and subprocess.run([candidate, "-V"], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def test_the_program_runs_on_the_oldest_python_that_is_promised(slot: Path) -> None:
    python = _oldest_python()
    if python is None:
        pytest.skip("no Python 3.9 on this machine")
    prepare(slot, errands.double, (21,))
    done = subprocess.run([python, "worker.pyz"], cwd=slot, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert outcomes(slot)[0].value == 42


COSTLY = {"concurrent.futures", "importlib.metadata", "logging", "traceback", "typing"}


def test_an_empty_job_loads_nothing_costly(slot: Path) -> None:
    """Its processor time is nearly all imports."""
    prepare(slot, errands.double, (1,))
    code = "import sys; sys.path.insert(0, 'worker.pyz'); from pymw import items; items.run(); print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, cwd=slot, capture_output=True, text=True, timeout=60, check=True)
    assert not COSTLY & set(done.stdout.split())
    assert outcomes(slot)[0].value == 2


def test_progress_is_told_at_a_bounded_rate_and_the_last_of_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[float, float, str]] = []  # when, the earliest time of the next one, what
    monkeypatch.setattr(pyboinc, "trickle_up", lambda _, text: told.append((time.monotonic(), telling.next, text)))
    telling = items._Telling(every=0.2, count=2)
    began = time.monotonic()
    telling.tell(0, 0.25)
    wait_until(lambda: told, timeout=30, what="the only message, though the function says nothing more")
    assert told[0][0] - began >= 0.2  # a job that is over in a moment sends nothing
    assert told[0][2] == "0 0.2500"
    end = time.monotonic() + 0.5
    number = 0
    while time.monotonic() < end:
        number += 1
        telling.tell(1, number / 1e6)
    wait_until(lambda: told[-1][2] == f"1 {number / 1e6:.4f}", timeout=30, what="the last of many")
    assert all(later - earlier >= 0.19 for (_, earlier, _), (_, later, _) in itertools.pairwise(told))
