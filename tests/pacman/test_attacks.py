"""Teams that attack the referee, their opponents or the host: none of it works, and who tries pays alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.pacman.teams import HEAD, agent, innocent
from tests.pacman.test_referee import QUICK, SEED, assert_found, eventually, match, nursery

from pacman_ctf import scratch, seeds
from pacman_ctf.check import check
from pacman_ctf.engine import State
from pacman_ctf.limits import Limits, calibrate
from pacman_ctf.maze import layout_of
from pacman_ctf.nursery import Nursery
from pacman_ctf.processes import descendants
from pacman_ctf.referee import Pairing, play
from pyboinc import sandbox

assert nursery  # the fixture


def test_nothing_that_a_team_starts_outlives_its_match(nursery: Nursery) -> None:
    """Orphans of orphans, in sessions of their own where the kernel lets them: the warden has them all."""
    body = """
def chooseAction(self, s):
    import os, time
    if self.index == 0 and not hasattr(self, 'done'):
        self.done = True
        ends = os.pipe()
        for _ in range(5):
            if os.fork() == 0:
                try: os.setsid()
                except PermissionError: pass
                for _ in range(3):
                    if os.fork() == 0:
                        os.write(1, b'pid %d\\n' % os.getpid())
                        os.write(ends[1], b'x')
                        time.sleep(1000)
                os._exit(0)
        for _ in range(15): os.read(ends[0], 1)  # all are there before the match goes on, and ends
    return 'Stop'
"""
    played = match(nursery, agent(body), innocent(), length=40, limits=Limits())
    pids = re.findall(r"pid (\d+)", played.red_log)
    assert len(pids) == 15
    for pid in pids:
        assert eventually(lambda pid=pid: not Path(f"/proc/{pid}").exists()), f"{pid} is still there"


def holds(pid: int, needles: list[bytes]) -> set[bytes]:
    """Which of these a process has anywhere in its memory that it can write to."""
    found = set()
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        start, _, end = line.split()[0].partition("-")
        if "w" not in line.split()[1]:
            continue
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(int(start, 16))
            try:
                data = memory.read(int(end, 16) - int(start, 16))
            except OSError:
                continue
        found |= {needle for needle in needles if needle in data}
    return found


def test_no_process_of_a_team_holds_the_seed_or_the_key_of_the_noise(nursery: Nursery) -> None:
    keys = [SEED, SEED.hex().encode(), seeds.derive(SEED, "sonar")]
    found: dict[int, set[bytes]] = {}

    def look(move: int, state: State) -> None:
        if move == 30:
            for pid in descendants(os.getpid()):
                try:
                    found[pid] = holds(pid, [*keys, b"harbour"])
                except PermissionError:
                    pytest.skip("this system does not let a process look into its children")
                except (FileNotFoundError, ProcessLookupError):  # of a match before, and on its way out
                    continue

    pairing = Pairing(layout_of("harbour"), SEED, length=40)
    play(innocent(), innocent(), pairing, nursery=nursery, watch=look)
    assert sum(b"harbour" in seen for seen in found.values()) >= 2  # so it would have been found
    assert not any(seen & set(keys) for seen in found.values())


def test_a_team_is_told_no_position_that_is_hidden(nursery: Nursery) -> None:
    body = """
def chooseAction(self, s):
    import gc
    from pacman_ctf.engine import State
    others = self.getOpponents(s)
    for state in [thing for thing in gc.get_objects() if type(thing) is State and thing.left < 40]:
        mine = [state.layout.points[state.cells[mate]] for mate in self.getTeam(s)]
        for other in others:
            if state.cells[other] >= 0:
                x, y = state.layout.points[state.cells[other]]
                assert min(abs(x - a) + abs(y - b) for a, b in mine) <= 5
    self.hidden = getattr(self, 'hidden', 0) + sum(s.getAgentPosition(other) is None for other in others)
    return 'Stop'
def final(self, s):
    print(self.hidden)
