"""Our own art: a maze, ghosts and pacmen in sixteen colours, redrawn cell by cell as a match goes on."""

from __future__ import annotations

from functools import cache
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from pacman_ctf import rules
from pacman_ctf.engine import State
from pacman_ctf.layout import Layout

# Indices into PALETTE. Images here are of mode "L" whose values are these indices, which Pillow handles quickest.
(
    NIGHT,
    RED_WALL,
    BLUE_WALL,
    FOOD,
    CAPSULE,
    RED,
    BLUE,
    SCARED,
    WHITE,
    PUPIL,
    BAR,
    DIM,
    RED_GLOW,
    BLUE_GLOW,
    GREY,
    CLEAR,
) = range(16)
PALETTE: Final = (
    (13, 16, 32), (122, 46, 60), (44, 74, 128), (246, 226, 180), (255, 184, 76), (255, 92, 92), (92, 164, 255),
    (214, 220, 235), (255, 255, 255), (20, 24, 60), (28, 33, 58), (120, 128, 150), (66, 22, 34), (20, 36, 70),
    (70, 78, 104), (0, 0, 0),
)  # fmt: skip
TRANSPARENT: Final = CLEAR
WIDTH: Final = 512  # pixels at most
HEADER: Final = 22  # pixels above the maze: names, score, time
TIMER_EVERY: Final = 40  # moves; a clock that changes with each frame would double the file

_ANGLES: Final = {rules.EAST: 0, rules.SOUTH: 90, rules.WEST: 180, rules.NORTH: 270, rules.STOP: 0}
Box = tuple[int, int, int, int]


