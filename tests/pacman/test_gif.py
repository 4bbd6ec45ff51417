"""The GIF is the match: every move, pixel for pixel, small and quick."""

from __future__ import annotations

import io
import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("PIL", reason="Pillow is not installed")

from PIL import Image, ImageSequence
from tests.pacman.test_viewer import record_of

from pacman_ctf import rules
from pacman_ctf.drawing import PALETTE, Picture
from pacman_ctf.engine import begin, legal_actions, step
from pacman_ctf.errors import PacmanError
from pacman_ctf.gif import DELAY, HOLD, animate
from pacman_ctf.layout import named
from pacman_ctf.verify import replay
from pacman_ctf.video import write_video

GAMES = json.loads(Path(__file__).with_name("vectors.json").read_text())["games"]


def drawn(game: dict[str, object]) -> Iterator[bytes]:
    """Each state's picture, drawn by itself."""
    record = record_of(game)
    states = replay(record)
    for state in states:
        picture = Picture(state.layout, record.red_name, record.blue_name, record.length)
        picture.show(state)
        frame = picture.image.copy()
        frame.putpalette([value for color in PALETTE for value in color])
        yield frame.convert("RGB").tobytes()


def seen(gif: bytes) -> Iterator[tuple[bytes, int]]:
    """Each frame as Pillow reads it back, and its delay in hundredths of a second."""
    for frame in ImageSequence.Iterator(Image.open(io.BytesIO(gif))):
        yield frame.convert("RGB").tobytes(), frame.info["duration"] // 10


@pytest.mark.parametrize("number", [8, 2])
def test_every_frame_is_pixel_for_pixel_the_state(number: int) -> None:
    game = {**GAMES[number], "moves": GAMES[number]["moves"][:160]}
    expected = list(drawn(game))
    shown: list[bytes] = []
    for pixels, delay in seen(animate(record_of(game))):
        shown += [pixels] * (delay // DELAY)
    for at, (one, other) in enumerate(zip(shown, expected, strict=False)):
        assert one == other, f"state {at}"
    assert len(shown) >= len(expected)  # the last one is held
    assert set(shown[len(expected) :]) <= {expected[-1]}


def busy(length: int) -> dict[str, object]:
    """A match in which every agent moves at every move, which is the most that can change."""
    chance, state, moves = random.Random(1), begin(named("harbour"), length), ""
    for move in range(length):
        action = chance.choice([action for action in legal_actions(state, move % 4) if action != "Stop"])
        state = step(state, move % 4, action)
        moves += rules.LETTERS[action]
    return {"layout": state.layout.text, "length": length, "first": 0, "moves": moves}


def test_a_match_of_1200_moves_is_small_and_quick() -> None:
    record = record_of(busy(1200))
    begin = time.process_time()
    gif = animate(record)
    spent = time.process_time() - begin
    image = Image.open(io.BytesIO(gif))
    assert len(gif) <= 200_000
    assert image.size[0] == 512
    assert image.n_frames > 1100
    assert spent < 5  # a second is the aim, and bench/pacman.py measures it


@pytest.mark.soak
def test_a_match_of_1200_moves_is_pixel_for_pixel_its_states() -> None:
    game = busy(1200)
    shown = [pixels for pixels, delay in seen(animate(record_of(game))) for _ in range(delay // DELAY)]
    assert len(shown) >= 1201
    assert all(one == other for one, other in zip(shown, drawn(game), strict=False))


def test_what_stands_still_adds_no_frames() -> None:
    game = {**GAMES[0], "moves": "." * 100, "length": 10_000}
    image = Image.open(io.BytesIO(animate(record_of(game))))
    assert image.n_frames <= 5
    total = sum(frame.info["duration"] for frame in ImageSequence.Iterator(image))
    assert 10 * HOLD < total <= 10 * (101 * DELAY + HOLD)


def test_webp_needs_pillow_alone(tmp_path: Path) -> None:
    write_video(record_of({**GAMES[1], "moves": GAMES[1]["moves"][:40]}), tmp_path / "match.webp")
    with Image.open(tmp_path / "match.webp") as image:
        assert image.n_frames >= 8


def test_a_video_needs_ffmpeg_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = record_of({**GAMES[1], "moves": GAMES[1]["moves"][:40]})
    if shutil.which("ffmpeg"):
        write_video(record, tmp_path / "match.mp4")
        assert (tmp_path / "match.mp4").read_bytes()[4:8] == b"ftyp"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PacmanError, match="needs ffmpeg"):
        write_video(record, tmp_path / "match.mp4")
    fake = tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\necho no such codec >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(PacmanError, match="no such codec"):
        write_video(record, tmp_path / "match.mp4")


@pytest.mark.parametrize("name", ["", "a" * 300, "\u00fcn\u00ef\u010d\u00f8d\u00e9 \U0001f47b", "<b>&amp;"])
def test_any_name_of_a_team_fits(name: str) -> None:
    game = {**GAMES[0], "moves": "...."}
    assert animate(record_of(game, red_name=name, blue_name=name)).startswith(b"GIF89a")


def test_one_move_and_no_move() -> None:
    for moves in ("", "."):
        assert Image.open(io.BytesIO(animate(record_of({**GAMES[0], "moves": moves})))).n_frames >= 1
