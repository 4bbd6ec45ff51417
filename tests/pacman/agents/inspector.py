"""A team that uses every name of the agents' interface and plays at random; it asserts what agents rely on.

Written in the `contest.*` modules and snake_case; the tests respell it into the other dialects.
"""

import random

from contest import distance_calculator, util
from contest.baseline_team import OffensiveReflexAgent
from contest.capture import (
    COLLISION_TOLERANCE,
    MIN_FOOD,
    SCARED_TIME,
    SIGHT_RANGE,
    SONAR_NOISE_RANGE,
    TOTAL_FOOD,
    AgentRules,
    GameState,
    half_grid,
)
from contest.capture_agents import AgentFactory, CaptureAgent
from contest.game import Actions, Agent, AgentState, Configuration, Directions, GameStateData, Grid
from contest.keyboard_agents import KeyboardAgent
from contest.layout import Layout
from contest.util import manhattan_distance, nearest_point


def create_team(first_index, second_index, is_red, first="Inspector", second="Walker", num_training=0):
    assert isinstance(is_red, bool)
    return [eval(first)(first_index), eval(second)(second_index)]


class Factory(AgentFactory):
    def get_agent(self, index):
        return Walker(index)


class Walker(OffensiveReflexAgent):
    """Overrides one method of the plain team, and is asked by the name of another."""

    def get_weights(self, game_state, action):
        return {"dots_left": -1, "stop": -10}


