"""What the source of a function or class says, apart from how it is laid out and commented."""

from __future__ import annotations

import ast
import copy
import importlib.util
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator
from typing import Any

from pymw.owners import PYTHON, owner_of
from pymw.written import code_text, codes, is_file, versions

__all__ = ["attributes_used", "compiled", "imported", "is_dynamic", "normal", "tree_of"]

DYNAMIC = {"getattr", "globals", "locals", "vars", "eval", "exec", "__import__", "import_module"}


def tree_of(thing: Any) -> ast.AST | None:
    """Its own source as a tree; None where there is none, or where it is not that which runs."""
    # By its code: a function's own source is not that of the one that it wraps.
    code = getattr(thing, "__code__", None)
    filename = code.co_filename if code is not None else _file_of(thing)
    if not is_file(filename):
        return _tree_of_cell(thing)
    for written in versions(filename):
        found = written.function(code) if code is not None else written.class_(thing)
        if found is not None:
            return found
    return None


def _file_of(kind: type) -> str:
    return str(getattr(sys.modules.get(kind.__module__), "__file__", None))


def _tree_of_cell(thing: Any) -> ast.AST | None:
    """From what was typed: a notebook's cells are not edited, but run again."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(thing, "__code__", thing))))
    except (OSError, TypeError, SyntaxError):  # a lambda in the middle of an expression may be no statement
        return None
    if isinstance(thing, types.FunctionType) and thing.__name__ == "<lambda>":
        return _lambda(tree, thing)
    return tree


def _lambda(tree: ast.AST, function: types.FunctionType) -> ast.AST | None:
    """The lambda's own tree; None where its line holds several that could be meant."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
    fitting = [node for node in found if [a.arg for a in node.args.args] == _arguments(function)]
    return fitting[0] if len(found) == 1 and fitting else None


def _arguments(function: types.FunctionType) -> list[str]:
    code = function.__code__
    return list(code.co_varnames[: code.co_argcount])


def normal(tree: ast.AST) -> str:
    """The tree without positions and docstrings."""
    tree = copy.deepcopy(tree)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        documented = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        if isinstance(node, documented) and body and ast.get_docstring(node, clean=False) is not None:
            node.body = body[1:]
    return ast.dump(tree)


def is_dynamic(thing: Any, tree: ast.AST | None) -> bool:
    """Whether it looks names up that its source, or its code where there is none, does not show."""
    if tree is None:
        code = getattr(thing, "__code__", None)
        return code is not None and any(not DYNAMIC.isdisjoint(each.co_names) for each in codes(code))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in DYNAMIC:
            return True
        if isinstance(node, ast.Attribute) and node.attr == "import_module":
            return True
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            return True
    return False


def imported(tree: ast.AST, inside: types.ModuleType | None) -> Iterator[str]:
    """The names of the modules that it imports, as far as its source shows them."""
    package = (inside.__package__ or "") if inside is not None else ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                base = node.module or ""
            else:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            if base:
                yield base
            yield from (name for alias in node.names if _is_module(name := f"{base}.{alias.name}", base))


def _is_module(name: str, package: str) -> bool:
    """Whether ``from package import name`` imports a module; installed packages count as a whole anyway."""
    if name in sys.modules or not package or owner_of(package) is not None:
        return name in sys.modules
    try:
        return importlib.util.find_spec(name) is not None
    except Exception:  # noqa: BLE001 - a package's own code runs
        return False


def attributes_used(tree: ast.AST) -> dict[str, set[str] | None]:
    """For each name that is only ever used as ``name.attribute``: which attributes; None where it is used otherwise."""
    dotted: dict[str, set[str]] = {}
    inner: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            dotted.setdefault(node.value.id, set()).add(node.attr)
            inner.add(id(node.value))
    alone = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in inner}
    return {name: None if name in alone else attributes for name, attributes in dotted.items()}


def compiled(thing: Any) -> str:
    """What stands for it where there is no source."""
    code = getattr(thing, "__code__", None)
    if code is None:  # a class without source: its members are visited one by one
        return f"class {thing.__qualname__} {PYTHON}"
    return code_text(code)
