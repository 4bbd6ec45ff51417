"""The game itself: immutable states, and the one function that makes the next of one.

A state shares everything that did not change with the state before it; food and capsules are bit masks. Nothing here
reads a clock, a file or a random number.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from pacman_ctf import rules
from pacman_ctf.layout import HIDDEN, Layout


class IllegalAction(ValueError):
    """An action that its agent cannot take."""


class Last(NamedTuple):
    """What the last move did."""

    agent: int
    food_eaten: int  # the cell, or -1
    capsule_eaten: int  # the cell, or -1
    score_change: int


class State(NamedTuple):
    """One position of the game. Tuples are indexed by agent; a hidden agent's cell is -1."""

    layout: Layout
    food: int
    capsules: int
    cells: tuple[int, ...]
    facing: tuple[str, ...]
    pacman: tuple[bool, ...]
    scared: tuple[int, ...]
    carried: tuple[int, ...]
    returned: tuple[int, ...]
    score: int
    left: int
    over: bool
    last: tuple[int, int, int, int] | None  # a `Last`

    @property
    def winner(self) -> str:
        """`red`, `blue` or `tie` by the score as it stands."""
        return "red" if self.score > 0 else "blue" if self.score < 0 else "tie"


def begin(layout: Layout, length: int = rules.TIME_LIMIT) -> State:
    """The state before the first move of a game of `length` moves."""
    nobody = (0,) * layout.agents
    return State(
        layout=layout,
        food=layout.food,
        capsules=layout.capsules,
        cells=layout.starts,
        facing=(rules.STOP,) * layout.agents,
        pacman=(False,) * layout.agents,
        scared=nobody,
        carried=nobody,
        returned=nobody,
        score=0,
        left=length,
        over=False,
        last=None,
    )


def legal_actions(state: State, agent: int) -> tuple[str, ...]:
    """What the agent may do: North, South, East, West as far as no wall is there, then Stop."""
    return state.layout.legal[state.cells[agent]]


_state = tuple.__new__


def step(state: State, agent: int, action: str) -> State:
    """The state after the agent's action. Raises `IllegalAction`."""
    layout, food, capsules, cells, facing, pacman, scared, carried, returned, score, left, over, _ = state
    here = cells[agent]
    there = layout.moves[action][here] if action in layout.moves else -1
    if there < 0:  # also for a hidden agent: cell -1 is the upper right corner, which is wall
        raise IllegalAction(_complaint(state, agent, action))
    abroad = layout.abroad[agent][there]
    if (
        scared[agent]
        or abroad is not pacman[agent]
        or (not abroad and carried[agent])
        or (food | capsules) & layout.prey[agent][there]
        or (there in cells and (there != here or cells.count(here) > 1))
    ):
        return _eventful(state, agent, action, there)
    after = agent + 1
    if there != here:
        cells = (*cells[:agent], there, *cells[after:])
        if facing[agent] != action:
            facing = (*facing[:agent], action, *facing[after:])
    return _state(
        State,
        (
            layout,
            food,
            capsules,
            cells,
            facing,
            pacman,
            scared,
            carried,
            returned,
            score,
            left - 1,
            over,
            layout.quiet[agent],
        ),
    )


def _complaint(state: State, agent: int, action: object) -> str:
    if state.cells[agent] == HIDDEN:
        return f"agent {agent} is out of sight: nobody knows what it can do"
    legal = ", ".join(legal_actions(state, agent))
    return f"agent {agent} at {state.layout.points[state.cells[agent]]} cannot do {action!r}; legal: {legal}"


def _eventful(state: State, agent: int, action: str, there: int) -> State:
    """A move by which more than a position changes; the order of events is a rule of the game."""
    draft = Draft(state)
    draft.move(agent, action, there)
    draft.meet(agent)
    draft.calm(agent)
    return draft.finish(agent)


