"""The referee: one match between two teams, each in a process of its own, and the record of it."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from pacman_ctf import engine, rules, seeds
from pacman_ctf.channel import plain
from pacman_ctf.engine import State
from pacman_ctf.layout import Layout
from pacman_ctf.limits import Limits
from pacman_ctf.nursery import Nursery
from pacman_ctf.record import FORFEIT, NOBODY, Record, seal
from pacman_ctf.submission import Submission
from pacman_ctf.team import Gone, Team
from pacman_ctf.wire import ANSWERS, Telling

_ACTIONS: Final = {answer: action for action, answer in ANSWERS.items()}


@dataclass(frozen=True, slots=True)
class Pairing:
    """What is to be played: the layout, the seed and the limits; `name`d teams bring their files."""

    layout: Layout
    seed: bytes
    length: int = rules.TIME_LIMIT
    limits: Limits = field(default_factory=Limits)
    factor: float = 1.0  # of this machine, by `limits.calibrate`
    require: tuple[str, ...] = ()  # the layers of the sandbox without which not to play, of `pyboinc.sandbox.LAYERS`


@dataclass(frozen=True, slots=True)
class Match:
    """A record for everybody, and for each team what it printed and how it failed."""

    record: Record
    red_log: str
    blue_log: str


class Fault(Exception):
    """A team did something that ends the match."""

    def __init__(self, code: str, side: str, what: str, detail: str = "") -> None:
        super().__init__(what)
        self.code, self.side, self.what, self.detail = code, side, plain(what), plain(detail)


def play(
    red: Submission,
    blue: Submission,
    pairing: Pairing,
    *,
    nursery: Nursery | None = None,
    watch: Callable[[int, State], None] | None = None,
) -> Match:
    """Play one match to whatever end it takes. Raises only when this machine cannot judge (`HostError`)."""
    limits = pairing.limits.scaled(pairing.factor)
    with contextlib.ExitStack() as stack:
        ours = nursery or stack.enter_context(Nursery())
        teams = {
            side: stack.enter_context(Team(ours, submission, limits, require=pairing.require))
            for side, submission in (("red", red), ("blue", blue))
        }
        game = Game(teams, pairing, limits, watch)
        faults = game.run()
        record = game.record(red, blue, faults)
    logs = {side: _private(team, [fault for fault in faults if fault.side == side]) for side, team in teams.items()}
    return Match(record, logs["red"], logs["blue"])


def _private(team: Team, faults: list[Fault]) -> str:
    """What only the team may read: its output, then what went wrong."""
    parts = [team.log]
    parts += [f"--- {fault.code}: {fault.what}\n{fault.detail}" for fault in faults]
    return "\n".join(part.rstrip() for part in parts if part.strip())


class Game:
    """One match under way."""

    def __init__(
        self, teams: dict[str, Team], pairing: Pairing, limits: Limits, watch: Callable[[int, State], None] | None
    ) -> None:
        self.teams, self.pairing, self.limits, self.watch = teams, pairing, limits, watch
        self.layout = pairing.layout
        self.state = engine.begin(self.layout, pairing.length)
        self.sides = ["red" if red else "blue" for red in self.layout.red]
        self.by_agent = [teams[side] for side in self.sides]
        self.cpu = [0.0] * self.layout.agents
        self.start_cpu = {"red": 0.0, "blue": 0.0}
        self.prepared = [0.0] * self.layout.agents  # seconds of that before the first move
        self.slowest = [0.0] * self.layout.agents  # seconds of its slowest move
        self.warnings = [0] * self.layout.agents
        self.moves: list[str] = []
        self.first = seeds.first_mover(pairing.seed)
        self.telling = {side: Telling(self.layout) for side in teams}
        self._meanwhile = {"red": partial(self._look, "blue"), "blue": partial(self._look, "red")}

    def run(self) -> list[Fault]:
        """Play; the faults that ended the match, of which only a start can have two."""
        faults = self._prepare()
        if not faults:
            try:
                self._play()
            except Fault as fault:
                faults = [fault]
        return faults or self._finish()

    def _prepare(self) -> list[Fault]:
        """Both teams load and prepare at the same time; each answers for itself."""
        for team in self.teams.values():
            team.greet()
        faults = self._both(self._load)
        for number in range(self.layout.agents // 2):
            if faults:
                break
            faults = self._both(partial(self._register, number))
        return faults

    def _both(self, begin: Callable[[str], Callable[[], None]]) -> list[Fault]:
        faults: list[Fault] = []
        ends = {}
        for side in self.teams:
            try:
                ends[side] = begin(side)
            except Fault as fault:
                faults.append(fault)
        for side, end in ends.items():
            while not any(fault.side == side for fault in faults):
                try:
                    end()
                    break
                except Fault as fault:  # it may be the other's, who is looked at meanwhile
                    faults.append(fault)
        return faults

    def _load(self, side: str) -> Callable[[], None]:
        team = self.teams[side]
        red = side == "red"
        try:
            main = team.submission.main
        except Exception as error:
            raise Fault("load", side, str(error)) from error
        team.send("load", {
            "layout": self.layout.text,
            "name": self.layout.name,
            "length": self.pairing.length,
            "agents": [agent for agent, one in enumerate(self.sides) if one == side],
            "red": red,
            "seed": seeds.team_seed(self.pairing.seed, red),
            "main": main,
            "numpy": team.submission.uses_numpy,
        })  # fmt: skip

        def end() -> None:
            _, seconds = self._ask(side, self.limits.start, "load")
            self.start_cpu[side] += seconds

        return end

    def _register(self, number: int, side: str) -> Callable[[], None]:
        agent = [agent for agent, one in enumerate(self.sides) if one == side][number]
        self.teams[side].send("register", agent)

        def end() -> None:
            _, seconds = self._ask(side, self.limits.start, "crash")
            self.start_cpu[side] += seconds
            self.prepared[agent] = seconds
            self._charge(side, agent, seconds)

        return end

    def _ask(self, side: str, limit: float, stage: str) -> tuple[bytes, float]:
        """A team's answer. Raises its fault, which is a failed load when that is where it happened."""
        try:
            line, seconds = self.teams[side].answer(limit, self._meanwhile[side])
        except Gone as gone:
            raise Fault(stage if gone.code == "crash" else gone.code, side, gone.what) from None
        if line[:1] == b"{":
            raise _reported(side, line, stage)
        return line, seconds

    def _look(self, side: str) -> None:
        """What the team holds whose turn it is not. Raises its fault."""
        try:
            self.teams[side].look()
        except Gone as gone:
            raise Fault(gone.code, side, gone.what) from None

    def _charge(self, side: str, agent: int, seconds: float) -> None:
        self.cpu[agent] += seconds
        if self.cpu[agent] > self.limits.total:
            raise Fault("timeout", side, f"agent {agent} used {self.cpu[agent]:.0f} s in all, "
                                         f"{self.limits.total:.0f} s are allowed")  # fmt: skip

    def _play(self) -> None:
        noise = seeds.keyed_noise(self.pairing.seed, self.layout.agents)
        letters, limits = rules.LETTERS, self.limits
        for move in range(self.pairing.length):
            agent = (self.first + move) % self.layout.agents
            side = self.sides[agent]
            distances = engine.sonar(self.state, agent, noise(move, agent))
            self.by_agent[agent].send_line(self.telling[side].move(agent, distances, engine.veil(self.state, agent)))
            line, seconds = self._ask(side, limits.move, "crash")
            action = _ACTIONS.get(line) or _spoken(side, agent, line)
            try:
                self.state = engine.step(self.state, agent, action)
            except engine.IllegalAction as error:
                raise Fault("illegal", side, str(error)) from None
            self.moves.append(letters[action])
            self.cpu[agent] += seconds
            self.slowest[agent] = max(self.slowest[agent], seconds)
            if seconds > limits.warning or self.cpu[agent] > limits.total:
                self._warn(side, agent, seconds)
            if self.watch is not None:
                self.watch(move, self.state)
            if self.state.over:
                break

    def _warn(self, side: str, agent: int, seconds: float) -> None:
        self._charge(side, agent, 0.0)
        self.warnings[agent] += 1
        if self.warnings[agent] >= self.limits.warnings:
            raise Fault("timeout", side, f"agent {agent} took over {self.limits.warning:.1f} s of processor time "
                                         f"for {self.warnings[agent]} moves, the last {seconds:.1f} s")  # fmt: skip

    def _finish(self) -> list[Fault]:
        """Tell the agents that it is over; one that fails even now loses, as in the engines that they know."""
        faults: list[Fault] = []
        for agent, side in enumerate(self.sides):
            if any(fault.side == side for fault in faults):
                continue
            self.teams[side].send(*self.telling[side].final(agent, self.state))
            try:
                self._ask(side, self.limits.start, "crash")
            except Fault as fault:
                faults.append(fault)
        return faults

    def record(self, red: Submission, blue: Submission, faults: list[Fault]) -> Record:
        """What is told to everybody."""
        blame = "both" if len({fault.side for fault in faults}) == 2 else faults[0].side if faults else NOBODY
        score = FORFEIT[blame] if faults else self.state.score
        return seal({
            "layout": self.layout.text,
            "layout_name": self.layout.name,
            "seed": self.pairing.seed.hex(),
            "length": self.pairing.length,
            "first": self.first,
            "red": red.digest,
            "blue": blue.digest,
            "red_name": red.name,
            "blue_name": blue.name,
            "moves": "".join(self.moves),
            "code": faults[0].code if faults else "score",
            "blame": blame,
            "score": score,
            "winner": "red" if score > 0 else "blue" if score < 0 else "tie",
            "reason": "; ".join(f"{fault.side}: {fault.what}" for fault in faults)[:500],
            "cpu": tuple(round(seconds, 4) for seconds in self.cpu),
            "start_cpu": tuple(round(self.start_cpu[side], 4) for side in ("red", "blue")),
            "warnings": tuple(self.warnings),
            "factor": self.pairing.factor,
            "isolation": tuple(team.hello["layers"] for team in self.teams.values()),
            "interpreter": f"{platform.python_implementation()} {platform.python_version()}",
            "clock": red.uses_clock or blue.uses_clock,
        })  # fmt: skip


def _reported(side: str, line: bytes, stage: str) -> Fault:
    """The fault that a team's process tells of; the team may have forged it, and harms only itself."""
    try:
        report = json.loads(line)
        code, what, detail = report["failed"], report["what"], report["detail"]
        if code in ("crash", "illegal", "load") and isinstance(what, str) and isinstance(detail, str):
            return Fault(stage if code == "crash" else code, side, what[:500], detail[:20_000])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return Fault("illegal", side, f"answered with {line[:100]!r}")


def _spoken(side: str, agent: int, line: bytes) -> str:
    """An answer that is none of the usual lines: an action in other letters, or nonsense."""
    try:
        action = json.loads(line)
    except (ValueError, RecursionError):
        action = None
    if isinstance(action, str):
        return action
    raise Fault("illegal", side, f"agent {agent} answered with {line[:100]!r}")
