"""A layout: the maze as text, and the tables that make the engine quick.

A cell is the integer `x * height + y` with (0, 0) at the bottom left, so that ascending cells are the column order in
which agents expect lists of positions, and the red half is the low half of every bit mask.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import resources
from typing import Final

from pacman_ctf import rules

MAX_SIDE: Final = 64  # cells; what the largest maze in use needs, with room, and what a GIF can show
HIDDEN: Final = -1  # the cell of an agent that is not seen


class LayoutError(ValueError):
    """A layout that nobody can play on; the message says where it is wrong."""


class Layout:
    """An immutable maze with its precomputed tables; equal when the text is.

    `moves[action][cell]` is the next cell, or -1 at a wall. `abroad[agent][cell]` is whether that cell is in the other
    team's half. `prey[agent][cell]` is the cell's bit when it is abroad, else 0: what may be eaten there.
    """

    __slots__ = (
        "abroad",
        "agents",
        "blue_half",
        "capsules",
        "cells",
        "digest",
        "floats",
        "food",
        "height",
        "legal",
        "moves",
        "name",
        "open",
        "points",
        "prey",
        "quiet",
        "red",
        "red_half",
        "size",
        "starts",
        "teams",
        "text",
        "total_food",
        "walls",
        "width",
    )

    def __init__(self, text: str, name: str = "") -> None:
        rows = [row.strip() for row in text.strip().splitlines()]
        if not rows or not rows[0]:
            raise LayoutError("the layout is empty")
        self.name = name
        self.text = "\n".join(rows)
        self.digest = hashlib.sha256(self.text.encode()).hexdigest()
        self.height, self.width = len(rows), len(rows[0])
        self._check_shape(rows)
        self.size = self.width * self.height
        self.points: list[tuple[int, int]] = [(x, y) for x in range(self.width) for y in range(self.height)]
        self.floats: list[tuple[float, float]] = [(float(x), float(y)) for x, y in self.points]
        self.cells: dict[tuple[float, float], int] = {point: cell for cell, point in enumerate(self.points)}
        half = self.width // 2 * self.height
        self.red_half = (1 << half) - 1
        self.blue_half = (1 << self.size) - 1 ^ self.red_half
        self._read(rows)
        self._check_border()
        self._tabulate()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Layout({self.name or self.digest[:12]!r}, {self.width}x{self.height}, {self.total_food} dots)"

    def __reduce__(self) -> tuple[type[Layout], tuple[str, str]]:
        return Layout, (self.text, self.name)

    def _check_shape(self, rows: list[str]) -> None:
        for number, row in enumerate(rows, 1):
            if len(row) != self.width:
                raise LayoutError(f"line {number} has {len(row)} cells, the first has {self.width}")
        if self.width % 2:
            raise LayoutError(f"the width is {self.width}: it must be even, so that each team has one half")
        if not (4 <= self.width <= MAX_SIDE and 3 <= self.height <= MAX_SIDE):
            raise LayoutError(f"{self.width}x{self.height} cells: sides go from 4x3 to {MAX_SIDE}x{MAX_SIDE}")

    def _read(self, rows: list[str]) -> None:
        self.walls = self.food = self.capsules = 0
        starts: list[tuple[int, int]] = []
        for y, row in enumerate(reversed(rows)):
            for x, mark in enumerate(row):
                cell = x * self.height + y
                if mark == "%":
                    self.walls |= 1 << cell
                elif mark == ".":
                    self.food |= 1 << cell
                elif mark == "o":
                    self.capsules |= 1 << cell
                elif mark in "1234":
                    starts.append((int(mark), cell))
                elif mark in "PG":  # an older way to mark the first two agents
                    starts.append((" PG".index(mark), cell))
        numbers = sorted(number for number, _ in starts)
        if numbers not in ([1, 2], [1, 2, 3, 4]):
            raise LayoutError(f"the starts are {numbers or 'missing'}: needed are 1 and 2, or 1 to 4, each once")
        self.starts = tuple(cell for _, cell in sorted(starts))
        self.agents = len(self.starts)
        self.red = tuple(bool(self.red_half >> cell & 1) for cell in self.starts)
        if self.red != (True, False) * (self.agents // 2):
            raise LayoutError("agents 1 and 3 must start in the left half, 2 and 4 in the right one")
        self.total_food = self.food.bit_count()
        if not (self.food & self.red_half and self.food & self.blue_half):
            raise LayoutError("each half needs food")

    def _check_border(self) -> None:
        for cell, (x, y) in enumerate(self.points):
            if (x in (0, self.width - 1) or y in (0, self.height - 1)) and not self.walls >> cell & 1:
                raise LayoutError(f"there is a hole in the border at ({x}, {y})")

    def _tabulate(self) -> None:
        self.open = [not self.walls >> cell & 1 for cell in range(self.size)]
        steps = {action: dx * self.height + dy for action, (dx, dy) in rules.VECTORS.items()}
        self.moves = {
            action: [cell + step if free and self.open[cell + step] else -1 for cell, free in enumerate(self.open)]
            for action, step in steps.items()
        }
        self.legal = [
            tuple(action for action in rules.ACTIONS if self.moves[action][cell] >= 0) for cell in range(self.size)
        ]
        sides = {True: self.blue_half, False: self.red_half}
        abroad = {red: [bool(half >> cell & 1) for cell in range(self.size)] for red, half in sides.items()}
        prey = {red: [half & 1 << cell for cell in range(self.size)] for red, half in sides.items()}
        self.abroad = tuple(abroad[red] for red in self.red)
        self.prey = tuple(prey[red] for red in self.red)
        reds = tuple(agent for agent in range(self.agents) if self.red[agent])
        blues = tuple(agent for agent in range(self.agents) if not self.red[agent])
        self.teams = tuple((reds, blues) if red else (blues, reds) for red in self.red)
        self.quiet = tuple((agent, HIDDEN, HIDDEN, 0) for agent in range(self.agents))

    def points_of(self, mask: int) -> list[tuple[int, int]]:
        """The positions of a mask's bits, in column order."""
        return list(_points(self.height, mask))


@lru_cache(maxsize=4096)
def _points(height: int, mask: int) -> tuple[tuple[int, int], ...]:
    found = []
    while mask:
        low = mask & -mask
        found.append(divmod(low.bit_length() - 1, height))
        mask ^= low
    return tuple(found)


def shipped() -> tuple[str, ...]:
    """The names of the layouts that come with the package."""
    folder = resources.files("pacman_ctf") / "layouts"
    return tuple(sorted(entry.name.removesuffix(".lay") for entry in folder.iterdir() if entry.name.endswith(".lay")))


def named(name: str) -> Layout:
    """A layout of this package by its name; an unknown one lists those that exist."""
    if name not in shipped():
        raise LayoutError(f"no layout {name!r}; there are: {', '.join(shipped())}, and maze1:SEED for a random maze")
    text = (resources.files("pacman_ctf") / "layouts" / f"{name}.lay").read_text(encoding="utf-8")
    return Layout(text, name)
