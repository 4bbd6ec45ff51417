"""A match as WebP, with Pillow alone, or as any video that `ffmpeg` makes, where that is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from PIL import Image

from pacman_ctf.drawing import PALETTE, WIDTH, Picture
from pacman_ctf.errors import PacmanError
from pacman_ctf.record import Record
from pacman_ctf.verify import replay

MOVES_PER_SECOND: Final = 50
_WEBP_EVERY: Final = 4  # moves per frame: its encoder takes milliseconds for each


def write_video(record: Record, path: Path, *, width: int = WIDTH) -> None:
    """Write the match in the format that the file's name asks for. Raises `PacmanError` without the tool for it."""
    if path.suffix == ".webp":
        first, *rest = _frames(record, width, _WEBP_EVERY)
        duration = 1000 * _WEBP_EVERY // MOVES_PER_SECOND
        first.save(path, save_all=True, append_images=rest, duration=duration, loop=0, lossless=True, quality=20)
        return
    program = shutil.which("ffmpeg")
    if program is None:
        raise PacmanError(f"{path.suffix or path} needs ffmpeg, which is not installed; .webp and .gif do without")
    frames = _frames(record, width, 1)
    first = next(frames)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{first.width}x{first.height}", "-r", str(MOVES_PER_SECOND)]
    even = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p"]  # what players want
    command = [program, "-loglevel", "error", "-y", *raw, "-i", "-", *even, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            process.stdin.write(first.tobytes())
            for frame in frames:
                process.stdin.write(frame.tobytes())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it says why
        said = process.stderr.read().decode("utf-8", "replace").strip()
    if process.returncode:
        raise PacmanError(f"ffmpeg could not write {path}: {said}")


def _frames(record: Record, width: int, every: int) -> Iterator[Image.Image]:
    colors = [value for color in PALETTE for value in color]
    states = replay(record)
    picture = Picture(states[0].layout, record.red_name, record.blue_name, record.length, width)
    for number, state in enumerate(states):
        picture.show(state)
        if number % every == 0 or number == len(states) - 1:
            frame = picture.image.copy()
            frame.putpalette(colors)
            yield frame.convert("RGB")