class Picture:
    """What is on the screen; `show` draws the next state and tells what changed."""

    def __init__(self, layout: Layout, red: str, blue: str, length: int, width: int = WIDTH) -> None:
        self.layout, self.names, self.length = layout, (red, blue), length
        self.cell = max(6, min(24, width // layout.width))
        self.size = (self.cell * layout.width, self.cell * layout.height + HEADER)
        self.image = Image.new("L", self.size, NIGHT)
        self._draw = ImageDraw.Draw(self.image)
        self._draw.fontmode = "1"  # sixteen colours leave none for soft edges
        self._walls()
        self._seen: State | None = None
        self._header: tuple[object, ...] = ()

    def show(self, state: State) -> Box | None:
        """Draw a state over the one before. Returns the box that holds all changes, None when nothing changed."""
        boxes = [self._redraw(state, cell) for cell in self._changed(state)]
        header = (state.score, state.left - state.left % TIMER_EVERY if state.left else 0)
        if header != self._header:
            self._header = header
            boxes.append(self._draw_header(*header))
        self._seen = state
        if not boxes:
            return None
        lefts, tops, rights, bottoms = zip(*boxes, strict=True)
        return min(lefts), min(tops), max(rights), max(bottoms)

    def _changed(self, state: State) -> set[int]:
        before = self._seen
        if before is None:
            return {cell for cell in range(self.layout.size) if self.layout.open[cell]}
        cells: set[int] = set()
        changed = (before.food ^ state.food) | (before.capsules ^ state.capsules)
        while changed:
            low = changed & -changed
            cells.add(low.bit_length() - 1)
            changed ^= low
        for agent, cell in enumerate(state.cells):
            if _look(before, agent) != _look(state, agent):
                cells |= {cell, before.cells[agent]}
        return cells

    def _corner(self, cell: int) -> tuple[int, int]:
        x, y = self.layout.points[cell]
        return x * self.cell, (self.layout.height - 1 - y) * self.cell + HEADER

    def _redraw(self, state: State, cell: int) -> Box:
        left, top = self._corner(cell)
        box = (left, top, left + self.cell, top + self.cell)
        self.image.paste(NIGHT, box)
        if state.food >> cell & 1:
            self._disc(box, FOOD, 0.11)
        if state.capsules >> cell & 1:
            self._disc(box, CAPSULE, 0.27)
        for agent, place in enumerate(state.cells):
            if place == cell:
                facing, pacman, scared = _look(state, agent)[1:]
                color = RED if self.layout.red[agent] else BLUE
                stamp = _pacman(self.cell, color, facing) if pacman else _ghost(self.cell, color, facing, scared)
                self.image.paste(stamp[0], box, stamp[1])
        return box

    def _disc(self, box: Box, color: int, radius: float) -> None:
        middle = ((box[0] + box[2] - 1) / 2, (box[1] + box[3] - 1) / 2)
        reach = max(1.0, self.cell * radius)
        self._draw.ellipse([middle[0] - reach, middle[1] - reach, middle[0] + reach, middle[1] + reach], fill=color)

    def _walls(self) -> None:
        """Walls as tubes: an outline in the half's colour around a dim core, open where cells join."""
        layout, cell = self.layout, self.cell
        for inset, colors in ((0.22, (RED_WALL, BLUE_WALL)), (0.36, (RED_GLOW, BLUE_GLOW))):
            gap = round(cell * inset)
            for number in range(layout.size):
                if not layout.walls >> number & 1:
                    continue
                left, top = self._corner(number)
                color = colors[0] if layout.red_half >> number & 1 else colors[1]
                x, y = layout.points[number]
                low, high = gap, cell - 1 - gap
                self._draw.rectangle([left + low, top + low, left + high, top + high], fill=color)
                for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                    near = layout.cells.get((x + dx, y + dy))
                    if near is None or not layout.walls >> near & 1:
                        continue
                    xs = (low, high) if not dx else (high, cell - 1) if dx > 0 else (0, low)
                    ys = (low, high) if not dy else (0, low) if dy > 0 else (high, cell - 1)
                    self._draw.rectangle([left + xs[0], top + ys[0], left + xs[1], top + ys[1]], fill=color)

    def _draw_header(self, score: int, left: int) -> Box:
        width = self.size[0]
        box = (0, 0, width, HEADER)
        self.image.paste(BAR, box)
        font = _font(12)
        middle = f"{score:+d}" if score else "0"
        self._text((8, 11), self.names[0], RED, "lm", font, width // 2 - 60)
        self._text((width - 8, 11), self.names[1], BLUE, "rm", font, width // 2 - 60)
        self._text((width // 2, 10), middle, RED if score > 0 else BLUE if score < 0 else WHITE, "mm", _font(14), 100)
        done = round((width - 1) * left / self.length)
        self._draw.rectangle([0, HEADER - 2, done, HEADER - 1], fill=GREY)
        return box

    def _text(
        self, at: tuple[int, int], text: str, color: int, anchor: str, font: ImageFont.FreeTypeFont, room: int
    ) -> None:
        while text and font.getlength(text) > room:
            text = text[:-2] + "…" if len(text) > 2 else ""
        self._draw.text(at, text, fill=color, font=font, anchor=anchor)


def _look(state: State, agent: int) -> tuple[int, str, bool, bool]:
    """All that an agent's picture depends on."""
    return state.cells[agent], state.facing[agent], state.pacman[agent], state.scared[agent] > 0


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # it is, wherever Pillow was built with FreeType
    return font


_Stamp = tuple[Image.Image, Image.Image]


def _blank(cell: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("L", (cell, cell), CLEAR)
    return image, ImageDraw.Draw(image)


def _stamp(image: Image.Image) -> _Stamp:
    return image, image.point([255 * (index != CLEAR) for index in range(256)])


@cache
def _pacman(cell: int, color: int, facing: str) -> _Stamp:
    """A disc with its mouth open where it goes."""
    image, draw = _blank(cell)
    angle = _ANGLES[facing]
    draw.pieslice([1, 1, cell - 2, cell - 2], angle + 35, angle + 325, fill=color)
    return _stamp(image)


@cache
def _ghost(cell: int, color: int, facing: str, scared: bool) -> _Stamp:
    """A dome with a hem of three waves and eyes that look where it goes; pale when it is scared."""
    image, draw = _blank(cell)
    low, high = 1, cell - 2
    body = SCARED if scared else color
    draw.pieslice([low, low, high, high], 180, 360, fill=body)
    hem = max(2, cell // 6)
    draw.rectangle([low, cell // 2, high, high - hem], fill=body)
    third = (high - low + 1) / 3
    for wave in range(3):
        draw.ellipse([low + wave * third, high - 2 * hem, low + (wave + 1) * third - 1, high], fill=body)
    dx, dy = rules.VECTORS[facing]
    eye = max(1, cell // 7)
    for side in (-1, 1):
        x, y = cell / 2 + side * cell * 0.19 - 0.5, cell * 0.42
        draw.ellipse([x - eye, y - eye, x + eye, y + eye], fill=color if scared else WHITE)
        pupil = eye / 2.2
        x, y = x + dx * eye * 0.6, y - dy * eye * 0.6
        draw.ellipse([x - pupil, y - pupil, x + pupil, y + pupil], fill=SCARED if scared else PUPIL)
    return _stamp(image)
