"""Matches between processes: every dialect plays, every misbehaviour costs its own team alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.pacman.teams import HEAD, agent, innocent, inspector, source

from pacman_ctf.errors import SandboxTooWeak, SubmissionError
from pacman_ctf.limits import Limits, calibrate
from pacman_ctf.maze import layout_of
from pacman_ctf.nursery import Nursery
from pacman_ctf.processes import descendants
from pacman_ctf.python2 import NOTICE, convert
from pacman_ctf.referee import Match, Pairing, play
from pacman_ctf.submission import Submission
from pacman_ctf.verify import verify

SEED = b"0123456789abcdef"
DIALECTS = ["contest-snake", "flat-snake", "flat-camel", "contest-camel", "flat-mixed", "contest-mixed"]
QUICK = Limits(start=2.0, warning=0.25, move=0.6, idle=1.0)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as ours:
        yield ours


def match(
    nursery: Nursery,
    red: Submission,
    blue: Submission,
    length: int = 40,
    limits: Limits = QUICK,
    factor: float | None = None,
    **options: object,
) -> Match:
    factor = calibrate() if factor is None else factor
    pairing = Pairing(layout_of("harbour"), SEED, length=length, limits=limits, factor=factor, **options)  # type: ignore[arg-type]
    found = play(red, blue, pairing, nursery=nursery)
    verify(found.record)
    return found


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_team_of_every_dialect_plays(nursery: Nursery, dialect: str) -> None:
    team = inspector(dialect)
    assert team.dialect == dialect
    played = match(nursery, team, inspector("contest-snake"), length=200, limits=Limits())
    record = played.record
    assert (record.code, record.blame, len(record.moves)) == ("score", "", 200), played.red_log + played.blue_log
    assert played.red_log == "inspected 50 moves"
    assert played.blue_log == "inspected 50 moves"


def test_the_same_seed_is_the_same_match_in_every_dialect(nursery: Nursery) -> None:
    moves = {match(nursery, inspector(one), innocent(), length=120, limits=Limits()).record.moves for one in DIALECTS}
    assert len(moves) == 1


def test_a_team_from_python_2_plays_once_converted(nursery: Nursery) -> None:
    old = inspector("flat-camel-py2")
    assert old.dialect == "flat-camel-py2"
    as_it_is = match(nursery, old, innocent())
    assert (as_it_is.record.code, as_it_is.record.blame) == ("load", "red")
    assert "SyntaxError" in as_it_is.red_log
    new = convert(old)
    assert NOTICE in new.files["myTeam.py"].decode()
    played = match(nursery, new, innocent(), length=80, limits=Limits())
    assert played.record.code == "score", played.red_log
    assert played.red_log == "inspected 20 moves"


def test_conversion_divides_as_python_2_did() -> None:
    text = '"""Doc."""\nimport math\n\ndef half(n):\n\tn /= 2\n        print n\n\treturn 7 / 2 * 3 / n\n'
    new = convert(source(text)).files["myTeam.py"].decode()
    space: dict[str, object] = {}
    exec(new, space)
    assert space["half"](4) == 4  # type: ignore[operator]
    assert space["__doc__"] == "Doc."
    with pytest.raises(SubmissionError, match="neither"):
        convert(source("print 1\nelse else\n"))


# What a team does wrong: how its match ends, and what its private log says.
WRONGS: dict[str, tuple[str, str, str]] = {
    "raises": ("def chooseAction(self, s):\n    return {}['nothing']", "crash", "KeyError: 'nothing'"),
    "raises at start": ("def registerInitialState(self, s):\n    1/0", "crash", "ZeroDivisionError"),
    "raises at the end": ("def final(self, s):\n    1/0", "crash", "ZeroDivisionError"),
    "raises when it is made": ("def __init__(self, index):\n    1/0", "load", "ZeroDivisionError"),
    "exits": ("def chooseAction(self, s):\n    import sys; sys.exit(3)", "crash", "SystemExit: 3"),
    "exits hard": ("def chooseAction(self, s):\n    import os; os._exit(3)", "crash", "ended by itself .exit code 3"),
    "kills itself": (
        "def chooseAction(self, s):\n    import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "crash",
        "killed by SIGSEGV",
    ),
    "hangs": ("def chooseAction(self, s):\n    while True: pass", "timeout", "processor time"),
    "hangs at start": ("def registerInitialState(self, s):\n    while True: pass", "timeout", "processor time"),
    "sleeps": ("def chooseAction(self, s):\n    import time; time.sleep(1000)", "timeout", "slept"),
    "stops itself": (
        "def chooseAction(self, s):\n    import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "timeout",
        "slept",
    ),
    "swallows everything": (
        "def chooseAction(self, s):\n"
        "    import signal\n"
        "    for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU, signal.SIGALRM):\n"
        "        signal.signal(n, signal.SIG_IGN)\n"
        "    while True:\n"
        "        try:\n"
        "            while True: pass\n"
        "        except BaseException: pass",
        "timeout",
        "processor time",
    ),
    "is too slow three times": (
        "def chooseAction(self, s):\n"
        "    import time\n"
        "    end = time.process_time() + 0.4 * FACTOR\n"
        "    while time.process_time() < end: pass\n"
        "    return 'Stop'",
        "timeout",
        "for 3 moves",
    ),
    "computes in a child": (
        "def chooseAction(self, s):\n"
        "    import os\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        while True: pass\n"
        "    os.waitpid(child, 0)",
        "timeout",
        "processor time|PermissionError",
    ),
    "forks again and again": (
        "def chooseAction(self, s):\n"
        "    import os, time\n"
        "    for _ in range(100):\n"
        "        if not os.fork(): time.sleep(1000)\n"
        "    time.sleep(1000)",
        "illegal",
        r"started \d+ processes; 64 are allowed",
    ),
    "allocates 10 GB": ("def chooseAction(self, s):\n    return bytearray(10 << 30)", "crash", "MemoryError"),
    "returns nonsense": ("def chooseAction(self, s):\n    return 42", "illegal", "returned 42, which is no action"),
    "returns nothing": ("def chooseAction(self, s):\n    pass", "illegal", "returned None"),
    "returns what cannot be shown": (
        "def chooseAction(self, s):\n"
        "    class Bad:\n"
        "        def __repr__(self): raise SystemExit\n"
        "        __eq__ = __hash__ = None\n"
        "    return Bad()",
        "illegal",
        "an object of Bad",
    ),
    "walks into a wall": ("def chooseAction(self, s):\n    return 'West'", "illegal", "cannot do 'West'"),
    "raises what cannot be shown": (
        "def chooseAction(self, s):\n"
        "    class Bad(BaseException):\n"
        "        def __str__(self): raise SystemExit\n"
        "    raise Bad",
        "crash",
        "Bad",
    ),
    "recurses": ("def chooseAction(self, s):\n    return self.chooseAction(s)", "crash", "RecursionError"),
    "answers by itself": (
        "def chooseAction(self, s):\n"
        "    import os\n"
        "    for fd in range(3, 64):\n"
        '        try: os.write(fd, b\'{"failed": "nonsense"}\\n\' * 3)\n'
        "        except OSError: pass\n"
        "    return 'Stop'",
        "illegal",
        "answered with",
    ),
    "prints without end": (
        "def chooseAction(self, s):\n    import os\n    while True: os.write(1, b'x' * 65536)",
        "timeout",
        "processor time",
    ),
    "answers without end": (
        "def chooseAction(self, s):\n"
        "    import os\n"
        "    while True:\n"
        "        for fd in range(3, 64):\n"
        "            try: os.write(fd, b'x' * 65536)\n"
        "            except OSError: pass",
        "illegal",
        "more than an answer",
    ),
}


@pytest.mark.parametrize("wrong", WRONGS)
def test_who_does_wrong_loses_alone(nursery: Nursery, wrong: str) -> None:
    body, code, log = WRONGS[wrong]
    factor = calibrate()  # one for the team and its limits: two may differ by more than there is between them
    team = agent(body.replace("FACTOR", str(factor)), name="wrong")
    limits = Limits(start=2.0, warning=0.25, move=5.0) if "three" in wrong else QUICK
    before = set(descendants(os.getpid()))
    begin = time.process_time()
    played = match(nursery, innocent(), team, length=24, limits=limits, factor=factor)
    record = played.record
    assert (record.code, record.blame, record.score, record.winner) == (code, "blue", 1, "red"), played.blue_log[-2000:]
    assert_found(log, played.blue_log)
    assert played.red_log == ""  # the other team is told nothing
    assert record.cpu[0] < 0.2
    assert eventually(lambda: set(descendants(os.getpid())) <= before)
    assert time.process_time() - begin < 6  # the referee itself had hardly anything to do


def eventually(condition: Callable[[], bool]) -> bool:
    """A process that has closed all its files is still in /proc for a moment."""
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def assert_found(pattern: str, text: str) -> None:
    assert re.search(pattern, text), text[-2000:]


def test_suspended_time_is_nobodys(tmp_path: Path) -> None:
    """The client stops referee and teams together; an agent that slept meanwhile has not slept."""
    script = tmp_path / "play.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from tests.pacman.test_referee import *\n"
        "team = agent('def chooseAction(self, s):\\n    import time; time.sleep(0.4); return \"Stop\"')\n"
        "with Nursery() as ours:\n"
        "    print('begin', flush=True)\n"
        "    played = match(ours, team, innocent(), length=4, limits=Limits(idle=1.0))\n"
        "    print(played.record.code, played.record.reason, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begin\n"
        everybody = [process.pid, *descendants(process.pid)]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2)  # the time that must not count
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
        assert process.stdout.read() == "score \n"


def test_a_traceback_shows_the_teams_own_lines_alone(nursery: Nursery) -> None:
    played = match(
        nursery, agent("def chooseAction(self, s):\n    return self.plan()\ndef plan(self):\n    1/0"), innocent()
    )
    assert "in plan" in played.red_log
    assert "pacman_ctf" not in played.red_log
    assert "ZeroDivisionError" in played.record.reason


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("def createTeam(a, b, c:\n", "SyntaxError"),
        ("x = 1", "neither create_team nor createTeam"),
        (HEAD + "import no_such_module", "ModuleNotFoundError"),
        (HEAD.replace("[Agent(firstIndex), Agent(secondIndex)]", "None"), "returned None"),
        (HEAD.replace("[Agent(firstIndex), Agent(secondIndex)]", "[1]"), "made 1 agents"),
        (HEAD.replace("[Agent(firstIndex), Agent(secondIndex)]", "[1, 2]"), "has no get_action"),
        ("import os; os._exit(0)", "exit code 0"),
        ("x = '\udcff'", "SyntaxError|UnicodeDecodeError"),
    ],
)
def test_a_team_that_does_not_load_loses(nursery: Nursery, text: str, what: str) -> None:
    team = Submission.of("broken", {"myTeam.py": text.encode("utf-8", "surrogateescape")})
    played = match(nursery, team, innocent())
    assert (played.record.code, played.record.blame, played.record.winner) == ("load", "red", "blue")
    assert_found(what, played.red_log)
    assert played.record.moves == ""


def test_two_teams_that_do_not_load_tie(nursery: Nursery) -> None:
    record = match(nursery, source("1/0"), source("1/0")).record
    assert (record.code, record.blame, record.score, record.winner) == ("load", "both", 0, "tie")


def test_another_encoding_is_fine_when_it_is_declared(nursery: Nursery) -> None:
    text = "# -*- coding: latin-1 -*-\nname = 'Jos\xe9'\n" + HEAD + "class Agent(CaptureAgent):\n"
    text += "    def chooseAction(self, s):\n        assert name == 'Jos\\xe9'\n        return 'Stop'\n"
    played = match(nursery, Submission.of("old", {"myTeam.py": text.encode("latin-1")}), innocent())
    assert played.record.code == "score", played.red_log


def test_of_two_factories_in_a_file_the_snake_counts_and_of_two_files_none(nursery: Nursery) -> None:
    both = HEAD + "class Agent(CaptureAgent):\n    def chooseAction(self, s): return 'Stop'\n"
    both += "def create_team(*arguments): return createTeam(*arguments)\n"
    assert match(nursery, source(both), innocent()).record.code == "score"
    two = Submission.of("two", {"a.py": HEAD.encode(), "b.py": HEAD.encode()})
    with pytest.raises(SubmissionError, match="2 files do"):
        assert two.main
    played = match(nursery, two, innocent())
    assert (played.record.code, played.record.blame) == ("load", "red")
    assert "2 files do" in played.red_log


def test_a_gigabyte_of_output_is_not_kept(nursery: Nursery) -> None:
    body = (
        "def chooseAction(self, s):\n"
        "    import os\n"
        "    if not hasattr(self, 'told') and self.index == 1:\n"
        "        self.told = print('first words')\n"
        "        for _ in range(1024): os.write(1, b'x' * (1 << 20))\n"
        "        print('last words')\n"
        "    return 'Stop'"
    )
    played = match(nursery, innocent(), agent(body), limits=Limits())
    assert played.record.code == "score"
    assert played.blue_log.startswith("first words\nxxx")
    assert played.blue_log.endswith("xxxlast words")
    assert "bytes left out" in played.blue_log
    assert len(played.blue_log) < 60_000


def test_patching_the_engine_changes_nothing_for_the_referee(nursery: Nursery) -> None:
    body = """
