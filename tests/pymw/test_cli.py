"""The command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pymw import Master
from pymw.cli import main

LIMIT = 60


def test_help_begins_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out = capsys.readouterr().out
    assert out.index("examples:") < out.index("commands:")


def test_backends_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends"]) == 0
    assert "local" in capsys.readouterr().out
    assert main(["backends", "--json"]) == 0
    assert "memory" in json.loads(capsys.readouterr().out)


def test_doctor_finds_a_working_local_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"]
    assert {finding["what"] for finding in told["findings"]} >= {"python", "local"}


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
    assert done.stderr == "pymw: no backend is named 'cloud'; there are: boinc, dask, local, memory, mpi\n"


def test_a_missing_script_is_told(tmp_path: Path) -> None:
    done = pymw("run", str(tmp_path / "none.py"))
    assert (done.returncode, "there is no script" in done.stderr) == (1, True)


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
    assert json.loads(capsys.readouterr().out)["functions"] == {"abs": 2, "int": 1}
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
def test_a_run_that_is_held_is_not_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    with Master("memory", run="numbers"):
        assert main(["forget", "numbers"]) == 1
    assert "is held by process" in capsys.readouterr().err
    assert main(["runs"]) == 0


def test_every_command_and_option_is_documented() -> None:
    from pymw.cli import _parser

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
