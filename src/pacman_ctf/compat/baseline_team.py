"""The module `baselineTeam`: a plain team to extend and to measure oneself by. It is the middle of our three."""

from __future__ import annotations

import random
from typing import Any

from pacman_ctf.compat.capture import GameState
from pacman_ctf.compat.capture_agents import CaptureAgent
from pacman_ctf.compat.spelling import both_spellings
from pacman_ctf.compat.util import Counter, nearest_point


def create_team(
    first_index: int,
    second_index: int,
    is_red: bool,
    first: str = "OffensiveReflexAgent",
    second: str = "DefensiveReflexAgent",
    **options: Any,
) -> list[CaptureAgent]:
    """One agent that raids, one that guards."""
    return [globals()[first](first_index), globals()[second](second_index)]


createTeam = create_team  # noqa: N816


@both_spellings()
class ReflexCaptureAgent(CaptureAgent):
    """Looks one move ahead and takes the best by features and their weights."""

    def register_initial_state(self, game_state: GameState) -> None:
        """Remember where home is."""
        super().register_initial_state(game_state)
        self.start = game_state.get_agent_position(self.index)
        self.gates = self.home_column(game_state)

    def choose_action(self, game_state: GameState) -> str:
        """The action of greatest value; one of the best by chance."""
        actions = game_state.get_legal_actions(self.index)
        values = [self.evaluate(game_state, action) for action in actions]
        best = max(values)
        return random.choice([action for action, value in zip(actions, values, strict=True) if value == best])

    def where(self, game_state: GameState) -> tuple[int, int]:
        """The own cell, which is always seen."""
        place = game_state.get_agent_position(self.index)
        assert place is not None
        return place

    def get_successor(self, game_state: GameState, action: str) -> GameState:
        """The state after an action, with the agent on a cell."""
        successor = game_state.generate_successor(self.index, action)
        place = successor.get_agent_state(self.index).get_position()
        assert place is not None  # its own agent is always seen
        return successor if place == nearest_point(place) else successor.generate_successor(self.index, action)

    def evaluate(self, game_state: GameState, action: str) -> float:
        """Features times weights."""
        return self.get_features(game_state, action) * self.get_weights(game_state, action)  # type: ignore[no-any-return]

    def get_features(self, game_state: GameState, action: str) -> Counter:
        """What is looked at."""
        features = Counter()
        features["successor_score"] = self.get_score(self.get_successor(game_state, action))
        return features

    def get_weights(self, game_state: GameState, action: str) -> Any:
        """How much each counts."""
        return {"successor_score": 1.0}

    def home_column(self, game_state: GameState) -> list[tuple[int, int]]:
        """The open cells of the own half beside the border."""
        walls = game_state.get_walls()
        x = walls.width // 2 - 1 if self.red else walls.width // 2
        return [(x, y) for y in range(walls.height) if not walls[x][y]]


@both_spellings()
class OffensiveReflexAgent(ReflexCaptureAgent):
    """Fetches dots a few at a time and keeps away from ghosts that it sees."""

    LOAD = 4  # dots to carry before going home

    def get_features(self, game_state: GameState, action: str) -> Counter:
        """Dots left, the way to the next, the way home, the nearest ghost."""
        successor = self.get_successor(game_state, action)
        mine = successor.get_agent_state(self.index)
        place = self.where(successor)
        features = Counter()
        food = self.get_food(successor).as_list()
        features["dots_left"] = len(food)
        features["score"] = self.get_score(successor)
        load = mine.num_carrying
        if load >= self.LOAD or len(food) <= 2:
            features["way_home"] = min(self.get_maze_distance(place, gate) for gate in self.gates)
        elif food:
            features["way_to_food"] = min(self.get_maze_distance(place, dot) for dot in food)
        for opponent in self.get_opponents(successor):
            ghost = successor.get_agent_state(opponent)
            where = successor.get_agent_position(opponent)
            if where is not None and not ghost.is_pacman and ghost.scared_timer < 2 and mine.is_pacman:
                features["danger"] += max(0, 5 - self.get_maze_distance(place, where))
        features["died"] = int(place == self.start)
        features["stop"] = int(action == "Stop")
        return features

    def get_weights(self, game_state: GameState, action: str) -> Any:
        """Life before dots."""
        return {
            "dots_left": -100, "score": 150, "way_to_food": -1, "way_home": -2, "danger": -60, "died": -500, "stop": -3,
        }  # fmt: skip


@both_spellings()
class DefensiveReflexAgent(ReflexCaptureAgent):
    """Walks along the border and hunts the intruders that it sees."""

    def get_features(self, game_state: GameState, action: str) -> Counter:
        """Intruders and the way to them, else the way to the middle of the border."""
        successor = self.get_successor(game_state, action)
        mine = successor.get_agent_state(self.index)
        place = self.where(successor)
        features = Counter()
        features["abroad"] = int(mine.is_pacman)
        intruders = [one for one in self.get_opponents(successor) if successor.get_agent_state(one).is_pacman]
        seen = [where for one in intruders if (where := successor.get_agent_position(one)) is not None]
        features["intruders"] = len(intruders)
        if seen:
            way = min(self.get_maze_distance(place, where) for where in seen)
            features["way_to_intruder"] = way if not mine.scared_timer else -way
        else:
            post = self.gates[len(self.gates) // 2]
            if intruders:
                defended = self.get_food_you_are_defending(successor).as_list()
                post = min(defended, key=lambda dot: self.get_maze_distance(post, dot), default=post)
            features["way_to_post"] = self.get_maze_distance(place, post)
        features["stop"] = int(action == "Stop")
        return features

    def get_weights(self, game_state: GameState, action: str) -> Any:
        """At home, and near whoever comes."""
        return {"abroad": -200, "intruders": -1000, "way_to_intruder": -10, "way_to_post": -2, "stop": -1}
