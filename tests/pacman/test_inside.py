"""Games in one process: the same as between processes, and with the noise of the engines in use."""

from __future__ import annotations

import random

import pytest
from tests.pacman.teams import agent

from pacman_ctf.compat.capture import GameState
from pacman_ctf.compat.capture_agents import CaptureAgent
from pacman_ctf.inside import play_here
from pacman_ctf.layout import named
from pacman_ctf.referee import Pairing, play

SEED = b"fedcba9876543210"


class Forward(CaptureAgent):
    """Goes where it can by what it hears, so that noise decides its way."""

    def choose_action(self, game_state: GameState) -> str:
        legal = game_state.get_legal_actions(self.index)
        return legal[sum(game_state.get_agent_distances()) % len(legal)]


FORWARD = """
def chooseAction(self, s):
    legal = s.getLegalActions(self.index)
    return legal[sum(s.getAgentDistances()) % len(legal)]
"""


def test_a_game_here_is_the_match_between_processes() -> None:
    here = play_here([Forward(index) for index in range(4)], named("harbour"), SEED, length=200)
    apart = play(agent(FORWARD), agent(FORWARD), Pairing(named("harbour"), SEED, length=200))
    from pacman_ctf.verify import verify

    assert apart.record.code == "score", apart.red_log
    assert verify(apart.record)._replace(last=None) == here._replace(last=None)


@pytest.mark.parametrize("reference", [False, True])
def test_a_game_here_repeats_by_its_seed(reference: bool) -> None:
    def game(seed: bytes) -> object:
        return play_here([Forward(i) for i in range(4)], named("pond"), seed, length=100, reference=reference)

    assert game(SEED) == game(SEED)
    assert game(SEED) != game(SEED[::-1])


def test_reference_noise_is_drawn_from_the_agents_own_generator() -> None:
    """So one more draw by an agent changes what everybody hears, which is why no tournament plays so."""

    class Greedy(Forward):
        def choose_action(self, game_state: GameState) -> str:
            random.random()
            return super().choose_action(game_state)

    def game(cls: type[CaptureAgent], reference: bool) -> object:
        return play_here([cls(index) for index in range(4)], named("harbour"), SEED, length=80, reference=reference)

    assert game(Forward, True) != game(Greedy, True)
    assert game(Forward, False) == game(Greedy, False)
