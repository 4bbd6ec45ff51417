"""The interface that students' agents know: every name in both spellings, and what agents rely on."""

from __future__ import annotations

import copy
import pickle
import random
import sys
from collections.abc import Iterator

import pytest

from pacman_ctf import engine
from pacman_ctf.compat import modules
from pacman_ctf.compat.capture import AgentRules, GameState
from pacman_ctf.compat.capture_agents import AgentFactory, CaptureAgent
from pacman_ctf.compat.distance_calculator import Distancer
from pacman_ctf.compat.game import Actions, AgentState, Configuration, Directions, Grid
from pacman_ctf.compat.spelling import camel, snake
from pacman_ctf.layout import named

# The names by how often students' files use them (docs/pacman.md, "What agents can use").
TABLE: dict[str, tuple[str, str]] = {
    "CaptureAgent": (
        "capture_agents",
        """get_maze_distance get_opponents get_food register_initial_state get_score get_food_you_are_defending
        get_capsules get_previous_observation get_team get_capsules_you_are_defending get_current_observation
        choose_action final debug_draw observation_function display_distributions_over_positions get_action
        agents_on_team observation_history index red distancer display""",
    ),
    "AgentFactory": ("capture_agents", "get_agent"),
    "GameState": (
        "capture",
        """get_agent_state get_agent_position data get_legal_actions generate_successor has_wall get_walls
        is_on_red_team is_red get_initial_agent_position get_red_team_indices get_blue_team_indices
        get_agent_distances get_red_food get_blue_food deep_copy get_num_agents is_over get_red_capsules
        get_blue_capsules get_distance_prob red_team has_food blue_team make_observation get_score initialize""",
    ),
    "AgentState": (
        "game",
        """get_position is_pacman scared_timer num_carrying configuration start num_returned get_direction
        direction copy""",
    ),
    "Configuration": ("game", "pos direction get_position get_direction is_integer generate_successor"),
    "GameStateData": (
        "capture",
        """layout agent_states timeleft food score score_change capsules _capsule_eaten _agent_moved _food_eaten _win
        copy_food deep_copy""",
    ),
    "Layout": (
        "layout",
        "width height walls food capsules total_food agent_positions is_wall num_ghosts get_num_ghosts layout_text",
    ),
    "Grid": ("game", "width height data as_list copy count deep_copy shallow_copy pack_bits __getitem__ __setitem__"),
    "Directions": ("game", "NORTH SOUTH EAST WEST STOP REVERSE LEFT RIGHT"),
    "Actions": (
        "game",
        """direction_to_vector vector_to_direction get_legal_neighbors get_successor get_possible_actions _directions
        _directions_as_list reverse_direction""",
    ),
    "Counter": (
        "util",
        "normalize arg_max total_count divide_all increment_all sorted_keys copy __mul__ __add__ __sub__",
    ),
    "PriorityQueue": ("util", "push pop is_empty update heap count"),
    "PriorityQueueWithFunction": ("util", "push pop is_empty"),
    "Queue": ("util", "push pop is_empty list"),
    "Stack": ("util", "push pop is_empty list"),
    "Distancer": ("distance_calculator", "get_distance get_maze_distances _distances"),
    "AgentRules": ("capture", "get_legal_actions apply_action check_death decrement_timer"),
    "": (
        "util",
        """manhattan_distance nearest_point raise_not_defined flip_coin sample n_sample lookup normalize
        choose_from_distribution""",
    ),
    " ": ("distance_calculator", "get_distance_on_grid compute_distances"),
    "  ": (
        "capture",
        """half_grid noisy_distance SIGHT_RANGE COLLISION_TOLERANCE MIN_FOOD TOTAL_FOOD SONAR_NOISE_RANGE
        SONAR_NOISE_VALUES SCARED_TIME KILL_POINTS CaptureRules""",
    ),
    "   ": ("baseline_team", "create_team ReflexCaptureAgent OffensiveReflexAgent DefensiveReflexAgent"),
    "    ": ("game", "Agent GameStateData Game reconstitute_grid"),
    "     ": ("capture_graphics_display", "PacmanGraphics"),
    "      ": ("keyboard_agents", "KeyboardAgent KeyboardAgent2"),
    "       ": ("layout", "get_layout"),
}


