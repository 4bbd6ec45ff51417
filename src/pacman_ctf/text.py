"""The game as text, for terminals, logs and `print(game_state)`."""

from __future__ import annotations

from pacman_ctf import rules
from pacman_ctf.engine import State

_MOUTH = {rules.NORTH: "v", rules.SOUTH: "^", rules.EAST: "<", rules.WEST: ">", rules.STOP: "<"}
_RED, _BLUE, _FOOD, _WALL, _PLAIN = "\x1b[91m", "\x1b[94m", "\x1b[93m", "\x1b[90m", "\x1b[0m"


def picture(state: State, *, color: bool = False) -> str:
    """The maze as lines, `G` and `g` for red and blue ghosts, mouths for pacmen, and the score below."""
    layout = state.layout
    cells = ["%" if layout.walls >> c & 1 else "." if state.food >> c & 1 else "o" if state.capsules >> c & 1 else " "
             for c in range(layout.size)]  # fmt: skip
    tints = {"%": _WALL, ".": _FOOD, "o": _FOOD, " ": ""}
    paint = [tints[mark] for mark in cells]
    for agent, cell in enumerate(state.cells):
        if cell >= 0:
            red = layout.red[agent]
            ghost = ("G" if red else "g") if not state.scared[agent] else ("S" if red else "s")
            cells[cell] = _MOUTH[state.facing[agent]] if state.pacman[agent] else ghost
            paint[cell] = _RED if red else _BLUE
    rows = []
    for y in reversed(range(layout.height)):
        row = [x * layout.height + y for x in range(layout.width)]
        rows.append("".join(f"{paint[c]}{cells[c]}{_PLAIN}" if color and paint[c] else cells[c] for c in row))
    carried = " ".join(f"{agent + 1}:{dots}" for agent, dots in enumerate(state.carried) if dots)
    rows.append(f"score {state.score:+d}  moves left {state.left}" + (f"  carried {carried}" if carried else ""))
    return "\n".join(rows)
