"""The module `game`: directions, configurations, agents' states, actions."""

from __future__ import annotations

from typing import Any, ClassVar

from pacman_ctf import rules
from pacman_ctf.compat.grid import Grid
from pacman_ctf.compat.spelling import Respelled, both_spellings, spell_module

Position = tuple[float, float]


@both_spellings()
class Agent(Respelled):
    """Anything with an index and a `get_action`."""

    def __init__(self, index: int = 0) -> None:
        self.index = index

    def get_action(self, state: Any) -> Any:
        """The action for this state."""
        from pacman_ctf.compat.util import raise_not_defined

        raise_not_defined()


class Directions:
    """The five actions, and what is left, right and behind of each."""

    NORTH = rules.NORTH
    SOUTH = rules.SOUTH
    EAST = rules.EAST
    WEST = rules.WEST
    STOP = rules.STOP

    LEFT: ClassVar = {NORTH: WEST, WEST: SOUTH, SOUTH: EAST, EAST: NORTH, STOP: STOP}
    RIGHT: ClassVar = {there: here for here, there in LEFT.items()}
    REVERSE: ClassVar = {NORTH: SOUTH, SOUTH: NORTH, EAST: WEST, WEST: EAST, STOP: STOP}


@both_spellings()
class Configuration:
    """A position and the direction faced."""

    __slots__ = ("direction", "pos")

    def __init__(self, pos: Position, direction: str) -> None:
        self.pos = pos
        self.direction = direction

    def get_position(self) -> Position:
        """(x, y), as floats once the agent has moved."""
        return self.pos

    def get_direction(self) -> str:
        """One of `Directions`."""
        return self.direction

    def is_integer(self) -> bool:
        """Whether the position is a cell."""
        x, y = self.pos
        return x == int(x) and y == int(y)

    def generate_successor(self, vector: tuple[float, float]) -> Configuration:
        """The configuration after moving by a vector."""
        (x, y), (dx, dy) = self.pos, vector
        direction = Actions.vector_to_direction(vector)
        return Configuration((x + dx, y + dy), self.direction if direction == Directions.STOP else direction)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Configuration) and self.pos == other.pos and self.direction == other.direction

    def __hash__(self) -> int:
        return hash((self.pos, self.direction))

    def __repr__(self) -> str:
        return f"(x,y)={self.pos}, {self.direction}"


@both_spellings("is_pacman", "scared_timer", "num_carrying", "num_returned")
class AgentState:
    """Where an agent is and what it carries; `configuration` is None for an opponent out of sight."""

    __slots__ = ("_given", "configuration", "is_pacman", "num_carrying", "num_returned", "scared_timer", "start")

    def __init__(self, start_configuration: Configuration | None, is_pacman: bool = False) -> None:
        self.start = self.configuration = start_configuration
        self.is_pacman = is_pacman
        self.scared_timer = self.num_carrying = self.num_returned = 0
        self._given: tuple[Any, ...] | None = None

    def get_position(self) -> Position | None:
        """The position, or None when the agent is out of sight."""
        return None if self.configuration is None else self.configuration.pos

    def get_direction(self) -> str | None:
        """The direction faced, or None when the agent is out of sight."""
        return None if self.configuration is None else self.configuration.direction

    @property
    def direction(self) -> str | None:
        """The direction faced."""
        return self.get_direction()

    def copy(self) -> AgentState:
        """An independent state of the same agent."""
        state = AgentState(self.start, self.is_pacman)
        if self.configuration is None:
            state.configuration = None
        else:
            state.configuration = Configuration(self.configuration.pos, self.configuration.direction)
        state.scared_timer, state.num_carrying = self.scared_timer, self.num_carrying
        state.num_returned = self.num_returned
        return state

    def _values(self) -> tuple[Any, ...]:
        place = self.configuration
        where = (None, None) if place is None else (place.pos, place.direction)
        return (*where, self.is_pacman, self.scared_timer, self.num_carrying, self.num_returned)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AgentState) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((self.configuration, self.scared_timer))

    def __str__(self) -> str:
        return ("Pacman: " if self.is_pacman else "Ghost: ") + str(self.configuration)

    __repr__ = __str__


@both_spellings()
class Actions:
    """Directions as vectors, and what can be done from where."""

    _directions: ClassVar = dict(rules.VECTORS)
    _directions_as_list: ClassVar = list(rules.VECTORS.items())
    _directionsAsList = _directions_as_list  # noqa: N815
    TOLERANCE = 0.001

    @staticmethod
    def reverse_direction(action: str) -> str:
        """The way back."""
        return Directions.REVERSE.get(action, action)

    @staticmethod
    def vector_to_direction(vector: tuple[float, float]) -> str:
        """The direction of a vector along an axis."""
        dx, dy = vector
        if dy > 0:
            return Directions.NORTH
        if dy < 0:
            return Directions.SOUTH
        if dx < 0:
            return Directions.WEST
        return Directions.EAST if dx > 0 else Directions.STOP

    @staticmethod
    def direction_to_vector(direction: str, speed: float = 1.0) -> tuple[float, float]:
        """The vector of a direction."""
        dx, dy = rules.VECTORS[direction]
        return (dx * speed, dy * speed)

    @staticmethod
    def get_possible_actions(config: Configuration, walls: Grid) -> list[str]:
        """What can be done from a configuration; between two cells only to go on."""
        x, y = config.pos
        column, row = int(x + 0.5), int(y + 0.5)
        if abs(x - column) + abs(y - row) > Actions.TOLERANCE:
            return [config.direction]
        return [action for action, (dx, dy) in rules.VECTORS.items() if not walls[column + dx][row + dy]]

    @staticmethod
    def get_legal_neighbors(position: Position, walls: Grid) -> list[tuple[int, int]]:
        """The open cells next to a position, and itself."""
        x, y = int(position[0] + 0.5), int(position[1] + 0.5)
        near = [(x + dx, y + dy) for dx, dy in rules.VECTORS.values()]
        return [(x, y) for x, y in near if 0 <= x < walls.width and 0 <= y < walls.height and not walls[x][y]]

    @staticmethod
    def get_successor(position: Position, action: str) -> Position:
        """Where an action leads."""
        dx, dy = Actions.direction_to_vector(action)
        return (position[0] + dx, position[1] + dy)


def reconstitute_grid(packed: Any) -> Any:
    """The grid that `pack_bits` packed."""
    if not isinstance(packed, tuple):
        return packed
    width, height, *_ = packed
    return Grid(width, height, bit_representation=packed)


class Game:
    """Named by agents in type annotations; matches are run by the referee."""


def __getattr__(name: str) -> Any:
    if name == "GameStateData":  # it lives beside the state that it shows
        from pacman_ctf.compat.capture import GameStateData

        return GameStateData
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


spell_module(globals())
