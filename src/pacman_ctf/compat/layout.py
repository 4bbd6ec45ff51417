"""The module `layout`: the maze as agents see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pacman_ctf import layout as core
from pacman_ctf.compat.grid import Grid
from pacman_ctf.compat.spelling import both_spellings, spell_module
from pacman_ctf.maze import layout_of


@both_spellings("agent_positions", "num_ghosts", "total_food", "layout_text")
class Layout:
    """Walls, food and capsules of the start; the grids are this object's own and may be written to."""

    __slots__ = ("_core", "agent_positions", "capsules", "food", "height", "layout_text", "num_ghosts", "total_food",
                 "walls", "width")  # fmt: skip

    def __init__(self, layout_text: Sequence[str] | core.Layout) -> None:
        maze = layout_text if isinstance(layout_text, core.Layout) else core.Layout("\n".join(layout_text))
        self._core = maze
        self.width, self.height = maze.width, maze.height
        self.total_food = maze.total_food
        self.walls = Grid.of_bits(maze.width, maze.height, maze.walls)

    def __getattr__(self, name: str) -> Any:
        """The rarer parts, made when they are asked for."""
        maze = self._core
        value: Any
        if name == "food":
            value = Grid.of_bits(maze.width, maze.height, maze.food)
        elif name == "capsules":
            value = maze.points_of(maze.capsules)
        elif name == "agent_positions":
            value = [(agent == 0, maze.points[cell]) for agent, cell in enumerate(maze.starts)]
        elif name == "num_ghosts":
            value = maze.agents - 1
        elif name == "layout_text":
            value = maze.text.splitlines()
        else:
            raise AttributeError(f"a layout has no {name!r}")
        setattr(self, name, value)
        return value

    def get_num_ghosts(self) -> int:
        """The number of agents but one."""
        return int(self.num_ghosts)

    def is_wall(self, pos: tuple[int, int]) -> bool:
        """Whether a cell is wall."""
        x, y = pos
        return bool(self.walls[x][y])

    def deep_copy(self) -> Layout:
        """An untouched layout of the same maze."""
        return Layout(self._core)

    def __deepcopy__(self, memo: dict[int, Any]) -> Layout:
        return self.deep_copy()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self._core == other._core

    def __hash__(self) -> int:
        return hash(self._core)

    def __str__(self) -> str:
        return self._core.text


def get_layout(name: str, back: int = 2) -> Layout:
    """A layout of this package by its name."""
    return Layout(layout_of(name.removesuffix(".lay")))


spell_module(globals())