@pytest.fixture
def game() -> GameState:
    return GameState.of(engine.begin(named("harbour")))


@pytest.fixture
def installed() -> Iterator[None]:
    before = dict(sys.modules)
    modules.install()
    yield
    for name in set(sys.modules) - set(before):
        if name in modules.names() or name == "contest":
            del sys.modules[name]


def made(name: str, game: GameState) -> object:
    """An object of a class of the table, to look for what instances have."""
    from pacman_ctf.compat import util

    agent = CaptureAgent(0)
    state: AgentState = game.get_agent_state(0)
    return {
        "CaptureAgent": agent,
        "AgentFactory": AgentFactory(True),
        "GameState": game,
        "AgentState": state,
        "Configuration": state.configuration,
        "GameStateData": game.data,
        "Layout": game.data.layout,
        "Grid": game.get_walls(),
        "Directions": Directions,
        "Actions": Actions,
        "Distancer": Distancer(game.data.layout),
        "AgentRules": AgentRules,
        "PriorityQueueWithFunction": util.PriorityQueueWithFunction(len),
    }.get(name) or getattr(util, name)()


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("spell", [str, camel])
@pytest.mark.parametrize("package", ["", "contest."])
@pytest.mark.usefixtures("installed")
def test_every_name_of_the_table_is_there(name: str, spell: type, package: str, game: GameState) -> None:
    module, members = TABLE[name]
    place = sys.modules[package + spell(module)]
    if name.strip():
        assert getattr(place, name) is not None
        place = made(name, game)  # type: ignore[assignment]
    for member in members.split():
        getattr(place, spell(member))


def test_spellings_are_each_others_inverse() -> None:
    for _, members in TABLE.values():
        for member in members.split():
            if member.islower() and not member.startswith("__"):
                assert snake(camel(member)) == member


def test_an_override_in_either_spelling_is_found_by_either_name() -> None:
    class Camel(CaptureAgent):
        def chooseAction(self, state):
            return "camel"

        def getFood(self, state):
            return super().get_food(state)

    class Snake(Camel):
        def choose_action(self, state):
            return "snake"

    assert Camel(0).choose_action(None) == Camel(0).get_action(GameState()) == "camel"  # type: ignore[arg-type]
    assert Snake(0).chooseAction(None) == "snake"
    assert Camel.get_food is Camel.getFood


def test_positions_are_floats_once_an_agent_has_moved(game: GameState) -> None:
    assert repr(game.get_agent_state(0).get_position()) == "(1, 1)"
    after = game.generate_successor(0, "East")
    assert repr(after.get_agent_state(0).get_position()) == "(2.0, 1.0)"
    assert repr(after.get_agent_position(0)) == "(2, 1)"
    assert {(2.0, 1.0): "same key"}[after.get_agent_position(0)]  # type: ignore[index]


def test_an_opponent_out_of_sight_has_no_configuration(game: GameState) -> None:
    seen = game.make_observation(0)
    hidden = seen.get_agent_state(1)
    assert hidden.configuration is None
    assert hidden.get_position() is seen.get_agent_position(1) is None
    assert hidden.start.pos == (30, 14)
    assert len(seen.get_agent_distances()) == 4
    assert seen.get_legal_actions(1) == []
    with pytest.raises(engine.IllegalAction):
        seen.generate_successor(1, "Stop")
    assert seen.generate_successor(0, "Stop").get_agent_position(1) is None


def test_what_an_agent_imagines_is_played_on(game: GameState) -> None:
    seen = game.make_observation(0)
    seen.data.agent_states[1].configuration = Configuration((20, 7), Directions.NORTH)
    state = seen.get_agent_state(0)
    state.scared_timer, state.num_carrying = 3, 5
    after = seen.generate_successor(0, "Stop")
    assert after.get_agent_position(1) == (20, 7)
    assert after.get_agent_state(0).scared_timer == 2
    assert after.get_agent_state(0).num_returned == 5
    assert after.get_score() == 5
    assert game.generate_successor(0, "Stop").get_score() == 0


