"""Functions that the tests send away; a module of the user's own, as a bundle sees it. Standard library only."""

from __future__ import annotations

import os
import random
import signal
import sys
import time

from pymw import Master, checkpoint, progress


def double(x):
    return 2 * x


def shout(text):
    print(text.upper())
    print(text, file=sys.stderr)
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


def die_once(mark, x):
    """Take the process along at the first try of x = 1."""
    if x == 1 and not os.path.exists(mark):
        open(mark, "x").close()
        os._exit(3)
    return x


def be_a_master():
    return Master("local")
