"""Whether a record is true: its moves are played again, in milliseconds, without any agent."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from typing import Any, Final

from pacman_ctf import engine, rules, seeds
from pacman_ctf.engine import State
from pacman_ctf.errors import Forged
from pacman_ctf.layout import Layout, LayoutError
from pacman_ctf.record import FAULTS, FORFEIT, Record, seal

_ACTIONS: Final = {letter: action for action, letter in rules.LETTERS.items()}


class Agreement(Enum):
    """How far two hosts' records of one match agree."""

    SAME = "same"  # move by move
    OUTCOME = "outcome"  # the same winner, by scores that are near each other
    NO = "no"


def replay(record: Record) -> list[State]:
    """All states of a match, the first and one per move. Raises `Forged` at a move that nobody can make."""
    try:
        layout = Layout(record.layout, record.layout_name)
    except LayoutError as error:
        raise Forged(f"nobody can play on the record's layout: {error}") from error
    state = engine.begin(layout, record.length)
    states = [state]
    for number, letter in enumerate(record.moves):
        agent = (record.first + number) % layout.agents
        if state.over or not state.left:
            raise Forged(f"move {number} comes after the end of the game")
        try:
            state = engine.step(state, agent, _ACTIONS[letter])
        except (engine.IllegalAction, KeyError) as error:
            raise Forged(f"move {number} is impossible: {error}") from error
        states.append(state)
    return states


def verify(record: Record) -> State:
    """Refuse a record whose claims do not follow from its moves. Returns the last state. Raises `Forged`."""
    if record.engine != rules.ENGINE:
        raise Forged(f"the record is of engine {record.engine[:40]!r}; this is {rules.ENGINE!r}")
    try:
        seed = bytes.fromhex(record.seed)
    except ValueError as error:
        raise Forged(f"the record's seed is no hexadecimal number: {record.seed[:40]!r}") from error
    if record.first != seeds.first_mover(seed):
        raise Forged(f"agent {record.first} moved first; by the seed it is the other")
    state = replay(record)[-1]
    ended = state.over or not state.left
    if record.code == "score":
        if record.blame:
            raise Forged(f"{record.blame} is blamed for a match that was played to its end")
        if not ended:
            raise Forged(f"the match ends after {len(record.moves)} moves, and nothing ended it")
        _claim("score", record.score, state.score)
    else:
        if record.blame not in FAULTS:
            raise Forged(f"the match ended by {record.code}, and nobody is blamed")
        _claim("score", record.score, FORFEIT[record.blame])
    score = record.score
    _claim("winner", record.winner, "red" if score > 0 else "blue" if score < 0 else "tie")
    values: dict[str, Any] = asdict(record)
    del values["chain"]
    _claim("chain", record.chain, seal(values).chain)
    return state


def _claim(what: str, claimed: object, true: object) -> None:
    if claimed != true:
        raise Forged(f"the record claims the {what} {str(claimed)[:80]}; by its moves it is {true}")


def compare(one: Record, other: Record, *, tolerance: int = 3) -> Agreement:
    """How far two hosts' true records of one match agree.

    A forfeit by time agrees only with a forfeit by time of the same team. Where teams read the clock, or the
    interpreters differ, the same winner counts, by scores at most `tolerance` dots apart.
    """
    if one.digest == other.digest:
        return Agreement.SAME
    alike = ("layout", "seed", "length", "red", "blue", "engine")
    if any(getattr(one, name) != getattr(other, name) for name in alike) or one.winner != other.winner:
        return Agreement.NO
    if "timeout" in (one.code, other.code):
        return Agreement.OUTCOME if (one.code, one.blame) == (other.code, other.blame) else Agreement.NO
    loose = one.clock or one.interpreter != other.interpreter
    if loose and (one.blame or other.blame or abs(one.score - other.score) <= tolerance):
        return Agreement.OUTCOME
    return Agreement.NO
