"""Which names a piece of source takes from outside, and where things can be imported from."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import symtable
import sys
import tokenize
from pathlib import Path
from types import BuiltinFunctionType, ModuleType
from typing import Any

__all__ = ["global_names", "importable", "origin", "read", "without_annotations"]


def global_names(tree: ast.AST) -> set[str]:
    """The names that `tree` takes from its module."""
    text = ast.unparse(tree)
    top = symtable.symtable(text, "<names>", "exec")
    names = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    tables = list(top.get_children())
    while tables:
        table = tables.pop()
        names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
        tables += table.get_children()
    return names


def without_annotations(tree: ast.AST) -> ast.AST:
    """The same code without what a worker never evaluates."""

    class Stripper(ast.NodeTransformer):
        def visit_arg(self, node: ast.arg) -> ast.arg:
            return ast.arg(node.arg)

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
            node.returns = None
            return self.generic_visit(node)

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
            node.returns = None
            return self.generic_visit(node)

        def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
            node.annotation = ast.Constant(None)
            return self.generic_visit(node)

    stripped: ast.AST = Stripper().visit(ast.parse(ast.unparse(tree)))
    return ast.fix_missing_locations(stripped)


def importable(thing: Any) -> tuple[str | None, str]:
    """Module and qualified name under which a worker finds the very same thing; (None, "") if there are none."""
    owner = getattr(thing, "__self__", None)
    if isinstance(owner, ModuleType) and isinstance(thing, BuiltinFunctionType):
        return owner.__name__, thing.__name__
    module, qualname = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if module is None and hasattr(thing, "__objclass__"):  # a method of a built-in type
        module = thing.__objclass__.__module__
    if module is None and isinstance(owner, type):
        module = owner.__module__
    if not isinstance(module, str) or not isinstance(qualname, str) or module == "__main__":
        return _by_search(thing)
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return (module, qualname) if found is thing or (found == thing and inspect.ismethod(thing)) else _by_search(thing)


def _by_search(thing: Any) -> tuple[str | None, str]:
    """Callables without a proper address, such as NumPy's ufuncs: the loaded module in which they are a global."""
    name = getattr(thing, "__name__", None)
    if not callable(thing) or not isinstance(name, str):
        return None, ""
    for module_name in sorted(sys.modules, key=lambda each: (each.count("."), each)):
        module = sys.modules[module_name]
        if module_name != "__main__" and isinstance(module, ModuleType) and vars(module).get(name) is thing:
            return module_name, name
    return None, ""


def origin(name: str) -> tuple[Path | None, bool]:
    """A module's file, and whether it is a package; (None, True) for a package without __init__.py."""
    try:
        spec = getattr(sys.modules.get(name), "__spec__", None) or importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is None:
        return None, False
    is_package = spec.submodule_search_locations is not None
    if spec.origin in (None, "built-in", "frozen", "namespace"):
        return None, is_package and spec.origin not in ("built-in", "frozen")
    return Path(str(spec.origin)), is_package


def read(path: Path) -> str:
    """The text of a source file, its coding line honoured and its line ends made alike."""
    with tokenize.open(path) as file:
        return file.read()