class Inspector(CaptureAgent):
    def __init__(self, index, time_for_computing=0.1):
        CaptureAgent.__init__(self, index)
        self.moves = 0

    def register_initial_state(self, game_state):
        CaptureAgent.register_initial_state(self, game_state)
        assert self.red == game_state.is_on_red_team(self.index)
        assert sorted(self.agents_on_team) == self.get_team(game_state)
        assert self.display is None
        for index in range(game_state.get_num_agents()):
            assert game_state.get_agent_position(index) == game_state.get_initial_agent_position(index)
        assert Factory(self.red).get_agent(3).index == 3
        self.constants()
        self.utilities()
        self.grids(game_state)
        self.layout(game_state)
        self.distances(game_state)
        self.rules(game_state)

    def constants(self):
        assert (SIGHT_RANGE, SONAR_NOISE_RANGE, SCARED_TIME, MIN_FOOD, COLLISION_TOLERANCE) == (5, 13, 40, 2, 0.7)
        assert TOTAL_FOOD > 0
        assert Directions.REVERSE[Directions.NORTH] == Directions.SOUTH
        assert Directions.LEFT[Directions.NORTH] == Directions.WEST
        assert Directions.RIGHT[Directions.NORTH] == Directions.EAST
        assert Actions.direction_to_vector(Directions.WEST) == (-1, 0)
        assert Actions.vector_to_direction((0, -1)) == Directions.SOUTH
        assert Actions.reverse_direction(Directions.EAST) == "West"
        assert Actions.get_successor((2, 2), Directions.EAST) == (3, 2)
        assert len(Actions._directions) == len(Actions._directions_as_list) == 5
        assert issubclass(CaptureAgent, Agent)
        assert KeyboardAgent and GameStateData and Layout

    def utilities(self):
        counter = util.Counter()
        assert counter["missing"] == 0
        counter["a"] += 2
        counter.increment_all(["a", "b"], 1)
        assert counter.arg_max() == "a"
        assert counter.sorted_keys()[0] == "a"
        assert counter.total_count() == 4
        assert counter * {"a": 2, "b": 10} == 16
        assert (counter + counter)["a"] == 6
        assert (counter - counter)["a"] == 0
        counter.normalize()
        assert counter["a"] == 0.75
        counter.divide_all(0.5)
        assert counter["b"] == 0.5
        assert util.normalize([1, 3]) == [0.25, 0.75]
        assert util.Counter().arg_max() is None

        stack, queue, heap = util.Stack(), util.Queue(), util.PriorityQueue()
        for item in "abc":
            stack.push(item)
            queue.push(item)
            heap.push(item, 5)
        assert (stack.pop(), queue.pop(), heap.pop()) == ("c", "a", "a")
        heap.update("c", 1)
        heap.update("d", 3)
        assert [heap.pop() for _ in range(len(heap.heap))] == ["c", "d", "b"]
        assert heap.is_empty() and not stack.is_empty() and len(queue.list) == 2
        longest = util.PriorityQueueWithFunction(lambda word: -len(word))
        longest.push("is")
        longest.push("longer")
        assert longest.pop() == "longer"

        assert manhattan_distance((1, 2), (3, 5)) == 5
        assert nearest_point((2.6, 3.2)) == (3, 3)
        assert util.flip_coin(1.0) and not util.flip_coin(0.0)
        assert util.sample([0.0, 1.0], ["never", "always"]) == "always"
        assert util.n_sample([1.0], ["x"], 2) == ["x", "x"]
        assert util.choose_from_distribution({"x": 1.0}) == "x"
        assert util.lookup("Inspector", globals()) is Inspector

    def grids(self, game_state):
        grid = Grid(4, 3, False)
        grid[1][2] = True
        other = grid.copy()
        other[0][0] = True
        assert grid.as_list() == [(1, 2)] and other.as_list() == [(0, 0), (1, 2)]
        assert (grid.count(), grid.count(False), grid.width, grid.height) == (1, 11, 4, 3)
        assert len(grid.data) == 4 and len(grid[0]) == 3
        assert grid != other and grid == grid.deep_copy() and hash(grid) == hash(grid.copy())
        walls = game_state.get_walls()
        assert walls[0][0] and (0, 0) in walls.as_list()
        assert len(walls.as_list(False)) + walls.count() == walls.width * walls.height
        food = game_state.get_red_food()
        assert half_grid(food, True) == food and half_grid(food, False).count() == 0

    def layout(self, game_state):
        layout = game_state.data.layout
        assert layout.is_wall((0, 0)) and game_state.has_wall(0, 0)
        assert layout.width == layout.walls.width and layout.height == layout.walls.height
        assert layout.total_food == layout.food.count() == game_state.data.food.count()
        assert layout.get_num_ghosts() == layout.num_ghosts
        assert len(layout.agent_positions) == game_state.get_num_agents()
        assert sorted(layout.capsules) == sorted(game_state.data.capsules)

    def distances(self, game_state):
        start = game_state.get_agent_position(self.index)
        assert self.get_maze_distance(start, start) == 0
        distancer = distance_calculator.Distancer(game_state.data.layout)
        assert distancer.get_distance((1, 1), (4, 5)) == 7
        distancer.get_maze_distances()
        other = game_state.get_agent_position((self.index + 1) % 4)
        assert distancer.get_distance(start, other) == self.distancer.get_distance(other, start)
        assert distance_calculator.get_distance_on_grid(distancer._distances, start, other) > 0
        try:
            self.distancer.get_distance((0, 0), start)
        except Exception:
            pass
        else:
            raise AssertionError("a wall has no distance")

    def rules(self, game_state):
        action = AgentRules.get_legal_actions(game_state, self.index)[0]
        by_hand = game_state.deep_copy()
        AgentRules.apply_action(by_hand, action, self.index)
        AgentRules.check_death(by_hand, self.index)
        AgentRules.decrement_timer(by_hand.data.agent_states[self.index])
        assert by_hand == game_state.generate_successor(self.index, action)
        assert by_hand != game_state

    def choose_action(self, game_state):
        self.moves += 1
        self.look(game_state)
        self.imagine(game_state)
        actions = game_state.get_legal_actions(self.index)
        assert actions[-1] == Directions.STOP
        config = game_state.get_agent_state(self.index).configuration
        assert Actions.get_possible_actions(config, game_state.get_walls()) == actions
        assert len(Actions.get_legal_neighbors(config.pos, game_state.get_walls())) == len(actions)
        return random.choice(actions)

    def look(self, game_state):
        assert isinstance(game_state, GameState)
        assert self.get_current_observation() == game_state
        if self.moves > 1:
            previous = self.get_previous_observation()
            assert previous.data.timeleft == game_state.data.timeleft + 4
        assert len(self.observation_history) == self.moves
        assert not game_state.is_over()
        assert self.get_score(game_state) == game_state.get_score() * (1 if self.red else -1)
        assert game_state.data.score == game_state.get_score()
        assert isinstance(game_state.data.score_change, int)
        assert game_state.data._agent_moved in (None, 0, 1, 2, 3)
        assert game_state.data._food_eaten is None or len(game_state.data._food_eaten) == 2
        assert game_state.data._capsule_eaten is None or len(game_state.data._capsule_eaten) == 2
        assert not game_state.data._win
        assert self.get_opponents(game_state) + self.get_team(game_state) in ([0, 2, 1, 3], [1, 3, 0, 2])
        assert game_state.get_red_team_indices() == game_state.red_team == [0, 2]
        assert game_state.get_blue_team_indices() == game_state.blue_team == [1, 3]
        assert self.get_food(game_state).count() + self.get_food_you_are_defending(game_state).count() == (
            game_state.get_red_food().count() + game_state.get_blue_food().count()
        )
        assert len(self.get_capsules(game_state) + self.get_capsules_you_are_defending(game_state)) == len(
            game_state.get_red_capsules() + game_state.get_blue_capsules()
        )
        for x, y in game_state.get_blue_food().as_list()[:3]:
            assert game_state.has_food(x, y) and not game_state.is_red((x, y))
        distances = game_state.get_agent_distances()
        assert len(distances) == 4
        mine = game_state.get_agent_position(self.index)
        for index in range(4):
            state = game_state.get_agent_state(index)
            assert isinstance(state, AgentState)
            assert state.start.pos == game_state.get_initial_agent_position(index)
            assert min(state.scared_timer, state.num_carrying, state.num_returned) >= 0
            place = game_state.get_agent_position(index)
            assert state.get_position() == place
            if place is None:
                assert state.configuration is None and index in self.get_opponents(game_state)
                continue
            assert state.configuration.get_position() == place
            assert state.get_direction() == state.configuration.direction == state.configuration.get_direction()
            assert state.is_pacman == (game_state.is_on_red_team(index) != game_state.is_red(state.configuration))
            assert game_state.get_distance_prob(util.manhattan_distance(mine, place), distances[index]) > 0
            assert place in self.seen_from_team(game_state) or index in self.get_team(game_state)

    def seen_from_team(self, game_state):
        seen = set()
        for mate in self.get_team(game_state):
            x, y = game_state.get_agent_position(mate)
            reach = range(-SIGHT_RANGE, SIGHT_RANGE + 1)
            seen |= {(x + dx, y + dy) for dx in reach for dy in reach if abs(dx) + abs(dy) <= SIGHT_RANGE}
        return seen

    def imagine(self, game_state):
        """What agents do to states that they own."""
        assert self.observation_function(game_state) == game_state.make_observation(self.index) == game_state
        copy = game_state.deep_copy()
        opponent = self.get_opponents(game_state)[0]
        start = game_state.get_initial_agent_position(opponent)
        copy.data.agent_states[opponent].configuration = Configuration(start, Directions.STOP)
        assert copy.get_agent_position(opponent) == start
        moved = copy.generate_successor(opponent, copy.get_legal_actions(opponent)[0])
        assert moved.get_agent_position(opponent) != start
        assert {game_state: 1}[game_state.deep_copy()] == 1
        self.debug_draw([start], [1, 0, 0])
        self.display_distributions_over_positions([util.Counter()])

    def final(self, game_state):
        assert game_state.is_over() or game_state.data.timeleft == 0
        CaptureAgent.final(self, game_state)
        assert self.observation_history == []
        print("inspected", self.moves, "moves")
