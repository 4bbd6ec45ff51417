"""A function and everything of the user's own that it reaches, as one file of source code.

Source is shipped, not byte code, so that a volunteer's interpreter may be another version. What the function reaches
by name is followed from name to name:

    a function or class of the script    its very lines, at their own line numbers, the rest of the script left blank
    a module of the user's own           its file, and those that it imports in turn
    an installed or standard module      an import; the worker's interpreter must have it
    anything else that is read           its value, in the closed set of `pymw.codec`

so the script's top level never runs anywhere but where the user started it. The same sources give the same bytes on
every machine. What cannot be shipped is refused with its name, the reason, and what to do.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib.util
import inspect
import io
import json
import linecache
import logging
import re
import symtable
import sys
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any

from pymw import codec
from pymw.errors import UnshippableError

__all__ = ["Bundle", "bundle"]

FORMAT = 1
PROVIDED = {"pymw", "pyboinc"}  # what the worker brings along
_INSTALLED = {"site-packages", "dist-packages"}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold
_Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Bundle:
    """Shippable code: `data` is a zip file, `digest` its SHA-256, `entry` the function as `module:qualname`.

    `modules` are the modules whose classes results may hold, `requires` the installed ones that the code imports.
    """

    digest: str
    data: bytes = field(repr=False)
    entry: str
    modules: tuple[str, ...]
    requires: tuple[str, ...]
    witness: Witness = field(repr=False, compare=False)

    def is_current(self) -> bool:
        """Whether packing the function again would give the same: nothing that it reads was changed since."""
        return self.witness.holds()


def bundle(function: Callable[..., Any], *, modules: Collection[str] = (), classes: Collection[type] = ()) -> Bundle:
    """Pack `function`.

    `modules` names further modules that it imports in ways which cannot be seen in its source, `classes` those of its
    arguments. Raises UnshippableError, which says which name stands in the way, why, and what to do.
    """
    cargo = _Cargo()
    for name in modules:
        cargo.module(name, wanted_by="modules=")
    for cls in sorted(classes, key=lambda each: each.__qualname__):
        cargo.cls(cls)
    entry = cargo.entry(function)
    return cargo.pack(entry)


@dataclass(slots=True)
class Witness:
    """What a bundle was made from: what names meant, what values were, what files held."""

    names: list[tuple[Mapping[str, Any], str, Any]] = field(default_factory=list)
    values: list[tuple[Any, bytes]] = field(default_factory=list)
    files: list[tuple[Path, tuple[int, int]]] = field(default_factory=list)

    def holds(self) -> bool:
        """Whether all of it is still so."""
        return (
            all(names.get(name, self) is value for names, name, value in self.names)
            and all(_stamp(path) == stamp for path, stamp in self.files)
            and all(_encoded(value) == data for value, data in self.values)
        )


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size


def _encoded(value: Any) -> bytes | None:
    try:
        return codec.encode(value)
    except codec.CodecError:
        return None


@dataclass
class _Unit:
    """One source file, of which only some lines are shipped, each where it stood."""

    name: str
    lines: dict[int, str] = field(default_factory=dict)

    def keep(self, first: int, text: str) -> None:
        for number, line in enumerate(text.splitlines(), first):
            before = self.lines.get(number, "").rstrip()
            self.lines[number] = f"{before}; {line.lstrip()}" if before and line.strip() else before or line

    def text(self) -> str:
        last = max(self.lines, default=0)
        return "".join(self.lines.get(number, "").rstrip() + "\n" for number in range(1, last + 1))


class _Cargo:
    """What is packed so far. `__main__` is rebuilt from a prelude, slices of its source, and a postlude."""

    def __init__(self) -> None:
        self.prelude: list[str] = []
        self.units: dict[str, _Unit] = {}
        self.factories: list[_Unit] = []
        self.postlude: list[str] = []
        self.done: set[str] = set()  # global names of __main__ that are settled
        self.shipped: dict[int, str] = {}  # id of a function made on the way -> its name in __main__
        self.files: dict[str, str] = {}
        self.own: set[str] = set()
        self.requires: set[str] = set()
        self.witness = Witness()

    # -- the function itself

    def entry(self, function: Callable[..., Any]) -> str:
        described = _describe(function)
        if inspect.ismethod(function) and not isinstance(function.__self__, type):
            raise _refusal(
                f"{described} is bound to an object, which stays here",
                "make it a function and pass what it needs as an argument",
            )
        if isinstance(function, (FunctionType, type)) or hasattr(function, "__wrapped__"):
            name = self.definition(function, described)
            if name is not None:
                return f"__main__:{name}"
        module, qualname = _importable(function)
        if module is None:
            raise _refusal(
                f"{described} has no name under which a worker could find it", "wrap it in a function: def task(x): ..."
            )
        self.module(module, wanted_by=described)
        return f"{module}:{qualname}"

    def definition(self, thing: Any, described: str) -> str | None:
        """Ship a function or class of the script; its dotted name there, or None where a module has it."""
        inner = inspect.unwrap(thing) if not isinstance(thing, type) else thing
        if id(thing) in self.shipped:
            return self.shipped[id(thing)]
        qualname = getattr(inner, "__qualname__", "")
        if "<locals>" in qualname or "<lambda>" in qualname:
            return self.made_inside(inner, described) if isinstance(inner, FunctionType) else None
        if getattr(thing, "__module__", None) != "__main__":
            return None
        root = qualname.partition(".")[0]
        if root not in self.done:
            self.done.add(root)
            names = getattr(inner, "__globals__", None) or vars(sys.modules["__main__"])
            owner = names.get(root, inner)
            self.witness.names.append((names, root, names.get(root)))
            source = _Source.of(owner, described)
            node = source.definition(root, owner)
            source.unchanged(inner, described)
            unit = self.units.setdefault(source.filename, _Unit(source.name))
            for first, text in source.slice(node):
                unit.keep(first, text)
            self.reach(source.text_of(node), names, described)
        return qualname

    def made_inside(self, function: FunctionType, described: str) -> str:
        """Ship a lambda or a function made by a function, together with what it closes over."""
        source = _Source.of(function, described)
        node = source.node_of(function, described)
        name = f"__pymw_{len(self.factories)}__"
        self.shipped[id(function)] = name
        cells = {}
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            try:
                content = cell.cell_contents
            except ValueError:
                continue  # not assigned yet: the worker finds it unbound, as we would
            self.witness.names.append((_Cell(cell), "cell_contents", content))
            if content is not function:
                cells[variable] = self.expression(content, f"{variable!r}, which {described} closes over,")
        unit = _Unit(source.name)
        self.factories.append(unit)
        own_name = node.name if isinstance(node, _Node) else None
        known = set(cells) | {own_name} | set(function.__code__.co_freevars)
        self.reach(source.text_of(node), function.__globals__, described, known=known)
        first, text = source.whole_lines(node)
        if isinstance(node, _Node):
            indent = text[: len(text) - len(text.lstrip())] or " "
            body = text if text.startswith(indent) else "\n".join(indent + line for line in text.split("\n"))
            result = node.name
        else:
            indent, body, result = " ", f" __lambda__ = ({source.segment(node)})", "__lambda__"
        parameters = ", ".join(cells)
        unit.keep(first - 1 if first > 1 else first, f"def {name}factory({parameters}):") if first > 1 else None
        if first == 1:  # a line of its own for the header; the numbers shift by one
            body = f"def {name}factory({parameters}):\n{body}"
        unit.keep(first, body)
        after = max(unit.lines) + 1
        unit.keep(after, f"{indent}return {result}")
        arguments = ", ".join(f"{key}={value}" for key, value in cells.items())
        unit.keep(after + 1, f"{name} = {name}factory({arguments})")
        return name

    # -- what it reaches

    def reach(self, text: str, names: dict[str, Any], wanted_by: str, *, known: Collection[str | None] = ()) -> None:
        """Follow the global names and the imports in `text`."""
        tree = ast.parse(text)
        self.imports(tree, package="", wanted_by=wanted_by)
        required = _global_names(_without_annotations(tree))
        for name in sorted(required - set(known)):
            self.name(name, names, wanted_by)
        for name in sorted(_global_names(tree) - required - set(known)):
            try:
                self.name(name, names, wanted_by)
            except UnshippableError:
                self.done.discard(name)  # annotations are never evaluated on a worker

    def name(self, name: str, names: dict[str, Any], wanted_by: str) -> None:
        if name in self.done or name not in names or names[name] is vars(builtins).get(name, self):
            return
        if name.startswith("__") and name.endswith("__"):
            return  # __name__, __file__ and the like are the worker's own
        value = names[name]
        self.witness.names.append((names, name, value))
        described = f"{name!r}, which {wanted_by} reads,"
        expression = self.expression(value, described)
        if expression != name:
            self.done.add(name)
            (self.postlude if _of_main(value) else self.prelude).append(f"{name} = {expression}")

    def expression(self, value: Any, described: str) -> str:
        """Python source that gives `value` on the worker."""
        if isinstance(value, ModuleType):
            self.module(value.__name__, wanted_by=described)
            return f"__import__('importlib').import_module({value.__name__!r})"
        if isinstance(value, (FunctionType, type)) or hasattr(value, "__wrapped__"):
            name = self.definition(value, described)
            if name is not None:
                return name
        if isinstance(value, logging.Logger):
            return f"__import__('logging').getLogger({value.name!r})"
        if isinstance(value, re.Pattern):
            return f"__import__('re').compile({value.pattern!r}, {int(value.flags)})"
        module, qualname = _importable(value)
        if module is not None:
            self.module(module, wanted_by=described)
            return f"__import__('importlib').import_module({module!r}).{qualname}"
        try:
            needed = codec.classes(value)
        except codec.CodecError as error:
            raise _refusal(
                f"{described} cannot be shipped: {error}",
                "pass what it needs as an argument, or make it inside the function",
            ) from error
        for cls in needed:
            self.cls(cls)
        self.witness.values.append((value, codec.encode(value)))
        return f"__pymw_value__({len(self.witness.values) - 1})"

    def cls(self, cls: type) -> None:
        """Ship a class that values are made of."""
        described = _describe(cls)
        if self.definition(cls, described) is None:
            self.module(cls.__module__, wanted_by=described)

    # -- modules

    def module(self, name: str, *, wanted_by: str) -> None:
        top = name.partition(".")[0]
        if name in self.own or top in self.requires or top in PROVIDED or top in sys.stdlib_module_names:
            return
        parent = name.rpartition(".")[0]
        if parent:
            self.module(parent, wanted_by=wanted_by)
            if parent not in self.own:
                return
        path, is_package = _origin(name)
        if path is None and not is_package:
            return  # not here either: an optional import, or an error that the worker will report
        if path is not None and (_INSTALLED & set(path.parts)):
            self.requires.add(top)
            return
        self.own.add(name)
        if path is None:
            return  # a package without __init__.py: its modules make the folder
        if path.suffix != ".py":
            raise _refusal(
                f"module {name}, which {wanted_by} imports, is compiled ({path.name})",
                "only modules in Python source travel; install it on the workers or do without it",
            )
        self.witness.files.append((path, _stamp(path)))
        text = _read(path)
        stem = name.replace(".", "/")
        self.files[f"modules/{stem}/__init__.py" if is_package else f"modules/{stem}.py"] = text
        package = name if is_package else parent
        self.imports(ast.parse(text, str(path)), package=package, wanted_by=f"module {name}")

    def imports(self, tree: ast.AST, *, package: str, wanted_by: str) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.module(alias.name, wanted_by=wanted_by)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    base = ".".join(
                        [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                    )
                self.module(base, wanted_by=wanted_by)
                if base in self.own:
                    for alias in node.names:
                        self.module(f"{base}.{alias.name}", wanted_by=wanted_by)

    # -- the file

    def pack(self, entry: str) -> Bundle:
        members: dict[str, bytes] = {path: text.encode() for path, text in self.files.items()}
        units: list[dict[str, str]] = []

        def add(name: str, text: str) -> None:
            path = f"main/{len(units)}.py"
            members[path] = text.encode()
            units.append({"path": path, "name": name})

        if self.prelude:
            add("<prelude>", "\n".join(self.prelude) + "\n")
        for unit in [*self.units.values(), *self.factories]:
            add(unit.name, unit.text())
        if self.postlude:
            add("<postlude>", "\n".join(self.postlude) + "\n")
        for number, (_, data) in enumerate(self.witness.values):
            members[f"values/{number}"] = data
        manifest = {
            "format": FORMAT,
            "entry": entry,
            "units": units,
            "modules": sorted(self.own),
            "requires": sorted(self.requires),
        }
        members["manifest.json"] = json.dumps(manifest, sort_keys=True).encode()
        zipped = _zip(members)
        return Bundle(
            digest=hashlib.sha256(zipped).hexdigest(),
            data=zipped,
            entry=entry,
            modules=("__main__", *sorted(self.own)),
            requires=tuple(sorted(self.requires)),
            witness=self.witness,
        )


class _Cell(dict[str, Any]):
    """A closure's cell, read like a mapping."""

    def __init__(self, cell: CellType) -> None:
        super().__init__()
        self._cell = cell

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self._cell, name, default)


