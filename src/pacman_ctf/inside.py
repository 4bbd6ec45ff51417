"""A game inside this process: for training and comparison, without isolation, limits or a record.

What a tournament plays is `referee.play`. Here agents share the process, and the observation noise may also be drawn as
the engines in use draw it, from the one global generator that agents use too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from pacman_ctf import engine, rules, seeds
from pacman_ctf.compat.capture import GameState
from pacman_ctf.engine import State
from pacman_ctf.layout import Layout


def play_here(
    agents: Sequence[Any], layout: Layout, seed: bytes, *, length: int = rules.TIME_LIMIT, reference: bool = False
) -> State:
    """Play objects that have `register_initial_state` and `get_action`, by index. Returns the last state.

    With `reference` the seed starts the global `random`, who begins is its first draw, and each observation draws from
    it: equal seeds then compare with the engines in use as far as agents draw alike.
    """
    if reference:
        random.seed(int.from_bytes(seed, "big"))
        first = random.randint(0, 1)
        shared = random._inst
        noise = seeds.reference_noise(shared, layout.agents)
    else:
        first, noise = seeds.first_mover(seed), seeds.keyed_noise(seed, layout.agents)
    state = engine.begin(layout, length)
    for agent in agents:
        agent.register_initial_state(GameState.of(state))
    for move in range(length):
        index = (first + move) % layout.agents
        seen = GameState.of(engine.veil(state, index), engine.sonar(state, index, noise(move, index)))
        agent = agents[index]
        state = engine.step(state, index, agent.get_action(agent.observation_function(seen)))
        if state.over:
            break
    return state
