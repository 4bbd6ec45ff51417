"""The modules of windows and keyboards: there for the import, and silent."""

from __future__ import annotations

from typing import Any

from pacman_ctf.compat.game import Agent
from pacman_ctf.compat.spelling import spell_module


class _Silent:
    """Takes any call and does nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return nothing


def nothing(*arguments: Any, **options: Any) -> None:
    """What is drawn here is not seen."""


class PacmanGraphics(_Silent):
    """A window that is not there."""


class NullGraphics(_Silent):
    """A window that is not there."""


class FirstPersonPacmanGraphics(_Silent):
    """A window that is not there."""


class KeyboardAgent(Agent):
    """An agent that waits for keys; there are none in a match."""

    def get_action(self, state: Any) -> str:
        """Stand still."""
        return "Stop"


class KeyboardAgent2(KeyboardAgent):
    """The same for the second player."""


def format_color(red: float, green: float, blue: float) -> str:
    """A colour as text."""
    return f"#{int(red * 255):02x}{int(green * 255):02x}{int(blue * 255):02x}"


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return nothing


spell_module(globals())
