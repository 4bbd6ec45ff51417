"""The viewer plays by the same rules as the engine, and does what its buttons say: in headless Chromium."""

from __future__ import annotations

import hashlib
import html
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.pacman.make_vectors import EVERY

from pacman_ctf.engine import IllegalAction
from pacman_ctf.errors import Forged
from pacman_ctf.record import Record, seal
from pacman_ctf.replays import line, page, replay_of, viewer_script
from pacman_ctf.verify import replay

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())


def record_of(game: dict[str, Any], **more: Any) -> Record:
    values = {
        "layout": game["layout"], "layout_name": "", "seed": "00" * 16, "length": game["length"],
        "first": game["first"], "red": "", "blue": "", "red_name": "red", "blue_name": "blue", "moves": game["moves"],
        "code": "score", "blame": "", "score": 0, "winner": "tie",
    }  # fmt: skip
    return seal(values | more)


@pytest.mark.parametrize("number", range(len(VECTORS["games"])))
def test_the_engine_follows_the_vectors(number: int) -> None:
    game = VECTORS["games"][number]
    lines = [line(state) for state in replay(record_of(game))]
    for at, expected in game["lines"].items():
        assert lines[int(at)] == expected
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == game["digest"]
    assert len(lines) == len(game["moves"]) + 1


@pytest.mark.parametrize("number", range(len(VECTORS["wrong"])))
def test_the_engine_refuses_wrong_moves(number: int) -> None:
    wrong = VECTORS["wrong"][number]
    with pytest.raises((Forged, IllegalAction), match=wrong["message"]):
        replay(record_of(wrong))


def browse(need: Callable[..., None], folder: Path, body: str, window: str = "900,800") -> Any:
    """Load a page in Chromium and return what it left, as JSON, in the element `result`."""
    need("chromium")
    path = folder / "page.html"
    path.write_text(body)
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder / 'profile'}",
        f"--window-size={window}", "--virtual-time-budget=20000", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'<pre id="result">(.*?)</pre>', dom, re.DOTALL)
    assert found, dom[-2000:]
    return json.loads(html.unescape(found[1]))


FOLLOW = """
<!doctype html><meta charset="utf-8"><pre id="result"></pre>
<script>%s</script>
<script>
const vectors = %s, found = [];
(async () => {
  for (const game of vectors.games) {
    const lines = pacmanCtf.play(game).states.map(pacmanCtf.line);
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(lines.join("\\n")));
    found.push([lines.length, [...new Uint8Array(digest)].map((b) => b.toString(16).padStart(2, "0")).join(""),
                Object.keys(game.lines).filter((at) => lines[at] !== game.lines[at])]);
  }
  for (const wrong of vectors.wrong) {
    try { pacmanCtf.play(wrong); found.push("nothing"); } catch (error) { found.push(error.message); }
  }
  document.getElementById("result").textContent = JSON.stringify(found);
})();
</script>
"""


def test_the_viewer_follows_the_vectors(need: Callable[..., None], tmp_path: Path) -> None:
    found = browse(need, tmp_path, FOLLOW % (viewer_script(), json.dumps(VECTORS)))
    games = VECTORS["games"]
    for game, (count, digest, differing) in zip(games, found, strict=False):
        assert differing == [], f"states differ, first between {int(differing[0]) - EVERY} and {differing[0]}"
        assert (count, digest) == (len(game["moves"]) + 1, game["digest"])
    assert len(found) == len(games) + len(VECTORS["wrong"])
    assert "nothing" not in found


# Chromium's virtual time, which makes the test quick, lets timers go on but paints no frames.
FRAMES = "<script>requestAnimationFrame = (draw) => setTimeout(() => draw(performance.now()), 16)</script>"
USE = """
<script>
const found = {}, player = window.player, box = document.querySelector(".pctf");
const button = (title) => [...box.querySelectorAll("button")].find((one) => one.title.startsWith(title));
const text = (part) => box.querySelector(part).textContent;
const press = (key, shiftKey = false) => box.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, bubbles: true }));
found.names = [...box.querySelectorAll("header b")].map((one) => one.textContent);
found.markup = box.querySelectorAll("header i, header script").length;
found.start = player.move;
button("one move on").click(); button("one move on").click(); button("one move back").click();
found.stepped = player.move;
press("ArrowRight", true); found.far = player.move;
press("End"); found.end = [player.move, text(".score"), text(".where")];
press("Home"); found.home = player.move;
location.hash = "#move=37";
window.addEventListener("hashchange", () => setTimeout(() => {
  found.linked = player.move;
  const track = box.querySelector(".track"), area = track.getBoundingClientRect();
  const at = { clientX: area.left + area.width / 2, clientY: area.top + 5, pointerId: 1, buttons: 1, bubbles: true };
  track.setPointerCapture = () => {};
  track.dispatchEvent(new PointerEvent("pointerdown", at));
  found.scrubbed = player.move;
  button("copy a link").click();
  found.hash = location.hash;
  found.cards = [...box.querySelectorAll(".card p")].map((one) => one.textContent);
  const canvas = box.querySelector("canvas"), pen = canvas.getContext("2d");
  const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data, colors = new Set();
  for (let i = 0; i < pixels.length; i += 4) colors.add((pixels[i] << 16) | (pixels[i + 1] << 8) | pixels[i + 2]);
  found.colors = [0xff5c5c, 0x5ca4ff, 0xf6e2b4, 0x7a2e3c, 0x2c4a80].filter((color) => colors.has(color)).length;
  const pace = box.querySelector("select");
  pace.value = "300"; pace.onchange();
  press(" "); found.playing = player.playing;
  const wait = () => {
    if (player.playing) return setTimeout(wait, 20);
    found.played = player.move;
    tell();
  };
  wait();
}, 0));
const result = document.createElement("pre");
result.id = "result";
document.body.append(result);
const tell = () => { result.textContent = JSON.stringify(found); };
tell();
addEventListener("error", (event) => { found.error = event.message; tell(); });
</script>
"""


def test_every_button_of_the_viewer_does_what_it_says(need: Callable[..., None], tmp_path: Path) -> None:
    game = VECTORS["games"][0]
    states = replay(record_of(game))
    name = "</script><i>red & co"
    record = record_of(game, red_name=name, score=states[-1].score)
    found = browse(need, tmp_path, page(record).replace("<script>", FRAMES + "<script>", 1) + USE)
    last = len(game["moves"])
    assert found["names"] == [name, "blue"]
    assert found["markup"] == 0
    assert (found["start"], found["stepped"], found["far"], found["home"]) == (0, 1, 21, 0)
    score = states[-1].score
    assert found["end"] == [last, f"{score:+d}".replace("-", "−") if score else "0", f"move {last} of {last}"]
    assert (found["linked"], found["scrubbed"], found["hash"]) == (37, last // 2, f"#move={last // 2}")
    carried, home = states[last // 2].carried[0], states[last // 2].returned[0]
    assert found["cards"][0].startswith(f"carries {carried} · home {home} · died ")
    assert found["colors"] == 5
    assert (found["playing"], found["played"]) == (True, last)


def test_a_replay_is_two_kilobytes() -> None:
    game = max(VECTORS["games"], key=lambda game: len(game["moves"]))
    record = record_of(game, moves=(game["moves"] * 3)[:1200])
    assert len(json.dumps(replay_of(record))) < 2200
