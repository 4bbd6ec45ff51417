"""The constants of the game.

All come from the rules of the capture-the-flag contests that students know (`docs/pacman.md`, "The rules"); a change
of one is another game, so `ENGINE` changes with it.
"""

from __future__ import annotations

from typing import Final

ENGINE: Final = "pacman-ctf 1"  # goes into every record; a record of another engine is not comparable

NORTH: Final = "North"
SOUTH: Final = "South"
EAST: Final = "East"
WEST: Final = "West"
STOP: Final = "Stop"
VECTORS: Final = {
    NORTH: (0, 1),
    SOUTH: (0, -1),
    EAST: (1, 0),
    WEST: (-1, 0),
    STOP: (0, 0),
}  # the order of legal actions
ACTIONS: Final = tuple(VECTORS)
LETTERS: Final = {NORTH: "N", SOUTH: "S", EAST: "E", WEST: "W", STOP: "."}  # one letter per move in a replay

SIGHT_RANGE: Final = 5  # cells, Manhattan, inclusive
SONAR_NOISE_RANGE: Final = 13  # uniform integers -6..+6 around the true distance
SCARED_TIME: Final = 40  # own moves of the scared agent
MIN_FOOD: Final = 2  # a side has won when all but this many of the other's dots are home
KILL_POINTS: Final = 0
COLLISION_TOLERANCE: Final = 0.7  # cells: in a game of whole cells, the same cell
TIME_LIMIT: Final = 1200  # moves of all agents together
