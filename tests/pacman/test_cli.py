"""The command line, as a person uses it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.pacman.teams import agent, innocent

from pacman_ctf.check import check
from pacman_ctf.cli import main, make_parser
from pacman_ctf.layout import named


@pytest.fixture
def teams(tmp_path: Path) -> Path:
    folder = tmp_path / "teams"
    innocent().write(folder / "ann")
    agent("def chooseAction(self, s):\n    print('hello'); return 'Stop'").write(folder / "bob")
    return folder


def test_a_match_from_start_to_picture(teams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, gif, page = tmp_path / "match.json", tmp_path / "match.gif", tmp_path / "match.html"
    arguments = ["play", str(teams / "ann"), str(teams / "bob"), "--seed", "7", "--layout", "pond", "--moves", "60"]
    assert main([*arguments, "--out", str(out), "--gif", str(gif), "--html", str(page)]) == 0
    told = capsys.readouterr().out
    assert "--- blue (bob) printed:\nhello\n" in told
    assert "after 60 moves" in told
    assert "sandbox: limits" in told
    assert gif.read_bytes().startswith(b"GIF89a")
    assert "pacmanCtf" in page.read_text()
    assert main([*arguments, "--out", str(tmp_path / "again.json")]) == 0
    assert json.loads(out.read_text())["moves"] == json.loads((tmp_path / "again.json").read_text())["moves"]
    capsys.readouterr()

    assert main(["verify", str(out)]) == 0
    assert "match.json: true; " in capsys.readouterr().out
    assert main(["replay", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("%%%%%%%%%%%%%%%%%%%%\n") == 122  # two lines of wall for each of 61 states
    assert main(["replay", str(out), "--html", str(page)]) == 0


def test_a_layout_of_ones_own(teams: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.lay"
    path.write_text(named("pond").text)
    out = tmp_path / "out.json"
    assert main(["play", str(teams / "ann"), "easy", "--layout", str(path), "--moves", "8", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["layout_name"] == "mine"


def test_watching_draws_in_place_on_a_terminal(teams: Path) -> None:
    """A real terminal: colours and the cursor's way home; elsewhere plain text."""
    command = [
        sys.executable,
        "-m",
        "pacman_ctf",
        "play",
        str(teams / "ann"),
        "easy",
        "--watch",
        "--speed",
        "1000",
        "--moves",
        "6",
    ]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # what the end of a terminal looks like
                break
    os.close(ours)
    assert process.returncode == 0
    text = shown.decode()
    assert text.count("\x1b[H\x1b[J") == 6
    assert "\x1b[91m" in text
    assert "move 6" in text


def test_the_check_tells_and_its_exit_code_too(
    teams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(check.__kwdefaults__, "seconds", 120.0)  # a loaded machine may take long to convert a team
    assert main(["check", str(teams / "ann")]) == 0
    assert "ann: ready" in capsys.readouterr().out
    (tmp_path / "old.py").write_text((teams / "ann" / "myTeam.py").read_text() + "\ndef old():\n    print 1 / 2\n")
    assert main(["check", str(tmp_path / "old.py"), "--convert", str(tmp_path / "new")]) == 0
    assert "wrote the converted team" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "new")]) == 0
    assert main(["check", str(tmp_path / "nobody")]) == 1
    assert main(["check", "easy"]) == 0
    assert "there is no team" in capsys.readouterr().out


def test_a_tournament_twice(
    teams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYMW_HOME", str(tmp_path / "home"))
    (teams / "broken.zip").write_bytes(b"PK")
    arguments = ["tournament", str(teams), "--moves", "20", "--backend", "local", "--layouts", "pond,pond,harbour"]
    for _ in range(2):
        assert main(arguments) == 0
        told = capsys.readouterr()
        assert re.search(r"1 (ann|bob)", told.out)
        assert "broken.zip" in told.out
        assert "1/1" in told.err
    assert (tmp_path / "teams-results" / "table.txt").exists()


def test_layouts_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layouts"]) == 0
    assert "harbour    32x16, 40 dots, 2 capsules" in capsys.readouterr().out
    assert main(["layouts", "maze1:7"]) == 0
    assert capsys.readouterr().out.count("\n") == 18


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["play", "nobody", "easy"], "there is no team at nobody"),
        (["play", "easy", "easy", "--layout", "nowhere"], "no layout 'nowhere'; there are: canyon"),
        (["layouts", "maze9:1"], "no maze generator 'maze9'"),
        (["replay", "nothing.json"], "nothing.json: No such file"),
        (["tournament", "nothing"], "no folder of teams"),
        (["tournament", "."], "needs two teams"),
        (["tournament", "teams", "--layouts", "pond"], "3 matches, so --layouts takes 3 names, not 1"),
        (["tournament", "teams", "--require", "walls"], "no layer 'walls'; there are: limits, files"),
        (["play", "easy", "easy", "--layout", "odd.lay"], "odd.lay: "),
        (["play", "easy", "easy", "--layout", "bytes.lay"], "bytes.lay is no text in UTF-8"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    message: str,
    teams: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert teams.parent == tmp_path
    (tmp_path / "odd.lay").write_text("%%%%%\n%1.2%\n%%%%%")
    (tmp_path / "bytes.lay").write_bytes(b"\xff\xfe")
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["play", "easy", "easy", "--moves", "0"], "0 is less than 1"),
        (["play", "easy", "easy", "--moves", "many"], "invalid whole number value: 'many'"),
        (["tournament", "teams", "--quorum", "-1"], "-1 is less than 1"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 1}', "[" * 100_000, "\x00"])
def test_damaged_records_are_refused(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "record.json"
    path.write_text(content)
    assert main(["verify", str(path)]) == 1
    told = capsys.readouterr().out
    assert told.startswith(f"{path}: refused: ")
    assert told.count(str(path)) == 1
    assert main(["replay", str(path)]) == 1


def test_every_option_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "pacman.md").read_text()
    for commands in make_parser()._subparsers._group_actions:  # type: ignore[union-attr]
        for name, parser in commands.choices.items():  # type: ignore[union-attr]
            assert f"pacman-ctf {name}" in text, name
            for action in parser._actions:
                for option in action.option_strings:
                    if option.startswith("--") and option != "--help" and action.help != "==SUPPRESS==":
                        assert f"`{option}" in text or f" {option} " in text, f"{name} {option}"
