"""The module `capture`: the game's state as agents know it, a thin and lazy dress over `engine.State`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from pacman_ctf import engine, rules
from pacman_ctf.compat.game import AgentState, Configuration
from pacman_ctf.compat.grid import Grid
from pacman_ctf.compat.layout import Layout
from pacman_ctf.compat.spelling import both_spellings, spell_module
from pacman_ctf.engine import State, step
from pacman_ctf.layout import HIDDEN

SIGHT_RANGE = rules.SIGHT_RANGE
SONAR_NOISE_RANGE = rules.SONAR_NOISE_RANGE
SONAR_NOISE_VALUES = [offset - SONAR_NOISE_RANGE // 2 for offset in range(SONAR_NOISE_RANGE)]
SCARED_TIME = rules.SCARED_TIME
MIN_FOOD = rules.MIN_FOOD
KILL_POINTS = rules.KILL_POINTS
COLLISION_TOLERANCE = rules.COLLISION_TOLERANCE
TOTAL_FOOD = 60  # dots of the maze in play; agents import the name, the rules count the layout's own
DUMP_FOOD_ON_DEATH = True

_new = object.__new__


@both_spellings("agent_states", "score_change", "_win", "_lose", "_food_eaten", "_capsule_eaten", "_agent_moved")
class GameStateData:
    """The inside of a state. Each part is made when first looked at; what an agent writes, successors obey."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._agents: list[AgentState | None] = [None] * len(state.cells)

    def __getattr__(self, name: str) -> Any:
        make = _PARTS.get(name)
        if make is None:
            raise AttributeError(f"the data of a state have no {name!r}")
        value: Any = make(self._state)
        setattr(self, name, value)
        return value

    @property
    def agent_states(self) -> list[AgentState]:
        """All agents, by index."""
        for agent in range(len(self._agents)):
            self._agent(agent)
        return self._agents  # type: ignore[return-value]

    @agent_states.setter
    def agent_states(self, agents: list[AgentState]) -> None:
        self._agents = list(agents)

    def _agent(self, agent: int) -> AgentState:
        shown = self._agents[agent]
        if shown is None:
            shown = self._agents[agent] = _show(self._state, agent)
        return shown

    def copy_food(self) -> Grid:
        """The food, as a grid of one's own."""
        grid: Grid = self.food.copy()
        return grid

    def deep_copy(self) -> GameStateData:
        """Independent data of the same state."""
        return GameStateData(self._settled())

    def __deepcopy__(self, memo: dict[int, Any]) -> GameStateData:
        return self.deep_copy()

    def _settled(self) -> State:
        """The state with what an agent wrote into this view."""
        state = self._state
        changes: dict[str, Any] = {}
        for agent, shown in enumerate(self._agents):
            if shown is not None and shown._given != shown._values():
                _take(changes, state, agent, shown)
        own = vars(self)  # besides the state and the agents, the parts that were looked at, so perhaps written to
        if len(own) == len(("_state", "_agents")) and not changes:
            return state
        if "food" in own and own["food"]._bits != state.food:
            changes["food"] = own["food"]._bits
        if "capsules" in own:
            capsules = sum({1 << state.layout.cells[int(x), int(y)] for x, y in own["capsules"]})
            if capsules != state.capsules:
                changes["capsules"] = capsules
        for name, field in (("score", "score"), ("timeleft", "left")):
            if name in own and own[name] != getattr(state, field):
                changes[field] = own[name]
        return state._replace(**changes) if changes else state


def _point(state: State, cell: int) -> tuple[int, int] | None:
    return None if cell == HIDDEN else state.layout.points[cell]


def _last(state: State) -> engine.Last:
    return engine.Last(*(state.last or (None, HIDDEN, HIDDEN, 0)))


