"""The command line."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pty
import re
import shlex
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pymw import BackendError, Master, open_run
from pymw.cli import EXAMPLES, _parser, main

LIMIT = 60


def test_help_begins_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out = capsys.readouterr().out
    assert out.startswith("examples:\n  pymw ")
    commands = next(action for action in _parser()._actions if isinstance(action.choices, dict)).choices
    for name in commands or ():
        with pytest.raises(SystemExit):
            main([name, "--help"])
        out = capsys.readouterr().out
        assert out.startswith(f"examples:\n  pymw {name}"), name
        assert f"usage: pymw {name}" in out


def test_the_examples_of_the_help_are_commands_that_there_are() -> None:
    for typed, _ in EXAMPLES:
        words = shlex.split(typed.partition(" > ")[0].partition(" -- ")[0])
        _parser().parse_args(words[1:])


def test_backends_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends"]) == 0
    assert "local" in capsys.readouterr().out
    assert main(["backends", "--json"]) == 0
    assert "memory" in json.loads(capsys.readouterr().out)


def test_doctor_finds_a_working_local_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"]
    assert {finding["what"] for finding in told["findings"]} == {
        "python",
        "pymw",
        "runs",
        "local",
        "boinc",
        "mpi",
        "dask",
    }


def test_doctor_tells_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("pymw.backends.local.process._CODE", "raise SystemExit(9)")
    assert main(["doctor", "--backend", "cloud"]) == 1
    out = capsys.readouterr().out
    assert f"BAD runs: nothing can be written in {tmp_path / 'file'}" in out
    assert "BAD local: a worker process did not answer" in out
    assert "BAD cloud: UnknownBackend: no backend is named 'cloud'" in out
    assert main(["doctor", "--backend", "memory", "--json"]) == 1
    assert '"memory: 0 tasks running, 0 waiting, 1 workers"' in capsys.readouterr().out


def test_a_backend_whose_extra_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BackendError, match=r"needs the module 'distributed'.*pip install 'pymw-grid\[dask\]'"):
        Master("dask:tcp://127.0.0.1:1")


def pymw(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from pymw.cli import main; raise SystemExit(main())", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def test_run_gives_a_script_its_backend_and_arguments(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("def double(x): return 2 * x\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom helper import double\nfrom pymw import Master\n"
        "with Master() as master: print(master.backend, list(master.map(double, [1, 2])), sys.argv[1:])\n"
    )
    done = pymw("run", str(script), "--backend", "local:1", "--", "--tasks", "2")
    assert (done.stdout, done.stderr) == ("local:1 [2, 4] ['--tasks', '2']\n", "")


def test_an_unknown_backend_is_told_with_those_there_are(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from pymw import Master\nMaster()\n")
    done = pymw("run", str(script), "--backend", "cloud")
    assert done.returncode == 1
    assert (
        done.stderr
        == "pymw: no backend is named 'cloud'; there are: boinc, boinc+http, boinc+https, dask, local, memory, mpi\n"
    )


def test_a_missing_script_is_told(tmp_path: Path) -> None:
    done = pymw("run", str(tmp_path / "none.py"))
    assert (done.returncode, "there is no script" in done.stderr) == (1, True)


def test_a_scripts_own_error_has_its_line(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pymw import Master\nimport os\nMaster('local:1').options(attempts=1).submit(os._exit, 3).result()\n"
    )
    done = pymw("run", str(script))
    assert done.returncode == 1
    assert 'script.py", line 3, in <module>' in done.stderr
    assert "lost its worker once" in done.stderr


def test_arguments_of_the_script_come_behind_two_dashes(tmp_path: Path) -> None:
    (tmp_path / "script.py").touch()
    done = pymw("run", str(tmp_path / "script.py"), "--tasks", "3")
    assert done.returncode == 2
    assert "what is --tasks 3?; what is the script's own comes behind --" in done.stderr


def test_no_colour_where_none_is_wanted() -> None:
    """On a terminal, made with `script` of util-linux's kind by Python's pty: NO_COLOR is honoured."""
    code = "import sys; from pymw.bar import bar_for; bar = bar_for(True, 'work'); bar.show(3, 3); bar.close()"

    def shown(**environment: str) -> bytes:
        ours, theirs = pty.openpty()
        try:
            wanted = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
            wanted |= {"TERM": "xterm-256color", **environment}
            subprocess.run([sys.executable, "-c", code], stderr=theirs, timeout=LIMIT, check=True, env=wanted)
            return os.read(ours, 1 << 16)
        finally:
            os.close(ours)
            os.close(theirs)

    colour = rb"\x1b\[[0-9;]*3[0-9]"
    assert re.search(colour, shown())
    plain = shown(NO_COLOR="1")
    assert b"3/3" in plain
    assert not re.search(colour, plain)


@pytest.fixture
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path))
    with Master("memory", run="numbers") as master:
        list(master.map(abs, [-1, -2], timeout=LIMIT))
        master.submit(int, "x").exception(LIMIT)


@pytest.mark.usefixtures("_runs")
def test_runs_are_listed_shown_exported_and_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 0
    assert capsys.readouterr().out == "numbers: 2 of 3 tasks done, 1 failed\n"
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"numbers": {"asked": 0, "returned": 2, "failed": 1}}
    assert main(["show", "numbers", "--failed"]) == 0
    assert "task 3: ValueError" in capsys.readouterr().out
    assert main(["show", "numbers", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["functions"] == {"abs": 2, "int": 1}
    assert (told["held_by"], told["goes_on_at"], Path(told["folder"]).name) == ("", "", "numbers")
    assert main(["export", "numbers"]) == 0
    exported = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("value") for line in exported] == [1, 2, None]
    assert main(["forget", "numbers"]) == 0
    assert capsys.readouterr().out == "forgotten: numbers, 3 tasks\n"
    assert main(["runs"]) == 0
    assert "no runs in" in capsys.readouterr().out
    assert main(["show", "numbers"]) == 1
    assert "there is no run 'numbers'" in capsys.readouterr().err


@pytest.mark.usefixtures("_runs")
def test_show_says_who_works_on_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    go = threading.Event()
    with Master("memory", run="numbers") as master:
        waits = master.submit(go.wait, LIMIT)
        master._run._journal.flush()  # type: ignore[union-attr]
        assert main(["show", "numbers"]) == 0
        assert f"process {os.getpid()}" in capsys.readouterr().out
        go.set()
        waits.result(LIMIT)


@pytest.mark.usefixtures("_runs")
def test_what_nobody_works_on_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    go = threading.Event()
    with contextlib.suppress(ZeroDivisionError), Master("memory", run="numbers") as master:
        master.submit(go.wait, LIMIT)
        master._run._journal.flush()  # type: ignore[union-attr]
        1 / 0  # noqa: B018
    go.set()
    capsys.readouterr()
    assert main(["show", "numbers"]) == 0
    assert "nobody works on it here: run its script again" in capsys.readouterr().out


@dataclass
class Point:
    x: int
    y: set[int]


def test_values_that_json_lacks_are_exported_in_their_nearest_form(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path))
    with Master("memory", run="odd") as master:
        master.submit(lambda: [np.arange(3), np.float64(0.5), {7}, Point(1, {2}), Path("x"), b"y"]).result(LIMIT)
        master.submit(lambda: {(1, 2): math.nan, 3: [math.inf]}).result(LIMIT)
    assert main(["export", "odd"]) == 0

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    first, second = (json.loads(line, parse_constant=refuse) for line in capsys.readouterr().out.splitlines())
    assert first["value"] == [[0, 1, 2], 0.5, [7], {"x": 1, "y": [2]}, repr(Path("x")), "b'y'"]
    assert second["value"] == {"[1, 2]": "nan", "3": ["inf"]}


OF_ITS_OWN = """
from dataclasses import dataclass
from pymw import Master