"""
    assert match(nursery, agent(body), innocent()).red_log == "20\n20"


@pytest.fixture
def layers() -> Callable[..., None]:
    """layers("files"): this kernel has these layers of the sandbox, or the test is skipped with that reason."""

    def check(*names: str) -> None:
        missing = [name for name in names if name not in sandbox.available()]
        if missing:  # a kernel cannot be installed, so this is no failure with --strict-parts either
            pytest.skip(f"this kernel has no sandbox for: {', '.join(missing)}")

    return check


TRIES = """
def chooseAction(self, s):
    import glob, os, signal, socket
    def tries(what, act):
        try: print(what, act())
        except Exception as error: print(what, type(error).__name__)
    if self.index == 0 and not hasattr(self, 'done'):
        self.done = True
        tries('opponents', lambda: [path for path in glob.glob('/tmp/pacman-*/myTeam.py') if not path.startswith(os.getcwd())])
        tries('password', lambda: open('/etc/passwd').read(3))
        tries('home', lambda: os.listdir('/root'))
        tries('outside', lambda: open('/tmp/outside', 'w'))
        tries('inside', lambda: open('inside', 'w').write('x'))
        tries('referee', lambda: open('/proc/%d/environ' % REFEREE).read(1))
        tries('tcp', lambda: socket.create_connection(('127.0.0.1', 1)))
        tries('udp', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        tries('kill', lambda: os.kill(REFEREE, 0))
        tries('ptrace', lambda: __import__('ctypes').CDLL(None).ptrace(16, REFEREE, 0, 0))
    return 'Stop'
"""


def test_the_sandbox_is_closed(nursery: Nursery, layers: Callable[..., None]) -> None:
    layers("files", "network", "signals", "syscalls")
    played = match(
        nursery, agent(TRIES.replace("REFEREE", str(os.getpid()))), innocent(), require=tuple(sandbox.LAYERS)
    )
    assert dict(line.split(" ", 1) for line in played.red_log.splitlines()) == {
        "opponents": "[]",
        "password": "PermissionError",
        "home": "PermissionError",
        "outside": "PermissionError",
        "inside": "1",
        "referee": "PermissionError",
        "tcp": "PermissionError",
        "udp": "PermissionError",
        "kill": "PermissionError",
        "ptrace": "-1",
    }
    assert played.record.isolation == (", ".join(sandbox.LAYERS),) * 2
    assert played.record.code == "score"


@pytest.mark.parametrize("how", ["os.kill(os.getppid(), 9)", "os.killpg(0, 9)", "os.kill(0, 9)"])
def test_who_kills_around_itself_loses(nursery: Nursery, how: str) -> None:
    record = match(nursery, innocent(), agent(f"def chooseAction(self, s):\n    import os\n    {how}")).record
    assert (record.code, record.blame) == ("crash", "blue")
    assert match(nursery, innocent(), innocent()).record.code == "score"


# Each attack once, at the first move of a team's first agent: how the match ends, and what the private log says.
ONCE = """
def chooseAction(self, s):
    if self.index < 2 and not hasattr(self, 'done'):
        self.done = True
        attack(self)
    return 'Stop'
"""
PIPE = """
import fcntl, os
def answers():  # the pipe that the referee reads
    for fd in range(3, 64):
        try:
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY and '/pipe:' in '/' + os.readlink('/proc/self/fd/%d' % fd):
                return fd
        except OSError: pass
def questions():
    for fd in range(3, 64):
        try:
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY and '/pipe:' in '/' + os.readlink('/proc/self/fd/%d' % fd):
                return fd
        except OSError: pass
"""
FORK = """
import os, time
def start(act):
    child = os.fork()
    if not child:
        try: act()
        finally: os._exit(0)
    return child
"""
ATTACKS: dict[str, tuple[str, str, str]] = {
    "answers ahead by a small pipe": (
        PIPE
        + """
import time
def attack(self):
    fcntl.fcntl(questions(), 1031, 4096)
    os.write(answers(), b'"Stop"\\n' * 1000)
    time.sleep(1000)
""",
        "timeout",
        "slept",
    ),
    "takes its answers back": (
        PIPE
        + """
import threading
def attack(self):
    ours = os.open('/proc/self/fd/%d' % answers(), os.O_RDONLY)
    def steal():
        while True: os.read(ours, 65536)
    for _ in range(3): threading.Thread(target=steal, daemon=True).start()
""",
        "timeout",
        "slept|processor time",
    ),
    "asks itself": (
        PIPE
        + """
def attack(self):
    os.write(os.open('/proc/self/fd/%d' % questions(), os.O_WRONLY), b'["move"' * 10)
""",
        "crash",
        "ended by itself",
    ),
    "has many threads": (
        """
import threading, time
def attack(self):
    threading.stack_size(32768)
    for _ in range(600): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    time.sleep(1000)
""",
        "illegal",
        r"started \d+ threads; 512 are allowed",  # the referee may look while they are being started
    ),
    "shares out its memory": (
        FORK
        + """
def attack(self):
    def hold():
        mine = bytearray(os.urandom(1 << 20)) * 100
        time.sleep(1000)
    for _ in range(4): start(hold)
    time.sleep(1000)
""",
        "illegal",
        r"used \d+ MB of memory; 256 MB are allowed",
    ),
    "has memory without a name": (
        """
import mmap, time
def attack(self):
    held = mmap.mmap(-1, 100 << 20)
    time.sleep(1000)
""",
        "illegal",
        "keeps 100 MB of files and shared memory; 64 MB are allowed",
    ),
    "fills the disk": (
        """
import time
def attack(self):
    for number in range(3):
        with open('file%d' % number, 'wb') as file: file.write(bytes(32 << 20))
    time.sleep(1000)
""",
        "illegal",
        r"keeps \d+ MB of files",
    ),
    "fills the disk with files that have no name": (
        """
import os, tempfile, time
def attack(self):
    held = [tempfile.TemporaryFile() for _ in range(3)]
    for file in held: file.write(bytes(32 << 20)); file.flush()
    assert os.listdir('.').count('file') == 0
    time.sleep(1000)
""",
        "illegal",
        r"keeps \d+ MB of files",
    ),
    "maps files that have no name": (
        """
import mmap, tempfile, time
held = []
def attack(self):
    for _ in range(3):
        with tempfile.TemporaryFile() as file:
            file.truncate(32 << 20)
            held.append(mmap.mmap(file.fileno(), 0))
            held[-1].write(bytes(32 << 20))
    time.sleep(1000)
""",
        "illegal",
        r"keeps \d+ MB of files",
    ),
    "makes a swamp of files": (
        "import time\ndef attack(self):\n    for n in range(11000): open('f%d' % n, 'w').close()\n    time.sleep(1000)",
        "illegal",
        "made more than 10000 files",
    ),
    "makes a well of folders": (
        """
import os, time
def attack(self):
    for _ in range(1200):
        os.mkdir('d'); os.chdir("d")
    time.sleep(1000)
""",
        "illegal",
        "nested more than 64 folders",
    ),
    "sleeps a little each move": (
        "import time\ndef attack(self):\n    del self.done\n    time.sleep(0.6)",
        "timeout",
        r"slept \d+ s of the match",
    ),
    "is busy for a moment now and then while it sleeps": (
        """
import time
def attack(self):
    while True:
        end = time.process_time() + 0.006
        while time.process_time() < end: pass
        time.sleep(0.2)
""",
        "timeout",
        r"slept \d+ s of the match",
    ),
    "says what no file can hold": (
        PIPE
        + """
def attack(self):
    os.write(answers(), b'{"failed": "crash", "what": "\\\\ud800 \\\\u001b[31m", "detail": "\\\\udfff"}\\n')
""",
        "crash",
        "--- crash: [?] \u241b\\[31m",
    ),
    "raises what no file can hold": (
        "def attack(self):\n    raise ValueError('\\ud800 \\x1b[31m')",
        "crash",
        "ValueError: [?] \u241b\\[31m",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_who_attacks_loses_alone(
    nursery: Nursery, attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    head, code, log = ATTACKS[attack]
    team = agent(ONCE, head=HEAD + head, name="attacker")
    idle = 30.0 if "of the match" in log else 1.0  # who is to be caught by the sum must not be by one long sleep
    limits = Limits(start=2.0, warning=1.0, move=3.0, idle=idle, sleep=2.5, memory=256 << 20, disk=64 << 20)
    before = set(descendants(os.getpid()))
    played = match(nursery, innocent(), team, length=240, limits=limits)
    record = played.record
    assert (record.code, record.blame, record.winner) == (code, "blue", "red"), played.blue_log[-2000:]
    assert_found(log, played.blue_log)
    assert "\x1b" not in played.blue_log + record.reason
    (played.blue_log + record.reason).encode()
    assert played.red_log == ""
    assert list(tmp_path.iterdir()) == []
    assert eventually(lambda: set(descendants(os.getpid())) <= before)


CHAINS = (
    FORK
    + """
def attack(self):
    def chain():
        while True:
            try:
                if os.fork(): os._exit(0)
                os.setsid()
            except OSError: pass
    for _ in range(12): start(chain)
"""
)


def test_chains_of_processes_end_with_their_match(nursery: Nursery) -> None:
    """Each starts the next and ends, for ever, quicker than anybody reads a list of processes."""
    before = set(descendants(os.getpid()))
    for length in (4, 240):
        played = match(nursery, agent(ONCE, head=HEAD + CHAINS), innocent(), length=length)
        assert (played.record.code, played.record.blame) in (("score", ""), ("timeout", "red"), ("illegal", "red"))
        assert eventually(lambda: set(descendants(os.getpid())) <= before)
    assert match(nursery, innocent(), innocent()).record.code == "score"


def test_chains_of_processes_do_not_hold_up_the_check() -> None:
    report = check(agent(ONCE, head=HEAD + CHAINS), seconds=4)
    assert "processor time" in report.text() or report.ready


def test_chains_end_also_where_nothing_keeps_them_in_their_group(tmp_path: Path) -> None:
    """A system without seccomp: each of the chain leaves its group, and is swept together with its parent."""
    script = tmp_path / "warden.py"
    script.write_text(
        textwrap.dedent("""
        import os, time
        from pacman_ctf.isolation import adopt_orphans
        from pacman_ctf.processes import descendants, end_all
        adopt_orphans()
        child = os.fork()
        if not child:
            os.setpgid(0, 0)
            for _ in range(4):
                if not os.fork():
                    while True:
                        if os.fork(): os._exit(0)
                        os.setsid()
            time.sleep(1000)
        while len(descendants(os.getpid())) < 4: pass
        status = end_all(child)
        print(os.waitstatus_to_exitcode(status), descendants(os.getpid()))
    """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "-9 []\n"


def test_time_of_children_counts_also_when_nobody_waits_for_them(nursery: Nursery) -> None:
    """Children that are reaped by the kernel itself would take the time that they used with them."""
    head = (
        FORK
        + """
import signal
try: signal.signal(signal.SIGCHLD, signal.SIG_IGN)
except OSError: pass
def attack(self):
    del self.done
    ends = os.pipe()
    def burn():
        end = time.process_time() + 0.1
        while time.process_time() < end: pass
    start(burn)
    os.close(ends[1])
    os.read(ends[0], 1)
    os.close(ends[0])
"""
    )
    limits = Limits(warning=5.0, move=5.0, total=1.0)
    played = match(nursery, agent(ONCE, head=HEAD + head), innocent(), length=200, limits=limits)
    assert (played.record.code, played.record.blame) == ("timeout", "red")
    assert_found("agent 0 used . s in all, 1 s are allowed", played.red_log)


MEDDLE = """
import ctypes, fcntl, glob, os, resource, signal, struct
libc = ctypes.CDLL(None, use_errno=True)
def attack(self):
    with open('victims') as file: victims = [int(word) for word in file.read().split()]
    worked = []
    for pid in victims:
        tries = {
            'cpu': lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (0, 0)),
            'files': lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, 0)),
            'nice': lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
            'group': lambda: os.setpriority(os.PRIO_USER, 0, 19),
            'idle': lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)),
            'cores': lambda: os.sched_setaffinity(pid, [0]),
            'kill': lambda: os.kill(pid, signal.SIGKILL),
            'stop': lambda: os.kill(pid, signal.SIGSTOP),
            'pidfd': lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL),
            'memory': lambda: open('/proc/%d/mem' % pid, 'r+b'),
            'environ': lambda: open('/proc/%d/environ' % pid, 'rb'),
            'files of': lambda: os.listdir('/proc/%d/fd' % pid),
            'by file': lambda: fcntl.fcntl(1, fcntl.F_SETOWN, pid),
        }
        for name, act in tries.items():
            try: act()
            except OSError: continue
            worked.append(name)
        if not libc.ptrace(16, pid, 0, 0) or not libc.ptrace(0x4206, pid, 0, 0): worked.append('ptrace')
    print(len(victims), worked)
