"""Where in a source file, or notebook cell, something of the script was written."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from pymw.bundle.refusal import refusal

__all__ = ["Node", "Source"]

Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Source:
    """The source file, or notebook cell, in which something of the script was written."""

    def __init__(self, filename: str, text: str) -> None:
        self.filename = filename
        self.name = Path(filename).name  # a user's folders are nobody else's business
        self.text = text
        self.lines = text.splitlines()
        self.tree = ast.parse(text)
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    @classmethod
    def of(cls, thing: Any, described: str) -> Source:
        """The source of `thing`; UnshippableError where there is none."""
        for filename in _filenames(thing):
            lines = linecache.getlines(filename)
            if lines:
                return cls(filename, "".join(lines))
        raise refusal(
            f"the source of {described} is not to be had",
            "define it in a script, a module or a notebook cell; workers get source, not byte code",
        )

    def definition(self, name: str, thing: Any) -> Node:
        """The statement that made `thing`: by its line where that is known, else the last one of its name."""
        found = [node for node in ast.walk(self.tree) if isinstance(node, Node) and node.name == name]
        inner = inspect.unwrap(thing) if not isinstance(thing, type) else thing
        code = getattr(inner, "__code__", None)
        for node in found:
            if code is not None and code.co_firstlineno in (node.lineno, _first_line(node)):
                return node
        if not found:
            raise refusal(f"{name!r} is not defined in {self.name}", "define it with def or class")
        return found[-1]

    def node_of(self, function: FunctionType, described: str) -> Node | ast.Lambda:
        """The def or lambda of a function that has no name of its own at the top of the source."""
        code = function.__code__
        kind: type | tuple[type, ...] = (
            ast.Lambda if function.__name__ == "<lambda>" else (ast.FunctionDef, ast.AsyncFunctionDef)
        )
        found: list[Any] = [
            node for node in ast.walk(self.tree) if isinstance(node, kind) and code.co_firstlineno == _first_line(node)
        ]
        if len(found) > 1:
            alike = [node for node in found if _same_code(self._compiled(node), code)]
            texts = {ast.dump(node) for node in alike}
            found = alike[:1] if len(texts) == 1 else alike
        if len(found) != 1:
            raise refusal(
                f"{described} cannot be told from its neighbours in {self.name}, line {code.co_firstlineno}",
                "give it a name of its own with def",
            )
        node: Node | ast.Lambda = found[0]
        return node

    def _compiled(self, node: ast.Lambda) -> CodeType:
        code = compile(ast.Expression(node), self.filename, "eval")
        return next(const for const in code.co_consts if isinstance(const, CodeType))

    def unchanged(self, function: Any, described: str) -> None:
        """Refuse a file that was edited after its code was loaded: workers would run what never ran here."""
        code = getattr(function, "__code__", None)
        if code is None:
            return
        for candidate in _codes(compile(self.text, self.filename, "exec", dont_inherit=True)):
            same_place = (candidate.co_name, candidate.co_firstlineno) == (code.co_name, code.co_firstlineno)
            if same_place and candidate.co_code == code.co_code:
                return
        raise refusal(
            f"{described} no longer stands in {self.name} as it was when it was loaded", "start the script again"
        )

    def slice(self, node: Node) -> Iterator[tuple[int, str]]:
        """The lines of `node`, and for each block that it stands in a header, so that its indentation is right."""
        inner: ast.AST = node
        while (outer := self.parents.get(inner)) is not None and not isinstance(outer, ast.Module):
            block = next(
                (body for _, body in ast.iter_fields(outer) if isinstance(body, list) and inner in body), [inner]
            )
            if isinstance(outer, (ast.stmt, ast.ExceptHandler)):
                header = max(_first_line(block[0]) - 1, 1)
                indent = " " * getattr(outer, "col_offset", 0)
                yield header, f"{indent}if True:"
            inner = outer
        yield self.whole_lines(node)

    def whole_lines(self, node: ast.AST) -> tuple[int, str]:
        """First line number of a statement, and its lines."""
        first, last = _first_line(node), node.end_lineno  # type: ignore[attr-defined]
        return first, "\n".join(self.lines[first - 1 : last])

    def segment(self, node: ast.AST) -> str:
        """The exact characters of an expression."""
        return ast.get_source_segment(self.text, node) or ""

    def text_of(self, node: ast.AST) -> str:
        """Source that means the same, however it was laid out."""
        return ast.unparse(node)


def _first_line(node: Any) -> int:
    """Where a statement begins, its decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([int(node.lineno), *(decorator.lineno for decorator in decorators)])


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


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _codes(const)


def _same_code(a: CodeType, b: CodeType) -> bool:
    return (a.co_code, a.co_names, a.co_varnames) == (b.co_code, b.co_names, b.co_varnames) and [
        const for const in a.co_consts if not isinstance(const, CodeType)
    ] == [const for const in b.co_consts if not isinstance(const, CodeType)]
