"""The module `util`: queues, counters and the small functions that agents use."""

from __future__ import annotations

import heapq
import inspect
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from pacman_ctf.compat.spelling import both_spellings, spell_module


@both_spellings()
class Stack:
    """Last in, first out."""

    def __init__(self) -> None:
        self.list: list[Any] = []

    def push(self, item: Any) -> None:
        """Put on top."""
        self.list.append(item)

    def pop(self) -> Any:
        """Take from the top."""
        return self.list.pop()

    def is_empty(self) -> bool:
        """Whether nothing is left."""
        return not self.list


@both_spellings()
class Queue:
    """First in, first out; `list` has the newest item first."""

    def __init__(self) -> None:
        self.list: list[Any] = []

    def push(self, item: Any) -> None:
        """Put at the end."""
        self.list.insert(0, item)

    def pop(self) -> Any:
        """Take the oldest."""
        return self.list.pop()

    def is_empty(self) -> bool:
        """Whether nothing is left."""
        return not self.list


@both_spellings()
class PriorityQueue:
    """Lowest priority first; equal priorities in the order in which they came."""

    def __init__(self) -> None:
        self.heap: list[tuple[Any, int, Any]] = []
        self.count = 0

    def push(self, item: Any, priority: Any) -> None:
        """Put with a priority."""
        heapq.heappush(self.heap, (priority, self.count, item))
        self.count += 1

    def pop(self) -> Any:
        """Take the item of lowest priority."""
        return heapq.heappop(self.heap)[2]

    def is_empty(self) -> bool:
        """Whether nothing is left."""
        return not self.heap

    def update(self, item: Any, priority: Any) -> None:
        """Lower the priority of an item that is there, or put it."""
        for place, (old, count, known) in enumerate(self.heap):
            if known == item:
                if priority < old:
                    self.heap[place] = (priority, count, item)
                    heapq.heapify(self.heap)
                return
        self.push(item, priority)


class PriorityQueueWithFunction(PriorityQueue):
    """A priority queue that asks a function for the priority of an item."""

    def __init__(self, priority_function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.priority_function = self.priorityFunction = priority_function

    def push(self, item: Any, priority: Any = None) -> None:
        """Put; the function says with which priority."""
        super().push(item, self.priority_function(item))


@both_spellings()
class Counter(dict):  # type: ignore[type-arg]
    """A dictionary of numbers in which what is missing is 0."""

    def __missing__(self, key: Any) -> int:
        self[key] = 0
        return 0

    def increment_all(self, keys: Iterable[Any], count: float) -> None:
        """Add `count` to each of the keys."""
        for key in keys:
            self[key] += count

    def arg_max(self) -> Any:
        """The key of the greatest value, the first of equals; None when empty."""
        return max(self, key=self.__getitem__) if self else None

    def sorted_keys(self) -> list[Any]:
        """The keys, greatest value first."""
        return sorted(self, key=self.__getitem__, reverse=True)

    def total_count(self) -> Any:
        """The sum of the values."""
        return sum(self.values())

    def normalize(self) -> None:
        """Divide so that the values sum to 1; of all zeros nothing changes."""
        total = float(self.total_count())
        if total:
            for key in self:
                self[key] = self[key] / total

    def divide_all(self, divisor: float) -> None:
        """Divide each value."""
        divisor = float(divisor)
        for key in self:
            self[key] /= divisor

    def copy(self) -> Counter:
        """An independent counter."""
        return Counter(self)

    def __mul__(self, other: Any) -> Any:
        """The dot product."""
        if len(self) > len(other):
            self, other = other, self  # noqa: PLW0642
        get = other.get
        return sum(value * get(key, 0) for key, value in dict.items(self))

    def __add__(self, other: Any) -> Counter:
        return Counter({key: self.get(key, 0) + other.get(key, 0) for key in {**self, **other}})

    def __sub__(self, other: Any) -> Counter:
        return Counter({key: self.get(key, 0) - other.get(key, 0) for key in {**self, **other}})

    def __radd__(self, other: Any) -> Counter:
        return self.copy() if other == 0 else self + other

    def __iadd__(self, other: Any) -> Counter:
        for key, value in other.items():
            self[key] += value
        return self


def manhattan_distance(xy1: Sequence[float], xy2: Sequence[float]) -> float:
    """|dx| + |dy|."""
    return abs(xy1[0] - xy2[0]) + abs(xy1[1] - xy2[1])


def nearest_point(pos: Sequence[float]) -> tuple[int, int]:
    """The cell nearest to a position."""
    x, y = pos
    return (int(x + 0.5), int(y + 0.5))


def sign(x: float) -> int:
    """1 or -1."""
    return 1 if x >= 0 else -1


def normalize(vector_or_counter: Any) -> Any:
    """A normalised copy of a counter or a list."""
    if isinstance(vector_or_counter, Counter):
        counter = vector_or_counter.copy()
        counter.normalize()
        return counter
    total = float(sum(vector_or_counter))
    return [value / total for value in vector_or_counter] if total else vector_or_counter


def sample(distribution: Any, values: Sequence[Any] | None = None) -> Any:
    """One value by its probability."""
    if values is None:
        pairs = sorted(distribution.items()) if isinstance(distribution, dict) else [(v, p) for p, v in distribution]
        values, distribution = [value for value, _ in pairs], [chance for _, chance in pairs]
    rest = random.random() * sum(distribution)
    for value, chance in zip(values, distribution, strict=False):
        rest -= chance
        if rest < 0:
            return value
    return values[-1]


def n_sample(distribution: Sequence[float], values: Sequence[Any], n: int) -> list[Any]:
    """Many values by their probabilities."""
    return [sample(distribution, values) for _ in range(n)]


def choose_from_distribution(distribution: Any) -> Any:
    """One value of a counter or of (probability, value) pairs."""
    return sample(distribution)


def get_probability(value: Any, distribution: Sequence[float], values: Sequence[Any]) -> float:
    """The probability of a value."""
    return sum((chance for chance, known in zip(distribution, values, strict=False) if known == value), 0.0)


def flip_coin(p: float) -> bool:
    """True with probability p."""
    return random.random() < p


def array_invert(array: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows as columns."""
    return [list(row) for row in zip(*array, strict=False)]


def matrix_as_list(matrix: Sequence[Sequence[Any]], value: Any = True) -> list[tuple[int, int]]:
    """Where a matrix has a value."""
    return [(row, column) for row, cells in enumerate(matrix) for column, cell in enumerate(cells) if cell == value]


def lookup(name: str, namespace: dict[str, Any]) -> Any:
    """What a name means: a dotted one is imported, another searched for in the namespace and its modules."""
    module, dot, member = name.rpartition(".")
    if dot:
        return getattr(__import__(module, fromlist=[member]), member)
    modules = [value for value in namespace.values() if inspect.ismodule(value)]
    found = [getattr(module, name) for module in modules if hasattr(module, name)]
    if name in namespace:
        found.insert(0, namespace[name])
    if not found:
        raise LookupError(f"{name} not found as a method or class")
    return found[0]


def pause() -> None:
    """Nobody is there to press a key."""


def raise_not_defined() -> NoReturn:
    """Say which method is missing, and end the process, as agents expect."""
    caller = inspect.stack()[1]
    print(f"*** Method not implemented: {caller.function} at line {caller.lineno} of {caller.filename}")  # noqa: T201
    sys.exit(1)


class TimeoutFunctionException(Exception):
    """Known to agents by name; time is watched from outside."""


spell_module(globals())