_PARTS: dict[str, Callable[[State], Any]] = {
    "food": lambda state: Grid.of_bits(state.layout.width, state.layout.height, state.food),
    "capsules": lambda state: state.layout.points_of(state.capsules),
    "layout": lambda state: Layout(state.layout),
    "score": lambda state: state.score,
    "timeleft": lambda state: state.left,
    "score_change": lambda state: _last(state).score_change,
    "_agent_moved": lambda state: _last(state).agent,
    "_food_eaten": lambda state: _point(state, _last(state).food_eaten),
    "_capsule_eaten": lambda state: _point(state, _last(state).capsule_eaten),
    "_win": lambda state: state.over,
    "_lose": lambda state: False,
}


def _show(state: State, agent: int) -> AgentState:
    """The agent as an object. Positions are floats once it has moved, as agents know them."""
    layout, cell, facing = state.layout, state.cells[agent], state.facing[agent]
    shown: AgentState = _new(AgentState)
    shown.start = Configuration(layout.points[layout.starts[agent]], rules.STOP)
    if cell < 0:
        shown.configuration = None
    else:
        shown.configuration = Configuration((layout.points if facing == rules.STOP else layout.floats)[cell], facing)
    shown.is_pacman = state.pacman[agent]
    shown.scared_timer = state.scared[agent]
    shown.num_carrying = state.carried[agent]
    shown.num_returned = state.returned[agent]
    shown._given = shown._values()
    return shown


def _take(changes: dict[str, Any], state: State, agent: int, shown: AgentState) -> None:
    """What an agent wrote into an agent's state becomes part of the game it imagines."""
    place = shown.configuration
    cell, facing = HIDDEN, rules.STOP
    if place is not None:
        x, y = place.pos
        cell = state.layout.cells.get((int(x + 0.5), int(y + 0.5)), HIDDEN)
        facing = place.direction
    values = {
        "cells": cell,
        "facing": facing,
        "pacman": bool(shown.is_pacman),
        "scared": shown.scared_timer,
        "carried": shown.num_carrying,
        "returned": shown.num_returned,
    }
    for field, value in values.items():
        old = changes.get(field, getattr(state, field))
        changes[field] = (*old[:agent], value, *old[agent + 1 :])


