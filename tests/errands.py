"""Functions that the tests send away; a module of the user's own, as a bundle sees it. Standard library only."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import sys
import time

from pymw import Master, checkpoint, log, progress


def double(x):
    return 2 * x


def shout(text):
    print(text.upper())
    print(text, file=sys.stderr)
    log(f"said {text}")
    return len(text)


def fail(message):
    raise ValueError(message, 42)


def vanish(x, victims):
    """Die of SIGKILL for the victims, as if the host had run out of memory."""
    if x in victims:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def leave(x):
    os._exit(x)


def exhaust():
    raise MemoryError


def unsendable():
    return {"a": [object()]}


def unseeded():
    return random.random(), sorted({"a", "b", "c", "d"}) and list({"a", "b", "c", "d"})


def creep(seconds, steps=20):
    """Take `seconds`, telling how far it is."""
    for step in range(steps):
        progress(step / steps)
        time.sleep(seconds / steps)
    return steps


def hoard(megabytes):
    """Take so much memory, and stay with it."""
    kept = bytearray(os.urandom(1 << 20) * megabytes)
    time.sleep(600 if megabytes > 300 else 0)
    return len(kept)


def segfault(x, victim):
    if x == victim:
        os.kill(os.getpid(), signal.SIGSEGV)
    return x


@dataclasses.dataclass
class Measured:
    energy: float


def same_sign(first, second):
    """For agree=: whether two measurements have the same sign."""
    return (first.energy > 0) == (second.energy > 0)


def undecided(first, second):
    raise ValueError("what is sameness?")


def never_decides(first, second):
    while True:
        pass


def snoops(first, second):
    """For agree=: read what is none of its business."""
    with open(os.path.expanduser("~/.pymw-test-secret")) as file:
        return bool(file.read())


def measure(energy):
    return Measured(energy)


def count_up(steps, seconds):
    """So many steps, each kept; where it started this time, and how often it was started."""
    start, starts = checkpoint.load((0, 0))
    for step in range(start, steps):
        checkpoint.save((step + 1, starts + 1))
        progress((step + 1) / steps)
        time.sleep(seconds)
    return start, starts + 1


def digest_of(name):
    """The SHA-256 of a data file, read piece by piece."""
    import hashlib

    with open(name, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def work(loops):
    """So much to compute."""
    total = 0
    for n in range(loops):
        total += n & 7
    return total


def nap(seconds):
    time.sleep(seconds)
    return seconds


def once_more(marker):
    """Die half-way at the first try; the second goes on from the checkpoint."""
    start = checkpoint.load(0)
    for i in range(start, 10):
        if i == 5 and start == 0:
            checkpoint.save(i)
            os.kill(os.getpid(), signal.SIGKILL)
    return start


def count_words(factor):
    """Read one data file, leave another."""
    with open("words/text.txt") as file:
        words = file.read().split()
    with open("counted.txt", "w") as file:
        file.write(" ".join(reversed(words)))
    return factor * len(words), sorted(os.listdir("."))


def die_if_told(x):
    """Take the process along, x = 1 and as long as the environment says so."""
    if x == 1 and os.environ.get("ERRANDS_DIE"):
        os._exit(3)
    return x


def pry(slot, home):
    """Try what the sandbox is there for; what came of each."""
    import socket

    supervisor = f"/proc/{os.getppid()}"

    def attempt(act):
        try:
            act()
        except OSError as error:
            return "denied" if error.errno in (1, 13) else str(error)
        return "allowed"

    return {
        "init data": attempt(lambda: open(f"{slot}/init_data.xml", "a")),
        "init data by way of the supervisor": attempt(lambda: open(f"{supervisor}/cwd/init_data.xml")),
        "the supervisor's environment": attempt(lambda: open(f"{supervisor}/environ")),
        "its own children's state": attempt(lambda: open("/proc/self/task/../stat")),
        "home": attempt(lambda: os.listdir(home)),
        "network": attempt(socket.socket),
    }


def lay_a_trap(trick, target):
    """Put something else where the job's journal was, and die."""
    os.chdir("..")
    with open(target, "w") as file:
        file.write("precious")
    journal = "pymw_outcomes.part"
    os.unlink(journal)
    if trick == "link":
        os.symlink(target, journal)
    elif trick == "hard link":
        os.link(target, journal)
    elif trick == "pipe":
        os.mkfifo(journal)
    else:
        with open(journal, "wb") as file:
            file.truncate(1 << 40)
    os.kill(os.getpid(), signal.SIGKILL)


def about_the_interpreter():
    import sqlite3

    with open("/proc/self/status") as status:
        filtered = "Seccomp:\t2" in status.read()
    (four,) = sqlite3.connect(":memory:").execute("select sqrt(16)").fetchone()
    return [sys.executable, ".".join(map(str, sys.version_info[:3])), filtered, four]


def escaped(text):
    import markupsafe

    return str(markupsafe.escape(text))


def be_a_master():
    return Master("local")


def solved(n):
    import numpy

    # A system that has the solution 1, 2, 3 ...: through LAPACK, so through the compiled parts of the package.
    matrix = numpy.random.default_rng(n).random((n, n)) + n * numpy.eye(n)
    right = matrix @ numpy.arange(1, n + 1)
    return [numpy.__version__, numpy.__file__, numpy.linalg.solve(matrix, right).round(6).tolist()]