class Draft:
    """A state in the making: the rules of one move, event by event."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.food, self.capsules = state.food, state.capsules
        self.cells, self.facing, self.pacman = list(state.cells), list(state.facing), list(state.pacman)
        self.scared, self.carried, self.returned = list(state.scared), list(state.carried), list(state.returned)
        self.score, self.over = state.score, state.over
        self.food_eaten = self.capsule_eaten = HIDDEN

    def move(self, agent: int, action: str, there: int) -> None:
        """Go to the cell `there`; bring dots home or eat what lies there."""
        self.cells[agent] = there
        if action != rules.STOP:
            self.facing[agent] = action
        self.pacman[agent] = self.state.layout.abroad[agent][there]
        if self.pacman[agent]:
            self._eat(agent, there)
        elif self.carried[agent]:
            self._deliver(agent)

    def _deliver(self, agent: int) -> None:
        layout = self.state.layout
        dots = self.carried[agent]
        self.score += dots if layout.red[agent] else -dots
        self.returned[agent] += dots
        self.carried[agent] = 0
        home = [sum(self.returned[who] for who in team) for team in layout.teams[agent]]
        self.over = self.over or 2 * (max(home) + rules.MIN_FOOD) >= layout.total_food

    def _eat(self, agent: int, cell: int) -> None:
        mates, others = self.state.layout.teams[agent]
        bit = 1 << cell
        if self.food & bit:
            self.food ^= bit
            self.food_eaten = cell
            self.carried[next(who for who in mates if self.cells[who] == cell)] += 1
        if self.capsules & bit:
            self.capsules ^= bit
            self.capsule_eaten = cell
            for who in others:
                self.scared[who] = rules.SCARED_TIME

    def meet(self, agent: int) -> None:
        """Who dies where the agent stands: a pacman by a ghost, or a scared ghost by a pacman."""
        hunter = not self.pacman[agent]
        for who in self.state.layout.teams[agent][1]:
            if self.pacman[who] is hunter and self.cells[who] == self.cells[agent]:
                ghost, prey = (agent, who) if hunter else (who, agent)
                self._die(ghost if self.scared[ghost] else prey)

    def _die(self, who: int) -> None:
        layout = self.state.layout
        if self.carried[who]:
            taken = self.food | self.capsules
            for cell in self.cells:
                taken |= 1 << cell if cell != HIDDEN else 0
            self.food |= spill(layout, taken, self.cells[who], self.carried[who])
            self.carried[who] = 0
        self.cells[who], self.facing[who] = layout.starts[who], rules.STOP
        self.pacman[who], self.scared[who] = False, 0

    def calm(self, agent: int) -> None:
        """One of the agent's own moves less to be scared."""
        if self.scared[agent]:
            self.scared[agent] -= 1

    def finish(self, agent: int) -> State:
        """The state of this draft, one move later."""
        before = self.state
        return State(
            layout=before.layout,
            food=self.food,
            capsules=self.capsules,
            cells=tuple(self.cells),
            facing=tuple(self.facing),
            pacman=tuple(self.pacman),
            scared=tuple(self.scared),
            carried=tuple(self.carried),
            returned=tuple(self.returned),
            score=self.score,
            left=before.left - 1,
            over=self.over,
            last=Last(agent, self.food_eaten, self.capsule_eaten, self.score - before.score),
        )


def spill(layout: Layout, taken: int, cell: int, count: int) -> int:
    """Where the `count` dots of a pacman that died at `cell` come to lie, as a mask.

    Breadth first over the eight neighbours, through walls, within the half; nowhere where something or somebody is
    (`taken`).
    """
    half = layout.red_half if layout.red_half >> cell & 1 else layout.blue_half
    free = half & ~(layout.walls | taken)
    placed = 0
    seen, queue = {cell}, deque([cell])
    while queue and count:
        here = queue.popleft()
        if free >> here & 1:
            placed |= 1 << here
            count -= 1
        x, y = layout.points[here]
        for near in ((x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)):
            if near[0] > 0 and near[1] > 0 and near in layout.cells and layout.cells[near] not in seen:
                seen.add(layout.cells[near])
                queue.append(layout.cells[near])
    return placed


def veil(state: State, agent: int) -> State:
    """What the agent's team sees: opponents farther than the sight from both team-mates lose their position."""
    layout, cells = state.layout, state.cells
    points = layout.points
    mates, others = layout.teams[agent]
    hidden = []
    for who in others:
        cell = cells[who]
        if cell < 0:
            continue
        x, y = points[cell]
        for mate in mates:
            mx, my = points[cells[mate]]
            if abs(x - mx) + abs(y - my) <= rules.SIGHT_RANGE:
                break
        else:
            hidden.append(who)
    if not hidden:
        return state
    seen = list(cells)
    facing = list(state.facing)
    for who in hidden:
        seen[who], facing[who] = HIDDEN, rules.STOP
    return state._replace(cells=tuple(seen), facing=tuple(facing))


def sonar(state: State, agent: int, noise: tuple[int, ...]) -> tuple[int, ...]:
    """The distances the agent hears, to every agent in order, itself included."""
    points = state.layout.points
    x, y = points[state.cells[agent]]
    return tuple(
        [
            abs(x - points[cell][0]) + abs(y - points[cell][1]) + offset
            for cell, offset in zip(state.cells, noise, strict=True)
        ]
    )
