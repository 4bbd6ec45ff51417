"""Writes vectors.json: matches at random, and what each state looks like, for the Python engine and the viewer alike.

    python -m tests.pacman.make_vectors

Run it only when the rules change; what it writes was agreed with the plain rules (`plain.py`).
"""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

from pacman_ctf import rules
from pacman_ctf.distances import Distances
from pacman_ctf.engine import begin, legal_actions, step
from pacman_ctf.layout import Layout, shipped
from pacman_ctf.maze import layout_of
from pacman_ctf.replays import line

VECTORS = Path(__file__).with_name("vectors.json")
EVERY = 25  # states between two that are written out


def game(layout: Layout, first: int, seed: str, length: int) -> dict[str, object]:
    """A match in which agents go to random cells, often where somebody is."""
    chance, table = random.Random(seed), Distances(layout)
    open_cells = [cell for cell in range(layout.size) if layout.open[cell]]
    state, goals, moves = begin(layout, length), list(layout.starts), ""
    lines = [line(state)]
    while state.left and not state.over:
        i = (first + len(moves)) % layout.agents
        here = state.cells[i]
        if here == goals[i]:
            goals[i] = chance.choice([*state.cells, *chance.sample(open_cells, 2)])
        action = min(legal_actions(state, i), key=lambda way: table[goals[i]][layout.moves[way][here]])
        state = step(state, i, action)
        moves += rules.LETTERS[action]
        lines.append(line(state))
    return {
        "layout": layout.text,
        "length": length,
        "first": first,
        "moves": moves,
        "lines": {str(number): lines[number] for number in [*range(0, len(lines), EVERY), len(lines) - 1]},
        "digest": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
    }


def main() -> None:
    """Write the file."""
    games = []
    for number, label in enumerate([*shipped(), "maze1:1", "maze1:8"]):
        games += [game(layout_of(label), first, f"{label}/{first}", 400 + 100 * number) for first in (0, 1)]
    text = "%%%%%%\n%1..2%\n%%%%%%"
    wrong = [
        {"layout": text, "length": 10, "first": 0, "moves": "E" + moves, "message": f"move {1 + at}"}
        for moves, at in (("N", 0), ("WN", 1), ("Wx", 1), ("." * 12, 9))
    ]
    VECTORS.write_text(json.dumps({"games": games, "wrong": wrong}, indent=1) + "\n")


if __name__ == "__main__":
    main()
