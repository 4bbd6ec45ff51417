"""`Grid[x][y]`: a bit mask that turns into lists of lists only for those who index it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from pacman_ctf.compat.spelling import both_spellings
from pacman_ctf.layout import _points


class Column(list):  # type: ignore[type-arg]
    """One column of a grid; writing to it writes to the grid's mask."""

    __slots__ = ("grid", "x")
    grid: Grid
    x: int

    def __setitem__(self, y: Any, value: Any) -> None:
        list.__setitem__(self, y, value)
        self.grid._reread(self.x, self)

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


@lru_cache(maxsize=8192)
def _column(bits: int, height: int) -> tuple[bool, ...]:
    return tuple(bits >> y & 1 == 1 for y in range(height))


@both_spellings()
class Grid:
    """A table of booleans, (0, 0) at the bottom left; `grid[x][y]` reads and writes a cell."""

    __slots__ = ("_bits", "_columns", "_plain", "height", "width")

    CELLS_PER_INT = 30

    def __init__(
        self, width: int, height: int, initial_value: Any = False, bit_representation: Any = None, **spelled: Any
    ) -> None:
        initial_value = spelled.get("initialValue", initial_value)
        bit_representation = spelled.get("bitRepresentation", bit_representation)
        if initial_value not in (False, True):
            raise ValueError("Grids can only contain booleans")
        self.width, self.height = width, height
        self._columns: Any = None  # by x, a column or None; None as long as nobody has indexed the grid
        self._plain = True
        self._bits = (1 << width * height) - 1 if initial_value else 0
        if bit_representation:
            _, _, *words = bit_representation
            self._bits = sum(word << self.CELLS_PER_INT * number for number, word in enumerate(words))

    @classmethod
    def of_bits(cls, width: int, height: int, bits: int) -> Grid:
        """The grid of a mask whose bit `x * height + y` is the cell (x, y)."""
        grid = _new(cls)
        grid.width, grid.height, grid._bits, grid._columns, grid._plain = width, height, bits, None, True
        return grid

    @property
    def data(self) -> list[Column]:
        """The columns, as lists."""
        return [self[x] for x in range(self.width)]

    @data.setter
    def data(self, columns: list[Any]) -> None:
        for x, column in enumerate(columns):
            self[x] = column

    def __getitem__(self, x: Any) -> Any:
        try:
            column = self._columns[x]
        except TypeError:
            if self._columns is not None:
                raise
            self._columns = [None] * self.width
            return self[x]
        if column is None:
            return self._made(x if x >= 0 else x + self.width)
        return self.data[x] if isinstance(x, slice) else column

    def _made(self, x: int) -> Column:
        """A column as a list, made when it is first asked for."""
        height = self.height
        column = Column(_column(self._bits >> x * height & (1 << height) - 1, height))
        column.grid, column.x = self, x
        self._columns[x] = column
        return column

    def __setitem__(self, x: int, values: Any) -> None:
        column = Column(values)
        column.grid, column.x = self, x
        if self._columns is None:
            self._columns = [None] * self.width
        self._columns[x] = column
        self._reread(x, column)

    def _reread(self, x: int, column: Column) -> None:
        """A cell was written: the mask follows, as long as the cells are booleans."""
        shift = x * self.height
        mask = ((1 << self.height) - 1) << shift
        self._bits = self._bits & ~mask | sum(1 << y for y, value in enumerate(column) if value) << shift
        self._plain = self._plain and all(value is True or value is False for value in column)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return False
        if self._plain and other._plain:
            return self._bits == other._bits and self.width == other.width and self.height == other.height
        return bool(self.data == other.data)

    def __hash__(self) -> int:
        return hash(self._bits)

    def __str__(self) -> str:
        rows = ("".join(str(self[x][y])[0] for x in range(self.width)) for y in reversed(range(self.height)))
        return "\n".join(rows)

    __repr__ = __str__

    def copy(self) -> Grid:
        """An independent grid with the same cells."""
        grid = Grid.of_bits(self.width, self.height, self._bits)
        if not self._plain:
            grid.data = [list(column) for column in self.data]
        return grid

    def deep_copy(self) -> Grid:
        """The same as `copy`."""
        return self.copy()

    def shallow_copy(self) -> Grid:
        """The same as `copy`: sharing would only save what a mask does not cost."""
        return self.copy()

    def __copy__(self) -> Grid:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Grid:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return Grid.of_bits, (self.width, self.height, self._bits)

    def count(self, item: Any = True) -> int:
        """How many cells are `item`."""
        if self._plain:
            found = self._bits.bit_count()
            return found if item else self.width * self.height - found
        return sum(column.count(item) for column in self.data)

    def as_list(self, key: Any = True) -> list[tuple[int, int]]:
        """The positions of the cells that are `key`, in column order."""
        if self._plain:
            bits = self._bits if key else (1 << self.width * self.height) - 1 ^ self._bits
            return list(_points(self.height, bits))
        return [(x, y) for x in range(self.width) for y in range(self.height) if self[x][y] == key]

    def pack_bits(self) -> tuple[int, ...]:
        """Width, height, then the cells, 30 to an integer."""
        words, bits = [], self._bits
        while bits:
            words.append(bits & (1 << self.CELLS_PER_INT) - 1)
            bits >>= self.CELLS_PER_INT
        return (self.width, self.height, *words)


_new = Grid.__new__
