"""Gather what a function reaches, name by name."""

from __future__ import annotations

import ast
import builtins
import enum
import functools
import inspect
import logging
import re
import sys
from collections.abc import Callable, Collection
from types import FunctionType, ModuleType
from typing import Any

from pymw import codec
from pymw.bundle.names import global_names, importable, origin, read, without_annotations
from pymw.bundle.pack import Bundle, Made, Unit, pack
from pymw.bundle.refusal import SourceMissing, describe, refusal
from pymw.bundle.source import Source
from pymw.bundle.witness import Cell, Witness, stamp
from pymw.errors import UnshippableError

__all__ = ["Cargo"]

PROVIDED = {"pymw", "pyboinc"}  # what the worker brings along
_INSTALLED = {"site-packages", "dist-packages"}
_PLAIN = {type(None), bool, int, float, complex, str, bytes, tuple, list, set, frozenset, dict}
FACTORY = "__pymw_factory__"


class Cargo:
    """What is packed so far; `__main__` becomes a prelude, slices of source, functions made anew, and a postlude.

    A statement of the script stands for a function or class only if that is what its name means now. Any other
    function is made anew from its own code: without its decorators, with the values that its defaults and the
    variables it closes over have at this moment.
    """

    def __init__(self) -> None:
        self.prelude: list[str] = []
        self.units: dict[str, Unit] = {}
        self.made: list[Made] = []
        self.postlude: list[str] = []
        self.done: set[str] = set()  # global names of __main__ that are settled
        self.shipped: dict[int, str] = {}  # id of a function made anew -> its name in __main__
        self.making: set[int] = set()
        self.serial = 0
        self.names: dict[str, Any] = vars(sys.modules["__main__"])  # of the script, or of the notebook's cells
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
        name = self.definition(function, described)
        if name is not None:
            return f"__main__:{name}"
        module, qualname = importable(function)
        if module is not None:
            self.module(module, wanted_by=described)
            return f"{module}:{qualname}"
        try:
            expression = self.expression(function, described)
        except SourceMissing:
            raise
        except UnshippableError as error:
            raise refusal(
                f"{described} has no name under which a worker could find it", "wrap it in a function: def task(x): ..."
            ) from error
        if not callable(function):
            raise refusal(f"{described} cannot be called", "give a function")
        self.postlude.append(f"__pymw_entry__ = {expression}")
        return "__main__:__pymw_entry__"

    def definition(self, thing: Any, described: str) -> str | None:
        """Ship a function or class of the script; its dotted name there, or None where a module has it."""
        if id(thing) in self.shipped:
            if id(thing) in self.making:
                raise refusal(f"{described} is one of functions that close over each other", "define them at the top")
            return self.shipped[id(thing)]
        if isinstance(thing, FunctionType) and thing.__globals__.get("__name__") == "__main__":
            self.names = thing.__globals__
        if isinstance(thing, type):
            return self.named_class(thing, described)
        if inspect.ismethod(thing) and isinstance(thing.__self__, type):
            owner = self.definition(thing.__self__, described)
            return owner and f"{owner}.{thing.__name__}"
        if not isinstance(thing, FunctionType):
            return self.statement(thing, described) if hasattr(thing, "__wrapped__") and self.is_named(thing) else None
        if importable(thing)[0] is not None:
            return None
        if not self.is_named(thing):
            return self.make(thing, described)
        if not self.is_decorated(thing, described):
            return self.statement(thing, described)
        try:
            return self.make(thing, described)
        except UnshippableError:
            return self.statement(thing, described)  # the decorator itself makes it, on the worker

    def is_named(self, thing: Any) -> bool:
        """Whether the script's name for `thing` means it, and nothing that took the name since."""
        qualname = getattr(thing, "__qualname__", "<locals>")
        if "<" in qualname or getattr(thing, "__module__", None) != "__main__":
            return False
        found: Any = self.names.get(qualname.partition(".")[0])
        for part in qualname.split(".")[1:]:
            found = getattr(found, part, None)
        return found is thing

    def is_decorated(self, function: FunctionType, described: str) -> bool:
        """Whether the statement of its name made it by a decorator."""
        if "." in function.__qualname__:
            return False  # it comes with its class
        node = Source.of(function, described).definition(function.__qualname__, function)
        return bool(node.decorator_list) or node.name != function.__code__.co_name

    def named_class(self, cls: type, described: str) -> str | None:
        """Ship a class of the script."""
        if cls.__module__ != "__main__":
            return None
        if not self.is_named(cls):
            raise refusal(f"{described} is not a class at the top of the script", "define it there, under one name")
        return self.namedtuple(cls, described) if _is_namedtuple(cls) else self.statement(cls, described)

    def namedtuple(self, cls: Any, described: str) -> str:
        """Ship what collections.namedtuple made, which stands nowhere as a class statement."""
        name: str = cls.__qualname__
        if name not in self.done:
            self.done.add(name)
            self.witness.names.append((self.names, name, cls))
            defaults = self.expression(tuple(cls._field_defaults.values()), described)
            fields = f"{cls.__name__!r}, {cls._fields!r}, defaults={defaults}, module='__main__'"
            self.prelude.append(f"{name} = __import__('collections').namedtuple({fields})")
        return name

    def statement(self, thing: Any, described: str) -> str:
        """Ship the statement at the top of the script that `thing` comes from."""
        qualname: str = thing.__qualname__
        root = qualname.partition(".")[0]
        if root in self.done:
            return qualname
        self.done.add(root)
        owner = self.names[root]
        self.witness.names.append((self.names, root, owner))
        source = Source.of(owner, described)
        node = source.definition(root, owner)
        source.unchanged(inspect.unwrap(thing) if not isinstance(thing, type) else thing, described)
        blank: list[ast.expr] = []
        function = inspect.unwrap(owner) if not isinstance(owner, type) else owner
        if isinstance(function, FunctionType) and not isinstance(node, ast.ClassDef):
            target = root + ".__wrapped__" * _depth(owner)
            blank = self.defaults(function, node, target, described)
            self.attributes(function, target, described)
        unit = self.units.setdefault(source.filename, Unit(source.name))
        for first, text in source.headers(node):
            unit.keep(first, text)
        first, text = source.statement(node, blank)
        unit.keep(first, text)
        self.reach(_parsed(text), self.names, described)
        if isinstance(owner, type) and isinstance(node, ast.ClassDef):
            self.changes(owner, node, source, described)
        return qualname

    def make(self, function: FunctionType, described: str) -> str:
        """Ship a function that no name of the script stands for, by its code and what that closes over."""
        source = Source.of(function, described)
        node = source.node_of(function, described)
        self.serial += 1
        name = self.shipped[id(function)] = f"__pymw_{self.serial}__"
        self.making.add(id(function))
        try:
            cells, itself = self.cells(function, described)
            blank = self.defaults(function, node, name, described)
            home = function.__globals__.get("__name__", "__main__")
            free = function.__code__.co_freevars
            if isinstance(node, ast.Lambda):
                made = self._lambda(source, node, blank, cells if free else None, itself)
            else:
                made = self._def(source, node, blank, cells if free else None, itself)
            unit, result, tree = made
            if home == "__main__":
                self.reach(tree, function.__globals__, described, known=free)
            else:
                self.module(home, wanted_by=described)
        except UnshippableError:
            del self.shipped[id(function)]
            raise
        finally:
            self.making.discard(id(function))
        self.made.append(Made(name, unit, result, home, cells if free else None))
        told = f"{function.__name__!r}, {function.__qualname__!r}"
        self.postlude.append(f"{name}.__name__, {name}.__qualname__ = {told}")
        self.attributes(function, name, described)
        return name

    def cells(self, function: FunctionType, described: str) -> tuple[dict[str, str], list[str]]:
        """The variables that a function closes over, as expressions; and those that mean the function itself."""
        cells, itself = {}, []
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            try:
                content = cell.cell_contents
            except ValueError:
                continue  # not assigned yet: the worker finds it unbound, as we would
            self.witness.names.append((Cell(cell), "cell_contents", content))
            if content is function:
                itself.append(variable)
            else:
                cells[variable] = self.expression(content, f"{variable!r}, which {described} closes over,")
        return cells, itself

    def _lambda(
        self, source: Source, node: ast.Lambda, blank: list[ast.expr], cells: dict[str, str] | None, itself: list[str]
    ) -> tuple[Unit, str, ast.AST]:
        first, text = source.expression(node, blank)
        unit = Unit(source.name)
        if cells is None:
            unit.keep(first, f"{FACTORY} = ({text})")
        else:
            variable = itself[0] if itself else "__lambda__"
            unit.keep(first, f"def {FACTORY}({', '.join(cells)}): {variable} = ({text}); return {variable}")
        return unit, FACTORY, ast.parse(f"({text})")

    def _def(
        self, source: Source, node: Any, blank: list[ast.expr], cells: dict[str, str] | None, itself: list[str]
    ) -> tuple[Unit, str, ast.AST]:
        first, text = source.statement(node, blank, decorated=False)
        tree = _parsed(text)
        indent = text[: len(text) - len(text.lstrip())]
        unit = Unit(source.name)
        if cells is None:
            if indent:
                unit.keep(first - 1, "if True:")
            unit.keep(first, text)
            return unit, node.name, tree
        name = node.name
        if name not in itself and name not in cells and name in global_names(tree):
            # Within the factory the name would mean this function, but it is the script's own that is meant.
            name = f"{name}_made"
            text = re.sub(rf"(def\s+){node.name}\b", rf"\1{name}", text, count=1)
        unit.keep(first - 1, f"def {FACTORY}({', '.join(cells)}):")
        unit.keep(first, text if indent else "\n".join(f" {line}" for line in text.split("\n")))
        after = max(unit.lines) + 1
        for offset, variable in enumerate(each for each in itself if each != name):
            unit.keep(after + offset, f"{indent or ' '}{variable} = {name}")
        unit.keep(max(unit.lines) + 1, f"{indent or ' '}return {name}")
        return unit, FACTORY, tree

    def defaults(self, function: FunctionType, node: Any, target: str, described: str) -> list[ast.expr]:
        """Have `target` get the default values that `function` has now; the expressions that need not be evaluated."""
        expressions = [*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)]
        if all(isinstance(each, ast.Constant) for each in expressions):
            return []
        wanted = f"a default value of {described}"
        try:
            positional = [self.expression(value, wanted) for value in function.__defaults__ or ()]
            keyword = {name: self.expression(value, wanted) for name, value in (function.__kwdefaults__ or {}).items()}
        except UnshippableError:
            return []  # the worker evaluates the expressions, as the script did
        if positional:
            self.postlude.append(f"{target}.__defaults__ = ({', '.join(positional)},)")
        if keyword:
            pairs = ", ".join(f"{name!r}: {value}" for name, value in keyword.items())
            self.postlude.append(f"{target}.__kwdefaults__ = {{{pairs}}}")
        return expressions

    def attributes(self, function: FunctionType, target: str, described: str) -> None:
        """Have `target` get the attributes that somebody gave to `function`, where they can travel."""
        for name, value in vars(function).items():
            try:
                expression = self.expression(value, f"{name!r}, an attribute of {described},")
            except UnshippableError:
                continue  # the function may never look at it
            self.postlude.append(f"{target}.__dict__[{name!r}] = {expression}")

    def changes(self, cls: type, node: ast.ClassDef, source: Source, described: str) -> None:
        """Have a class get what was assigned to its attributes after its statement."""
        written = {
            target.id: statement.value
            for statement in node.body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        for name, value in vars(cls).items():
            if name.startswith("__") or issubclass(cls, enum.Enum):
                continue
            wanted = f"{name!r}, an attribute of {described},"
            function = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
            if isinstance(function, FunctionType):
                code = function.__code__
                inside = code.co_filename == source.filename and node.lineno <= code.co_firstlineno <= (
                    node.end_lineno or 0
                )
                if (
                    inside or code.co_filename == "<string>"
                ):  # of its statement, or made by a decorator such as dataclass
                    continue
                self.postlude.append(f"{cls.__qualname__}.{name} = {self.expression(function, wanted)}")
            elif type(value) in _PLAIN:
                constant = written.get(name)
                if not (isinstance(constant, ast.Constant) and constant.value == value):
                    self.postlude.append(f"{cls.__qualname__}.{name} = {self.data(value, wanted)}")

    # -- what it reaches

    def reach(self, tree: ast.AST, names: dict[str, Any], wanted_by: str, *, known: Collection[str] = ()) -> None:
        """Follow the global names and the imports in `tree`."""
        self.imports(tree, package="", wanted_by=wanted_by)
        required = global_names(without_annotations(tree)) - set(known)
        for name in sorted(required):
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
        if id(value) in self.making:  # it reaches its own name, which it looks up when it runs
            expression = self.shipped[id(value)]
        else:
            expression = self.expression(value, f"{name!r}, which {wanted_by} reads,")
        if expression != name:
            self.done.add(name)
            (self.postlude if self.is_late(value, expression) else self.prelude).append(f"{name} = {expression}")

    def is_late(self, value: Any, expression: str) -> bool:
        """Whether `value` is made of something of the script, and so must come after it."""
        if "__pymw_" in expression.replace("__pymw_value__", "") or getattr(value, "__module__", None) == "__main__":
            return True
        try:
            return any(cls.__module__ == "__main__" for cls in codec.classes(value))
        except codec.CodecError:
            return isinstance(value, functools.partial)

    def expression(self, value: Any, described: str) -> str:
        """Python source that gives `value` on the worker."""
        if isinstance(value, ModuleType):
            self.module(value.__name__, wanted_by=described)
            return f"__import__('importlib').import_module({value.__name__!r})"
        name = self.definition(value, described)
        if name is not None:
            return name
        if isinstance(value, logging.Logger):
            return f"__import__('logging').getLogger({value.name!r})"
        if isinstance(value, re.Pattern):
            return f"__import__('re').compile({value.pattern!r}, {int(value.flags)})"
        if type(value) is functools.partial:
            parts = [self.expression(each, described) for each in (value.func, *value.args)]
            parts += [f"{key}={self.expression(each, described)}" for key, each in value.keywords.items()]
            return f"__import__('functools').partial({', '.join(parts)})"
        module, qualname = importable(value)
        if module is None:
            module, qualname = _provided(value)
        if module is not None:
            self.module(module, wanted_by=described)
            return f"__import__('importlib').import_module({module!r}).{qualname}"
        if hasattr(value, "cache_parameters"):  # made by functools.lru_cache, not as a decorator
            inner = self.expression(value.__wrapped__, described)
            return f"__import__('functools').lru_cache(**{value.cache_parameters()!r})({inner})"
        return self.data(value, described)

    def data(self, value: Any, described: str) -> str:
        """Python source that gives a value of the codec's closed set."""
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
        return pack(
            entry,
            prelude=self.prelude,
            units=self.units.values(),
            made=self.made,
            postlude=self.postlude,
            files=self.files,
            own=self.own,
            requires=self.requires,
            witness=self.witness,
        )


def _parsed(text: str) -> ast.AST:
    """The syntax tree of a statement, however deep it stands."""
    return ast.parse(f"if True:\n{text}" if text[:1] in (" ", "\t") else text)


def _depth(thing: Any) -> int:
    """How many decorators that keep `__wrapped__` lie around a function."""
    depth = 0
    while hasattr(thing, "__wrapped__"):
        thing, depth = thing.__wrapped__, depth + 1
    return depth


def _is_namedtuple(cls: type) -> bool:
    return cls.__bases__ == (tuple,) and "_field_defaults" in vars(cls) and "__annotations__" not in vars(cls)


def _provided(value: Any) -> tuple[str | None, str]:
    """The name of an object that our package has for everybody, such as `checkpoint`."""
    if type(value).__module__.partition(".")[0] != "pymw":
        return None, ""
    ours = sys.modules["pymw"]
    return next((("pymw", name) for name, thing in vars(ours).items() if thing is value), (None, ""))
