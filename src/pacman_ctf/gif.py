"""A match as an animated GIF: every move a frame, and of each frame only the pixels that changed.

Pillow draws and compresses; which part of a frame is written is decided here, since two cells change per move and
the rest is better left transparent than written again.
"""

from __future__ import annotations

import struct
from typing import Final

from PIL import Image, ImageChops

from pacman_ctf.drawing import PALETTE, TRANSPARENT, WIDTH, Picture
from pacman_ctf.record import Record
from pacman_ctf.verify import replay

DELAY: Final = 2  # hundredths of a second per move, the least that browsers honour
HOLD: Final = 200  # the last frame
_BITS: Final = 4  # sixteen colours
_CHANGED: Final = bytes([0] + [255] * 255)


def animate(record: Record, *, width: int = WIDTH) -> bytes:
    """The match of a record as a GIF file that is at most `width` pixels wide. Raises `Forged`."""
    states = replay(record)
    picture = Picture(states[0].layout, record.red_name, record.blue_name, record.length, width)
    picture.show(states[0])
    frames = [_Frame(picture.image.tobytes("gif", "L", _BITS, 0), (0, 0, *picture.size))]
    before = picture.image.copy()
    for state in states[1:]:
        box = picture.show(state)
        block = None if box is None else _difference(before, picture.image, box)
        if block is None:
            frames[-1].delay += DELAY
            continue
        frames.append(block)
        before.paste(picture.image.crop(block.box), block.box)
    frames[-1].delay = max(frames[-1].delay, HOLD)
    return _file(picture.size, frames)


class _Frame:
    """Compressed pixels of a box, and how long they stay."""

    __slots__ = ("box", "data", "delay")

    def __init__(self, data: bytes, box: tuple[int, int, int, int]) -> None:
        self.data, self.box, self.delay = data, box, DELAY


def _difference(before: Image.Image, after: Image.Image, box: tuple[int, int, int, int]) -> _Frame | None:
    """What changed within the box, the rest of it transparent; None when it looks the same."""
    new = after.crop(box)
    mask = ImageChops.difference(before.crop(box), new).point(_CHANGED)
    tight = mask.getbbox()
    if tight is None:
        return None
    frame = Image.new("L", (tight[2] - tight[0], tight[3] - tight[1]), TRANSPARENT)
    frame.paste(new.crop(tight), mask=mask.crop(tight))
    left, top = box[:2]
    place = (left + tight[0], top + tight[1], left + tight[2], top + tight[3])
    return _Frame(frame.tobytes("gif", "L", _BITS, 0), place)


def _file(size: tuple[int, int], frames: list[_Frame]) -> bytes:
    """The file as GIF89a lays it out: screen, palette, endless loop, then control, place and data of each frame."""
    parts = [
        b"GIF89a",
        struct.pack("<HHBBB", *size, 0x80 | 0x70 | _BITS - 1, 0, 0),
        bytes(value for color in PALETTE for value in color),
        b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00",
    ]
    for frame in frames:
        left, top, right, bottom = frame.box
        keep_and_transparent = 1 << 2 | 1
        parts.append(struct.pack("<BBBBHBB", 0x21, 0xF9, 4, keep_and_transparent, frame.delay, TRANSPARENT, 0))
        parts.append(struct.pack("<BHHHHB", 0x2C, left, top, right - left, bottom - top, 0))
        parts += [bytes([_BITS]), frame.data, b"\0"]
    parts.append(b"\x3b")
    return b"".join(parts)
