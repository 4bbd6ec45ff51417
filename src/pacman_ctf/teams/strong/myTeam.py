"""The strong team: it follows the opponents by ear, raids only where it gets away, and guards when it must.

Both agents share what they know, since they live in one process.
"""

from __future__ import annotations

import random
from collections import deque

from contest.capture import SIGHT_RANGE, SONAR_NOISE_RANGE
from contest.capture_agents import CaptureAgent

NOISE = SONAR_NOISE_RANGE // 2
STEPS = {"North": (0, 1), "South": (0, -1), "East": (1, 0), "West": (-1, 0)}


def create_team(first_index, second_index, is_red, first="Raider", second="Keeper"):
    return [globals()[first](first_index), globals()[second](second_index)]


class Maze:
    """What never changes: neighbours, the two halves, the gates between them, how deep dead ends are."""

    def __init__(self, game_state, red):
        walls = game_state.get_walls()
        self.width, self.height = walls.width, walls.height
        cells = set(walls.as_list(False))
        self.near = {
            (x, y): [(x + dx, y + dy) for dx, dy in STEPS.values() if (x + dx, y + dy) in cells] for x, y in cells
        }
        middle = self.width // 2
        self.home = {cell for cell in cells if (cell[0] < middle) == red}
        column = middle - 1 if red else middle
        self.gates = [
            cell for cell in self.home if cell[0] == column and any(n not in self.home for n in self.near[cell])
        ]
        self.depth = self._dead_ends(cells)

    def _dead_ends(self, cells):
        """Cells from which there is one way out only, with the number of steps to where there are two."""
        ways = {cell: len(self.near[cell]) for cell in cells}
        queue = deque(cell for cell in cells if ways[cell] == 1)
        closed, order = set(), []
        while queue:
            cell = queue.popleft()
            closed.add(cell)
            order.append(cell)
            for near in self.near[cell]:
                ways[near] -= 1
                if ways[near] == 1 and near not in closed:
                    queue.append(near)
        depth = {}
        for cell in reversed(order):
            depth[cell] = 1 + min(
                (depth.get(near, 0) for near in self.near[cell] if near not in closed or near in depth), default=0
            )
        return depth


class Ear:
    """Where each opponent can be: all cells that agree with everything heard and seen so far."""

    def __init__(self, agent, game_state):
        self.maze = agent.maze
        self.cells = {foe: {game_state.get_initial_agent_position(foe)} for foe in agent.get_opponents(game_state)}
        self.food = set(agent.get_food_you_are_defending(game_state).as_list())
        self.robbed, self.when = None, 0

    def listen(self, agent, game_state):
        me = game_state.get_agent_position(agent.index)
        mates = [game_state.get_agent_position(mate) for mate in agent.get_team(game_state)]
        heard = game_state.get_agent_distances()
        just_moved = (agent.index - 1) % game_state.get_num_agents()
        food = set(agent.get_food_you_are_defending(game_state).as_list())
        robbed = self.food - food
        self.food = food
        for foe, known in self.cells.items():
            state = game_state.get_agent_state(foe)
            seen = game_state.get_agent_position(foe)
            if seen is not None:
                self.cells[foe] = {seen}
                continue
            if foe == just_moved:
                known = known.union(*(self.maze.near[cell] for cell in known))
                if robbed:
                    self.robbed, self.when = next(iter(robbed)), game_state.data.timeleft
            possible = {
                cell for cell in known
                if abs(distance(me, cell) - heard[foe]) <= NOISE
                and (cell in self.maze.home) == state.is_pacman
                and all(distance(mate, cell) > SIGHT_RANGE for mate in mates)
            }  # fmt: skip
            if not possible:  # it died, or was missed: anywhere that sounds right
                possible = {cell for cell in self.maze.near if (cell in self.maze.home) == state.is_pacman} & {
                    cell for cell in self.maze.near if abs(distance(me, cell) - heard[foe]) <= NOISE
                } or {game_state.get_initial_agent_position(foe)}
            self.cells[foe] = possible


def distance(a, b):
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


