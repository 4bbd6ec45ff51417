"""Random mazes: the label `maze1:SEED` says which generator made one, so the same label is the same maze for ever.

A generator never changes once it is released; a better one gets the next number. The text of the maze travels with
each match all the same, so nobody needs to make it again.
"""

from __future__ import annotations

import random
from typing import Final

from pacman_ctf.layout import Layout, LayoutError, named

_HALF: Final = 16  # open columns of one half
_ROWS: Final = 16
_FOOD: Final = 30  # dots in one half
_CAPSULES: Final = 2
_QUIET_CORNER: Final = 5  # no food this near to the start, in both directions
_AVENUE: Final = 3  # columns of the middle that stay without food

_Cell = tuple[int, int]
_Room = tuple[int, int, int, int]  # x0, x1, y0, y1, all inside


def maze1(seed: str) -> Layout:
    """34x18 cells, 60 dots, 4 capsules; recursive division of one half, turned by 180 degrees for the other."""
    draw = _Draw(f"maze1:{seed}")
    walls = {(x, y) for x in range(_HALF + 1) for y in (0, _ROWS + 1)} | {(0, y) for y in range(_ROWS + 2)}
    front = _HALF - 2
    walls |= {(front, y) for y in range(1, _ROWS + 1)}
    walls -= {(front, y) for y in draw.some(list(range(1, _ROWS + 1)), 4 + draw.below(3))}
    _divide(draw, walls, (1, front - 1, 1, _ROWS), gaps=3.0, upright=False)
    walls |= {(_HALF, y) for y in draw.some(list(range(2, _ROWS, 2)), 3)}

    starts = [(1, 1), (1, 2)]
    walls -= set(starts)
    room = [
        (x, y)
        for x in range(1, _HALF + 1 - _AVENUE)
        for y in range(1, _ROWS + 1)
        if (x, y) not in walls and (x > _QUIET_CORNER or y > _QUIET_CORNER)
    ]
    ends = [cell for cell in room if sum(near not in walls for near in _around(cell)) == 1]
    food = draw.some(ends, _FOOD)
    food += draw.some([cell for cell in room if cell not in food], _FOOD - len(food))
    capsules = draw.some([cell for cell in room if cell not in food], _CAPSULES)
    marks = dict.fromkeys(walls, "%") | dict.fromkeys(food, ".") | dict.fromkeys(capsules, "o")
    marks |= {starts[0]: "1", starts[1]: "3"}
    return Layout(_mirrored(marks), f"maze1:{seed}")


def layout_of(label: str) -> Layout:
    """The layout that a label names: one of the package's, or a random maze."""
    generator, colon, seed = label.partition(":")
    if not colon:
        return named(label)
    if generator != "maze1" or not seed:
        raise LayoutError(f"no maze generator {generator!r} with seed {seed!r}; write maze1:SEED")
    return maze1(seed)


class _Draw:
    """Choices made of `random.random()` alone, the one part of `random` whose sequence Python promises to keep."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random

    def below(self, count: int) -> int:
        return int(self._random() * count)

    def some(self, items: list[int] | list[_Cell], count: int) -> list:  # type: ignore[type-arg]
        pool = list(items)
        return [pool.pop(self.below(len(pool))) for _ in range(min(count, len(pool)))]


def _around(cell: _Cell) -> list[_Cell]:
    x, y = cell
    return [(x, y + 1), (x, y - 1), (x + 1, y), (x - 1, y)]


def _divide(draw: _Draw, walls: set[_Cell], room: _Room, *, gaps: float, upright: bool) -> None:
    """Split a room by a wall with gaps, then both its parts by walls across; no wall ends in another's gap."""
    x0, x1, y0, y1 = room
    for turned in (upright, not upright):
        if turned:
            places = [x for x in range(x0 + 1, x1) if (x, y0 - 1) in walls and (x, y1 + 1) in walls]
        else:
            places = [y for y in range(y0 + 1, y1) if (x0 - 1, y) in walls and (x1 + 1, y) in walls]
        if places:
            break
    else:
        return
    at = places[draw.below(len(places))]
    line = [(at, y) for y in range(y0, y1 + 1)] if turned else [(x, at) for x in range(x0, x1 + 1)]
    holes = draw.some(line, min(max(1, round(gaps)), max(1, len(line) // 2)))
    walls |= set(line) - set(holes)
    fewer = gaps * 0.6
    if turned:
        _divide(draw, walls, (x0, at - 1, y0, y1), gaps=fewer, upright=False)
        _divide(draw, walls, (at + 1, x1, y0, y1), gaps=fewer, upright=False)
    else:
        _divide(draw, walls, (x0, x1, y0, at - 1), gaps=fewer, upright=True)
        _divide(draw, walls, (x0, x1, at + 1, y1), gaps=fewer, upright=True)


def _mirrored(marks: dict[_Cell, str]) -> str:
    width, height = 2 * (_HALF + 1), _ROWS + 2
    turned = str.maketrans("13", "24")
    whole = marks | {(width - 1 - x, height - 1 - y): mark.translate(turned) for (x, y), mark in marks.items()}
    return "\n".join("".join(whole.get((x, y), " ") for x in range(width)) for y in reversed(range(height)))
