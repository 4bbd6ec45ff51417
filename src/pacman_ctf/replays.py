"""Replays: the few values that a match follows from, and the page that plays them."""

from __future__ import annotations

import html
import json
from importlib import resources
from typing import Any, Final

from pacman_ctf.engine import State
from pacman_ctf.record import Record

FORMAT: Final = "pacman-ctf-replay/1"
_PARTS: Final = ("layout", "length", "first", "moves", "code", "blame", "score", "winner")


def replay_of(record: Record) -> dict[str, Any]:
    """What a viewer needs of a record, about two kilobytes as JSON."""
    values = {"format": FORMAT, "red": record.red_name, "blue": record.blue_name}
    return values | {part: getattr(record, part) for part in _PARTS}


def viewer_script() -> str:
    """The viewer: one JavaScript file without dependencies, `pacmanCtf.mount(element, replay)`."""
    return (resources.files("pacman_ctf") / "viewer" / "viewer.js").read_text(encoding="utf-8")


def page(record: Record) -> str:
    """A page that plays the match, with all that it needs inside; names of teams are data in it, never markup."""
    replay = json.dumps(replay_of(record), separators=(",", ":")).replace("<", "\\u003c")
    script = viewer_script().replace("</", "<\\/")
    title = html.escape(f"{record.red_name} against {record.blue_name}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"></head>'
        '<body style="margin:0;background:#0d1020;padding:12px"><div id="match"></div>'
        f"<script>{script}</script>"
        f'<script>window.player=pacmanCtf.mount(document.getElementById("match"),{replay})</script></body></html>\n'
    )


def line(state: State) -> str:
    """A state in one line, the same in Python and in the viewer: what the shared test vectors compare."""
    size = range(state.layout.size)
    parts = [
        state.cells,
        map(int, state.pacman),
        state.scared,
        state.carried,
        state.returned,
        [state.score],
        [state.left],
        [int(state.over)],
        [cell for cell in size if state.food >> cell & 1],
        [cell for cell in size if state.capsules >> cell & 1],
    ]
    return ";".join(",".join(map(str, part)) for part in parts)