@dataclass
class Own:
    x: int

def made(x):
    return Own(x) if x == 1 else x

with Master("memory", run="own") as master:
    print(list(master.map(made, range(3))))
"""


def test_what_only_its_script_can_read_spares_the_rest(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path))
    (tmp_path / "script.py").write_text(OF_ITS_OWN)
    for _ in range(2):  # the script itself reads what it recorded
        done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=LIMIT)
        assert done.stdout == "[0, Own(x=1), 2]\n"
    assert main(["export", "own"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("value") for line in lines] == [0, None, 2]
    assert "cannot be read here: AttributeError" in lines[1]["error"]
    with open_run("own") as view:
        assert [future.exception(LIMIT) is None for future in view] == [True, False, True]


@pytest.mark.parametrize("command", ["show", "cancel", "export", "forget"])
@pytest.mark.parametrize("name", ["", "x" * 101, "\N{SNOWMAN}" * 60])
def test_a_name_that_no_run_has_is_told(command: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([command, name])
    assert "a run's name" in capsys.readouterr().err


@pytest.mark.parametrize("name", [".", ".."])
def test_a_run_of_dots_is_a_run_like_others(name: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path))
    (tmp_path / "precious").touch()
    for run in ("other", name):
        with Master("memory", run=run) as master:
            master.submit(abs, -1).result(LIMIT)
    assert main(["runs"]) == 0
    assert f"{name}: 1 of 1 tasks done" in capsys.readouterr().out
    assert main(["forget", name]) == 0
    assert (tmp_path / "precious").exists()
    assert main(["show", "other"]) == 0
    assert main(["show", name]) == 1


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path))
    with Master("memory", run="long") as master:
        list(master.map(str, range(3000), timeout=LIMIT))
    code = "from pymw.cli import main; raise SystemExit(main(['export', 'long']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.usefixtures("_runs")
def test_a_run_that_is_held_is_not_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    with Master("memory", run="numbers"):
        assert main(["forget", "numbers"]) == 1
    assert "is held by process" in capsys.readouterr().err
    assert main(["runs"]) == 0


def test_every_command_and_option_is_documented() -> None:
    documented = "".join(page.read_text() for page in (Path(__file__).parents[2] / "docs").glob("*.md"))
    actions = [action for action in _parser()._actions if isinstance(action.choices, dict)]
    commands = dict(actions[0].choices or {})
    for group in [
        name for name, parser in commands.items() if any(isinstance(a.choices, dict) for a in parser._actions)
    ]:
        nested = [action for action in commands.pop(group)._actions if isinstance(action.choices, dict)]
        commands |= {f"{group} {name}": parser for name, parser in (nested[0].choices or {}).items()}
    assert {"run", "runs", "show", "cancel", "export", "forget", "backends", "doctor"} <= set(commands)
    for name, parser in commands.items():
        assert f"pymw {name}" in documented, name
        for action in parser._actions:
            for option in action.option_strings:
                assert option in {"-h", "--help"} or f"{option}" in documented, f"pymw {name} {option}"
