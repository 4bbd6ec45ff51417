"""Puts the modules where agents import them from: `captureAgents`, `capture_agents`, `contest.capture_agents`, ..."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Final

from pacman_ctf.compat.spelling import camel

MODULES: Final = {
    "baseline_team": "baseline_team",
    "capture": "capture",
    "capture_agents": "capture_agents",
    "capture_graphics_display": "silent",
    "distance_calculator": "distance_calculator",
    "game": "game",
    "graphics_display": "silent",
    "graphics_utils": "silent",
    "keyboard_agents": "silent",
    "layout": "layout",
    "text_display": "silent",
    "util": "util",
}


def names() -> dict[str, str]:
    """Every module name that an agent may import, and our module behind it."""
    flat = {spelled: ours for name, ours in MODULES.items() for spelled in (name, camel(name))}
    return flat | {f"contest.{name}": ours for name, ours in flat.items()}


def install() -> None:
    """Make the names importable in this process, which belongs to one team."""
    # By name, so that whoever follows imports to ship this package finds them all.
    from pacman_ctf.compat import (
        baseline_team,
        capture,
        capture_agents,
        distance_calculator,
        game,
        layout,
        silent,
        util,
    )

    ours = (baseline_team, capture, capture_agents, distance_calculator, game, layout, silent, util)
    modules = {module.__name__.rpartition(".")[2]: module for module in ours}
    package = ModuleType("contest", "The game's modules under the name of a package.")
    package.__path__ = []
    sys.modules["contest"] = package
    for name, own in names().items():
        sys.modules[name] = modules[own]
        if name.startswith("contest."):
            setattr(package, name.removeprefix("contest."), modules[own])
