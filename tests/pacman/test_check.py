"""The check: within ten seconds, from the sandbox, in words that help."""

from __future__ import annotations

import re
import time
import zipfile
from pathlib import Path

import pytest
from tests.pacman.teams import HEAD, agent, innocent, inspector, source

from pacman_ctf.check import HINTS, Report, check, shipped_team
from pacman_ctf.errors import SubmissionError
from pacman_ctf.submission import MAX_BYTES, MAX_FILES, Submission

AMPLE = 120  # seconds for a check where its own time is not the question, on however loaded a machine


def within_ten_seconds(team: Submission, **options: float) -> Report:
    """What the check says, in the time that is promised; one try in three has to do, on however loaded a machine."""
    for _ in range(3):
        begin = time.monotonic()
        report = check(team, **options)
        took = time.monotonic() - begin
        if took < 10:
            break
    assert took < 10
    return report


# What students run into, and a word of the help that they get.
MISTAKES: dict[str, tuple[str, str]] = {
    "a hidden position": ("x, y = s.getAgentPosition(self.getOpponents(s)[0])", "A position can be None"),
    "a hidden configuration": ("s.getAgentState(self.getOpponents(s)[0]).configuration.pos", "out of sight"),
    "a distance to a wall": ("self.getMazeDistance((0, 0), (1, 1))", "cell that is wall"),
    "a hidden successor": ("s.generateSuccessor(self.getOpponents(s)[0], 'Stop')", "not seen"),
    "the least of nothing": ("min([])", "Use default="),
    "a float as an index": ("s.getWalls()[s.generateSuccessor(self.index, 'Stop').getAgentState(self.index).getPosition()[0] / 1]", "int"),
    "a missing file": ("open('weights.json')", "hand it in"),
    "somebody else's file": ("open('/etc/shadow')", "reads its own files"),
    "Python 2": ("xrange(3)", "Python 2"),
    "too deep": ("self.chooseAction(s)", "limit its depth"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_explained(mistake: str) -> None:
    line, help_ = MISTAKES[mistake]
    report = check(agent(f"def chooseAction(self, s):\n    {line}\n    return 'Stop'"), seconds=AMPLE)
    assert not report.ready
    assert report.problems[0].startswith("it fails with an exception")
    assert any(help_ in problem for problem in report.problems), report.text()
    assert "line " in report.log  # the traceback is there to be read


def test_every_hint_is_a_pattern_with_advice() -> None:
    assert all(pattern and advice.endswith(".") for pattern, advice in HINTS)


@pytest.mark.parametrize("name", ["easy", "medium", "strong"])
def test_our_own_teams_are_ready(name: str) -> None:
    report = check(shipped_team(name), seconds=AMPLE)
    assert report.ready, report.text()
    assert "ready (contest-snake)" in report.text()
    assert any(fact.startswith("played") for fact in report.facts)


def test_slowness_alone_is_no_failure() -> None:
    """The check's own time ends while the team prepares, and while it plays."""
    start = agent("def registerInitialState(self, s):\n    while True: pass")
    report = within_ten_seconds(start, seconds=1)
    assert report.ready, report.text()
    assert "time was up" in report.text()
    moves = agent(
        "def chooseAction(self, s):\n    import time\n    end = time.process_time() + 0.2\n"
        "    while time.process_time() < end: pass\n    return 'Stop'"
    )
    for seconds in (2.5, 10, 40):  # the first is enough, unless a loaded machine takes all of it to start the team
        report = check(moves, seconds=seconds)
        assert report.ready, report.text()
        assert "time was up" in report.text()
        slowest = re.search(r"the slowest 0\.[2-9]", report.text())
        if slowest:
            break
    assert slowest, report.text()


def test_whether_a_match_can_be_repeated_is_told() -> None:
    assert "gave the same moves" in check(innocent(), seconds=AMPLE).text()
    moody = agent(
        "def chooseAction(self, s):\n    import os\n    return s.getLegalActions(self.index)[os.urandom(1)[0] % 2]"
    )
    assert "went another way" in check(moody, seconds=AMPLE).text()


def test_a_hanging_team_is_told_within_ten_seconds() -> None:
    report = within_ten_seconds(agent("def chooseAction(self, s):\n    import time; time.sleep(100)"))
    assert "it takes too much time: slept 3 s" in report.text()


def test_python_2_is_converted_and_said_so() -> None:
    report = check(inspector("flat-camel-py2"), seconds=AMPLE)
    assert report.ready, report.text()
    assert "Python 2" in report.text()
    assert report.converted is not None
    assert b"Converted from Python 2" in report.converted.files["myTeam.py"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def createTeam(:\n", "line 1: "),
        ("x = 1", "neither create_team nor createTeam"),
        (
            HEAD.replace("import random", "import torch") + "class Agent(CaptureAgent): pass",
            "hosts have the standard library",
        ),
        (HEAD + "import time\nclass Agent(CaptureAgent): pass", "count by outcome"),
    ],
)
def test_what_can_be_seen_without_running_is_said(text: str, words: str) -> None:
    assert words in check(source(text), seconds=AMPLE).text()


def test_an_encoding_that_is_not_declared_is_explained() -> None:
    team = Submission.of("latin", {"myTeam.py": HEAD.encode() + "name = 'Jos\xe9'\n".encode("latin-1")})
    assert "UTF-8" in check(team).text()


def test_what_is_no_team_is_said(tmp_path: Path) -> None:
    assert "there is no team" in check(tmp_path / "nobody").text()
    (tmp_path / "empty").mkdir()
    assert "no Python file" in check(tmp_path / "empty").text()
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    assert "neither a folder nor a zip" in check(tmp_path / "picture.png").text()


# A team's files.


def test_a_team_is_the_same_as_folder_zip_and_nested_zip(tmp_path: Path) -> None:
    team = agent("", helper__py="x = 1")
    folder = tmp_path / "team"
    team.write(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"junk")
    for name, prefix in (("flat.zip", ""), ("nested.zip", "team/")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for path, content in team.files.items():
                archive.writestr(prefix + path, content)
    digests = {Submission.read(tmp_path / name).digest for name in ("team", "flat.zip", "nested.zip")}
    assert digests == {team.digest}
    assert Submission.read(folder / "myTeam.py").files.keys() == {"myTeam.py"}
    assert innocent("a").digest == innocent("b").digest
    assert agent("x = 1").digest != agent("x = 2").digest


@pytest.mark.parametrize("path", ["../evil.py", "/etc/cron.d/evil", "a/../../b.py", "a\\b.py", ""])
def test_no_path_leaves_the_teams_folder(path: str) -> None:
    with pytest.raises(SubmissionError, match="leaves the team's folder"):
        Submission.of("evil", {path: b""})


def test_a_team_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="too large"):
        Submission.of("many", {f"{number}.py": b"" for number in range(MAX_FILES + 1)})
    with pytest.raises(SubmissionError, match="too large"):
        Submission.of("big", {"data": bytes(MAX_BYTES + 1)})
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(MAX_BYTES + 1))
    with pytest.raises(SubmissionError, match="too large"):
        Submission.read(tmp_path / "bomb.zip")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a", "a/b.py"], "lies within what is a file"),
        (["x" * 300 + ".py"], "rename it"),
        (["d\udce9j\udce0.py"], "rename it"),
        (["a\x1b[31m.py"], "rename it"),
    ],
)
def test_files_that_not_every_host_can_hold_are_refused(files: list[str], words: str) -> None:
    with pytest.raises(SubmissionError, match=words):
        Submission.of("team", dict.fromkeys(files, b""))


