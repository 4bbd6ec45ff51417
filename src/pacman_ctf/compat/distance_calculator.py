"""The module `distanceCalculator`: distances through the maze, from the shared table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pacman_ctf.compat.layout import Layout
from pacman_ctf.compat.spelling import both_spellings, spell_module
from pacman_ctf.compat.util import manhattan_distance
from pacman_ctf.distances import Distances, distances

DEFAULT_DISTANCE = 10000

Position = tuple[float, float]


class DistanceTable(Mapping[tuple[Position, Position], int]):
    """The table as a mapping from pairs of positions."""

    def __init__(self, table: Distances) -> None:
        self._table = table

    def __getitem__(self, pair: tuple[Position, Position]) -> int:
        cells = self._table.layout.cells
        found = self._table[cells[pair[0]]][cells[pair[1]]]
        if found < 0:
            raise KeyError(pair)
        return found

    def __iter__(self) -> Iterator[tuple[Position, Position]]:
        points = self._table.layout.points
        for cell, row in ((cell, self._table[cell]) for cell in range(len(points)) if self._table.layout.open[cell]):
            yield from ((points[cell], points[other]) for other, distance in enumerate(row) if distance >= 0)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@both_spellings()
class Distancer:
    """Distances on one layout: straight ones until the maze's are asked for."""

    def __init__(self, layout: Any, background: bool = True, default: int = DEFAULT_DISTANCE) -> None:
        self.layout = layout
        self.default = default
        self._table: Distances | None = None
        self._cells = layout._core.cells
        self._rows: list[list[int] | None] = []

    @property
    def _distances(self) -> DistanceTable | None:
        return None if self._table is None else DistanceTable(self._table)

    def get_maze_distances(self) -> None:
        """From now on distances are those through the maze."""
        self._table = distances(self.layout._core).complete()
        self._rows = self._table.rows

    def get_distance(self, pos1: Position, pos2: Position) -> float:
        """The number of moves between two cells; between a wall and anything it raises."""
        try:
            return self._known(pos1, pos2)
        except (KeyError, IndexError, TypeError):
            if self._table is None:
                return int(manhattan_distance(pos1, pos2))
        ways = [
            near + self._known(here, there) + far
            for here, near in _grid_points(pos1)
            for there, far in _grid_points(pos2)
            if self._is_open(here) and self._is_open(there)
        ]
        if not ways:
            raise KeyError(f"Positions not in grid: {(pos1, pos2)}")
        return min(ways)

    def _known(self, pos1: Position, pos2: Position) -> int:
        row = self._rows[self._cells[pos1]]
        distance: int = row[self._cells[pos2]]
        if distance < 0:
            raise KeyError((pos1, pos2))
        return distance

    def _is_open(self, pos: Position) -> bool:
        return bool(pos in self._cells and self.layout._core.open[self._cells[pos]])

    def is_ready_for_maze_distance(self) -> bool:
        """Whether distances are those through the maze."""
        return self._table is not None


def _grid_points(pos: Position) -> list[tuple[Position, float]]:
    """The cells around a position between cells, each with how far it is."""
    x, y = pos
    columns = {int(x), int(x) + (x != int(x))}
    rows = {int(y), int(y) + (y != int(y))}
    return [((column, row), abs(column - x) + abs(row - y)) for column in sorted(columns) for row in sorted(rows)]


def compute_distances(layout: Layout) -> DistanceTable:
    """All distances of a layout."""
    return DistanceTable(distances(layout._core).complete())


def get_distance_on_grid(distances: Mapping[Any, int], xy1: Position, xy2: Position) -> int:
    """The distance between two cells of a table; it raises for a cell that is none."""
    if (xy1, xy2) not in distances:
        raise KeyError(f"Positions not in grid: {(xy1, xy2)}")
    return distances[xy1, xy2]


spell_module(globals())