@both_spellings("agent_distances")
class GameState:
    """The state of a game, or what an agent sees of it."""

    __slots__ = ("__dict__", "__weakref__", "_data", "_state", "agent_distances")

    def __init__(self, prev_state: GameState | None = None) -> None:
        self.agent_distances: Any = []
        self._data: GameStateData | None = None
        if prev_state is not None:
            self._state = prev_state._settled()
            self.agent_distances = prev_state.agent_distances

    @classmethod
    def of(cls, state: State, agent_distances: Any = ()) -> GameState:
        """The dress of an engine's state."""
        game: GameState = _new(cls)
        game._state, game._data, game.agent_distances = state, None, list(agent_distances)
        return game

    def initialize(self, layout: Layout, num_agents: int = 4) -> None:
        """Become the first state on a layout."""
        self._state, self._data = engine.begin(layout._core), None

    @property
    def data(self) -> GameStateData:
        """The inside of the state."""
        data = self._data
        if data is None:
            data = self._data = GameStateData(self._state)
        return data

    @data.setter
    def data(self, data: GameStateData) -> None:
        self._data, self._state = data, data._state

    def _settled(self) -> State:
        data = self._data
        return self._state if data is None else data._settled()

    def _become(self, state: State) -> None:
        self._state, self._data = state, None

    def generate_successor(self, agent_index: int, action: str) -> GameState:
        """The state after an action; an illegal one raises."""
        data = self._data
        game: GameState = _new(GameState)
        game._state = step(self._state if data is None else data._settled(), agent_index, action)
        game._data = None
        game.agent_distances = self.agent_distances
        return game

    def get_legal_actions(self, agent_index: int = 0) -> list[str]:
        """What an agent may do."""
        data = self._data
        if data is None:
            return list(self._state.layout.legal[self._state.cells[agent_index]])
        state = data._settled()
        if state.cells[agent_index] < 0:
            return []
        legal = state.layout.legal[state.cells[agent_index]]
        walls = self.get_walls()
        if walls._bits == state.layout.walls:
            return list(legal)
        x, y = state.layout.points[state.cells[agent_index]]
        return [action for action in legal if not walls[x + rules.VECTORS[action][0]][y + rules.VECTORS[action][1]]]

    def get_agent_state(self, index: int) -> AgentState:
        """An agent's state; its configuration is None when it is out of sight."""
        data = self._data
        if data is None:
            data = self._data = GameStateData(self._state)
        return data._agents[index] or data._agent(index)

    def get_agent_position(self, index: int) -> tuple[int, int] | None:
        """(x, y) as integers, or None when the agent is out of sight."""
        state = self._state if self._data is None else self._data._settled()
        cell = state.cells[index]
        return None if cell < 0 else state.layout.points[cell]

    def get_num_agents(self) -> int:
        """How many agents play."""
        return len(self._state.cells)

    def get_score(self) -> int:
        """Red's dots at home minus blue's."""
        return self._settled().score

    def get_red_food(self) -> Grid:
        """The dots that red defends."""
        return self._half(self._state.layout.red_half)

    def get_blue_food(self) -> Grid:
        """The dots that blue defends."""
        return self._half(self._state.layout.blue_half)

    def _half(self, half: int) -> Grid:
        state = self._state if self._data is None else self._data._settled()
        return Grid.of_bits(state.layout.width, state.layout.height, state.food & half)

    def get_red_capsules(self) -> list[tuple[int, int]]:
        """The capsules that red defends."""
        state = self._settled()
        return state.layout.points_of(state.capsules & state.layout.red_half)

    def get_blue_capsules(self) -> list[tuple[int, int]]:
        """The capsules that blue defends."""
        state = self._settled()
        return state.layout.points_of(state.capsules & state.layout.blue_half)

    def get_capsules(self) -> list[tuple[int, int]]:
        """All capsules."""
        state = self._settled()
        return state.layout.points_of(state.capsules)

    def get_food(self) -> Grid:
        """All dots."""
        return self._half(-1)

    def get_walls(self) -> Grid:
        """The walls, as this state's own grid."""
        walls: Grid = self.data.layout.walls
        return walls

    def has_food(self, x: float, y: float) -> bool:
        """Whether a dot lies there."""
        state = self._settled()
        return bool(state.food >> state.layout.cells[x, y] & 1)

    def has_wall(self, x: float, y: float) -> bool:
        """Whether a wall is there."""
        if self._data is not None:
            return bool(self.get_walls()[int(x)][int(y)])
        return not self._state.layout.open[self._state.layout.cells[x, y]]

    def is_over(self) -> bool:
        """Whether a team has brought enough dots home."""
        return self._state.over

    def get_red_team_indices(self) -> list[int]:
        """Red's agents."""
        return [agent for agent, red in enumerate(self._state.layout.red) if red]

    def get_blue_team_indices(self) -> list[int]:
        """Blue's agents."""
        return [agent for agent, red in enumerate(self._state.layout.red) if not red]

    @property
    def red_team(self) -> list[int]:
        """Red's agents."""
        return self.get_red_team_indices()

    @property
    def blue_team(self) -> list[int]:
        """Blue's agents."""
        return self.get_blue_team_indices()

    @property
    def teams(self) -> list[bool]:
        """By agent, whether it is red."""
        return list(self._state.layout.red)

    def is_on_red_team(self, agent_index: int) -> bool:
        """Whether an agent is red."""
        return self._state.layout.red[agent_index]

    def is_red(self, config_or_pos: Any) -> bool:
        """Whether a position or configuration is in red's half."""
        pos = config_or_pos.pos if hasattr(config_or_pos, "pos") else config_or_pos
        return bool(pos[0] < self._state.layout.width / 2)

    def get_agent_distances(self) -> list[int]:
        """The noisy distances to all agents, by index; empty in the state of the start."""
        distances: list[int] = self.agent_distances
        return distances

    def get_distance_prob(self, true_distance: float, noisy_distance: float) -> float:
        """How probable a noisy distance is, given the true one."""
        return 1.0 / SONAR_NOISE_RANGE if noisy_distance - true_distance in SONAR_NOISE_VALUES else 0.0

    def get_initial_agent_position(self, agent_index: int) -> tuple[int, int]:
        """Where an agent starts, and starts again after its death."""
        layout = self._state.layout
        return layout.points[layout.starts[agent_index]]

    def make_observation(self, index: int) -> GameState:
        """What an agent sees of this state; of an observation that is the observation itself."""
        state = self._settled()
        distances = self.agent_distances
        if not distances and HIDDEN not in state.cells:
            noise = tuple(random.choice(SONAR_NOISE_VALUES) for _ in state.cells)
            distances = engine.sonar(state, index, noise)
        return GameState.of(engine.veil(state, index), distances)

    def deep_copy(self) -> GameState:
        """An independent state."""
        return GameState(self)

    def __copy__(self) -> GameState:
        return GameState(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> GameState:
        return GameState(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (tuple(self._settled()), self.agent_distances)

    def _identity(self) -> tuple[Any, ...]:
        """What makes two states the same position: all but the clock and the last move."""
        return self._settled()[:10]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GameState) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __str__(self) -> str:
        from pacman_ctf.text import picture

        return picture(self._settled())


def _restored(state: tuple[Any, ...], distances: Any) -> GameState:
    return GameState.of(State(*state), distances)


@both_spellings()
class AgentRules:
    """The rules of one move, in place, for agents that play them by hand."""

    @staticmethod
    def get_legal_actions(state: GameState, agent_index: int) -> list[str]:
        """What an agent may do."""
        return state.get_legal_actions(agent_index)

    @staticmethod
    def apply_action(state: GameState, action: str, agent_index: int) -> None:
        """Move, eat, deliver."""
        before = state._settled()
        there = before.layout.moves.get(action, ())[before.cells[agent_index]]
        if there < 0:
            raise engine.IllegalAction(f"Illegal action {action}")
        draft = engine.Draft(before)
        draft.move(agent_index, action, there)
        state._become(draft.finish(agent_index)._replace(left=before.left))

    @staticmethod
    def check_death(state: GameState, agent_index: int) -> None:
        """Who dies where an agent stands."""
        before = state._settled()
        draft = engine.Draft(before)
        draft.meet(agent_index)
        state._become(draft.finish(agent_index)._replace(left=before.left, last=before.last))

    @staticmethod
    def decrement_timer(agent_state: AgentState) -> None:
        """One move less to be scared."""
        agent_state.scared_timer = max(0, agent_state.scared_timer - 1)


class CaptureRules:
    """Named by agents in type annotations; matches are run by the referee."""


def half_grid(grid: Grid, red: bool) -> Grid:
    """The part of a grid in one team's half."""
    half = grid.width // 2 * grid.height
    low = (1 << half) - 1
    return Grid.of_bits(grid.width, grid.height, grid._bits & (low if red else ~low))


def half_list(positions: list[tuple[int, int]], grid: Grid, red: bool) -> list[tuple[int, int]]:
    """The positions in one team's half."""
    return [(x, y) for x, y in positions if (x < grid.width // 2) is red]


def noisy_distance(pos1: tuple[float, float], pos2: tuple[float, float]) -> int:
    """A distance as the sonar hears it."""
    true = abs(pos1[0] - pos2[0]) + abs(pos1[1] - pos2[1])
    return int(true + random.choice(SONAR_NOISE_VALUES))


spell_module(globals())
