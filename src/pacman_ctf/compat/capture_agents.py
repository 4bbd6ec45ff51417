"""The module `captureAgents`: what students' agents extend."""

from __future__ import annotations

import random
import sys
from typing import Any

from pacman_ctf.compat.capture import GameState
from pacman_ctf.compat.distance_calculator import Distancer
from pacman_ctf.compat.game import Agent
from pacman_ctf.compat.grid import Grid
from pacman_ctf.compat.spelling import Respelled, both_spellings
from pacman_ctf.compat.util import raise_not_defined

Position = tuple[float, float]


@both_spellings()
class AgentFactory(Respelled):
    """An older way to make agents."""

    def __init__(self, is_red: bool, **arguments: Any) -> None:
        self.is_red = self.isRed = is_red

    def get_agent(self, index: int) -> Agent:
        """The agent for an index."""
        raise_not_defined()


@both_spellings("agents_on_team", "observation_history", "time_for_computing")
class CaptureAgent(Agent):
    """An agent of a team: `choose_action` is to be written, the rest is here to be asked."""

    def __init__(self, index: int, time_for_computing: float = 0.1) -> None:
        super().__init__(index)
        self.red: bool = index % 2 == 0
        self.agents_on_team: list[int] | None = None
        self.distancer: Distancer = None  # type: ignore[assignment]
        self.observation_history: list[GameState] = []
        self.time_for_computing = time_for_computing
        self.display: Any = None

    def register_initial_state(self, game_state: GameState) -> None:
        """Prepare for the game; this state shows everything."""
        self.red = game_state.is_on_red_team(self.index)
        self.distancer = Distancer(game_state.data.layout)
        self.distancer.get_maze_distances()
        self.display = getattr(sys.modules.get("__main__"), "_display", None)

    def final(self, game_state: GameState) -> None:
        """The game is over."""
        self.observation_history = []

    def register_team(self, agents_on_team: list[int]) -> None:
        """The indices of the team."""
        self.agents_on_team = agents_on_team

    def observation_function(self, game_state: GameState) -> GameState:
        """What this agent sees of a state."""
        return game_state.make_observation(self.index)

    def get_action(self, game_state: GameState) -> Any:
        """Remember what is seen and choose."""
        self.observation_history.append(game_state)
        return self.choose_action(game_state)

    def choose_action(self, game_state: GameState) -> Any:
        """To be written by whoever extends this class."""
        raise_not_defined()

    def get_food(self, game_state: GameState) -> Grid:
        """The dots to eat."""
        return game_state.get_blue_food() if self.red else game_state.get_red_food()

    def get_food_you_are_defending(self, game_state: GameState) -> Grid:
        """The dots to defend."""
        return game_state.get_red_food() if self.red else game_state.get_blue_food()

    def get_capsules(self, game_state: GameState) -> list[tuple[int, int]]:
        """The capsules to eat."""
        return game_state.get_blue_capsules() if self.red else game_state.get_red_capsules()

    def get_capsules_you_are_defending(self, game_state: GameState) -> list[tuple[int, int]]:
        """The capsules to defend."""
        return game_state.get_red_capsules() if self.red else game_state.get_blue_capsules()

    def get_opponents(self, game_state: GameState) -> list[int]:
        """The indices of the other team."""
        return game_state.get_blue_team_indices() if self.red else game_state.get_red_team_indices()

    def get_team(self, game_state: GameState) -> list[int]:
        """The indices of the own team."""
        return game_state.get_red_team_indices() if self.red else game_state.get_blue_team_indices()

    def get_score(self, game_state: GameState) -> int:
        """The score, positive when this team is ahead."""
        return game_state.get_score() if self.red else -game_state.get_score()

    def get_maze_distance(self, pos1: Position, pos2: Position) -> float:
        """The number of moves between two cells."""
        return self.distancer.get_distance(pos1, pos2)

    def get_previous_observation(self) -> GameState | None:
        """What was seen before this move; None at the first."""
        return self.observation_history[-2] if len(self.observation_history) > 1 else None

    def get_current_observation(self) -> GameState:
        """What is seen now."""
        return self.observation_history[-1]

    def display_distributions_over_positions(self, distributions: Any) -> None:
        """Shown by engines with a window; here nobody looks."""

    def debug_draw(self, cells: Any, color: Any, clear: bool = False) -> None:
        """Shown by engines with a window; here nobody looks."""

    def debug_clear(self) -> None:
        """Shown by engines with a window; here nobody looks."""


class RandomAgent(CaptureAgent):
    """Does anything."""

    def choose_action(self, game_state: GameState) -> str:
        """Any legal action."""
        return random.choice(game_state.get_legal_actions(self.index))


class TimidAgent(RandomAgent):
    """Known by name to old agents."""