def test_written_food_capsules_and_score_count(game: GameState) -> None:
    copy_ = game.deep_copy()
    copy_.data.food[1][2] = True
    copy_.data.capsules.append((2, 1))
    copy_.data.score = 7
    assert copy_.has_food(1, 2)
    assert not game.has_food(1, 2)
    after = copy_.generate_successor(1, "West")
    assert (2, 1) in after.get_red_capsules()
    assert after.get_score() == 7


def test_food_and_walls_that_are_asked_for_are_ones_own(game: GameState) -> None:
    food = game.get_red_food()
    count = food.count()
    food[food.as_list()[0][0]][food.as_list()[0][1]] = False
    assert game.get_red_food().count() == count
    walls = game.get_walls()
    walls[2][1] = True
    assert "East" not in game.get_legal_actions(0)
    assert game.has_wall(2, 1)
    assert "East" in game.deep_copy().get_legal_actions(0)


def test_states_are_keys_whatever_the_clock_says(game: GameState) -> None:
    waited = game.generate_successor(0, "Stop")
    assert waited == game
    assert hash(waited) == hash(game)
    assert game.generate_successor(0, "East") != game
    assert len({game, waited, game.generate_successor(0, "East")}) == 2


def test_states_are_copied_by_every_means(game: GameState) -> None:
    game = game.generate_successor(0, "East").make_observation(0)
    for other in (copy.copy(game), copy.deepcopy(game), pickle.loads(pickle.dumps(game)), game.deep_copy()):
        assert other == game
        assert other.get_agent_distances() == game.get_agent_distances()
        assert other is not game


def test_a_grid_holds_anything_once_written() -> None:
    grid = Grid(3, 2, False)
    grid[1][1] = 0.5
    assert grid.as_list(0.5) == [(1, 1)]
    assert grid.copy()[1][1] == 0.5
    assert grid.count(0.5) == 1
    grid[2] = [True, False]
    assert grid.as_list() == [(2, 0)]
    assert list(grid.copy()[2]) == [True, False]
    assert str(Grid(2, 2, True)) == "TT\nTT"
    with pytest.raises(ValueError, match="booleans"):
        Grid(2, 2, 7)


def test_a_grid_in_lists_is_the_grid_in_bits() -> None:
    chance = random.Random(3)
    grid, plain = Grid(9, 7), [[False] * 7 for _ in range(9)]
    for _ in range(200):
        x, y, value = chance.randrange(9), chance.randrange(7), chance.random() < 0.5
        grid[x][y] = plain[x][y] = value
        assert grid.as_list() == [(x, y) for x in range(9) for y in range(7) if plain[x][y]]
        assert grid.as_list(False) == [(x, y) for x in range(9) for y in range(7) if not plain[x][y]]
    assert grid.data == plain
    assert Grid(9, 7, bit_representation=grid.pack_bits()) == grid
    assert pickle.loads(pickle.dumps(grid)) == copy.deepcopy(grid) == grid


def test_distances_are_straight_until_the_maze_is_measured(game: GameState) -> None:
    distancer = Distancer(game.data.layout)
    assert distancer.get_distance((1, 1), (5, 5)) == 8
    distancer.get_maze_distances()
    assert distancer.get_distance((1, 1), (2.0, 1.0)) == 1
    assert distancer.get_distance((1.5, 1), (2, 1)) == 0.5
    for wall in ((0, 0), (-3, 2), (99, 1)):
        with pytest.raises(KeyError):
            distancer.get_distance((1, 1), wall)


def test_raise_not_defined_ends_the_process(capsys: pytest.CaptureFixture[str], game: GameState) -> None:
    with pytest.raises(SystemExit):
        CaptureAgent(0).get_action(game)
    assert "choose_action" in capsys.readouterr().out


def test_a_state_prints_as_its_maze(game: GameState) -> None:
    assert str(game).splitlines()[0] == "%" * 32
    assert "score +0" in str(game)
