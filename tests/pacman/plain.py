"""The rules once more, as plainly as they can be written: what the quick engine must agree with, move by move."""

from __future__ import annotations

from dataclasses import dataclass, field

VECTORS = {"North": (0, 1), "South": (0, -1), "East": (1, 0), "West": (-1, 0), "Stop": (0, 0)}


@dataclass
class Agent:
    start: tuple[int, int]
    red: bool
    at: tuple[int, int] = (0, 0)
    pacman: bool = False
    scared: int = 0
    carried: int = 0
    returned: int = 0


@dataclass
class Game:
    text: str
    agents: list[Agent] = field(default_factory=list)
    score: int = 0
    over: bool = False

    def __post_init__(self) -> None:
        rows = self.text.split("\n")
        self.width, self.height = len(rows[0]), len(rows)
        marks = {(x, self.height - 1 - y): mark for y, row in enumerate(rows) for x, mark in enumerate(row)}
        self.walls = {at for at, mark in marks.items() if mark == "%"}
        self.food = {at for at, mark in marks.items() if mark == "."}
        self.capsules = {at for at, mark in marks.items() if mark == "o"}
        self.total = len(self.food)
        for number in "1234":
            for at, mark in marks.items():
                if mark == number:
                    self.agents.append(Agent(at, at[0] < self.width / 2, at))

    def in_red_half(self, at: tuple[int, int]) -> bool:
        return at[0] < self.width // 2

    def legal(self, i: int) -> list[str]:
        x, y = self.agents[i].at
        return [action for action, (dx, dy) in VECTORS.items() if (x + dx, y + dy) not in self.walls]

    def move(self, i: int, action: str) -> None:
        me = self.agents[i]
        others = [other for other in self.agents if other.red != me.red]
        mates = [mate for mate in self.agents if mate.red == me.red]
        me.at = (me.at[0] + VECTORS[action][0], me.at[1] + VECTORS[action][1])
        me.pacman = me.red != self.in_red_half(me.at)
        if me.carried and not me.pacman:
            self.score += me.carried if me.red else -me.carried
            me.returned += me.carried
            me.carried = 0
            for team in (mates, others):
                if sum(agent.returned for agent in team) >= self.total / 2 - 2:
                    self.over = True
        if me.pacman:
            if me.at in self.food:
                self.food.remove(me.at)
                next(mate for mate in mates if mate.at == me.at).carried += 1
            if me.at in self.capsules:
                self.capsules.remove(me.at)
                for other in others:
                    other.scared = 40
        for other in others:
            if other.at == me.at and other.pacman != me.pacman:
                ghost, prey = (other, me) if me.pacman else (me, other)
                self.die(ghost if ghost.scared else prey)
        if me.scared:
            me.scared -= 1

    def die(self, agent: Agent) -> None:
        dots, agent.carried = agent.carried, 0
        queue, seen = [agent.at], {agent.at}
        while queue and dots:
            at = queue.pop(0)
            x, y = at
            free = at not in self.walls and at not in self.food and at not in self.capsules
            if free and self.in_red_half(at) == self.in_red_half(agent.at) and at not in [a.at for a in self.agents]:
                self.food.add(at)
                dots -= 1
            for dx in (-1, 0, 1):
                for dy in (-1, 0, 1):
                    near = (x + dx, y + dy)
                    if 0 < near[0] < self.width and 0 < near[1] < self.height and near not in seen:
                        seen.add(near)
                        queue.append(near)
        agent.at, agent.pacman, agent.scared = agent.start, False, 0
