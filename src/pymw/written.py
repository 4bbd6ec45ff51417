"""Source files as they were read: what stands in one now need not be what runs, since people edit meanwhile."""

from __future__ import annotations

import ast
import sys
import tokenize
import types
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import Any

from pymw.owners import PYTHON, owner_of

__all__ = ["Written", "code_text", "codes", "first_line", "innermost", "is_file", "remember_sources", "versions"]


class Written:
    """One content of a source file."""

    def __init__(self, text: str, filename: str) -> None:
        self.text = text
        self._filename = filename

    @cached_property
    def is_python(self) -> bool:
        """Whether it is any: a file may be in the middle of an edit."""
        try:
            return bool(self._codes)
        except (SyntaxError, ValueError):
            return False

    @cached_property
    def _codes(self) -> dict[tuple[str, int], list[CodeType]]:
        found: dict[tuple[str, int], list[CodeType]] = defaultdict(list)
        for code in codes(compile(self.text, self._filename, "exec", dont_inherit=True)):
            found[code.co_name, code.co_firstlineno].append(code)
        return found

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax."""
        return ast.parse(self.text)

    @cached_property
    def _functions(self) -> dict[tuple[str, int], list[Any]]:
        found: dict[tuple[str, int], list[Any]] = defaultdict(list)
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found[node.name, first_line(node)].append(node)
            elif isinstance(node, ast.Lambda):
                found["<lambda>", node.lineno].append(node)
        return found

    @cached_property
    def _classes(self) -> dict[str, list[ast.stmt]]:
        found: dict[str, list[ast.stmt]] = defaultdict(list)

        def look(inside: ast.AST, path: str) -> None:
            for node in ast.iter_child_nodes(inside):
                below = path
                if isinstance(node, ast.ClassDef):
                    found[f"{path}{node.name}"].append(node)
                    below = f"{path}{node.name}."
                elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    below = f"{path}{node.name}.<locals>."
                look(node, below)

        look(self.tree, "")
        return found

    def holds(self, code: CodeType) -> bool:
        """Whether this code is what stands here, at its very line."""
        here = self._codes.get((code.co_name, code.co_firstlineno), ())
        return bool(here) and code_text(code) in map(code_text, here)

    def function(self, code: CodeType) -> ast.AST | None:
        """The def or lambda of this code; None if it does not stand here, or cannot be told from another."""
        if not self.holds(code):
            return None
        found = self._functions.get((code.co_name, code.co_firstlineno), [])
        if len(found) > 1 and code.co_name == "<lambda>":
            found = innermost(found, code)
        return found[0] if len(found) == 1 else None

    def class_(self, kind: type) -> ast.AST | None:
        """The class statement, or all that might be it; None where a method of the class is not what stands here."""
        found = self._classes.get(kind.__qualname__)
        if not found or not all(map(self.holds, self._own_codes(vars(kind).values()))):
            return None
        return found[0] if len(found) == 1 else ast.Module(body=found, type_ignores=[])

    def module(self, module: types.ModuleType) -> bool:
        """Whether the functions and methods of the module are those that stand here."""
        things = list(vars(module).values())
        things += [member for thing in things if isinstance(thing, type) for member in vars(thing).values()]
        return all(map(self.holds, self._own_codes(things)))

    def _own_codes(self, things: Any) -> Iterator[CodeType]:
        for thing in things:
            bare = thing.fget if isinstance(thing, property) else getattr(thing, "__func__", thing)
            if isinstance(bare, types.FunctionType) and bare.__code__.co_filename == self._filename:
                yield bare.__code__


_known: dict[str, list[Written]] = {}


def versions(filename: str) -> list[Written]:
    """What the file says now, then what it said before, as far as that was seen and is Python."""
    return [each for each in _look(filename) if each.is_python]


def _look(filename: str) -> list[Written]:
    known = _known.setdefault(filename, [])
    try:
        with tokenize.open(filename) as file:
            text = file.read()
    except (OSError, SyntaxError, ValueError):  # gone, or no text of the encoding that it names
        return known
    if not any(text == each.text for each in known):
        known.append(Written(text, filename))
    known.sort(key=lambda each: each.text != text)
    return known


def remember_sources() -> None:
    """Read the modules of the user's own that are imported: what was not edited yet can be known later."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith(".py") and file not in _known and owner_of(name) is None:
            _look(file)


def is_file(filename: str) -> bool:
    """Whether it can be edited: not a notebook's cell, nor what is typed at a prompt."""
    return Path(filename).is_file()


def first_line(node: Any) -> int:
    """Where a statement begins, its decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([int(node.lineno), *(decorator.lineno for decorator in decorators)])


def codes(code: CodeType) -> Iterator[CodeType]:
    """This code and all that is nested in it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from codes(const)


def code_text(code: CodeType) -> str:
    """What the code does, in a text that does not depend on where it stands; equal in every process."""
    return (
        f"{PYTHON} {code.co_code.hex()} {_constant(code.co_consts)} {code.co_names} {code.co_varnames} "
        f"{code.co_freevars}"
    )


def _constant(value: object) -> str:
    if isinstance(value, CodeType):
        return code_text(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, value))})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(_constant, value)))}}}"
    return repr(value)


def innermost(lambdas: list[ast.Lambda], code: CodeType) -> list[ast.Lambda]:
    """The smallest of several lambdas in whose body all of `code` stands."""
    places = [(line, column) for line, _, column, _ in code.co_positions() if line is not None and column is not None]
    places = [place for place in places if place > (code.co_firstlineno, 0)]
    if not places:  # the interpreter was told to forget where code stands
        return lambdas

    def begin(node: ast.Lambda) -> tuple[int, int]:
        return node.body.lineno, node.body.col_offset

    def end(node: ast.Lambda) -> tuple[int, int]:
        return node.body.end_lineno or 0, node.body.end_col_offset or 0

    around = [node for node in lambdas if begin(node) <= min(places) and max(places) <= end(node)]
    return sorted(around, key=begin)[-1:]
