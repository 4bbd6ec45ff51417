"""A match in the terminal, move after move."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Final, TextIO

from pacman_ctf.engine import State
from pacman_ctf.text import picture

_HOME: Final = "\x1b[H\x1b[J"  # to the upper left, and clear what is below


def watcher(speed: float, out: TextIO | None = None) -> Callable[[int, State], None]:
    """What draws each state in place, at most `speed` moves a second; into a file, the pictures follow each other."""
    target = out or sys.stdout
    live = target.isatty()

    def show(move: int, state: State) -> None:
        begin = time.monotonic()
        frame = f"move {move + 1}\n{picture(state, color=live)}\n"
        target.write((_HOME if live else "") + frame)
        target.flush()
        if live and speed > 0:
            time.sleep(max(0.0, 1 / speed - (time.monotonic() - begin)))

    return show


def watch(states: Iterable[State], speed: float, out: TextIO | None = None) -> None:
    """Show a match that was played."""
    show = watcher(speed, out)
    for number, state in enumerate(states):
        show(number - 1, state)
