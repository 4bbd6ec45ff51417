"""What a team is told is what it sees, whatever was left out because it knew it."""

from __future__ import annotations

import json
import random

import pytest

from pacman_ctf.engine import begin, legal_actions, step, veil
from pacman_ctf.maze import layout_of
from pacman_ctf.wire import Hearing, Telling


@pytest.mark.parametrize("label", ["harbour", "maze1:2"])
def test_every_observation_arrives_as_it_is(label: str) -> None:
    layout = layout_of(label)
    chance = random.Random(label)
    lines = {red: (Telling(layout), Hearing(layout)) for red in (True, False)}
    state, sizes = begin(layout), []
    first = chance.randrange(2)
    for move in range(1200):
        agent = (first + move) % 4
        telling, hearing = lines[layout.red[agent]]
        seen = veil(state, agent)
        line = telling.move(agent, (1, -2, 3, 40), seen)
        kind, whom, distances, *view = json.loads(line)
        assert (kind, whom, distances) == ("move", agent, [1, -2, 3, 40])
        assert hearing.state(whom, *view) == seen
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        sizes.append(len(line))
        state = step(state, agent, chance.choice(legal_actions(state, agent)))
    assert sum(sizes) / len(sizes) < 120
    for red, (telling, hearing) in lines.items():
        agent = 0 if red else 1
        kind, whom, *view = json.loads(json.dumps(telling.final(agent, state)))
        assert kind == "final"
        assert hearing.state(whom, *view) == state
