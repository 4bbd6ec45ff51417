"""The easy team: two foragers that walk to the nearest dot and go home with a few; they look at nobody."""

import random

from contest.capture_agents import CaptureAgent


def create_team(first_index, second_index, is_red, first="Forager", second="Forager"):
    return [globals()[first](first_index), globals()[second](second_index)]


class Forager(CaptureAgent):
    LOAD = 3  # dots to carry home at once
    WHIM = 0.2  # how often it does just anything

    def choose_action(self, game_state):
        actions = [action for action in game_state.get_legal_actions(self.index) if action != "Stop"]
        if random.random() < self.WHIM:
            return random.choice(actions)
        food = self.get_food(game_state).as_list()
        if game_state.get_agent_state(self.index).num_carrying >= self.LOAD or len(food) <= 2:
            goals = [game_state.get_initial_agent_position(self.index)]
        else:
            goals = food

        def way(action):
            place = game_state.generate_successor(self.index, action).get_agent_position(self.index)
            return min(self.get_maze_distance(place, goal) for goal in goals)

        return min(actions, key=way)