def registerInitialState(self, s):
    import sys, gc
    from pacman_ctf import engine, rules, layout, host
    import capture
    rules.SCARED_TIME = 1000
    engine.step = capture.step = lambda state, agent, action: state._replace(score=42 if self.red else -42, over=True)
    host.ANSWERS = {}
    for thing in gc.get_objects():
        if isinstance(thing, engine.State):
            thing._replace(score=42)
    frame = sys._getframe()
    while frame:
        for name in ('score', 'state', 'winner'):
            frame.f_locals.get(name)
        frame = frame.f_back
    CaptureAgent.registerInitialState(self, s)
def chooseAction(self, s):
    s.data.score = 42
    return 'Stop'
"""
    record = match(nursery, agent(body), innocent()).record
    assert (record.code, record.score) == ("score", 0)


def test_a_team_finds_its_files_everywhere_it_looks(nursery: Nursery) -> None:
    body = """
def registerInitialState(self, s):
    import os, helper
    here = os.path.dirname(os.path.abspath(__file__))
    for path in ('weights.txt', os.path.join(here, 'weights.txt'), 'teams/files/weights.txt'):
        assert open(path).read() == '1 2 3'
    with open('notes.txt', 'a') as file: file.write('x')
    assert open('notes.txt').read() == 'x' * (1 + self.index // 2), 'a fresh folder for each match'
    assert helper.answer == 42
    CaptureAgent.registerInitialState(self, s)
"""
    team = agent(body, name="files", weights__txt="1 2 3", helper__py="answer = 42")
    for _ in range(2):
        played = match(nursery, team, agent("", helper__py="answer = 'another'"))
        assert played.record.code == "score", played.red_log


def test_numpy_is_there_and_seeded(nursery: Nursery) -> None:
    head = HEAD + "\nimport numpy\nweights = numpy.random.rand(3)\n"
    body = (
        "def registerInitialState(self, s):\n    print(weights.sum())\n    CaptureAgent.registerInitialState(self, s)"
    )
    team = agent(body, head=head)
    assert team.uses_numpy
    logs = {match(nursery, team, innocent(), length=8, limits=Limits()).red_log for _ in range(2)}
    assert len(logs) == 1
    assert float(logs.pop().split()[0]) > 0


def test_a_host_that_isolates_too_little_is_not_the_teams_fault(nursery: Nursery) -> None:
    with pytest.raises(SandboxTooWeak, match="no such layer: vault"):
        match(nursery, innocent(), innocent(), require=("files", "vault"))
    assert match(nursery, innocent(), innocent()).record.code == "score"


def test_nothing_is_left_after_matches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(descendants(os.getpid()))
    files = len(list(Path("/proc/self/fd").iterdir()))
    with Nursery() as ours:
        match(ours, innocent(), source("1/0"))
        match(ours, innocent(), innocent())
    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    assert eventually(lambda: set(descendants(os.getpid())) <= before)


def test_the_referee_can_be_watched(nursery: Nursery) -> None:
    seen: list[tuple[int, int]] = []
    pairing = Pairing(layout_of("pond"), SEED, length=12)
    play(innocent(), innocent(), pairing, nursery=nursery, watch=lambda move, state: seen.append((move, state.left)))
    assert seen == [(move, 11 - move) for move in range(12)]