class _Source:
    """The source file, or notebook cell, in which something of the script was written."""

    def __init__(self, filename: str, text: str) -> None:
        self.filename = filename
        self.name = Path(filename).name  # a user's folders are nobody else's business
        self.text = text
        self.lines = text.splitlines()
        self.tree = ast.parse(text)
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    @classmethod
    def of(cls, thing: Any, described: str) -> _Source:
        for filename in _filenames(thing):
            lines = linecache.getlines(filename)
            if lines:
                return cls(filename, "".join(lines))
        raise _refusal(
            f"the source of {described} is not to be had",
            "define it in a script, a module or a notebook cell; workers get source, not byte code",
        )

    def definition(self, name: str, thing: Any) -> _Node:
        """The statement that made `thing`: by its line where that is known, else the last one of its name."""
        found = [node for node in ast.walk(self.tree) if isinstance(node, _Node) and node.name == name]
        inner = inspect.unwrap(thing) if not isinstance(thing, type) else thing
        code = getattr(inner, "__code__", None)
        for node in found:
            if code is not None and code.co_firstlineno in (node.lineno, _first_line(node)):
                return node
        if not found:
            raise _refusal(f"{name!r} is not defined in {self.name}", "define it with def or class")
        return found[-1]

    def node_of(self, function: FunctionType, described: str) -> _Node | ast.Lambda:
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
            raise _refusal(
                f"{described} cannot be told from its neighbours in {self.name}, line {code.co_firstlineno}",
                "give it a name of its own with def",
            )
        node: _Node | ast.Lambda = found[0]
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
        raise _refusal(
            f"{described} no longer stands in {self.name} as it was when it was loaded", "start the script again"
        )

    def slice(self, node: _Node) -> Iterator[tuple[int, str]]:
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
        first, last = _first_line(node), node.end_lineno  # type: ignore[attr-defined]
        return first, "\n".join(self.lines[first - 1 : last])

    def segment(self, node: ast.AST) -> str:
        return ast.get_source_segment(self.text, node) or ""

    def text_of(self, node: ast.AST) -> str:
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