"""


def test_a_team_can_do_nothing_to_its_opponent_its_warden_or_the_referee(
    nursery: Nursery, layers: Callable[..., None]
) -> None:
    layers("files", "syscalls", "signals")
    victims: set[int] = set()

    def tell(move: int, state: State) -> None:
        if move == 8:
            processes = descendants(os.getpid())
            own = next(pid for pid in processes if Path(f"/proc/{pid}/cwd/attacker.txt").exists()
                       and not Path(f"/proc/{pid}/task/{pid}/children").read_text())  # fmt: skip
            victims.update({*processes, os.getpid()} - {own})
            Path(f"/proc/{own}/cwd/victims").write_text(" ".join(map(str, victims)))

    attacker = agent(ONCE.replace("self.index < 2 and", "os.path.exists('victims') and"), head=HEAD + MEDDLE,
                     attacker__txt="", name="attacker")  # fmt: skip
    pairing = Pairing(layout_of("harbour"), SEED, length=60, limits=QUICK, factor=calibrate())
    played = play(innocent(), attacker, pairing, nursery=nursery, watch=tell)
    assert played.record.code == "score", played.record.reason
    # Its warden, the opponent and its warden, nursery, referee; and whoever of a match before is on his way out.
    assert len(victims) >= 5
    assert set(played.blue_log.splitlines()) == {f"{len(victims)} []"}


def test_a_folder_is_removed_whatever_lies_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scratch.Scratch() as folder:
        monkeypatch.chdir(folder)
        for _ in range(1200):  # deeper than recursion goes, and longer than a path may be
            Path("folder").mkdir()
            Path("folder/file").touch()
            os.chdir("folder")
        monkeypatch.undo()
        (folder / "link").symlink_to(tmp_path, target_is_directory=True)
        (folder / "shut").mkdir()
        (folder / "shut" / "file").touch()
        (folder / "shut").chmod(0)
        with pytest.raises(scratch.Hidden):
            scratch.size(folder)
    assert not folder.exists()
    assert tmp_path.exists()
