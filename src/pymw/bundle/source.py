"""Where in a source file, or notebook cell, something of the script was written."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

from pymw.bundle.refusal import SourceMissing, refusal
from pymw.written import codes, first_line, innermost

__all__ = ["Node", "Source"]

Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Source:
    """The source file, or notebook cell, in which something of the script was written."""

    def __init__(self, filename: str, text: str) -> None:
        self.filename = filename
        self.name = Path(filename).name  # a user's folders are nobody else's business
        self.text = text
        self.lines = text.split("\n")  # as Python counts lines; splitlines() knows more kinds of line ends
        self.tree = ast.parse(text)
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    @classmethod
    def of(cls, thing: Any, described: str) -> Source:
        """The source of `thing`; UnshippableError where there is none."""
        for filename in _filenames(thing):
            lines = linecache.getlines(filename)
            if lines:
                return cls(filename, "".join(lines))
        raise SourceMissing(
            f"the source of {described} is not to be had; define it in a script, a module or a notebook cell: "
            f"workers get source"
        )

    def definition(self, name: str, thing: Any) -> Node:
        """The statement that made `thing`: by its line where that is known, else the last one of its name."""
        found = [node for node in ast.walk(self.tree) if isinstance(node, Node) and node.name == name]
        inner = inspect.unwrap(thing) if not isinstance(thing, type) else thing
        code = getattr(inner, "__code__", None)
        for node in found:
            if code is not None and code.co_firstlineno in (node.lineno, first_line(node)):
                return node
        if not found:
            raise refusal(f"{name!r} is not defined in {self.name}", "define it with def or class")
        return found[-1]

    def node_of(self, function: FunctionType, described: str) -> Node | ast.Lambda:
        """The def or lambda of a function that has no name of its own at the top of the source."""
        code = function.__code__  # its name there is the one in the source, whatever a decorator made of __name__
        kind = ast.Lambda if code.co_name == "<lambda>" else (ast.FunctionDef, ast.AsyncFunctionDef)
        found: list[Any] = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, kind)
            and code.co_firstlineno == first_line(node)
            and self._is_called(node, code.co_name)
        ]
        if len(found) > 1 and kind is ast.Lambda:
            found = innermost(found, code)
        if len(found) != 1:
            raise refusal(
                f"{described} cannot be told from its neighbours in {self.name}, line {code.co_firstlineno}",
                "give it a name of its own with def",
            )
        node: Node | ast.Lambda = found[0]
        return node

    @staticmethod
    def _is_called(node: Any, name: str) -> bool:
        return isinstance(node, ast.Lambda) or node.name == name

    def unchanged(self, function: Any, described: str) -> None:
        """Refuse a file that was edited after its code was loaded: workers would run what never ran here."""
        code = getattr(function, "__code__", None)
        if code is None:
            return
        for candidate in codes(compile(self.text, self.filename, "exec", dont_inherit=True)):
            same_place = (candidate.co_name, candidate.co_firstlineno) == (code.co_name, code.co_firstlineno)
            if same_place and candidate.co_code == code.co_code:
                return
        raise refusal(
            f"{described} no longer stands in {self.name} as it was when it was loaded", "start the script again"
        )

    def headers(self, node: Node) -> Iterator[tuple[int, str]]:
        """For each block that `node` stands in a header, so that its indentation is right."""
        inner: ast.AST = node
        while (outer := self.parents.get(inner)) is not None and not isinstance(outer, ast.Module):
            block = next((body for _, body in ast.iter_fields(outer) if isinstance(body, list) and inner in body), None)
            if isinstance(outer, (ast.ExceptHandler, ast.match_case)):
                outer = self.parents[outer]  # what counts is the indentation of the whole try or match
            if block is not None and isinstance(outer, ast.stmt):
                yield max(first_line(block[0]) - 1, 1), f"{' ' * outer.col_offset}if True:"
            inner = outer

    def statement(self, node: Node, blank: Collection[ast.expr] = (), *, decorated: bool = True) -> tuple[int, str]:
        """First line number of a statement, and its lines; `blank` are default values that become None."""
        first, last = first_line(node) if decorated else node.lineno, int(node.end_lineno or node.lineno)
        lines = self._blanked(blank)[first - 1 : last]
        start, end = self._columns(last, node.end_col_offset or 0), len(lines[-1])
        lines[-1] = lines[-1][:start] if lines[-1][start:end].lstrip().startswith(";") else lines[-1]
        before = self.lines[first - 1][: self._columns(first, node.col_offset)]
        if decorated is False or not node.decorator_list:
            lines[0] = " " * len(before) + lines[0][len(before) :] if before.strip() else lines[0]
        return first, "\n".join(lines)

    def expression(self, node: ast.expr, blank: Collection[ast.expr] = ()) -> tuple[int, str]:
        """First line number of an expression, and its text; `blank` are default values that become None."""
        last = int(node.end_lineno or node.lineno)
        lines = self._blanked(blank)
        # What was blanked on the last line has moved its end.
        moved = len(lines[last - 1]) - len(self.lines[last - 1])
        end = self._columns(last, node.end_col_offset or 0) + moved
        start = self._columns(node.lineno, node.col_offset)
        text = lines[node.lineno - 1 : last]
        text[-1] = text[-1][:end]
        text[0] = text[0][start:]
        return node.lineno, "\n".join(text)

    def _blanked(self, blank: Collection[ast.expr]) -> list[str]:
        lines = list(self.lines)
        for node in sorted(blank, key=lambda each: (each.lineno, each.col_offset), reverse=True):
            first, last = node.lineno - 1, int(node.end_lineno or node.lineno) - 1
            head = lines[first][: self._columns(node.lineno, node.col_offset)]
            tail = lines[last][self._columns(last + 1, node.end_col_offset or 0) :]
            lines[first : last + 1] = [head + "None", *[""] * (last - first)]
            lines[last] += tail
        return lines

    def _columns(self, line: int, offset: int) -> int:
        """The characters before a place that the syntax tree gives in bytes."""
        return len(self.lines[line - 1].encode()[:offset].decode())


def _filenames(thing: Any) -> Iterator[str]:
    """Where `thing` may have been written, the surest first."""
    inner = inspect.unwrap(thing) if not isinstance(thing, type) else thing
    if hasattr(inner, "__code__"):
        yield inner.__code__.co_filename
        return
    for member in vars(inner).values() if isinstance(inner, type) else ():
        code = getattr(inspect.unwrap(member) if callable(member) else member, "__code__", None)
        if code is not None and code.co_qualname.startswith(f"{inner.__qualname__}."):  # its own, not inherited
            yield code.co_filename
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is not None:
        yield script
    pattern = re.compile(rf"^class {re.escape(inner.__name__)}\b", re.MULTILINE)
    for filename in reversed(list(linecache.cache)):  # notebook cells, the newest first
        if not Path(filename).exists() and pattern.search("".join(linecache.getlines(filename))):
            yield filename
