"""What goes over the pipe between referee and team: one line of JSON each way, and of a state only what is new.

referee  Telling(layout).move(agent, distances, state)
         ["move", 0, [0, 9, 2, 11], [33, -1, 34, -1], "E..W", 1186, null]
team     Hearing(layout).state(agent, cells, faces, left, news)
"""

from __future__ import annotations

import json
from typing import Any, Final

from pacman_ctf import rules
from pacman_ctf.engine import State, begin
from pacman_ctf.layout import Layout

ANSWERS: Final = {action: b'"%s"\n' % action.encode() for action in rules.ACTIONS}
_FACINGS: Final = {letter: action for action, letter in rules.LETTERS.items()}

News = dict[str, Any]


class Telling:
    """The referee's side: remembers what a team has been told."""

    def __init__(self, layout: Layout) -> None:
        self._status: tuple[Any, ...] = _status(begin(layout))
        self._food, self._capsules = layout.food, layout.capsules
        self._faces: dict[tuple[str, ...], str] = {}

    def move(self, agent: int, distances: tuple[int, ...], seen: State) -> bytes:
        """The line that asks an agent for a move. What lists of numbers print is JSON."""
        facing = seen.facing
        faces = self._faces.get(facing)
        if faces is None:
            faces = self._faces[facing] = "".join([rules.LETTERS[action] for action in facing])
        news = self._news(agent, seen)
        rest = json.dumps(news, separators=(",", ":")) if news else "null"
        return f'["move",{agent},{[*distances]},{[*seen.cells]},"{faces}",{seen.left},{rest}]\n'.encode()

    def final(self, agent: int, state: State) -> list[Any]:
        """The message of the end, which shows all."""
        faces = "".join([rules.LETTERS[action] for action in state.facing])
        return ["final", agent, state.cells, faces, state.left, self._news(agent, state)]

    def _news(self, agent: int, seen: State) -> News:
        layout, food, capsules, _, _, pacman, scared, carried, returned, score, _, over, last = seen
        news: News = {}
        status = (pacman, scared, carried, returned, score, over)
        if status != self._status:
            news["status"] = self._status = status
        if food != self._food:
            self._food = food
            news["food"] = f"{food:x}"
        if capsules != self._capsules:
            self._capsules = capsules
            news["capsules"] = f"{capsules:x}"
        if last != layout.quiet[agent - 1]:
            news["last"] = last
        return news


class Hearing:
    """The team's side: makes states of what it is told."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._status = _status(begin(layout))
        self._food, self._capsules = layout.food, layout.capsules
        self._facing: dict[str, tuple[str, ...]] = {}

    def state(self, agent: int, cells: list[int], faces: str, left: int, news: News | None) -> State:
        """The state that a message shows."""
        facing = self._facing.get(faces)
        if facing is None:
            facing = self._facing[faces] = tuple([_FACINGS[letter] for letter in faces])
        last: tuple[int, int, int, int] | None = self._layout.quiet[agent - 1]
        if news:
            last = self._hear(news, last)
        pacman, scared, carried, returned, score, over = self._status
        return State(
            self._layout, self._food, self._capsules, tuple(cells), facing,
            pacman, scared, carried, returned, score, left, over, last,
        )  # fmt: skip

    def _hear(self, news: News, last: tuple[int, int, int, int] | None) -> tuple[int, int, int, int] | None:
        if "status" in news:
            *lists, score, over = news["status"]
            self._status = (*map(tuple, lists), score, over)
        if "food" in news:
            self._food = int(news["food"], 16)
        if "capsules" in news:
            self._capsules = int(news["capsules"], 16)
        return (tuple(news["last"]) if news["last"] else None) if "last" in news else last


def _status(state: State) -> tuple[Any, ...]:
    """What changes rarely."""
    return state.pacman, state.scared, state.carried, state.returned, state.score, state.over