@pytest.mark.parametrize("name", ["x" * 200, "an\x1b[31mn", "ann\nbob", "jos\udce9"])
def test_a_name_that_cannot_be_printed_is_refused(name: str) -> None:
    with pytest.raises(SubmissionError, match="cannot be called") as found:
        Submission.of(name, {"myTeam.py": b""})
    assert str(found.value).isprintable()


@pytest.mark.parametrize(
    "text",
    ["x = " + "-" * 200_000 + "1", "x = " + "(" * 200_000, "x = a" + ".b" * 50_000, "x = 1" + "+1" * 50_000, "x = 0\0"],
)
def test_a_source_too_deep_for_python_is_a_problem_of_the_teams(text: str) -> None:
    team = source(text)
    assert team.imports == frozenset()
    report = check(team)
    assert not report.ready
    assert report.problems[0].startswith("myTeam.py")


def test_more_source_than_anybody_writes_is_not_looked_into() -> None:
    team = agent("", table__py="x = [" + "1," * 600_000 + "]")
    assert team.uses_clock  # as far as anybody knows
    assert "nobody looks into them" in check(team).text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("print " + "-" * 100_000 + "1", "Python 2"),
        ("print 1\nx = " + "(" * 300_000, "Python 2, and to convert it takes longer"),  # than half of the time
    ],
)
def test_what_cannot_be_converted_in_time_is_said_in_time(text: str, words: str) -> None:
    report = within_ten_seconds(source(text))
    assert not report.ready
    assert words in report.problems[0]