class Raider(CaptureAgent):
    """Fetches dots as long as it can get away, and helps at home when that is where it is needed."""

    shared = {}  # noqa: RUF012 - both agents of the team, on purpose
    stays = False

    def register_initial_state(self, game_state):
        super().register_initial_state(game_state)
        if "maze" not in self.shared:
            self.shared["maze"] = Maze(game_state, self.red)
        self.maze = self.shared["maze"]
        if "ear" not in self.shared:
            self.shared["ear"] = Ear(self, game_state)
        self.ear = self.shared["ear"]
        self.trail = deque(maxlen=12)
        self.detour = None

    def choose_action(self, game_state):
        self.ear.listen(self, game_state)
        self.me = game_state.get_agent_position(self.index)
        self.trail.append(self.me)
        path = self.guard(game_state) if self.stays_home(game_state) else self.raid(game_state)
        step = path[0] if path else self.me
        for action, (dx, dy) in STEPS.items():
            if (self.me[0] + dx, self.me[1] + dy) == step:
                return action
        return "Stop"

    def stays_home(self, game_state):
        """A keeper guards when somebody is there or it pays to wait; a raider when it is the nearer one."""
        mine = game_state.get_agent_state(self.index)
        if mine.is_pacman:
            return False
        guests = [foe for foe in self.get_opponents(game_state) if game_state.get_agent_state(foe).is_pacman]
        near = [
            foe for foe in guests if min(self.get_maze_distance(self.me, cell) for cell in self.ear.cells[foe]) <= 6
        ]
        if self.stays:
            return bool(guests) or self.get_score(game_state) > 0 or (mine.scared_timer == 0 and len(self.trail) < 12)
        return bool(near) and mine.scared_timer < 3

    # Guarding.

    def guard(self, game_state):
        guests = [foe for foe in self.get_opponents(game_state) if game_state.get_agent_state(foe).is_pacman]
        scared = game_state.get_agent_state(self.index).scared_timer
        if guests:
            cells = set().union(*(self.ear.cells[foe] for foe in guests))
            if len(cells) > 12 and self.ear.robbed and self.ear.when - game_state.data.timeleft < 24:
                cells = {self.ear.robbed}
            goal = min(cells, key=lambda cell: self.get_maze_distance(self.me, cell))
            if scared and self.get_maze_distance(self.me, goal) <= 2:
                return self.flee({goal})
        else:
            goal = min(self.maze.gates, key=self.way_of_the_foes)
        return self.walk({goal}, lambda cell, steps: cell in self.maze.home)

    def way_of_the_foes(self, gate):
        """How far the opponents can be from a gate at least, together."""
        return sum(min(self.get_maze_distance(gate, cell) for cell in cells) for cells in self.ear.cells.values())

    # Raiding.

    def raid(self, game_state):
        mine = game_state.get_agent_state(self.index)
        ghosts = self.ghosts(game_state)
        food = set(self.get_food(game_state).as_list())
        left = game_state.data.timeleft // game_state.get_num_agents()
        gates = set(self.maze.gates)
        way_home = min(self.get_maze_distance(self.me, gate) for gate in gates)
        chased = any(self.get_maze_distance(self.me, ghost) <= SIGHT_RANGE for ghost in ghosts)

        def safe(cell, steps):
            return all(self.get_maze_distance(ghost, cell) > steps for ghost in ghosts)

        def worth(cell, steps):
            way_out = self.maze.depth.get(cell, 0)
            return all(self.get_maze_distance(ghost, cell) > steps + 2 * way_out + 1 for ghost in ghosts)

        load = mine.num_carrying
        if load and (left <= way_home + 4 or len(food) <= 2 or load >= (4 if chased else 10)):
            path = self.walk(gates, safe)
            if path:
                return path
        capsules = set(self.get_capsules(game_state))
        if chased and capsules and (path := self.walk(capsules, safe)):
            return path
        if not mine.is_pacman and (path := self.take_detour()):
            return path
        mate = next(i for i in self.get_team(game_state) if i != self.index)
        share = self.share(food, game_state.get_agent_position(mate))
        for targets in (share, food):
            targets = {dot for dot in targets if worth(dot, self.get_maze_distance(self.me, dot))}
            if len(food) > 2 and targets and (path := self.walk(targets, safe)):
                return path
        if load and (path := self.walk(gates, safe)):
            return path
        return self.flee(ghosts) if mine.is_pacman else self.take_detour(new=True)

    def ghosts(self, game_state):
        """Where a dangerous opponent is for sure."""
        found = set()
        for foe in self.get_opponents(game_state):
            state = game_state.get_agent_state(foe)
            if not state.is_pacman and state.scared_timer <= 2 and len(self.ear.cells[foe]) <= 2:
                found |= self.ear.cells[foe]
        return found

    def share(self, food, mate):
        """The dots that are not nearer to the team-mate."""
        return {dot for dot in food if self.get_maze_distance(self.me, dot) <= self.get_maze_distance(mate, dot)}

    def take_detour(self, new=False):
        """To another gate, when this one is watched: an agent that goes to and fro gets nowhere."""
        stuck = len(self.trail) == self.trail.maxlen and len(set(self.trail)) <= 4
        if self.detour is None and (new or stuck):
            far = [gate for gate in self.maze.gates if self.get_maze_distance(self.me, gate) >= 5]
            self.detour = random.choice(far or self.maze.gates)
        if self.detour is None:
            return []
        if self.me == self.detour:
            self.detour = None
            self.trail.clear()
            return []
        return self.walk({self.detour}, lambda cell, steps: cell in self.maze.home)

    def flee(self, dangers):
        """The neighbour farthest from them that is no trap."""

        def room(cell):
            return min((self.get_maze_distance(cell, danger) for danger in dangers), default=0) - self.maze.depth.get(
                cell, 0
            )

        return [max([*self.maze.near[self.me], self.me], key=room)]

    def walk(self, goals, allowed):
        """The shortest path over allowed cells to the nearest goal; empty where there is none."""
        parents, queue = {self.me: None}, deque([(self.me, 0)])
        while queue:
            cell, steps = queue.popleft()
            if cell in goals and cell != self.me:
                path = []
                while parents[cell] is not None:
                    path.append(cell)
                    cell = parents[cell]
                return path[::-1]
            for near in self.maze.near[cell]:
                if near not in parents and allowed(near, steps + 1):
                    parents[near] = cell
                    queue.append((near, steps + 1))
        return []


class Keeper(Raider):
    """Raids too, and comes home when somebody is there or there is a lead to hold."""

    stays = True
