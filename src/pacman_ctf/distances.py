"""Distances through a maze, one breadth-first search per starting cell, made when first asked for."""

from __future__ import annotations

from functools import lru_cache

from pacman_ctf.layout import Layout


class Distances:
    """The distance table of one layout: `table[cell][other]` is the number of moves, -1 where there is no way."""

    __slots__ = ("_neighbours", "layout", "rows")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        steps = (layout.height, -layout.height, 1, -1)
        self._neighbours: list[tuple[int, ...]] = [
            tuple(cell + step for step in steps if layout.open[cell + step]) if layout.open[cell] else ()
            for cell in range(layout.size)
        ]
        self.rows: list[list[int] | None] = [None] * layout.size

    def __getitem__(self, cell: int) -> list[int]:
        row = self.rows[cell]
        if row is None:
            row = self.rows[cell] = self._search(cell)
        return row

    def _search(self, start: int) -> list[int]:
        neighbours = self._neighbours
        row = [-1] * self.layout.size
        row[start] = distance = 0
        frontier = [start]
        while frontier:
            distance += 1
            ahead = []
            for cell in frontier:
                for near in neighbours[cell]:
                    if row[near] < 0:
                        row[near] = distance
                        ahead.append(near)
            frontier = ahead
        return row

    def complete(self) -> Distances:
        """All rows at once, as an agent's start-up asks for."""
        for cell in range(self.layout.size):
            if self.layout.open[cell] and self.rows[cell] is None:
                self.rows[cell] = self._search(cell)
        return self


@lru_cache(maxsize=32)
def distances(layout: Layout) -> Distances:
    """The table of a layout, shared by everything in this process that plays on it."""
    return Distances(layout)