def _global_names(tree: ast.AST) -> set[str]:
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


def _without_annotations(tree: ast.AST) -> ast.AST:
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


def _importable(thing: Any) -> tuple[str | None, str]:
    """Module and qualified name under which a worker finds the very same thing; (None, "") if there are none."""
    owner = getattr(thing, "__self__", None)
    if isinstance(owner, ModuleType) and isinstance(thing, BuiltinFunctionType):
        return owner.__name__, thing.__name__
    module, qualname = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
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


def _of_main(value: Any) -> bool:
    """Whether `value` is made of something of the script, and so must come after it."""
    if getattr(value, "__module__", None) == "__main__":
        return True
    try:
        return any(cls.__module__ == "__main__" for cls in codec.classes(value))
    except codec.CodecError:
        return False


def _origin(name: str) -> tuple[Path | None, bool]:
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


def _read(path: Path) -> str:
    import tokenize

    with tokenize.open(path) as file:  # honours the coding line and normalises line ends
        return file.read()


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _codes(const)


def _same_code(a: CodeType, b: CodeType) -> bool:
    return (a.co_code, a.co_names, a.co_varnames) == (b.co_code, b.co_names, b.co_varnames) and [
        const for const in a.co_consts if not isinstance(const, CodeType)
    ] == [const for const in b.co_consts if not isinstance(const, CodeType)]


def _refusal(reason: str, advice: str) -> UnshippableError:
    return UnshippableError(f"{reason}; {advice}")


def _describe(function: Any) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    kind = "class" if isinstance(function, type) else "function"
    return f"{kind} {name!r}"


def _zip(members: dict[str, bytes]) -> bytes:
    """A zip file whose bytes depend on the members alone: stored, sorted, dated 1980."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(members):
            info = zipfile.ZipInfo(path, _EPOCH)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, members[path])
    return file.getvalue()
