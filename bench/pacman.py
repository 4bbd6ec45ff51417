"""The Pacman engine, its teams' processes and its pictures, in CPU seconds; beside pelita where that can be installed.

The figures of issue 7 are the aims; what the engines in use reach was measured once and is quoted.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pacman_ctf import engine, rules
from pacman_ctf.check import shipped_team
from pacman_ctf.compat import modules
from pacman_ctf.distances import Distances
from pacman_ctf.engine import State
from pacman_ctf.gif import animate
from pacman_ctf.inside import play_here
from pacman_ctf.layout import Layout
from pacman_ctf.limits import calibrate
from pacman_ctf.maze import layout_of
from pacman_ctf.nursery import Nursery
from pacman_ctf.record import Record
from pacman_ctf.referee import Pairing, play
from pacman_ctf.submission import Submission
from pacman_ctf.verify import verify

SEED = b"bench bench bench"[:16]
TRIVIAL = b"""
from contest.capture_agents import CaptureAgent
import random

def create_team(first, second, is_red):
    return [Agent(first), Agent(second)]

class Agent(CaptureAgent):
    def register_initial_state(self, game_state):
        self.red = game_state.is_on_red_team(self.index)

    def choose_action(self, game_state):
        return random.choice(game_state.get_legal_actions(self.index))
"""
PELITA = """
TEAM_NAME = "random"

def move(bot, state):
    return bot.random.choice(bot.legal_positions)
"""


def cpu(action: Callable[[], object]) -> float:
    """CPU seconds of a call in this process."""
    begin = time.process_time()
    action()
    return time.process_time() - begin


def _children() -> float:
    """CPU seconds of processes that have ended and were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def told(what: str, value: float, unit: str, aim: float, *, less: bool = False) -> None:
    """One line: what was measured, the aim, and whether it is met."""
    met = value <= aim if less else value >= aim
    print(f"{what:52} {value:12,.1f} {unit:11} aim {'<' if less else '>'} {aim:,.0f}{'' if met else '   NOT MET'}")


def game(agents: list, layout: Layout) -> int:  # type: ignore[type-arg]
    """A game in this process, as the engines in use play it. Returns the number of moves."""
    return rules.TIME_LIMIT - play_here(agents, layout, SEED).left


def in_one_process() -> float:
    """Games without isolation, and successors through the agents' interface."""
    from pacman_ctf.compat import baseline_team
    from pacman_ctf.compat.capture import GameState

    space: dict[str, Callable] = {}  # type: ignore[type-arg]
    exec(TRIVIAL, space)
    layout = layout_of("harbour")
    moves: list[int] = []
    spent = cpu(lambda: moves.extend(game([space["Agent"](i) for i in range(4)], layout) for _ in range(10)))
    trivial = sum(moves) / spent
    told("trivial agents in one process (in use: 1,170)", trivial, "moves/s", 20_000)

    def baselines() -> list:  # type: ignore[type-arg]
        red, blue = baseline_team.create_team(0, 2, True), baseline_team.create_team(1, 3, False)
        return [red[0], blue[0], red[1], blue[1]]

    moves.clear()
    spent = cpu(lambda: moves.extend(game(baselines(), layout) for _ in range(4)))
    told("our medium team against itself (in use: 711)", sum(moves) / spent, "moves/s", 5_000)

    chance, states = random.Random(1), []
    state = engine.begin(layout)
    for move in range(20_000):
        action = chance.choice(engine.legal_actions(state, move % 4))
        states.append((GameState.of(state), move % 4, action))
        state = engine.step(state, move % 4, action)
        state = engine.begin(layout) if state.over else state

    def successors() -> None:
        for one, index, action in states:
            one.generate_successor(index, action)

    spent = cpu(successors)
    told("generate_successor (in use: 38,838)", len(states) / spent, "per s", 200_000)
    for one, index, _ in states:
        one.get_agent_state(index)
    spent = cpu(successors)
    told("  the same on states that were looked into", len(states) / spent, "per s", 200_000)

    times = [cpu(lambda: Distances(layout).complete()) for _ in range(5)]
    told("distance tables of a 32x16 maze (in use: 150)", 1000 * min(times), "ms", 15, less=True)
    return trivial


