"""The rules of one move, and that the quick engine is the plain one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pacman.plain import Game

from pacman_ctf import engine, rules, seeds
from pacman_ctf.distances import Distances
from pacman_ctf.engine import State, begin, legal_actions, step
from pacman_ctf.layout import HIDDEN, Layout, LayoutError, named, shipped
from pacman_ctf.maze import layout_of, maze1

CORRIDOR = """
%%%%%%%%%%%%
%1  . . . 2%
%  % oo  % %
%3.......o4%
%%%%%%%%%%%%
"""

ACTIONS = {letter: action for action, letter in rules.LETTERS.items()}


def corridor() -> Layout:
    return Layout(CORRIDOR)


def at(layout: Layout, *point: int) -> int:
    return layout.cells[point[0], point[1]]


def placed(layout: Layout, agent: int, point: tuple[int, int], state: State | None = None, **fields: object) -> State:
    """A state in which an agent stands elsewhere."""
    state = state or begin(layout)
    cell = at(layout, *point)
    cells = (*state.cells[:agent], cell, *state.cells[agent + 1 :])
    pacman = (*state.pacman[:agent], layout.abroad[agent][cell], *state.pacman[agent + 1 :])
    for name, value in fields.items():
        old = getattr(state, name)
        state = state._replace(**{name: (*old[:agent], value, *old[agent + 1 :])})
    return state._replace(cells=cells, pacman=pacman)


def test_legal_actions_come_in_the_order_that_agents_know() -> None:
    layout = corridor()
    state = placed(layout, 0, (4, 1))
    assert legal_actions(state, 0) == ("North", "East", "West", "Stop")
    assert legal_actions(begin(layout), 0) == ("South", "East", "Stop")


@pytest.mark.parametrize("action", ["North", "Nowhere", "", "north"])
def test_what_cannot_be_done_says_what_can(action: str) -> None:
    with pytest.raises(engine.IllegalAction, match="legal: South, East, Stop"):
        step(begin(corridor()), 0, action)


def test_a_hidden_agent_cannot_be_moved() -> None:
    state = begin(corridor())
    hidden = state._replace(cells=(state.cells[0], HIDDEN, *state.cells[2:]))
    with pytest.raises(engine.IllegalAction, match="out of sight"):
        step(hidden, 1, "Stop")


def test_a_move_changes_nothing_of_the_state_before() -> None:
    state = begin(corridor())
    copy = tuple(state)
    after = step(state, 0, "East")
    assert tuple(state) == copy
    assert after.layout.points[after.cells[0]] == (2, 3)
    assert after.left == state.left - 1
    assert after.facing[0] == "East"
    assert step(after, 0, "Stop").facing[0] == "East"


def test_dots_score_when_they_are_home() -> None:
    layout = corridor()
    state = step(placed(layout, 0, (5, 3)), 0, "East")
    assert (state.carried[0], state.score, state.pacman[0]) == (1, 0, True)
    assert not state.food >> at(layout, 6, 3) & 1
    assert state.last == (0, at(layout, 6, 3), HIDDEN, 0)
    home = step(state, 0, "West")
    assert (home.carried[0], home.returned[0], home.score, home.pacman[0]) == (0, 1, 1, False)
    assert home.last == (0, HIDDEN, HIDDEN, 1)


def test_own_dots_are_not_eaten() -> None:
    layout = corridor()
    state = step(placed(layout, 0, (3, 3)), 0, "East")
    assert state.food == layout.food
    assert not any(state.carried)


def test_the_game_is_over_when_all_but_two_of_a_side_are_home() -> None:
    layout = corridor()
    assert layout.total_food == 10  # so three are enough
    state = placed(layout, 1, (6, 1), carried=2)
    assert not step(state, 1, "East").over
    almost = placed(layout, 1, (5, 1), carried=2)
    assert not step(almost, 1, "East").over
    enough = placed(layout, 1, (5, 1), carried=3)
    over = step(enough, 1, "East")
    assert over.over
    assert over.score == -3
    assert over.winner == "blue"


def test_a_capsule_scares_every_opponent_for_forty_of_its_own_moves() -> None:
    layout = corridor()
    state = placed(layout, 3, (4, 1), placed(layout, 0, (5, 2)))
    state = step(state, 0, "East")
    assert state.scared == (0, 40, 0, 40)
    assert not state.capsules >> at(layout, 6, 2) & 1
    for _ in range(39):
        state = step(state, 1, "Stop")
    assert state.scared == (0, 1, 0, 40)
    assert step(state, 1, "Stop").scared[1] == 0


def test_a_capsule_on_the_cell_of_a_ghost_eats_the_ghost() -> None:
    layout = corridor()
    state = step(placed(layout, 1, (6, 2), placed(layout, 0, (5, 2))), 0, "East")
    assert state.cells[1] == layout.starts[1]
    assert state.scared == (0, 0, 0, 40)
    assert state.cells[0] == at(layout, 6, 2)


@pytest.mark.parametrize(("mover", "dead"), [(0, 0), (1, 0)])
def test_a_pacman_dies_of_a_ghost_whoever_moves(mover: int, dead: int) -> None:
    layout = corridor()
    state = placed(layout, 1, (8, 3), placed(layout, 0, (7, 3), carried=2))
    state = step(state, mover, "East" if mover == 0 else "West")
    assert state.cells[dead] == layout.starts[dead]
    assert (state.carried[0], state.score, state.pacman[0], state.facing[0]) == (0, 0, False, "Stop")


@pytest.mark.parametrize("mover", [0, 1])
def test_a_scared_ghost_dies_of_a_pacman_whoever_moves(mover: int) -> None:
    layout = corridor()
    state = placed(layout, 1, (8, 3), placed(layout, 0, (7, 3), carried=2), scared=7)
    state = step(state, mover, "East" if mover == 0 else "West")
    assert state.cells[1] == layout.starts[1]
    assert state.scared[1] == 0
    assert state.carried[0] == (3 if mover == 0 else 2)  # the ghost stood on a dot


def test_two_ghosts_and_two_pacmen_share_cells() -> None:
    layout = corridor()
    state = placed(layout, 2, (8, 2), placed(layout, 0, (7, 2)))
    state = step(state, 0, "East")
    assert state.cells[0] == state.cells[2]
    own_side = step(placed(layout, 2, (2, 3), placed(layout, 0, (1, 3))), 0, "East")
    assert own_side.cells[0] == own_side.cells[2]


def test_the_first_of_two_mates_on_a_cell_gets_the_dot() -> None:
    layout = corridor()
    state = placed(layout, 0, (8, 3), placed(layout, 2, (7, 3)))
    state = step(state, 2, "East")
    assert state.carried == (1, 0, 0, 0)


def test_a_dead_pacman_spills_its_dots_around() -> None:
    layout = Layout("%%%%%%%%%%\n%1 .  .  %\n%3  . .  %\n%     . 2%\n%     %.4%\n%%%%%%%%%%")
    state = placed(layout, 1, (7, 3), placed(layout, 0, (6, 3), carried=3))
    state = step(state, 0, "East")
    spilt = layout.points_of(state.food & ~layout.food)
    assert len(spilt) == 3
    plain = Game(layout.text)
    plain.agents[0].at, plain.agents[1].at, plain.agents[0].carried = (6, 3), (7, 3), 3
    plain.move(0, "East")
    assert set(layout.points_of(state.food)) == plain.food


def test_sight_reaches_five_cells_from_either_mate() -> None:
    layout = corridor()
    far = begin(layout)
    assert engine.veil(far, 0).cells == (far.cells[0], HIDDEN, far.cells[2], HIDDEN)
    near = placed(layout, 1, (6, 3))
    assert engine.veil(near, 0).cells[1] == near.cells[1]  # five from agent 0
    assert engine.veil(near, 2).cells[1] == near.cells[1]  # seven from agent 2, but its mate sees it
    assert engine.veil(placed(layout, 1, (7, 3)), 2).cells[1] == HIDDEN


def test_what_is_veiled_tells_no_direction() -> None:
    state = step(begin(corridor()), 1, "South")
    assert engine.veil(state, 0).facing[1] == "Stop"


def test_sonar_is_the_distance_and_the_noise() -> None:
    state = begin(corridor())
    assert engine.sonar(state, 0, (0, 0, 0, 0)) == (0, 9, 2, 11)
    assert engine.sonar(state, 3, (1, -2, 3, -4)) == (12, 0, 12, -4)


def test_noise_is_uniform_and_depends_on_seed_move_and_observer_alone() -> None:
    noise = seeds.keyed_noise(b"s" * 16)
    assert noise(7, 2) == seeds.keyed_noise(b"s" * 16)(7, 2)
    assert len({noise(7, 2), noise(7, 3), noise(8, 2), seeds.keyed_noise(b"t" * 16)(7, 2)}) == 4
    counts = [0] * 13
    for move in range(13_000 // 4):
        for offset in noise(move, 0):
            counts[offset + 6] += 1
    assert all(880 < count < 1120 for count in counts), counts


def test_reference_noise_draws_one_value_per_agent() -> None:
    source, same = random.Random(5), random.Random(5)
    drawn = seeds.reference_noise(source)(0, 0)
    assert drawn == tuple(same.choice(range(-6, 7)) for _ in range(4))


def test_seeds_under_one_secret_tell_nothing_of_each_other() -> None:
    secret = b"secret"
    assert seeds.derive(secret, "a", 1) != seeds.derive(secret, "a", 2) != seeds.derive(b"other", "a", 2)
    assert len(seeds.derive(secret, "a")) == 16
    seed = seeds.from_text("fair play")
    assert seeds.from_text(seed.hex()) == seed
    assert seeds.team_seed(seed, red=True) != seeds.team_seed(seed, red=False)
    movers = [seeds.first_mover(seeds.derive(secret, number)) for number in range(200)]
    assert 60 < sum(movers) < 140


@pytest.mark.parametrize(
    "label",
    [*shipped(), "maze1:3", "maze1:47", *(pytest.param(f"maze1:{n}", marks=pytest.mark.soak) for n in range(100, 300))],
)
def test_a_game_at_random_is_that_of_the_plain_rules(label: str) -> None:
    layout = layout_of(label)
    table = Distances(layout)
    chance = random.Random(label)
    open_cells = [cell for cell in range(layout.size) if layout.open[cell]]
    deaths = deliveries = games = 0
    while games < 3 or not (deaths and deliveries):  # what nothing happened in proves little
        games += 1
        assert games < 30
        state, plain = begin(layout), Game(layout.text)
        goals = list(layout.starts)
        for move in range(1200):
            i = move % layout.agents
            legal = legal_actions(state, i)
            assert list(legal) == plain.legal(i)
            here = state.cells[i]
            if here == goals[i]:  # go somewhere, often where somebody is
                goals[i] = chance.choice([*state.cells, *chance.sample(open_cells, 2)])
            action = min(legal, key=lambda way: table[goals[i]][layout.moves[way][here]])
            before, state = state, step(state, i, action)
            plain.move(i, action)
            assert shown(state) == told(plain)
            deaths += sum(a == "Stop" != b for a, b in zip(state.facing, before.facing, strict=True))
            deliveries += state.score != before.score
            if state.over:
                break


def told(plain: Game) -> tuple[object, ...]:
    agents = plain.agents
    return (
        [agent.at for agent in agents],
        [agent.pacman for agent in agents],
        [agent.scared for agent in agents],
        [agent.carried for agent in agents],
        [agent.returned for agent in agents],
        plain.food,
        plain.capsules,
        plain.score,
        plain.over,
    )


def shown(state: State) -> tuple[object, ...]:
    layout = state.layout
    return (
        [layout.points[cell] for cell in state.cells],
        list(state.pacman),
        list(state.scared),
        list(state.carried),
        list(state.returned),
        set(layout.points_of(state.food)),
        set(layout.points_of(state.capsules)),
        state.score,
        state.over,
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9))
def test_a_maze_can_be_walked_and_is_fair(seed: int) -> None:
    layout = maze1(str(seed))
    assert (layout.width, layout.height, layout.total_food, layout.capsules.bit_count()) == (34, 18, 60, 4)
    table = Distances(layout)
    reach = table[layout.starts[0]]
    assert all(reach[cell] >= 0 for cell in range(layout.size) if layout.open[cell])
    turned = layout.text[::-1].translate(str.maketrans("1234", "2143"))
    assert turned == layout.text


def test_a_maze_is_the_same_for_ever() -> None:
    assert maze1("42").digest == "9dc8fdd793d17e6a1b2e05aade5f63988b47dafb1a55c3fe3c26ddf60154b52f"
    assert layout_of("maze1:42") == maze1("42")


def test_distances_are_symmetric_and_step_by_one() -> None:
    layout = named("harbour")
    table = Distances(layout).complete()
    open_cells = [cell for cell in range(layout.size) if layout.open[cell]]
    for cell in open_cells[::7]:
        row = table[cell]
        assert row[cell] == 0
        for other in open_cells:
            assert row[other] == table[other][cell]
            nearest = min(row[layout.moves[way][other]] for way in layout.legal[other] if way != "Stop")
            assert row[other] in (0, nearest + 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("%%%%\n%12\n%%%%", "line 2 has 3 cells"),
        ("%%%%%\n%1.2%\n%%%%%", "even"),
        ("%%%%%%\n%1..2%\n%%% %%", "hole in the border at .3, 0."),
        ("%%%%%%\n%....%\n%%%%%%", "the starts are missing"),
        ("%%%%%%\n%1..1%\n%%%%%%", r"\[1, 1\]"),
        ("%%%%%%\n%2..1%\n%%%%%%", "left half"),
        ("%%%%%%\n%1. 2%\n%%%%%%", "each half needs food"),
        ("%%\n%%\n%%", "sides go from"),
        ("\n".join(["%" * 66] * 5), "sides go from"),
    ],
)
def test_a_layout_that_nobody_can_play_on_says_why(text: str, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        Layout(text)


def test_two_agents_are_enough_and_old_marks_are_known() -> None:
    layout = Layout("%%%%%%\n%P..G%\n%%%%%%")
    assert layout.red == (True, False)
    assert step(begin(layout), 0, "East").cells[0] == layout.cells[2, 1]


def test_more_than_four_starts_are_ignored() -> None:
    assert Layout("%%%%%%%%\n%1 .. 2%\n%3 56 4%\n%%%%%%%%").agents == 4


@pytest.mark.parametrize("label", ["nowhere", "maze2:1", "maze1:"])
def test_an_unknown_layout_says_which_there_are(label: str) -> None:
    with pytest.raises(LayoutError, match="maze1:SEED"):
        layout_of(label)
