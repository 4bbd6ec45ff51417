"""Gather what a function reaches, name by name, and pack it."""

from __future__ import annotations

import ast
import builtins
import hashlib
import inspect
import io
import json
import logging
import re
import sys
import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

from pymw import codec
from pymw.bundle.names import global_names, importable, origin, read, without_annotations
from pymw.bundle.refusal import describe, refusal
from pymw.bundle.source import Node, Source
from pymw.bundle.witness import Cell, Witness, stamp
from pymw.errors import UnshippableError

__all__ = ["Bundle", "Cargo"]

FORMAT = 1
PROVIDED = {"pymw", "pyboinc"}  # what the worker brings along
_INSTALLED = {"site-packages", "dist-packages"}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold


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


@dataclass
class Unit:
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


class Cargo:
    """What is packed so far. `__main__` is rebuilt from a prelude, slices of its source, and a postlude."""

    def __init__(self) -> None:
        self.prelude: list[str] = []
        self.units: dict[str, Unit] = {}
        self.factories: list[Unit] = []
        self.postlude: list[str] = []
        self.done: set[str] = set()  # global names of __main__ that are settled
        self.shipped: dict[int, str] = {}  # id of a function made on the way -> its name in __main__
        self.files: dict[str, str] = {}
        self.own: set[str] = set()
        self.requires: set[str] = set()
        self.witness = Witness()

    # -- the function itself

    def entry(self, function: Callable[..., Any]) -> str:
        """Ship the function that tasks call; where a worker finds it, as `module:qualname`."""
        described = describe(function)
        if inspect.ismethod(function) and not isinstance(function.__self__, type):
            raise refusal(
                f"{described} is bound to an object, which stays here",
                "make it a function and pass what it needs as an argument",
            )
        if isinstance(function, (FunctionType, type)) or hasattr(function, "__wrapped__"):
            name = self.definition(function, described)
            if name is not None:
                return f"__main__:{name}"
        module, qualname = importable(function)
        if module is None:
            raise refusal(
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
            source = Source.of(owner, described)
            node = source.definition(root, owner)
            source.unchanged(inner, described)
            unit = self.units.setdefault(source.filename, Unit(source.name))
            for first, text in source.slice(node):
                unit.keep(first, text)
            self.reach(source.text_of(node), names, described)
        return qualname

    def made_inside(self, function: FunctionType, described: str) -> str:
        """Ship a lambda or a function made by a function, together with what it closes over."""
        source = Source.of(function, described)
        node = source.node_of(function, described)
        name = f"__pymw_{len(self.factories)}__"
        self.shipped[id(function)] = name
        cells = {}
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            try:
                content = cell.cell_contents
            except ValueError:
                continue  # not assigned yet: the worker finds it unbound, as we would
            self.witness.names.append((Cell(cell), "cell_contents", content))
            if content is not function:
                cells[variable] = self.expression(content, f"{variable!r}, which {described} closes over,")
        unit = Unit(source.name)
        self.factories.append(unit)
        own_name = node.name if isinstance(node, Node) else None
        known = set(cells) | {own_name} | set(function.__code__.co_freevars)
        self.reach(source.text_of(node), function.__globals__, described, known=known)
        first, text = source.whole_lines(node)
        if isinstance(node, Node):
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
        required = global_names(without_annotations(tree))
        for name in sorted(required - set(known)):
            self.name(name, names, wanted_by)
        for name in sorted(global_names(tree) - required - set(known)):
            try:
                self.name(name, names, wanted_by)
            except UnshippableError:
                self.done.discard(name)  # annotations are never evaluated on a worker

    def name(self, name: str, names: dict[str, Any], wanted_by: str) -> None:
        """Ship what a global name stands for, once."""
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
        module, qualname = importable(value)
        if module is not None:
            self.module(module, wanted_by=described)
            return f"__import__('importlib').import_module({module!r}).{qualname}"
        try:
            needed = codec.classes(value)
        except codec.CodecError as error:
            raise refusal(
                f"{described} cannot be shipped: {error}",
                "pass what it needs as an argument, or make it inside the function",
            ) from error
        for cls in needed:
            self.cls(cls)
        self.witness.values.append((value, codec.encode(value)))
        return f"__pymw_value__({len(self.witness.values) - 1})"

    def cls(self, cls: type) -> None:
        """Ship a class that values are made of."""
        described = describe(cls)
        if self.definition(cls, described) is None:
            self.module(cls.__module__, wanted_by=described)

    # -- modules

    def module(self, name: str, *, wanted_by: str) -> None:
        """Ship a module of the user's own with those that it imports; note an installed one."""
        top = name.partition(".")[0]
        if name in self.own or top in self.requires or top in PROVIDED or top in sys.stdlib_module_names:
            return
        parent = name.rpartition(".")[0]
        if parent:
            self.module(parent, wanted_by=wanted_by)
            if parent not in self.own:
                return
        path, is_package = origin(name)
        if path is None and not is_package:
            return  # not here either: an optional import, or an error that the worker will report
        if path is not None and (_INSTALLED & set(path.parts)):
            self.requires.add(top)
            return
        self.own.add(name)
        if path is None:
            return  # a package without __init__.py: its modules make the folder
        if path.suffix != ".py":
            raise refusal(
                f"module {name}, which {wanted_by} imports, is compiled ({path.name})",
                "only modules in Python source travel; install it on the workers or do without it",
            )
        self.witness.files.append((path, stamp(path)))
        text = read(path)
        stem = name.replace(".", "/")
        self.files[f"modules/{stem}/__init__.py" if is_package else f"modules/{stem}.py"] = text
        package = name if is_package else parent
        self.imports(ast.parse(text, str(path)), package=package, wanted_by=f"module {name}")

    def imports(self, tree: ast.AST, *, package: str, wanted_by: str) -> None:
        """Ship what the import statements in `tree` name."""
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
        """The bundle of all that was shipped."""
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


def _of_main(value: Any) -> bool:
    """Whether `value` is made of something of the script, and so must come after it."""
    if getattr(value, "__module__", None) == "__main__":
        return True
    try:
        return any(cls.__module__ == "__main__" for cls in codec.classes(value))
    except codec.CodecError:
        return False


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