def matches_in_the_sandbox(team: Submission, layout: Layout) -> tuple[float, float, float]:
    """Six matches of one nursery: moves per CPU second of all processes, the referee's part, seconds to a first move.

    Counted are referee, nursery and agents; the wardens, which do nothing but wait, are not.
    """
    agents, moves = 0.0, 0
    starts: list[float] = []
    begin, children = time.process_time(), _children()
    with Nursery() as nursery:
        for _ in range(6):
            before = time.perf_counter()

            def watch(move: int, state: State, before: float = before) -> None:
                if not move:
                    starts.append(time.perf_counter() - before)

            record = play(team, team, Pairing(layout, SEED), nursery=nursery, watch=watch).record
            agents += sum(record.start_cpu) + sum(record.cpu)
            moves += len(record.moves)
    referee = time.process_time() - begin
    return moves / (referee + agents + _children() - children), referee / moves, sorted(starts)[3]


def isolated() -> float:
    """Matches between processes, the best of three rounds, since neighbours on a busy machine cost CPU time too."""
    team, layout = Submission.of("random", {"myTeam.py": TRIVIAL}), layout_of("harbour")
    rate, referee, start = max(matches_in_the_sandbox(team, layout) for _ in range(3))
    told("isolated teams, per CPU second of all processes", rate, "moves/s", 8_000)
    told("  of these the referee", 1e6 * referee, "us/move", 60, less=True)
    begin, children, before = time.process_time(), _children(), time.perf_counter()
    record = play(team, team, Pairing(layout, SEED, length=1)).record
    alone = time.process_time() - begin + _children() - children + sum(record.start_cpu)
    told("start, one move and end of a match, alone", 1000 * alone, "ms", 150, less=True)
    print(f"  {1000 * (time.perf_counter() - before):.0f} ms by the clock on the wall; sandbox: {record.isolation[0]}")
    told("  from order to first move within a job (wall)", 1000 * start, "ms", 150, less=True)
    return rate


def pictures() -> None:
    """The GIF and the check of a record, on a match of 1200 moves in which everybody moves."""
    team = Submission.of("random", {"myTeam.py": TRIVIAL.replace(b"(self.index))", b"(self.index)[:-1])")})
    records: list[Record] = []
    with Nursery() as nursery:
        records += [play(team, team, Pairing(layout_of("harbour"), SEED), nursery=nursery).record]
        strong = shipped_team("strong")
        records += [play(strong, shipped_team("medium"), Pairing(layout_of("maze1:3"), SEED), nursery=nursery).record]
    for name, record in zip(("random", "strong against medium"), records, strict=True):
        gif: list[bytes] = []
        spent = cpu(lambda record=record, gif=gif: gif.append(animate(record)))
        told(f"GIF of {len(record.moves)} moves, {name}", 1000 * spent, "ms", 1000, less=True)
        told("  its size", len(gif[0]) / 1000, "kB", 200, less=True)
        told("  verify its record", 1000 * cpu(lambda record=record: verify(record)), "ms", 10, less=True)


def pelita(isolated_rate: float) -> None:
    """The same number of moves of random players in pelita: two subprocesses, one referee, no sandbox."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, "pelita>=2.7"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"pelita: not installed, so nothing is measured beside it ({done.stderr.strip().splitlines()[-1]})")
            return
        (Path(folder) / "player.py").write_text(PELITA)
        environment = os.environ | {"PYTHONPATH": folder, "PATH": f"{folder}/bin:{os.environ['PATH']}"}
        before = _children()
        main = "import sys; from pelita.scripts.pelita_main import main; sys.exit(main())"
        arguments = ["--null", "--rounds", "300", "--seed", "1", "player.py", "player.py"]
        command = [sys.executable, "-c", main, *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        spent = _children() - before
    if done.returncode:
        print(f"pelita: did not play ({done.stderr.strip().splitlines()[-1:]})")
        return
    rate = 1200 / spent
    print(f"{'pelita, 1200 moves of random players with start':52} {rate:12,.1f} moves/s")
    print(f"  isolated teams here, in the sandbox: {isolated_rate / rate:.0f} x pelita")


def main() -> None:
    """Print each figure with its aim, and the ratio to pelita."""
    modules.install()
    print(f"this machine takes {calibrate():.2f} times the processor time of the one where the aims were set")
    in_one_process()
    rate = isolated()
    pictures()
    pelita(rate)


if __name__ == "__main__":
    main()
